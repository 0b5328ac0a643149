"""Which finished runs a test is about."""

import pytest

from llm4rec_studies.claims.spec import Verdict
from tests.results.finished_runs import started_from

BETTER, WORSE = 1, 4  # candidates above the target
DIFFERENT = "the runs of A and B differ in data, protocol, examples or settings"


def test_test_runs_count_in_any_subfolder_and_validation_runs_do_not(write, result):
    write("sasrec", [WORSE] * 50, split="valid")
    write("unisrec", [BETTER] * 50, split="valid")
    assert result().verdict is Verdict.not_run
    write("sasrec", [WORSE] * 50, where="outputs/study")
    write("unisrec", [BETTER] * 50)
    assert result().verdict is Verdict.supported


def test_a_side_selects_by_settings(write, result):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, settings={"model.use_ids": True})
    assert result(b={"model": "unisrec", "settings": {"model.use_ids": False}}).verdict is Verdict.not_run
    assert result(b={"model": "unisrec", "settings": {"model.use_ids": [False, True]}}).verdict is Verdict.supported


def test_a_side_without_a_setting_for_tokens_excludes_models_with_tokens(write, result):
    write("sasrec", [WORSE] * 100)
    write("unisrec", [BETTER] * 100)
    write("sasrec", [BETTER] * 100, settings={"model.tokens": True})
    assert result().verdict is Verdict.supported


def test_a_side_selects_by_the_task_of_the_training(write, result):
    write("p5", [WORSE] * 50)
    write("p5", [BETTER] * 50, trained_run="p5/shop/all/seed0-abc")
    sides = {"a": {"model": "p5", "trained_for": "sequential"}, "b": {"model": "p5", "trained_for": "all"}}
    assert result(**sides).verdict is Verdict.supported


def test_a_side_selects_by_pretraining(write, result):
    write("unisrec", [WORSE] * 50, settings={"model.init_from": None})
    write("unisrec", [BETTER] * 50, settings={"model.init_from": "/run"}, init_from=started_from("other"))
    sides = {"a": {"model": "unisrec", "pretrained": False}, "b": {"model": "unisrec", "pretrained": True}}
    assert result(**sides, may_differ=[]).verdict is Verdict.supported


@pytest.mark.parametrize("label", ["control-shuffle_text", "leaky"])
def test_a_nonstandard_run_counts_only_if_its_label_is_listed(write, result, label):
    write("sasrec", [WORSE] * 50, labels=[label])
    write("unisrec", [BETTER] * 50)
    assert result().verdict is Verdict.not_run
    assert result(a={"model": "sasrec", "labels": [label]}).verdict is Verdict.supported


def test_runs_under_another_protocol_or_on_fewer_examples_do_not_compare(write, result):
    write("sasrec", [WORSE] * 50)
    write("unisrec", [BETTER] * 50, protocol="uniform-100")
    assert result().reason == DIFFERENT
    write("unisrec", [BETTER] * 40)
    assert result().reason == DIFFERENT


def test_settings_may_differ_only_where_a_side_or_the_test_names_them(write, result):
    whole_word = {"a": "never", "b": "always"}
    sides = {side: {"model": "p5", "settings": {"model.whole_word": value}} for side, value in whole_word.items()}
    write("p5", [WORSE] * 50, settings={"model.whole_word": "never", "model.index": "random"})
    write("p5", [BETTER] * 50, settings={"model.whole_word": "always", "model.index": "sequential"})
    assert result(**sides, may_differ=[]).reason == DIFFERENT
    assert result(**sides, may_differ=["model.index"]).verdict is Verdict.supported
    assert result(**sides).verdict is Verdict.supported
    write("p5", [WORSE] * 50, settings={"model.whole_word": "never", "model.index": "sequential"})
    assert result(**sides, may_differ=[]).verdict is Verdict.supported


def test_paths_of_raw_files_may_always_differ(write, result):
    for n_better, folder in ((WORSE, "/a"), (BETTER, "/b")):
        write("sasrec", [n_better] * 50, settings={"dataset.raw_dir": folder, "model.tokens": folder == "/b"})
    sides = {side: {"model": "sasrec", "settings": {"model.tokens": side == "b"}} for side in "ab"}
    assert result(**sides, may_differ=[]).verdict is Verdict.supported


def test_testable_runs_come_first_then_larger_ones_then_those_with_more_seeds_then_the_newest(write, result):
    write("sasrec", [WORSE] * 50)
    write("sasrec", [WORSE] * 60)
    write("unisrec", [BETTER] * 50)
    write("unisrec", [BETTER] * 60, [0])
    write("unisrec", [WORSE] * 60, labels=["substitute-encoder"])
    assert "60 users" in result().numbers
    assert result().verdict is Verdict.inconclusive  # the larger run has one seed
    write("unisrec", [BETTER] * 60)
    write("unisrec", [WORSE] * 60)
    assert result().verdict is Verdict.not_supported  # the newest


def test_the_best_of_several_variants_decides_if_the_side_says_so(write, result):
    write("sasrec", [BETTER] * 50, metrics={"mrr": 0.5})
    write("sasrec", [WORSE] * 50, metrics={"mrr": 0.2})
    write("unisrec", [BETTER] * 50)
    assert result().verdict is Verdict.supported  # against the newest
    assert result(a={"model": "sasrec", "best": True}).verdict is Verdict.not_supported


def test_a_chat_model_counts_as_untestable_only_where_numbers_depend_on_it(write, result):
    write("sasrec", [WORSE] * 50)
    write("chatgptrec", [BETTER] * 50, [0], labels=["substitute-llm"])
    small = result(b={"model": "chatgptrec"})
    assert (small.verdict, small.reason) == (Verdict.not_testable, "it is about a larger model")
    write("chatgptrec", [BETTER] * 50, [0], labels=["substitute-llm"], settings={"llm.model": "large"})
    assert result(b={"model": "chatgptrec"}).verdict is Verdict.supported
    write("unisrec", [BETTER] * 50)  # its config names the chat model, but it does not use it
    assert result().verdict is Verdict.supported


def test_a_run_pre_trained_on_other_data_does_not_test_the_claim(write, result):
    method = {"paper_method": {"method": "unisrec"}, "init_from": started_from("beauty")}
    write("unisrec", [WORSE] * 50, settings={"model.use_ids": False})
    write("unisrec", [BETTER] * 50, settings={"model.use_ids": False}, **method)
    sides = {"a": {"model": "unisrec", "pretrained": False}, "b": {"model": "unisrec", "pretrained": True}}
    mark = {"pre-trained on!=five": "other source domains"}
    found = result(**sides, untestable=mark)
    assert (found.verdict, found.reason) == (Verdict.not_testable, "other source domains")
    assert result(**sides, untestable={"pre-trained on!=beauty": "others"}).verdict is Verdict.supported
