"""Models, readers and metrics of installed packages, each in a new process with a folder of packages of its own."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from llm4rec_cli.commands.new import write_package
from tests.support.driver import read

SLOW_CONFIG = """
import time
from dataclasses import dataclass
from llm4rec_cli.models.shared.config import NextItemConfig
time.sleep(1.1)
@dataclass
class BadConfig(NextItemConfig): ...
"""
SMALL = ("trainer.epochs=1", "task.max_examples=50", "task.floors=[]")


class Site:
    """A folder of installed packages, and commands that see it."""

    def __init__(self, folder):
        self.folder, self.cwd = folder / "site", folder / "work"
        self.folder.mkdir()
        self.cwd.mkdir()

    def install(self, distribution, entry_points, files=None):
        """Install a package: group -> lines of its entry points, and path -> content of its files."""
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [line for group, points in entry_points.items() for line in (f"[llm4rec.{group}]", *points)]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name, content in (files or {}).items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content)

    def install_model(self, name):
        """Install the package that `llm4rec new model` writes."""
        package = f"llm4rec_{name}"
        self.install(f"llm4rec-{name}", {"models": [f"{name} = {package}"]})
        write_package(name, self.folder / "source")
        (self.folder / "source" / package).rename(self.folder / package)

    def run(self, *arguments, module="llm4rec_cli"):
        python_path = os.pathsep.join([str(self.folder), *sys.path])
        environment = os.environ | {"PYTHONPATH": python_path, "XDG_CACHE_HOME": str(self.cwd / "cache")}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def output(self, *arguments, **options):
        done = self.run(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.mark.slow
def test_a_new_model_goes_through_every_command(site):
    site.install_model("my_mean")
    assert "of llm4rec-my_mean 1.2" in site.output("list", "models", "--wide")
    assert "all valid" in site.output("validate", "model/my_mean", "search/my_mean")
    assert "plugin        my_mean of llm4rec-my_mean 1.2" in site.output("doctor")
    assert "my_mean" in site.output("train", "--help")
    assert "model=my_mean" in site.output("completion", "--line", "llm4rec train model=my_m")
    assert "my_mean" in site.output("train", "-m", "model=my_mean", "seed=0,1", *SMALL)
    assert "my_mean" in site.output("eval", "model=my_mean", "seed=0", "task.mask_history=true", "task.max_examples=50")
    assert "my_mean" in site.output("report")
    assert "best" in site.output("tune", "model=my_mean", "--trials", "1", *SMALL)
    (environment,) = site.cwd.glob("outputs/my_mean/demo/sequential/seed1-*/environment.json")
    made_in = read(environment)
    assert made_in["packages"]["llm4rec-my_mean"] == "1.2"
    model = site.folder / "llm4rec_my_mean/model.py"
    model.write_text(model.read_text() + "\n# changed\n")
    assert "has changed since" in site.run("train", "model=my_mean", "seed=1", *SMALL).stderr


@pytest.mark.slow
def test_a_new_model_passes_its_own_tests(site):
    assert "my_mean" in site.output("new", "model", "my_mean", "--out", "repository")
    assert site.run("new", "model", "my_mean", "--out", "repository").returncode == 2
    site.install_model("my_mean")
    assert "passed" in site.output("-q", "-p", "no:cacheprovider", "repository/tests", module="pytest")


@pytest.mark.parametrize(
    ("points", "files", "said"),
    [
        (["bad = bad"], {"bad/__init__.py": "", "bad/config.py": "1 / 0"}, "bad of bad-one 1.2 cannot be imported"),
        (["sasrec = bad"], {"bad/__init__.py": ""}, "bad-one offers a model named 'sasrec', which llm4rec has itself"),
        (["../../x = bad"], {"bad/__init__.py": ""}, "bad-one offers a model named '../../x': a name has"),
        (["bad = nowhere"], {}, "'nowhere': there is no such module"),
        (["bad = bad:thing"], {"bad/__init__.py": ""}, "'bad:thing': there is no such module"),
        (
            ["bad = bad"],
            {
                "bad/__init__.py": "",
                "bad/config.py": SLOW_CONFIG,
            },
            "importing the settings of bad of bad-one 1.2 took",
        ),
    ],
    ids=["an import error", "a clash", "a path", "no module", "an attribute", "a slow import"],
)
def test_a_package_that_cannot_be_used_is_said_in_one_line_and_stops_no_command(site, points, files, said):
    site.install("bad-one", {"models": points}, files)
    done = site.run("list", "models")
    assert done.returncode == 0
    assert [said in line for line in done.stderr.splitlines()] == [True], done.stderr
    assert "sasrec" in done.stdout


def test_a_model_that_cannot_be_imported_is_named_when_it_is_chosen(site):
    files = {"bad/__init__.py": "", "bad/config.py": "1 / 0", "bad/conf/model/bad.yaml": "defaults: [_bad, _self_]"}
    site.install("bad-one", {"models": ["bad = bad"]}, files)
    done = site.run("train", "model=bad")
    assert done.returncode == 2
    assert "error: bad of bad-one 1.2 cannot be imported (ZeroDivisionError: division by zero)" in done.stderr
    assert "try: repair it, or pip uninstall bad-one" in done.stderr
    doctor = site.run("doctor")
    assert doctor.returncode == 1
    assert "bad-one" in doctor.stdout


def test_of_two_packages_with_one_name_none_is_used(site):
    for package in ("one", "other"):
        site.install(package, {"models": ["same = same"]}, {"same/__init__.py": ""})
    done = site.run("train", "model=same")
    assert done.returncode == 2
    assert "one and other offer a model of the same name, 'same'" in done.stderr


def test_a_string_that_is_typed_is_not_imported(site):
    (site.cwd / "trap.py").write_text("raise SystemExit('imported')")
    for typed in ("model=trap", "dataset.reader=trap", "+model=trap.config"):
        done = site.run("train", typed)
        assert done.returncode == 2
        assert "imported" not in done.stdout + done.stderr


def test_a_yaml_of_a_model_without_code_is_listed_and_refused(site):
    (site.cwd / "conf/model").mkdir(parents=True)
    (site.cwd / "conf/model/toy.yaml").write_text("# a toy\ndefaults: [_toy, _self_]\nname: toy\n")
    assert "no code: llm4rec new model toy" in site.output("list", "models", "--wide")
    done = site.run("train", "model=toy")
    assert done.returncode == 2
    assert "no installed package has the code of toy" in done.stderr
    assert "llm4rec new model toy writes such a package" in done.stderr


READER = """
import pandas as pd
from llm4rec_cli.data.recdataset import RawData
VERSION, ROLES = 1, ((frozenset({"plays"}), frozenset()),)
def read(files):
    pairs = [line.split() for line in files["plays"].read_text().splitlines()]
    interactions = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    items = pd.DataFrame({"item_id": interactions["item_id"].unique()})
    return RawData(items, interactions, {"read": len(pairs)}, "by first appearance")
