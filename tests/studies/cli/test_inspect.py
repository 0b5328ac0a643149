"""`inspect data` and `inspect result` on the command line."""

import json

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
    answer = llm4rec("inspect", "data", "task.max_examples=100")
    tables, _, meaning = answer.out.partition("What this means for a result on it:")
    assert "transition_text" in tables and meaning.strip().startswith("- ")
    assert max(len(line.rstrip()) for line in tables.splitlines() if not line.startswith("  ")) <= 100


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
