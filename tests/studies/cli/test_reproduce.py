"""`reproduce`: a table's dry run, its runs and its states; what is refused; and the papers' tables under `validate`."""

import csv
import io
import json
import re

import pytest

from llm4rec_cli.files import write_text
from tests.support.driver import TINY
from tests.support.extras import needs
from tests.support.small import sizes

TABLE = f"""\
title: Next items
source: arXiv 2203.13366
values: {{paper: p5, task: sequential, dataset: amazon2014-beauty}}
metrics: [hr@5, ndcg@10]
seeds: [0, 1]
train: task.max_examples=100 task.floors=[]
rows:
  - {{label: popular, train: model=popularity, unsourced: The paper has no floors.}}
  - {{label: SASRec, train: {" ".join(TINY[:5])}, values: {{model: SASRec}}}}
  - {{label: "SASRec on some", train: {" ".join(TINY[:5])}, eval: task.max_examples=50, values: {{model: SASRec}}}}
  - {{label: Caser, values: {{model: Caser}}, quoted: The project does not have this baseline.}}
columns:
  - {{label: Beauty, train: dataset=amazon2014-beauty, small: dataset=demo}}
  - {{label: Toys, train: dataset=amazon2014-toys, small: dataset=demo, values: {{dataset: amazon2014-toys}}}}
notes: [a note]
"""


@pytest.fixture
def mine(llm4rec, tmp_path):
    """mine(*arguments): reproduce a table of one's own; `mine.table` is its file."""

    def mine(*arguments):
        return llm4rec("reproduce", "mine/tiny", *arguments)

    mine.table = tmp_path / "conf/paper/mine/tiny.yaml"
    write_text(mine.table, TABLE)
    return mine


def test_a_small_table_is_run_marked_recorded_and_run_only_once(mine, llm4rec, tmp_path):
    assert "never run" in llm4rec("list", "papers", "mine").out
    plan = " ".join(mine("--small", "--dry-run").out.split())
    assert "3 commands: 0 done, 3 to run, with 1 trainings" in plan
    both = " ".join(mine("--small", "--seeds", "0,1", "--dry-run").out.split())
    assert "model=popularity seed=0" in both and "model=popularity seed=1" not in both, "it depends on no seed"
    answer = mine("--small")
    assert answer.code == 0, answer.err
    head, *lines = answer.out.splitlines()
    assert "small: stand-ins, not the paper's data" in head
    assert not any("0.0387" in line for line in lines), "the paper's number is not next to synthetic ones"
    measured = [line for line in lines if line.startswith(("popular", "SASRec"))]
    assert len(measured) == 6
    assert "synthetic data: these numbers settle no claim" in lines
    marked = [line for line in mine("--small", "--long").out.splitlines() if line.startswith(("popular", "SASRec"))]
    assert len(marked) == 6 and all("synthetic" in line for line in marked)
    again = mine("--small", "--csv")
    assert again.err.count("finished run found") >= 3
    finished = mine("--small", "--dry-run").out
    assert "3 commands: 3 done" in finished and re.search(r"1  done, \d+ s +llm4rec train", finished)
    assert "small only: 3 cells" in llm4rec("list", "papers", "mine").out
    (folder,) = (tmp_path / "outputs/popularity/demo/sequential").iterdir()
    (folder / "status.json").unlink()
    assert "small only: 2 cells" in llm4rec("list", "papers", "mine").out, "its run is gone"


def test_a_cell_that_fails_says_why_and_the_others_are_made(mine):
    text = mine.table.read_text()
    write_text(mine.table, text.replace("train: dataset=amazon2014-beauty, small", "train: dataset=demo, small"))
    answer = mine("--rows", "popular,Caser", "--csv", "--seeds", "0")
    assert answer.code == 1, "Toys has no files here"
    cells = {(cell["column"], cell["row"], cell["metric"]): cell for cell in csv.DictReader(io.StringIO(answer.out))}
    assert cells["Beauty", "popular", "hr@5"]["n"] == "1"
    assert cells["Beauty", "Caser", "hr@5"]["paper"] == "0.0205"
    assert "quoted, not run: The project" in cells["Beauty", "Caser", "hr@5"]["marks"]
    assert "failed: " in cells["Toys", "popular", "hr@5"]["marks"]
    assert cells["Toys", "popular", "hr@5"]["ours"] == ""


