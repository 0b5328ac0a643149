"""Files built to attack: each gives one clear error, or is shown as harmless text.

Archives: tests/data/test_archives.py; pickles as weights: tests/studies/test_imported.py.
"""

import json
import re
import shutil

import pandas as pd
import pytest
import torch

from llm4rec_cli.config import reading
from llm4rec_cli.files import sha256
from llm4rec_cli.run import checkpoints
from tests.cli.test_enrich import shop
from tests.support.driver import TINY

BILLION = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
ITSELF = "a: &a [*a]\n"
DEEP = "a: " + "[" * 20_000 + "]" * 20_000 + "\n"
TITLES = (
    *(
        "\x1b[2Jred tent",
        "\u202egnp.exe",
        "nul\0nul",
        "a\u2066b\u2069",
        "<script>alert(1)</script>",
        "bell\x07 back\x08",
    ),
    *("c1\x9b31m", "line\u2028separator", "tab\tnew\nline", "\u200bzero width", "plain", "é 日本"),
)
ACTING = re.compile("[^\\S\n\t \xa0]|[\0-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("attack", [BILLION, ITSELF, DEEP], ids=["a billion aliases", "an alias of itself", "too deep"])
@pytest.mark.parametrize("command", [("prepare", "dataset=evil"), ("validate", "dataset/evil"), ("list", "prompts")])
def test_yaml_that_would_fill_the_memory_is_refused(llm4rec, tmp_path, attack, command):
    shop(tmp_path)
    content = (tmp_path / "conf/dataset/shop.yaml").read_text()
    (tmp_path / "conf/dataset/evil.yaml").write_text(content + attack)
    answer = llm4rec(*command)
    assert answer.code == 2
    assert "evil.yaml has more than 100,000 values, or is too deep" in answer.err


def test_aliases_count_as_copies():
    assert reading.n_values("a: &a [1, 2]\nb: [*a, *a]\n") == 1 + 2 + (1 + 2) + (1 + 3 + 3)


def test_titles_and_ids_do_not_act_on_a_terminal_or_a_page(llm4rec, tmp_path):
    shop(tmp_path)
    log = pd.read_csv(tmp_path / "raw/log.csv")
    titles = [TITLES[int(item[1:])] for item in log["item_id"]]
    log = log.assign(
        rating=4,
        review_text=[f"{title} indeed. It is." for title in titles],
        review_title=titles,
        user_id=log["user_id"].astype(str) + "\x1b[1m\u202e",
    )
    log.to_json(tmp_path / "raw/log.jsonl", orient="records", lines=True)
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(len(TITLES))], "title": TITLES, "categories": TITLES})
    items.to_json(tmp_path / "raw/items.jsonl", orient="records", lines=True)
    config = tmp_path / "conf/dataset/shop.yaml"
    config.write_text(config.read_text().replace(".csv", ".jsonl"))
    user = ("--user", log["user_id"].iloc[0])
    ranking = ("dataset=shop", "model=transition_text", "task.floors=[]")
    writing = ("dataset=shop", "model=retrieval", "task=review_summary", "task.floors=[]")
    run = llm4rec("train", *writing).folder
    printed = ""
    for command in (
        ("train", *ranking),
        ("recommend", *ranking, *user),
        ("recommend", *ranking, *user, "--json"),
        ("recommend", *ranking, "--user", "none"),
        ("recommend", *ranking, "--title", "plane", "--explain"),
        ("recommend", *writing, *user, "--item", "i0"),
        ("human", "export", str(run), "--out", "sheets"),
        ("report", "--html", "page.html"),
    ):
        answer = llm4rec(*command)
        assert answer.code == 0 or "no user" in answer.err, answer.err
        printed += answer.out + answer.err
    assert "\\u202egnp.exe" in printed
    assert not ACTING.findall(printed)
    page = (tmp_path / "page.html").read_text()
    assert not ACTING.findall(page)
    assert "<script>alert" not in page


def test_a_pickle_in_the_place_of_an_optimiser_runs_nothing(llm4rec, tmp_path, monkeypatch):
    class Attack:
        def __reduce__(self):
            return open, (str(tmp_path / "run"), "w")

    def interrupt(*_):
        raise KeyboardInterrupt

    shop(tmp_path)
    train = ("train", *TINY, "dataset=shop", "trainer.epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "mark_finished", interrupt)
        assert llm4rec(*train).code == 130
    first, last = sorted(tmp_path.rglob("checkpoint-*"))
    shutil.rmtree(last)
    torch.save(Attack(), first / "optimizer.pt")
    manifest = json.loads((first / "manifest.json").read_text())
    manifest["files"]["optimizer.pt"] = {"bytes": (first / "optimizer.pt").stat().st_size} | {
        "sha256": sha256(first / "optimizer.pt")
    }
    (first / "manifest.json").write_text(json.dumps(manifest))
    answer = llm4rec(*train)
    assert answer.code == 1
    assert "checkpoint-1 holds something other than tensors" in answer.err
    assert "bug" not in answer.err
    assert not (tmp_path / "run").exists()
