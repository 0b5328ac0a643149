"""Models, readers and metrics of installed packages, each in a new process with a folder of packages of its own."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

from llm4rec_cli import arithmetic
from llm4rec_cli.commands.new import write_package
from llm4rec_cli.config import plugins
from llm4rec_cli.evaluation import metrics
from llm4rec_cli.files import write_text
from tests.support import forked
from tests.support.driver import Answer, call, read
from tests.support.extras import needs
from tests.support.small_demo import SMALL as SMALL_DEMO
from tests.support.small_demo import sized

SLOW_CONFIG = """
import time
from dataclasses import dataclass
from llm4rec_cli.models.shared.config import NextItemConfig
time.sleep(1.1)
@dataclass
class LateConfig(NextItemConfig): ...
"""
SMALL = "trainer.epochs=1 task.max_examples=50 task.floors=[]"


def find_packages(folder):
    """Let this process find the packages in a folder."""
    sys.path.insert(0, str(folder))
    for found in (
        metrics.metrics,
        metrics.offered_gains,
        plugins.offers,
        plugins._points,
        plugins._installed,
    ):  # by the server, without this folder
        found.cache_clear()


def call_with_packages(folder, cwd, commands):
    """Call commands one after the other in a process that finds the packages in a folder; write the answers."""
    find_packages(folder)
    arithmetic.probe = lambda work, device: {"fp32": 1.0, "bf16": 1.0}
    with sized(SMALL_DEMO):
        answers = [call(*typed, cwd=cwd, cache=cwd / "cache") for typed in commands]
    write_text(cwd / "answers.json", json.dumps([[answer.code, answer.out, answer.err] for answer in answers]))


def conformance(folder, tests):
    """Run the tests of a package in a process that finds the packages in a folder."""
    find_packages(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # of the processes that the tests start
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", str(tests)]))


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

    def install_model(self, name, kind="model"):
        """Install the package that `llm4rec new model` writes."""
        package = f"llm4rec_{name}"
        self.install(f"llm4rec-{name}", {"models": [f"{name} = {package}"]})
        write_package(name, self.folder / "source", kind)
        (self.folder / "source" / package).rename(self.folder / package)

    def run(self, *typed):
        """Run commands one after the other in a new process, on the small demo; return the answers."""
        commands = [shlex.split(command) for command in typed]
        forked.run(call_with_packages, self.folder, self.cwd, commands, cwd=self.cwd)
        return [Answer(*answer, self.cwd) for answer in read(self.cwd / "answers.json")]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@needs("optuna")
@pytest.mark.slow
def test_a_new_model_goes_through_every_command(site):
    site.install_model("my_mean")
    expected = {
        "list models --wide": "of llm4rec-my_mean 1.2",
        "validate model/my_mean search/my_mean": "all valid",
        "doctor": "plugin        my_mean of llm4rec-my_mean 1.2",
        "train --help": "my_mean",
        f"train -m model=my_mean seed=0,1 {SMALL}": "my_mean",
        "eval model=my_mean seed=0 task.mask_history=true task.max_examples=50": "my_mean",
        "report": "my_mean",
        f"tune model=my_mean --trials 1 {SMALL}": "best",
    }
    answers = dict(zip(expected, site.run(*expected), strict=True))
    assert {typed: answer.code for typed, answer in answers.items() if answer.code} == {}
    assert {typed for typed, text in expected.items() if text not in answers[typed].out} == set()
    (environment,) = site.cwd.glob("outputs/my_mean/demo/sequential/seed1-*/environment.json")
    assert read(environment)["packages"]["llm4rec-my_mean"] == "1.2"
    model = site.folder / "llm4rec_my_mean/model.py"
    model.write_text(model.read_text() + "\n# changed\n")
    (again,) = site.run(f"train model=my_mean seed=1 {SMALL}")
    assert "has changed since" in again.err
    model.write_text(model.read_text() + "\n\ndef build(context):\n    return 1 / 0\n")
    (broken,) = site.run(f"train model=my_mean seed=2 {SMALL}")
    assert broken.code == 1
    assert "error: ZeroDivisionError: division by zero" in broken.err
    assert "raised by llm4rec-my_mean, at llm4rec_my_mean/model.py:" in broken.err, "not called a bug of llm4rec"


def test_a_new_model_is_written_once(site):
    """scripts/test_wheel.sh installs it, and runs its tests."""
    typed = "new model my_mean --out repository"
    first, again = site.run(typed, typed)
    assert (first.code, "my_mean" in first.out, again.code) == (0, True, 2)


def test_a_new_rule_passes_the_conformance_suite_and_ranks_without_training(site):
    site.install_model("my_rule", "rule")
    validated, trained = site.run("validate model/my_rule search/my_rule", f"train model=my_rule {SMALL}")
    assert (validated.code, trained.code) == (0, 0), validated.err + trained.err
    assert list(site.cwd.glob("outputs/my_rule/demo/sequential/*/metrics.json"))
    assert not list(site.cwd.glob("outputs/my_rule/*/*/*/checkpoints"))
    forked.run(conformance, site.folder, site.folder / "source/tests", cwd=site.cwd)


def test_packages_that_cannot_be_used_are_said_in_one_line_each_and_stop_no_command_but_their_own(site):
    faults = {
        "broken": (["broken = broken"], "1 / 0", "broken of broken 1.2 cannot be imported"),
        "clash": (["sasrec = clash"], "", "clash offers a model named 'sasrec', which llm4rec has itself"),
        "path": (["../../x = path"], "", "path offers a model named '../../x': a name has"),
        "nowhere": (["bad = no_such_module"], "", "'no_such_module': there is no such module"),
        "attribute": (["worse = attribute:thing"], "", "'attribute:thing': there is no such module"),
        "late": (["late = late"], SLOW_CONFIG, "importing the settings of late of late 1.2 took"),
        "one": (["same = same"], "", "one and other offer a model of the same name, 'same'"),
        "other": (["same = same"], "", ""),
    }
    for name, (points, config, _) in faults.items():
        files = {f"{name}/__init__.py": "", f"{name}/config.py": config, "same/__init__.py": ""}
        files[f"{name}/conf/model/{name}.yaml"] = f"defaults: [_{name}, _self_]"
        site.install(name, {"models": points}, files)
    listed, broken, same, doctor = site.run("list models", "train model=broken", "train model=same", "doctor")
    assert listed.code == 0 and "sasrec" in listed.out
    times = {text: sum(text in line for line in listed.err.splitlines()) for *_, text in faults.values() if text}
    assert times == dict.fromkeys(times, 1), listed.err
    assert broken.code == same.code == 2
    assert "error: broken of broken 1.2 cannot be imported (ZeroDivisionError: division by zero)" in broken.err
    assert "try: repair it, or pip uninstall broken" in broken.err
    assert "one and other offer a model of the same name, 'same'" in same.err
    assert (doctor.code, "broken" in doctor.out) == (1, True)


def test_a_string_that_is_typed_is_not_imported_and_a_yaml_of_a_model_without_code_is_listed_and_refused(site):
    (site.cwd / "trap.py").write_text("raise SystemExit('imported')")
    traps = ("train model=trap", "train dataset.reader=trap", "train +model=trap.config")
    for answer in site.run(*traps):
        assert answer.code == 2
        assert "imported" not in answer.out + answer.err
    (site.cwd / "conf/model").mkdir(parents=True)
    (site.cwd / "conf/model/toy.yaml").write_text("# a toy\ndefaults: [_toy, _self_]\nname: toy\n")
    listed, refused = site.run("list models --wide", "train model=toy")
    assert "no code: llm4rec new model toy" in listed.out
    assert refused.code == 2
    assert "no installed package has the code of toy" in refused.err
    assert "llm4rec new model toy writes such a package" in refused.err


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
    (answer,) = site.run("train model=popularity dataset=plays dataset.raw_dir=. task.floors=[]")
    folder = answer.folder
    values, (predictions,) = read(folder / "metrics.json")["metrics"], folder.glob("predictions.parquet")
    ranks = pd.read_parquet(predictions)
    expected = [
        sum(0.5**rank for rank in range(better + 1, better + tied + 1)) / tied
        for better, tied in zip(ranks["n_better"], ranks["n_tied"], strict=True)
    ]
    assert values["half"] == pytest.approx(sum(expected) / len(expected), rel=1e-12)
    assert "half" in answer.out
    assert read(folder / "environment.json")["packages"]["plays"] == "1.2"


COMMAND = '''"""`llm4rec {typed}`: count what is composed.