def test_trainings_by_a_launcher_are_those_of_the_table(mine, llm4rec):
    answer = mine("--small", "--rows", "SASRec", "--columns", "Beauty", "--seeds", "0,1", "--launcher", "basic")
    assert answer.code == 0, answer.err
    of_table = answer.err.split("run 1 of 2")[1]
    assert "epoch 1" not in of_table and of_table.count("finished run found") >= 2


@needs("hydra-joblib-launcher")
def test_a_launcher_starts_each_seed_from_the_run_with_its_seed(mine, tmp_path, monkeypatch):
    from llm4rec_cli import launch

    sweeps = []
    monkeypatch.setattr(launch, "run", lambda command, flags: sweeps.append(flags))
    shared = f"model=unisrec {' '.join(sizes('unisrec'))} trainer.epochs=1 trainer.batch_size=512"
    row = f"""  - label: UniSRec
    train: {shared} model.freeze=encoder
    start:
      small: {shared} task=pretrain dataset=demo_pretrain task.max_examples=50
    unsourced: A row of ours.
"""
    write_text(mine.table, mine.table.read_text().replace("columns:\n", row + "columns:\n"))
    answer = mine("--small", "--seeds", "0,1", "--rows", "UniSRec", "--columns", "Beauty", "--launcher", "joblib")
    assert answer.code == 0, answer.err
    starts, seeds = sweeps
    assert "task=pretrain" in starts and "seed=0,1" in starts and "seed=0,1" in seeds
    (folder,) = (tmp_path / "outputs/unisrec/demo_pretrain").iterdir()
    assert f"model.init_from={folder}" in seeds


def test_what_was_typed_besides_the_table_is_recorded_as_a_part(mine, llm4rec):
    text = mine.table.read_text().replace("train: dataset=amazon2014-beauty, small", "train: dataset=demo, small")
    write_text(mine.table, text.replace("  - {label: Toys", "  # - {label: Toys"))
    assert mine("--rows", "popular").code == 0
    assert "1 of 3 cells reproduced: " in llm4rec("list", "papers", "mine").out
    assert mine("--rows", "SASRec", "--seeds", "0").code == 0
    listed = " ".join(llm4rec("list", "papers", "mine").out.split())  # the state may take several lines
    assert "2 of 3 cells reproduced, 1 of them in part" in listed
    assert mine("--rows", "SASRec").code == 0
    assert "2 of 3 cells reproduced: " in llm4rec("list", "papers", "mine").out


def test_peoples_judgements_are_read_by_system_and_criterion(tmp_path):
    from llm4rec_studies.human.score import judged

    assert judged(tmp_path) == {}
    line = {"criterion": "clarity", "system": "reference", "mean_score": 4.5, "scores": 150, "raters": 3, "alpha": 0.5}
    write_text(tmp_path / "human.json", json.dumps({"systems": [line, {**line, "criterion": "wit", "mean_score": 2}]}))
    assert judged(tmp_path) == {"reference": {"clarity": 4.5, "wit": 2}}


INVALID = {
    "an override": ("model=popularity", "model=popularty", "unknown model 'popularty'"),
    "a dataset that only a later column has": (
        "toys, small: dataset=demo,",
        "toys, small: dataset=demo_news task=sequential,",
        "dataset.split=mind splits impressions",
    ),
    "a printed number": ("model: Caser", "model: Casserole", "'Caser' has no printed hr@5 on 'Beauty'"),
    "several numbers": (", unsourced: The paper has no floors.", "", "'popular' selects several numbers of hr@5"),
}


@pytest.mark.parametrize(("old", "new", "problem"), INVALID.values(), ids=INVALID)
def test_validate_reports_each_kind_of_mistake(mine, llm4rec, old, new, problem):
    write_text(mine.table, mine.table.read_text().replace(old, new))
    answer = llm4rec("validate", "paper/mine/tiny")
    assert answer.code == 2
    assert "conf/paper/mine/tiny.yaml" in answer.out
    assert problem in answer.out
