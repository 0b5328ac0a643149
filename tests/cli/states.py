"""States of a working directory that cases in messages/ ask for: name -> function of folder, argument and fixtures."""

from __future__ import annotations

import re
import shutil

import pandas as pd

from llm4rec_cli.config import compose as composing
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.run import config_check
from tests.results.finished_runs import metrics_json
from tests.support.driver import call, read

# (n_better, n_tied) of five targets: rank 1, rank 3, tied at ranks 3 to 6, rank 10, rank 11.
RANKS = [(0, 1), (2, 1), (2, 4), (9, 1), (10, 1)]

AWKWARD = """It's "A" {test}, [x]=1, $HOME & more!"""
TITLES = ["Matrix, The (1999)", "Sabrina (1954)", "Sabrina (1995)", "Heat (1995)", AWKWARD, "Star Wars (1977)"]
# Users' items, oldest first. In training, all but the last two, item 0 occurs 4 times, 2 three times, 1 twice, 3 once.
SEQUENCES = {"ann": [0, 2, 1, 3], "bob": [0, 2, 4, 5], "cat": [0, 2, 3, 4], "dan": [0, 1, 1, 2, 5], "eve": [3, 4, 5]}


def files(folder, contents, _=None):
    """Write files of these contents by their paths."""
    for path, content in contents.items():
        write_text(folder / path, content)


def trained(folder, _, fixture):
    """A finished run of TINY with two floors."""
    shutil.copytree(fixture("_trained_once") / "outputs", folder / "outputs")


def write_run(folder, model, ranks=RANKS, name="seed0-abc", users=None, status="done", **facts):
    """Write a finished run below folder/outputs with these ranks; return its folder."""
    users = [f"u{i}" for i in range(len(ranks))] if users is None else users
    intervals = {name: [0, 1] for name in ("hr@1", "hr@10", "recall@10", "ndcg@10", "mrr", "auc")}
    measured = {"metrics": {"coverage@10": 1.0}, "intervals": intervals, "dataset_fingerprint": "f" * 64}
    metrics = metrics_json(**{"model": model, "dataset": "demo", **measured, **facts})
    run = folder / "outputs" / model / metrics["dataset"] / metrics["task"] / name
    rows = pd.DataFrame(ranks, columns=["n_better", "n_tied"]).assign(n_candidates=100, user_id=users, target="i")
    run.mkdir(parents=True)
    rows.to_parquet(run / "predictions.parquet", index=False)
    write_json(run / "status.json", {"status": status, "error": None})
    write_json(run / "metrics.json", metrics)
    return run


def pair(folder, facts, _):
    """Two finished runs a and b; b with these facts but for those of `both`, and with columns of its predictions."""
    both = facts.pop("both", {})
    columns = {column: facts.pop(column) for column in ("target", "n_candidates") if column in facts}
    write_run(folder, "a", **both)
    file = write_run(folder, "b", **both, **facts) / "predictions.parquet"
    pd.read_parquet(file).assign(**columns).to_parquet(file, index=False)


def movies(folder, _=None, __=None):
    """`dataset=mine`: a few films in RecBole's files, two of one title."""
    rows = [f"{user}\ti{item}\t{time}" for user, items in SEQUENCES.items() for time, item in enumerate(items)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_text(folder / "raw/mine.inter", "\n".join([header, *rows, ""]))
    named = [f"i{i}\t{title}" for i, title in enumerate(TITLES)]
    write_text(folder / "raw/mine.item", "\n".join(["item_id:token\tmovie_title:token_seq", *named, ""]))
    write_text(
        folder / "conf/dataset/mine.yaml",
        "defaults: [_dataset, _self_]\nname: mine\nreader: recbole\nraw_dir: raw\nuser_core: 1\nitem_core: 1\n"
        "domains:\n  films: {interactions: mine.inter, items: mine.item}\n",
    )


def untitled_movies(folder, _, __):
    """`dataset=mine` without a file of items."""
    movies(folder)
    own = folder / "conf/dataset/mine.yaml"
    write_text(own, own.read_text().replace(", items: mine.item", ""))


def only_mine(_, __, fixture):
    """Validate only the options called `mine` in ./conf; tests/test_configs.py validates the shipped ones."""
    names = composing.options
    fixture("monkeypatch").setattr(
        config_check, "options", lambda group: [name for name in names(group) if name.rpartition("/")[2] == "mine"]
    )


def texts(folder, _, fixture):
    """Finished runs of retrieval: explanations, and headings in two ways."""
    shutil.copytree(fixture("written") / "outputs", folder / "outputs", dirs_exist_ok=True)


def other_texts(folder, facts, _=None, texts=("a text",), name="seed0-other"):
    """A copy of the run of explanations with these facts, by a model `other` that wrote these texts; its folder."""
    (run,) = (folder / "outputs/retrieval/demo/explanation").iterdir()
    copy = folder / "outputs/other/demo/explanation" / name
    shutil.copytree(run, copy)
    rows = pd.read_parquet(copy / "predictions.parquet")
    predictions = [texts[i % len(texts)] for i in range(len(rows))]
    rows.assign(prediction=predictions).to_parquet(copy / "predictions.parquet", index=False)
    write_json(copy / "metrics.json", read(run / "metrics.json") | {"model": "other", "shown_as": "other"} | facts)
    return copy


def judged(folder, options, fixture):
    """An export of explanations to `judged`, of three examples unless options say otherwise."""
    options = options or "--examples 3 --criteria clarity"
    texts(folder, None, fixture)
    command = ("human", "export", "retrieval/demo/explanation/seed0", "--out", "judged", *options.split())
    assert call(*command, cwd=folder, cache=fixture("cache")).code == 0


def sheet(folder, lines, _=None, name="ann"):
    """A filled sheet with these lines below the header; `1A` means label A of the first example."""
    (exported, *_) = next(iter(read(folder / "judged/key.json")["codes"])).split("-")
    text = [re.sub(r"^(\d)([A-Z])", rf"{exported}-\1-\2", line) for line in lines]
    path = folder / f"{name}.csv"
    header = [] if lines[0].startswith("code,") else ["code,clarity"]
    write_text(path, "\n".join([*header, *text]) + "\n")
    return path


OF_RUNS = (trained, pair, texts, other_texts, judged, sheet)
STATES = {state.__name__: state for state in (files, movies, untitled_movies, only_mine, *OF_RUNS)}