"""
DATASET = """
defaults: [_dataset, _self_]
name: plays
reader: plays
domains: {plays: {plays: plays.txt}}
user_core: 0
item_core: 0
"""
METRIC = """
from llm4rec_cli.evaluation.metrics import Kind, Metric
METRIC = Metric("half", Kind.ranking)
def gain(rank): return 0.5**rank
"""


def test_a_reader_and_a_metric_of_a_package_are_used(site):
    files = {
        "plays/__init__.py": "",
        "plays/reader.py": READER,
        "plays/half.py": METRIC,
        "plays/conf/dataset/plays.yaml": DATASET,
    }
    site.install("plays", {"readers": ["plays = plays.reader"], "metrics": ["half = plays.half"]}, files)
    rows = [f"u{user} i{(user + step) % 7}" for user in range(12) for step in range(4)]
    (site.cwd / "plays.txt").write_text("\n".join(rows))
    out = site.output("train", "model=popularity", "dataset=plays", "dataset.raw_dir=.", "task.floors=[]")
    folder = site.cwd / out.split("run folder: ")[1].splitlines()[0]
    metrics, (predictions,) = read(folder / "metrics.json")["metrics"], folder.glob("predictions.parquet")
    ranks = pd.read_parquet(predictions)
    expected = [
        sum(0.5**rank for rank in range(better + 1, better + tied + 1)) / tied
        for better, tied in zip(ranks["n_better"], ranks["n_tied"], strict=True)
    ]
    assert metrics["half"] == pytest.approx(sum(expected) / len(expected), rel=1e-12)
    assert "half" in out
    assert read(folder / "environment.json")["packages"]["plays"] == "1.2"


def test_an_error_of_a_package_is_not_called_a_bug_of_llm4rec(site):
    site.install_model("my_mean")
    model = site.folder / "llm4rec_my_mean/model.py"
    model.write_text(model.read_text() + "\n\ndef build(context):\n    return 1 / 0\n")
    done = site.run("train", "model=my_mean", *SMALL)
    assert done.returncode == 1
    assert "error: ZeroDivisionError: division by zero" in done.stderr
    assert "raised by llm4rec-my_mean, at llm4rec_my_mean/model.py:" in done.stderr