llm4rec {typed} seed=3
"""

import argparse
import sys
from pathlib import Path

from llm4rec_cli.run.folder import Outcome

Path("imported").touch()


def run(composed):
    print("seed", composed.config.seed, "floors", list(composed.config.task.floors))
    return Outcome("done", Path("."))
'''
WITH_OPTIONS = (
    COMMAND.replace("def run(composed):", "def run(composed, options):\n    print(options.times)")
    + """

def parser():
    options = argparse.ArgumentParser("llm4rec count twice", add_help=False)
    options.add_argument("--times", type=int, default=2, help="how often")
    return options
"""
)
PLAIN = '''"""`llm4rec hello-world WORDS`: say words."""


def main(arguments):
    print("hello", *arguments)
    return 3 if "--fail" in arguments else 0
'''


def test_a_package_offers_commands_and_configs_and_help_imports_none(site):
    points = ["count = added.count", "count-twice = added.twice", "hello-world = added.hello", "lost = added.lost"]
    files = {
        "added/__init__.py": "",
        "added/count.py": COMMAND.format(typed="count"),
        "added/twice.py": WITH_OPTIONS.format(typed="count twice"),
        "added/hello.py": PLAIN,
        "added/lost.py": "1 / 0",
        "added/conf/experiment/added/few.yaml": "# @package _global_\ntask: {floors: [popularity]}\n",
        "added/conf/task/next.yaml": "defaults: [sequential, _self_]\nfloors: [random]\n",
    }
    site.install("llm4rec-added", {"commands": points}, files)
    (listed,) = site.run("--help")
    assert not (site.cwd / "imported").exists()
    ours, _, others = listed.out.partition("Commands of llm4rec-added:\n")
    assert "  train  " in ours and "count" not in ours.partition("Options:")[0].split()
    assert [line.split("  ")[1] for line in others.split("\n\n")[0].splitlines()] == [
        *("count", "count twice", "hello-world", "lost"),
    ]
    assert "  count                 count what is composed\n" in others
    expected = {
        "count seed=3": "seed 3 floors",
        "count task=next": "floors ['random']",
        "count +experiment=added/few": "floors ['popularity']",
        "count twice --times 5 seed=4": "5\nseed 4",
        "count twice --help": "--times TIMES",
        "count --help": "llm4rec count: count what is composed\n",
        "hello-world a b": "hello a b\n",
    }
    answers = dict(zip(expected, site.run(*expected), strict=True))
    assert {typed: answer.err for typed, answer in answers.items() if answer.code} == {}
    assert {typed: answer.out for typed, answer in answers.items() if expected[typed] not in answer.out} == {}
    swept, failed, wrong, broken, unknown = site.run(
        *("count -m seed=1,2", "hello-world --fail", "count seed=x", "lost", "cout")
    )
    assert (swept.code, failed.code, wrong.code, broken.code, unknown.code) == (0, 3, 2, 2, 2)
    assert "seed 1 floors" in swept.out and "seed 2 floors" in swept.out
    assert "lost of llm4rec-added 1.2 cannot be imported (ZeroDivisionError: division by zero)" in broken.err
    assert "did you mean 'count'" in unknown.err


def shown_in_the_docs(heading):
    """Return path -> content of the files that a section of the page on packages shows, and empty `__init__.py`s."""
    page = (Path(__file__).parents[2] / "docs/develop/add-a-model.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    files = dict(re.findall(r"```\w+\n# (my_package/[\w/]+\.\w+)\n(.*?)```", section, re.DOTALL))
    packages = {Path(name).parent for name in files if name.endswith(".py")}
    return {f"{package}/__init__.py": "" for package in packages | {Path("my_package")}} | files


def test_the_command_that_the_docs_show_runs(site):
    points = {"commands": ["longest-histories = my_package.longest_histories"]}
    site.install("my-package", points, shown_in_the_docs("A command"))
    helped, called = site.run("--help", "longest-histories --users 2")
    assert "Commands of my-package:\n  longest-histories     the users with the most interactions\n" in helped.out
    first, second = (int(line.split()[1]) for line in called.out.splitlines())
    assert first >= second > 0


def test_the_task_that_the_docs_show_runs(site):
    points = {"tasks": ["wait = my_package.wait"], "models": ["usual_wait = my_package.usual_wait"]}
    site.install("my-package", points, shown_in_the_docs("A task"))
    trained, listed, checked, reported = site.run(
        "train model=usual_wait", "list tasks", "validate task/wait model/usual_wait", "report"
    )
    assert [answer.err for answer in (trained, listed, checked, reported) if answer.code] == []
    (folder,) = site.cwd.glob("outputs/usual_wait/demo/wait/*")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert (predictions["days"] >= 0).all() and predictions["predicted"].nunique() == 1
    expected = (predictions["predicted"] - predictions["days"]).abs().mean()
    assert read(folder / "metrics.json")["metrics"]["days_off"] == pytest.approx(expected)
    assert "wait" in listed.out and "days_off" in reported.out


def test_a_task_that_cannot_be_used_is_refused_with_the_reason(site):
    files = shown_in_the_docs("A task")
    (module,) = (name for name in files if name.endswith("wait.py"))
    points = {"tasks": ["wait = my_package.wait"], "models": ["usual_wait = my_package.usual_wait"]}
    site.install("my-package", points, files)
    of_module = {  # what is replaced -> what is said, by doctor, too
        ("METRICS = ", "OTHERS = "): "wait of my-package 1.2 does not define METRICS",
        ('Metric("days_off", "wait", lower=True, headline=True)', '"days_off"'): "'days_off', which is no Metric",
    }
    of_answers = {
        ('"days_off", "wait", lower', '"mrr", "wait", lower'): "a metric 'mrr', which llm4rec has too",
        ('"predicted", "days_off"]]', '"predicted", "other"]]'): "no column of the predictions 'days_off'",
        ('{"days": ', '{"weeks": '): "no column of the predictions 'weeks'",
        ('{"days_off": sums', '{"other": sums'): "no metric 'days_off'",
        ('COLUMN = "timestamp"', 'COLUMN = "price"'): "needs interactions with 'price'",
    }
    for (old, new), reason in {**of_module, **of_answers}.items():
        assert files[module].count(old) == 1
        (site.folder / module).write_text(files[module].replace(old, new))
        typed = "task.selection=mrr" if "mrr" in new else "force=true"
        trained, checked = site.run(f"train model=usual_wait {typed}", "doctor")
        assert trained.code and reason in trained.err and "bug" not in trained.err
        assert (reason in " ".join(checked.out.split())) == ((old, new) in of_module)


def test_commands_that_cannot_be_used_are_refused_alone(site):
    points = ["train = added.x", "Upper = added.x", "gone = added.gone", "empty = added.x"]
    site.install("llm4rec-added", {"commands": points}, {"added/__init__.py": "", "added/x.py": ""})
    listed, gone, empty, doctor = site.run("--help", "gone", "empty", "doctor")
    assert listed.code == 0
    assert "offers a command named 'train', which llm4rec has itself" in listed.err
    assert "a command named 'Upper': a name has lower-case letters, digits and -" in listed.err
    assert (gone.code, empty.code, doctor.code) == (2, 2, 1)
    assert "offers the command gone as 'added.gone': there is no such module" in gone.err
    assert "empty of llm4rec-added 1.2 defines neither main nor run" in empty.err
    assert "(x.py has no docstring)" in listed.out


def test_help_runs_no_command_of_a_package_and_validate_goes_on_without_a_broken_one(site):
    plain = "from pathlib import Path\n\n\ndef main(arguments):\n    Path('ran').touch()\n"
    folders = "1 / 0\n\n\ndef config_folders(): ...\n"
    stolen = "def config_folders():\n    return {'task': None}\n\n\ndef main(arguments): ...\n"
    files = {"added/__init__.py": "", "added/a.py": plain, "added/b.py": folders, "added/c.py": stolen}
    site.install("llm4rec-added", {"commands": ["a = added.a", "b = added.b", "c = added.c"]}, files)
    helped, checked = site.run("--help", "validate task/direct")
    assert (helped.code, checked.code, (site.cwd / "ran").exists()) == (0, 0, False)
    assert "b of llm4rec-added 1.2 cannot be imported" in checked.err
    assert "conf/task of the command c is another's" in checked.err
    (ran,) = site.run("a")
    assert (ran.code, (site.cwd / "ran").exists()) == (0, True)


def test_a_part_of_llm4rec_itself_is_never_to_be_uninstalled(site):
    files = {"added/__init__.py": "", "broken.py": ""}
    site.install("llm4rec", {"commands": ["gone = added.gone"], "models": ["broken = broken"]}, files)
    gone, broken = site.run("gone", "train model=broken")
    assert (gone.code, broken.code) == (2, 2)
    for answer in (gone, broken):
        assert "install llm4rec again" in answer.err
        assert "uninstall" not in answer.err
