"""`inspect data` and `inspect result` on the command line."""

import json
import re

import pandas as pd
import pytest

from llm4rec_cli.results.result import read_result
from llm4rec_studies.inspection.answers import answers_of
from tests.llm.chat_server import chat_server, completed
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


def test_a_scored_run_is_inspected(llm4rec, trained, tmp_path):
    lists = pd.read_parquet(trained / "predictions.parquet")[["user_id", "top_items"]].explode("top_items")
    lists.set_axis(["user", "item"], axis=1).to_csv(tmp_path / "mine.csv", index=False)
    scored = llm4rec("score", "mine.csv", "task.max_examples=100", "task.floors=[]").folder
    out = llm4rec("inspect", "result", str(scored), "--over", "sasrec").out
    (gain,) = re.findall(r"^all targets .* ([+-]0\.\d+)  ", out, re.M)
    assert float(gain) == pytest.approx(0, abs=1e-3)  # the same lists, cut at ten
    assert "mine: its file says nothing" in out and '"mine beats sasrec" is refused' in " ".join(out.split())


def test_memorisation_is_measured_once(llm4rec, tmp_path):
    model = tiny_llm(tmp_path / "llm", 2048)
    typed = (f"llm.model={model}", "llm.context=2048", "dataset=demo", f"llm.store={tmp_path}/answers.sqlite")
    first = llm4rec("inspect", "memorisation", *typed, "--records", "4")
    assert first.code == 0, first.err
    assert "answers: 56 requests, " in first.out, "four probes of four records, three with made-up copies, two kinds"
    again = llm4rec("inspect", "memorisation", *typed, "--records", "4", "llm.replay=true")
    probes = [f"{name}{kind}" for name in ("titles", "items", "rows", "next_item") for kind in ("", "/verbatim")]
    first_words = [line.partition(" ")[0] for line in again.out.splitlines()]
    assert [word for word in first_words if word in probes] == probes
    (model / "chat_template.jinja").unlink()
    base = llm4rec("inspect", "memorisation", *typed, "--records", "4", "--text")
    assert base.code == 0 and "next_item/verbatim" in base.out


def test_an_endpoint_without_log_probabilities_writes_ends(llm4rec, tmp_path, monkeypatch):
    with chat_server() as chat:
        typed = ("llm=openai", "llm.model=x", f"llm.base_url={chat.url}", f"llm.store={tmp_path}/answers.sqlite")
        answer = llm4rec("inspect", "memorisation", *typed, "dataset=demo", "--records", "3")
    assert answer.code == 0, answer.err
    assert "titles/verbatim" in answer.out and "likeliest of several" not in answer.out


def test_ids_of_items_are_inspected(llm4rec):
    answer = llm4rec("inspect", "ids", "model=rpg", "model.ids.codes=4", "model.ids.codebook=8")
    assert answer.code == 0, answer.err
    assert "Items with the same first code are" in answer.out and "stability" in answer.out
    answer = llm4rec("inspect", "ids", "model=p5", "task=sequential", "model.index=collaborative", "--seeds", "1")
    assert answer.code == 0, answer.err
    assert "Each item has an id of its own." in answer.out


CHAT = ("train", "model=chatgptrec", "model.controls=0", "task.floors=[]", "task.bootstrap=20", "task.max_examples=3")


def test_answers_are_inspected_with_the_prompts_that_were_sent(llm4rec, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with chat_server() as chat:
        chat.responses = lambda prompt: [completed("4" if len(chat.bodies) < 3 else "I do not know")]
        typed = ("llm=openai", "llm.model=x", f"llm.base_url={chat.url}", f"llm.store={tmp_path}/answers.sqlite")
        run = llm4rec(*CHAT, "task=rating", *typed)
        sent = [body["messages"] for body in chat.bodies]
        assert "llm4rec inspect answers chatgptrec/demo/rating/seed0-" in " ".join(run.out.split())
        result = read_result(run.folder)
        everything = answers_of(result, 5)
        unread = llm4rec("inspect", "answers", str(run.folder), "--status", "invalid")
        shown = llm4rec("inspect", "answers", str(run.folder), "--user", everything.answers[0].user)
        assert len(chat.bodies) == 3, "nothing was asked"
    assert everything.counts == {"ok": 2, "invalid": 1} and everything.problem == ""
    prompts = [answer.prompt for answer in everything.answers]
    assert sorted(str([*prompt]) for prompt in prompts) == sorted(map(str, sent))
    assert sorted((answer.answer, answer.read) for answer in everything.answers) == [
        *[("4", 4.0)] * 2,
        ("I do not know", None),
    ]
    assert unread.out.count("--- user") == 1 and "I do not know" in unread.out
    assert prompts[0][-1]["content"][:40] in shown.out and "read:" in shown.out
    none = llm4rec("inspect", "answers", str(run.folder), "--user", "nobody")
    assert (none.code, "3 answers: 2 ok, 1 invalid" in none.err) == (2, True)


def test_of_a_list_the_items_that_it_names_are_read(llm4rec, tmp_path):
    model = tiny_llm(tmp_path / "llm", 2048)
    typed = ("task=direct", "task.negatives=4", "model.answer=constrained", f"llm.model={model}", "llm.context=2048")
    run = llm4rec(*CHAT, *typed, "prompt.shuffles=2", f"llm.store={tmp_path}/answers.sqlite")
    lists = answers_of(read_result(run.folder), 9).answers
    assert [len(answer.read) for answer in lists] == [5] * 6, "three users, each with two orders"
    first, again = (answer.prompt[-1]["content"] for answer in lists if answer.user == lists[0].user)
    assert first != again
    (tmp_path / "llm/config.json").unlink()
    shown = llm4rec("inspect", "answers", str(run.folder), "--n", "1")
    assert shown.code == 0 and "the prompts cannot be rebuilt: " in shown.out
    assert f"{lists[0].read[0]}\n" in shown.out


def test_a_run_without_answers_is_refused(llm4rec, trained):
    refused = llm4rec("inspect", "answers", str(trained))
    assert refused.code == 2 and "stores no answers of a chat model" in refused.err
