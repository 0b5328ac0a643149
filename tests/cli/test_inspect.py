"""`inspect data` and `inspect result` on the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.llm.chat_server import chat_server
from tests.llm.tiny_llm import tiny_llm


def test_a_dataset_is_inspected(llm4rec):
    answer = llm4rec("inspect", "data", "dataset=demo_news", "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    assert result["click_log"]["impressions"] == result["manifest"]["split"]["test"]
    assert result["verdicts"][-1].startswith("The data is synthetic")


def test_a_task_that_ranks_nothing_has_no_slices(llm4rec):
    answer = llm4rec("inspect", "data", "task=rating")
    assert (answer.code, "popularity" in answer.err) == (2, True)


def test_tables_of_a_dataset_fit_100_columns_and_end_with_sentences(llm4rec):
    answer = llm4rec("inspect", "data", "task.max_examples=100")
    assert answer.code == 0, answer.err
    before, _, after = answer.out.partition("What this means for a result on it:")
    assert "transition_text" in before
    assert max(len(line.rstrip()) for line in before.splitlines() if not line.startswith("  ")) <= 100
    assert all(line.startswith(("- ", "  ")) for line in after.strip().splitlines())


def test_a_shuffled_file_is_not_called_sorted_and_a_rule_above_the_floors_is_named(llm4rec, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for user in range(200):
        item = rng.integers(60)
        for day in range(8):
            rows.append((f"u{user}", f"p{item:02d}", 1_600_000_000 + 86_400 * day))
            item = (item + 7) % 60 if rng.random() < 0.35 else rng.integers(60)
    rows[0], rows[1] = ("u0", "p10", rows[0][2]), ("u0", "p11", rows[0][2])  # the only two of equal time
    log = pd.DataFrame(rng.permutation(rows), columns=["user_id", "item_id", "timestamp"])
    log.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "conf/dataset").mkdir(parents=True)
    dataset = "defaults: [_dataset, _self_]\nname: mine\nreader: table\ndomains: {mine: {interactions: log.csv}}\n"
    (tmp_path / "conf/dataset/mine.yaml").write_text(dataset + "user_core: 5\nitem_core: 5\n")
    answer = llm4rec("inspect", "data", "dataset=mine", "dataset.raw_dir=.", "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)["verdicts"]
    assert any(sentence.startswith("1 of 1 pairs of adjacent interactions of equal time ascend") for sentence in said)
    assert not any("the file is sorted by item, and" in sentence for sentence in said)
    (rule,) = [sentence for sentence in said if "does not run as a floor" in sentence]
    assert rule.startswith("last_item") and "transition_text, the strongest floor that it runs: NDCG@10" in rule


def test_a_result_is_inspected(llm4rec, trained):
    answer = llm4rec("inspect", "result", str(trained))
    assert answer.code == 0, answer.err
    last = " ".join(answer.out.partition('"sasrec beats transition_text" is refused: ')[2].split())
    assert "labels: synthetic" in last
    assert "1 seed of sasrec (0)" in last
    assert "it is not known under shuffled ties; it is not known under a temporal split. to find out: " in last
    assert answer.out.splitlines()[-1].startswith("to find out: llm4rec protocols model=sasrec ")


def test_a_misspelt_verb_or_run_is_answered_with_the_nearest(llm4rec, trained):
    assert "did you mean 'result'?" in llm4rec("inspect", "reslt", "sasrec").err
    assert "did you mean 'sasrec'?" in llm4rec("inspect", "result", "sasrce").err
    assert "did you mean 'sasrec'?" in llm4rec("compare", "sasrce", "sasrec").err


def test_a_scored_file_is_inspected(llm4rec, trained, tmp_path):
    lists = pd.read_parquet(trained / "predictions.parquet")[["user_id", "top_items"]].explode("top_items")
    lists.set_axis(["user", "item"], axis=1).to_csv(tmp_path / "mine.csv", index=False)
    unknown = llm4rec("inspect", "result", "mine.csv")
    assert (unknown.code, "llm4rec score" in unknown.err) == (1, True)
    llm4rec("score", "mine.csv", "task.max_examples=100", "task.floors=[]")
    result = json.loads(llm4rec("inspect", "result", "mine.csv", "--over", "sasrec", "--json").out)
    assert result["parts"][0]["gain"] == pytest.approx(0, abs=1e-3)  # the same lists, cut at ten
    assert result["known"][0].startswith("mine: its file says nothing")
    assert not result["allowed"]


def test_memorisation_is_measured_once(llm4rec, tmp_path):
    model = tiny_llm(tmp_path / "llm", 2048)
    typed = (f"llm.model={model}", "llm.context=2048", "dataset=demo", f"llm.store={tmp_path}/answers.sqlite")
    first = llm4rec("inspect", "memorisation", *typed, "--records", "4")
    assert first.code == 0, first.err
    assert "next_item" in first.out and "Titles also follow from" in first.out
    assert "answers: 56 requests, " in first.out, "four probes of four records, three with made-up copies, two kinds"
    again = llm4rec("inspect", "memorisation", *typed, "--records", "4", "--json", "llm.replay=true")
    scores = json.loads(again.out)
    probes = {"titles", "items", "rows", "next_item"}
    assert set(scores) == probes | {f"{name}/verbatim" for name in probes}
    assert scores["rows"]["n"] == 4 and scores["rows"]["chance"] == pytest.approx(1 / 4), "four ends"
    (model / "chat_template.jinja").unlink()
    base = llm4rec("inspect", "memorisation", *typed, "--records", "4", "--text", "--json")
    assert set(json.loads(base.out)) == set(scores)


def test_an_endpoint_without_log_probabilities_writes_ends(llm4rec, tmp_path, monkeypatch):
    with chat_server() as chat:
        typed = ("llm=openai", "llm.model=x", f"llm.base_url={chat.url}", f"llm.store={tmp_path}/answers.sqlite")
        answer = llm4rec("inspect", "memorisation", *typed, "dataset=demo", "--records", "3")
    assert answer.code == 0, answer.err
    assert "titles/verbatim" in answer.out and "likeliest of several" not in answer.out


def test_an_endpoint_continues_no_text(llm4rec):
    answer = llm4rec("inspect", "memorisation", "llm=openai", "llm.model=x", "dataset=demo", "--text")
    assert answer.code == 2
    assert "an endpoint answers messages" in answer.err


def test_a_dry_run_of_memorisation_shows_every_probe_and_their_total(llm4rec, tmp_path):
    typed = ("llm=openai", "llm.model=x", "llm.base_url=http://localhost:9/v1", f"llm.store={tmp_path}/answers.sqlite")
    answer = llm4rec("inspect", "memorisation", *typed, "dataset=demo", "--records", "3", "llm.dry_run=true")
    assert answer.code == 0, answer.err
    assert answer.out.count("to send: 3, ") == 7, "four probes, three with made-up copies"
    assert "in all, as estimated: 21 requests, " in answer.out


@pytest.mark.parametrize(
    "arguments", [["data", "--help"], ["result", "--help"], ["memorisation", "--help"], ["--help"]]
)
def test_help(llm4rec, arguments):
    answer = llm4rec("inspect", *arguments)
    assert answer.code == 0, answer.err
    assert "inspect" in answer.out


def test_ids_of_items_are_inspected(llm4rec):
    answer = llm4rec("inspect", "ids", "model=rpg", "model.ids.codes=4", "model.ids.codebook=8", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert len(found["levels"]) == 4
    assert found["levels"][0]["code"]["text"] > found["all_pairs"]["text"]
    assert found["distinct"] <= found["items"]
    answer = llm4rec("inspect", "ids", "model=p5", "task=sequential", "model.index=collaborative", "--seeds", "1")
    assert answer.code == 0, answer.err
    assert "Each item has an id of its own." in answer.out
    assert "stability  " not in answer.out


def test_a_model_without_ids_is_refused(llm4rec):
    answer = llm4rec("inspect", "ids", "model=sasrec")
    assert answer.code == 2
    assert "model 'sasrec' has no item ids" in answer.err
    assert "p5" in answer.err
