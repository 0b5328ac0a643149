"""A bundle holds what was run, and nothing else; verifying it finds what was changed."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import sha256
from llm4rec_cli.results import bundles
from llm4rec_cli.results.results import Results, named_results
from llm4rec_studies.bundle.make import make, without_texts
from llm4rec_studies.bundle.verify import MOST_PROBLEMS, Check, verify
from tests.support.driver import TINY, call

RUNS = [
    (*TINY, "task.floors=[popularity]"),
    (*TINY, "seed=1"),
    ("model=mean", "task=rating", "task.floors=[]", "task.max_examples=100"),
    ("model=retrieval", "task=explanation", "task.floors=[]", "task.max_examples=20"),
    ("model=popularity", "dataset=demo_news", "task.floors=[random]", "task.max_examples=50"),
]
NAMES = ["sasrec/demo/sequential", "popularity/demo/sequential", "mean", "retrieval", "popularity/demo_news", "random"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("home")
    for overrides in RUNS:
        assert call("train", *overrides, cwd=folder, cache=cache).code == 0
    assert call("eval", "model=sasrec", "seed=0", "task=direct", "task.floors=[]", cwd=folder, cache=cache).code == 0
    return folder


@pytest.fixture(scope="module")
def made(home):
    """A bundle with weights, and all seeds."""
    names = [*NAMES, "sasrec/demo/direct"]
    return make(names, home / "lab", home / "outputs", seeds=True, weights=True)


@pytest.fixture
def lab(made, tmp_path):
    """A copy of it, free to change."""
    return Path(shutil.copytree(made, tmp_path / "lab"))


@pytest.fixture(autouse=True)
def _files_may_have_changed():
    bundles.files_with_problems.cache_clear()


def failed(folder):
    return {check.name: check.problems for check in verify(folder) if check.problems}


def reseal(folder):
    """Write the manifest anew, as somebody would who means to deceive."""
    manifest = json.loads((folder / "bundle.json").read_text())
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del files["bundle.json"]
    manifest["files"] = {n: {"bytes": path.stat().st_size, "sha256": sha256(path)} for n, path in files.items()}
    (folder / "bundle.json").write_text(json.dumps(manifest))


def file_of(folder, address, name):
    (run,) = folder.glob(address)
    return run / name


# --- making


def test_a_bundle_is_verified_by_everything_that_it_holds(made):
    checks = {check.name: check for check in verify(made)}
    assert [*checks] == ["files", "content", "runs", "metrics", "addresses", "tables"]
    assert not any(check.problems for check in checks.values())
    assert checks["runs"].found == "8 in their folders"
    assert checks["addresses"].found == "8 follow from the settings"
    assert int(checks["metrics"].found.split()[0]) > 50


def test_it_holds_neither_texts_nor_paths_nor_pickles(made, home):
    names = {path.name for path in made.rglob("*") if path.is_file()}
    assert not names & {"run.log", "optimizer.pt", "rng_state.pth", "scheduler.pt", ".lock", "trainer_state.json"}
    assert {path.suffix for path in made.rglob("*") if path.is_file()} == {
        *(".json", ".jsonl", ".yaml", ".csv", ".md"),
        *(".parquet", ".safetensors"),
    }
    written = pd.read_parquet(file_of(made, "retrieval/*/*/*", "predictions.parquet"))
    assert not {"reference", "prediction", "feature", "answer"} & {*written}
    assert {"user_id", "target", "rouge1"} <= {*written}
    shown = pd.read_parquet(file_of(made, "popularity/demo_news/*/*", "predictions.parquet"))
    assert not {"items", "clicked", "scores"} & {*shown}, "the click log"
    answers = pd.DataFrame({"user_id": ["u"], "n_better": [1], "prediction": ["text"], "slice/x": [True], "new": ["t"]})
    assert list(without_texts(answers)) == ["user_id", "n_better", "slice/x"]
    assert list(without_texts(answers.assign(prediction=4.5))) == ["user_id", "n_better", "prediction", "slice/x"]
    assert not any(str(home).encode() in path.read_bytes() for path in made.rglob("*") if path.is_file())


def test_paths_and_passwords_of_a_run_are_rewritten(home, tmp_path):
    outputs = Path(shutil.copytree(home / "outputs", tmp_path / "outputs"))
    (run,) = outputs.glob("mean/*/*/*")
    overrides = ["model=mean", "dataset.raw_dir='/home/me/my data'"]
    for name, add in (("metrics.json", {"warnings": ["see /etc/x"]}), ("status.json", {})):
        content = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(content | add | {"overrides": overrides}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["paths"] = {"outputs": "/home/me/outputs", "cache": "/home/me/cache"}
    config["dataset"]["raw_dir"] = "/home/me/data"
    config["llm"]["base_url"] = "https://me:secret@host.org/v1"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    folder = make(["mean"], tmp_path / "lab", outputs)
    text = "".join(path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".md", ".csv"))
    assert not any(word in text for word in ("/home", "secret", "/etc", str(tmp_path)))
    assert not failed(folder)


def test_a_run_over_its_own_bundle_is_the_same_run(made, home):
    ours = Results.under(home / "outputs")
    theirs = {run.address: run for run in Results.under(made)}
    assert len(theirs) == 8
    for run in ours:
        other = theirs[run.address]
        assert (other.metrics, other.intervals) == (run.metrics, run.intervals)
        assert other.bundle == "lab" and not run.bundle
        assert other.labels == run.labels


def test_the_checklist_says_what_is_not_stated(made):
    text = (made / "CHECKLIST.md").read_text()
    for said in ("## mean on demo, rating", "| seeds | 0, 1 |", "| licence of the data | not stated |", "1 x cpu"):
        assert said in text


def test_a_bundle_is_made_anew_and_equal(home, tmp_path):
    first = make(["mean"], tmp_path / "lab", home / "outputs")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert make(["mean"], tmp_path / "lab", home / "outputs") == first
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


def test_two_runs_of_one_address_and_recorded_ones_are_refused(home, made, tmp_path):
    (own,), (other,) = home.glob("outputs/mean/*/*/*"), made.glob("mean/*/*/*")
    with pytest.raises(UsageError, match="two of these runs have the address mean/demo/rating"):
        make([str(own), str(other)], tmp_path / "lab", home / "outputs")
    recorded = Path(__file__).parents[3] / "docs/recorded"
    name = next(iter(Results.under(recorded))).name
    with pytest.raises(UsageError, match="is only recorded"):
        make([name], tmp_path / "lab", recorded)
    assert not (tmp_path / "lab").exists()


# --- verifying


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet"])
def test_a_changed_byte_of_any_file_is_found(lab, name):
    path = file_of(lab, "sasrec/demo/sequential/seed0-*", name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert failed(lab) == {"files": (f"{path.relative_to(lab)} has another hash than in bundle.json",)}


def test_missing_further_and_linked_files_are_found(lab):
    metrics = file_of(lab, "mean/*/*/*", "metrics.json")
    metrics.unlink()
    (lab / "notes.txt").touch()
    checklist = lab / "CHECKLIST.md"
    shutil.move(checklist, lab.parent / "CHECKLIST.md")
    checklist.symlink_to(lab.parent / "CHECKLIST.md")
    (problems,) = failed(lab).values()
    assert {*problems} == {
        f"{metrics.relative_to(lab)} is missing",
        "notes.txt is not in bundle.json",
        "CHECKLIST.md is or passes a link",
    }


@pytest.mark.parametrize(
    "content", ["", "[]", '{"files": {}}', '{"complete": false, "files": {}}', '{"complete": true, "files": []}']
)
def test_a_damaged_or_incomplete_manifest_is_said(lab, content):
    (lab / "bundle.json").write_text(content)
    ((name, (problem,)),) = failed(lab).items()
    assert name == "files" and problem.startswith("bundle.json is ")


def test_a_name_that_leaves_the_folder_is_not_read(lab):
    manifest = json.loads((lab / "bundle.json").read_text())
    manifest["files"] |= {"../secret": {"bytes": 0, "sha256": ""}, "a\\b": 3, "README.md": 3}
    (lab / "bundle.json").write_text(json.dumps(manifest))
    assert set(failed(lab)["files"]) == {
        "../secret leaves the folder",
        "a\\b leaves the folder",
        "README.md has another size than in bundle.json",
    }


def test_a_run_in_another_folder_and_one_that_is_not_named(lab):
    (run,) = lab.glob("mean/*/*/*")
    run.rename(run.with_name("seed0-0123456789"))
    reseal(lab)
    assert failed(lab)["runs"] == (
        f"{run.parent.relative_to(lab)}/seed0-0123456789 is not named in bundle.json",
        f"{run.relative_to(lab)} is not a finished run",
    )


def test_pickles_texts_and_paths_are_refused_under_any_name(lab):
    (run,) = lab.glob("retrieval/*/*/*")
    table = pd.read_parquet(run / "predictions.parquet")
    table.assign(reference="a review").to_parquet(run / "predictions.parquet")
    (run / "model.safetensors").write_bytes(pickle.dumps({"a": np.zeros(2)}))
    (run / "optimizer.pt").write_bytes(pickle.dumps(1))
    (run / "notes.md").write_bytes(b"\xff\xfe")
    (run / "other.parquet").write_bytes(b"PAR1")
    (lab / "README.md").write_text("see /home/me/data\n")
    reseal(lab)
    problems = "\n".join(failed(lab)["content"])
    for said in (
        "column 'reference' with text",
        "model.safetensors is not in the format of safetensors",
        "optimizer.pt is of a kind that no bundle has",
        "notes.md is not UTF-8",
        "other.parquet is not Parquet",
        "README.md:1 names a path",
    ):
        assert said in problems


def test_numbers_answers_settings_and_tables_must_follow_from_each_other(lab):
    table = lab / "tables/results.csv"
    table.write_text(table.read_text().replace("0.", "1.", 1))
    reseal(lab)
    assert failed(lab) == {"tables": ("tables/results.csv does not follow from the runs",)}
    (run,) = lab.glob("sasrec/demo/sequential/seed0-*")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["learning_rate"] = 0.1
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    reseal(lab)
    (problem,) = failed(lab)["addresses"]
    assert problem.startswith(f"{run.relative_to(lab)}: its settings have the hash ")
    assert "metrics" not in failed(lab)
    content = json.loads((run / "metrics.json").read_text())
    content["metrics"]["ndcg@10"] += 0.1
    (run / "metrics.json").write_text(json.dumps(content))
    pd.read_parquet(run / "predictions.parquet").iloc[:50].to_parquet(run / "predictions.parquet")
    for address, column in (("mean/*/*/*", "prediction"), ("popularity/demo_news/*/*", "auc")):
        path = file_of(lab, address, "predictions.parquet")
        answers = pd.read_parquet(path)
        answers.assign(**{column: answers[column] * 0.5}).to_parquet(path)
    reseal(lab)
    problems = failed(lab)["metrics"]
    for said in (
        "ndcg@10 is",
        "metrics.csv differs",
        ": 50 answers for 100 examples",
        "mean/demo/",
        "popularity/demo_news",
    ):
        assert any(said in problem for problem in problems), said


def test_a_check_lists_a_few_problems():
    many = tuple(f"p{i}" for i in range(MOST_PROBLEMS + 3))
    assert str(Check("files", "", many)) == "FAILED  files: p0; p1; p2; p3; p4; and 3 more"


# --- reading


def test_rows_of_a_damaged_bundle_are_marked(lab):
    assert not any("unverified" in run.labels for run in Results.under(lab))
    bundles.files_with_problems.cache_clear()
    (lab / "CHECKLIST.md").write_text("all is well\n")
    assert all("unverified" in run.labels for run in Results.under(lab))
    (named,) = named_results([str(next(lab.glob("mean/*/*/*")))], lab.parent)
    assert named.bundle == "lab" and "unverified" in named.labels


def test_a_run_whose_numbers_do_not_hold_or_whose_answers_cannot_be_read_is_marked(lab):
    metrics = file_of(lab, "sasrec/demo/sequential/seed1-*", "metrics.json")
    metrics.write_text(metrics.read_text().replace('"hr@10": 0.', '"hr@10": 0.9'))
    answers = file_of(lab, "mean/*/*/*", "predictions.parquet")
    pd.read_parquet(answers).drop(columns="prediction").to_parquet(answers)
    reseal(lab)
    marked = {(run.model, run.seed) for run in Results.under(lab) if "unverified" in run.labels}
    assert marked == {("mean", 0), ("sasrec", 1)}
    assert any("its answers cannot be read" in problem for problem in failed(lab)["metrics"])


def test_runs_outside_the_bundle_are_not_read(lab):
    manifest = json.loads((lab / "bundle.json").read_text())
    (lab / "bundle.json").write_text(json.dumps(manifest | {"runs": ["../outputs", "/etc", 3]}))
    assert len(failed(lab)["runs"]) == 9, "none is named, and eight are there"
