"""Pre-training and what begins with it, as a user drives them."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.files import write_json
from llm4rec_cli.run import checkpoints
from tests.support.driver import call, job_of, read

SIZES = ("model.hidden_size=16", "model.inner_size=16", "model.layers=1", "model.experts=2")
QUICK = ("trainer.epochs=2", "task.max_examples=100", "task.floors=[]")
PRETRAIN = ("train", "+experiment=unisrec/pretrain", *SIZES, *QUICK)
TRANSFER = ("train", "+experiment=unisrec/transfer", *SIZES, *QUICK)
SOURCE = "model.init_from=outputs/unisrec/demo_pretrain/pretrain"


@pytest.fixture(scope="module")
def _tuned_once(tmp_path_factory, cache):
    """A pre-training, and a run of TRANSFER that begins with it."""
    home = tmp_path_factory.mktemp("pretrained")
    for command in (PRETRAIN, (*TRANSFER, SOURCE)):
        answer = call(*command, cwd=home, cache=cache)
        assert answer.code == 0, answer.err
    return home


@pytest.fixture
def tuned(tmp_path, _tuned_once):
    """The folder of a finished run that began with `pretrained`; copies of both, free to change."""
    shutil.copytree(_tuned_once / "outputs", tmp_path / "outputs", dirs_exist_ok=True)
    (folder,) = (tmp_path / "outputs/unisrec/demo/sequential").glob("seed0-*")
    return folder


@pytest.fixture
def pretrained(tmp_path, _tuned_once):
    """The folder of a finished pre-training under tmp_path/outputs; a copy, free to change."""
    for folder in (_tuned_once / "outputs/unisrec").glob("*pretrain*"):
        shutil.copytree(folder, tmp_path / "outputs/unisrec" / folder.name, dirs_exist_ok=True)
    (folder,) = (tmp_path / "outputs/unisrec/demo_pretrain/pretrain").glob("seed0-*")
    return folder


def weights(folder):
    return checkpoints.weights(checkpoints.selected(folder / "checkpoints"))


def log_of(folder):
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def files_of(folder):
    """What an undisturbed and a resumed run share: all but times, memory and where they were written."""
    metrics = read(folder / "metrics.json")
    numbers = {key: metrics[key] for key in metrics if key not in ("seconds", "peak_rss_mb", "overrides")}
    return numbers, log_of(folder), checkpoints.selected(folder / "checkpoints").sha256


# ---- pre-training


def test_pre_training_logs_losses_by_domain_and_ranks_held_out_targets_of_its_own_domains(pretrained):
    for line in log_of(pretrained):
        assert {"loss", "valid", "loss/item", "loss/view", "loss/item/garden", "loss/item/kitchen"} <= line.keys()
        assert 0 < line["gate_entropy"] <= 1
        assert sum(line["expert_usage"]) == pytest.approx(1)
        assert -2 < line["separation"] < 2
        assert line["loss"] == pytest.approx(line["loss/item"] + 1e-3 * line["loss/view"], abs=0.2)  # a mean over steps
    metrics = read(pretrained / "metrics.json")
    assert (metrics["task"], metrics["protocol"], metrics["n_examples"]) == ("pretrain", "full", 100)
    assert "paper-code-loss" not in metrics["labels"]


def test_the_last_weights_may_be_kept_and_the_published_loss_taken_which_is_flagged(llm4rec):
    last = (*PRETRAIN, "trainer.keep=last", "trainer.learning_rate=1")  # diverges: the first is better
    last += ("model.pretraining.loss=paper_code",)
    answer = llm4rec(*last)
    folder = answer.folder
    assert "paper-code-loss" in answer.metrics["labels"]
    assert llm4rec(*last, "trainer.patience=3").folder == folder  # which nobody asks for
    done = read(folder / "checkpoints/training_done.json")
    assert done["best_step"] == done["step"]


# ---- fine-tuning


@pytest.mark.parametrize(("setting", "new"), [("model.freeze=none", set()), ("model.use_ids=true", {"ids.weight"})])
def test_training_begins_with_the_weights_of_the_run_but_for_new_ids(llm4rec, pretrained, setting, new):
    before = weights(pretrained)
    after = weights(llm4rec(*TRANSFER, SOURCE, setting, "trainer.learning_rate=1e-12").folder)
    assert after.keys() - before.keys() == new and before.keys() <= after.keys()
    assert all(after[name].allclose(before[name], atol=1e-6) for name in before)


def test_the_run_says_where_its_weights_came_from_however_they_are_named(llm4rec, pretrained, tuned):
    metrics, origin = read(tuned / "metrics.json"), read(pretrained / "metrics.json")
    assert metrics["init_from"]["config_hash"] == origin["config_hash"]
    experiment = (metrics["init_from"]["dataset"], metrics["init_from"]["experiment"])
    assert experiment == ("demo_pretrain", "unisrec/pretrain")
    assert {f"pre-training: {deviation}" for deviation in origin["deviations"]} <= set(metrics["deviations"])
    assert llm4rec(*TRANSFER, f"model.init_from={pretrained}").folder.name == tuned.name
    assert llm4rec(*TRANSFER).folder.name != tuned.name
    assert llm4rec("eval", f"run={pretrained}", "split=valid").code == 0
    assert len(list(pretrained.parent.glob("seed0-*"))) == 2
    assert llm4rec(*TRANSFER, SOURCE).folder.name == tuned.name, "an evaluation is no run to begin with"


def test_seeds_that_begin_with_their_own_pre_training_share_a_variant(llm4rec, pretrained, tuned):
    assert llm4rec(*PRETRAIN, "seed=1").code == 0
    runs = [read(tuned / "metrics.json"), llm4rec(*TRANSFER, SOURCE, "seed=1").metrics]
    assert runs[0]["variant"] == runs[1]["variant"]
    assert [run["init_from"]["seed"] for run in runs] == [0, 1]
    another = llm4rec(*TRANSFER, f"model.init_from={pretrained}", "seed=1").metrics
    assert another["variant"] != runs[1]["variant"]  # of one pre-training: other seeds, another spread


def test_weights_of_other_settings_seeds_or_bytes_are_refused_by_what_differs(llm4rec, pretrained):
    def refused(*typed, code=2):
        answer = llm4rec(*TRANSFER, SOURCE, *typed)
        assert answer.code == code
        return answer.err

    assert "seed 7 (none)" in refused("seed=7")
    assert "they were trained with model.experts=2, not 3" in refused("model.experts=3")
    assert "model.encoder.pooling=mean, not cls" in refused("model.encoder.pooling=cls")
    write_json(pretrained / "metrics.json", (kept := read(pretrained / "metrics.json")) | {"text_encoder": "others"})
    assert "another text encoder than minilm" in refused()
    write_json(pretrained / "metrics.json", kept)
    path = checkpoints.selected(pretrained / "checkpoints").folder / checkpoints.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    assert "incomplete or altered" in refused(code=1)
    shutil.copytree(pretrained, pretrained.with_name("seed0-another"))
    answer = refused()
    assert pretrained.name in answer and "seed0-another" in answer


def test_a_run_that_knows_what_is_held_out_now_is_refused(llm4rec, tuned):
    assert llm4rec(*TRANSFER, SOURCE, "dataset.cold_items=0.1").code == 0, "pre-trained on other data"
    stored = yaml.safe_load((tuned / "config.yaml").read_text())
    del stored["dataset"]["train_impressions"]  # of a version without this setting
    (tuned / "config.yaml").write_text(yaml.safe_dump(stored))
    differing = (
        ("dataset.cold_items=0.1", "dataset.cold_items=0.0"),
        ("dataset.seed=1", ""),
        ("dataset.train_users=0.5", "dataset.train_users=1.0"),
    )
    for typed, trained_with in differing:
        answer = llm4rec(*TRANSFER, f"model.init_from={tuned}", typed)
        assert answer.code == 2
        assert "was trained on this dataset" in answer.err and f" with {trained_with}" in answer.err


def test_pre_training_is_asked_only_where_its_data_are_named_and_a_tuned_run_without_it(llm4rec, pretrained, tuned):
    asked = ("task=direct", "task.floors=[]", "task.max_examples=100")
    answer = llm4rec("eval", "model=unisrec", *asked, "dataset=demo_pretrain")
    assert answer.metrics["trained_run"].endswith(pretrained.name)
    shutil.rmtree(pretrained)
    answer = llm4rec("eval", f"run={tuned}", *asked)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("freeze", "moves"),
    [
        ("none", {"adaptor", "encoder.norm", "encoder.positions", "encoder.layers"}),
        ("adaptor", {"encoder.norm", "encoder.positions", "encoder.layers"}),
    ],
)
def test_only_what_is_not_frozen_moves_and_counts_say_how_much_that_is(llm4rec, pretrained, freeze, moves):
    before = weights(pretrained)
    answer = llm4rec(*TRANSFER, SOURCE, f"model.freeze={freeze}")
    after = weights(answer.folder)
    moved = {name for name in before if not after[name].equal(before[name])}
    expected = {name for name in before if name.startswith(tuple(moves))}
    assert moved <= expected
    assert {part for part in moves if not any(name.startswith(part) for name in moved)} == set()
    n_trainable = sum(before[name].numel() for name in expected)
    assert answer.metrics["n_trainable"] == n_trainable
    assert answer.metrics["n_parameters"] == sum(w.numel() for w in before.values())
    assert f"{n_trainable:,} parameters are trained" in answer.err


def test_marks_of_the_pre_training_ride_with_what_is_tuned_and_evaluated(llm4rec, pretrained):
    marked = read(pretrained / "metrics.json") | {"labels": ["synthetic", "paper-code-loss", "subset"]}
    write_json(pretrained / "metrics.json", marked)
    tuned = llm4rec(*TRANSFER, SOURCE)
    assert "paper-code-loss" in tuned.metrics["labels"]
    metrics = llm4rec("eval", f"run={tuned.folder}", "task=direct", "task.floors=[]", "task.max_examples=100").metrics
    assert "paper-code-loss" in metrics["labels"]
    assert any(deviation.startswith("pre-training: ") for deviation in metrics["deviations"])


# ---- killed


@pytest.mark.parametrize("stage", ["pre-training", "fine-tuning"])
def test_a_run_killed_in_its_second_epoch_ends_as_one_never_killed(llm4rec, pretrained, monkeypatch, stage):
    command = (*PRETRAIN, "seed=3") if stage == "pre-training" else (*TRANSFER, SOURCE, "seed=0")
    undisturbed = files_of(llm4rec(*command, "paths.outputs=whole").folder)
    seal = checkpoints.seal

    def killed(folder, *arguments):
        if list(folder.parent.glob("checkpoint-*/manifest.json")):
            raise KeyboardInterrupt
        return seal(folder, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "seal", killed)
        assert llm4rec(*command, "paths.outputs=torn").code == 130
    again = llm4rec(*command, "paths.outputs=torn")
    assert "resuming at step" in again.err
    assert files_of(again.folder) == undisturbed


# ---- recommending across shops


def test_a_customer_of_one_shop_is_recommended_items_of_another(llm4rec, pretrained, cache):
    """The model was trained on two shops. The file lists items of a third, and a copy of one that the user bought."""
    sources = prepare(job_of("dataset=demo_pretrain").config.dataset, cache / "llm4rec")
    target = prepare(job_of("dataset=demo").config.dataset, cache / "llm4rec").items[["item_id", "title", "brand"]]
    (copied, *_), (user, *_) = sources.items.index[sources.sequence], sources.user_ids
    own = sources.items.loc[[copied], ["title", "brand", "categories"]].assign(item_id="copy")
    pd.concat([target, own]).to_csv(pretrained.parents[4] / "shop.csv", index=False)
    command = ("recommend", f"run={pretrained}", "--user", user, "--new-items", "shop.csv", "--json", "--again")
    rows = [json.loads(line) for line in llm4rec(*command, "--k", "9999").out.splitlines()]
    score = {row["item_id"]: row["score"] for row in rows}
    assert sum(row["is_new"] for row in rows) == len(target) + 1
    assert score["copy"] == pytest.approx(score[sources.items["item_id"][copied]], abs=1e-5)
