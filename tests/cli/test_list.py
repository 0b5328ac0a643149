"""`list`: options, prompts, runs and the cache."""

import fcntl
import os

import pytest

from llm4rec_cli.commands.list import OPTIONS
from llm4rec_cli.config.folders import families, options
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.run.config_options import descriptions
from tests.results.finished_runs import metrics_json


@pytest.fixture
def run(tmp_path):
    """run(name, status, …): write a run folder of sasrec on demo under tmp_path/outputs."""

    def run(name, status="done", error=None):
        folder = tmp_path / "outputs/sasrec/demo/sequential" / name
        write_json(folder / "metrics.json", metrics_json())
        write_json(folder / "status.json", {"status": status, "error": error})
        return folder

    return run


@pytest.fixture
def line(llm4rec):
    """line(name): the line of that run in `list runs`."""
    return lambda name: next(line for line in llm4rec("list", "runs", "--wide").out.splitlines() if name in line)


# ---- options


def test_each_kind_names_all_its_options_with_descriptions_that_fit_100_columns(llm4rec):
    for kind in OPTIONS:
        group = kind.removesuffix("s")
        answer = llm4rec("list", kind)
        assert answer.code == 0
        assert all(name in answer.out for name in options(group)), kind
        assert all(descriptions(group).values()), kind
        assert kind == "prompts" or max(map(len, answer.out.splitlines())) <= 100, kind
    out = llm4rec("list", "--all").out
    assert all(name in out for name in ("amazon2023-books", "p5/paper"))
    out = llm4rec("list").out
    assert "amazon2023-… (" in out and "p5/… (" in out and "amazon2023-books" not in out
    assert len(out.splitlines()) <= 40, "a screen"
    assert all(name in out for name in ("unisrec", "demo", "sequential", "default")) and "status" not in out


def test_families_are_counted_from_three_on_and_keep_their_place():
    names = ["mine", "ml-100k", "ml-1m", "ml-20m", "p5/a", "p5/b", "a-b", "demo_news", "p5/c", "amazon2023-x"]
    assert families(names) == ["mine", "ml-… (3)", "p5/… (3)", "a-b", "demo_news", "amazon2023-x"]


def test_a_users_own_datasets_come_first_unless_a_shipped_one_hides_them_and_downloads_last(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "# All my own. Every row.\ndefaults: [ml-100k, _self_]\n")
    write_text(tmp_path / "conf/dataset/demo.yaml", "# Hidden by the shipped one.\ndefaults: [_dataset, _self_]\n")
    out = llm4rec("list", "datasets").out
    lines = [line.split() for line in out.splitlines()[3:] if line.strip()]
    names = [line[0] for line in lines]
    assert lines[0] == ["mine", "downloaded", "All", "my", "own"]
    assert names[1] == "demo"
    assert names.index("demo_null") < names.index("ml-100k") < names.index("amazon2018-scientific")
    assert "Hidden" not in out


def test_prompts_of_one_file_are_listed_and_a_users_own_with_inherited_ones(llm4rec, tmp_path):
    for name in ("p5/rating", "rating"):
        lines = llm4rec("list", "prompts", name).out.splitlines()
        assert [any(line.split()[:1] == [prompt] for line in lines) for prompt in ("1-10", "2-1")] == [True, False]
    mine = 'mine-1: {family: rating, source: "And {user} ?", target: "{star}"}\n'
    write_text(tmp_path / "conf/prompt/p5/mine.yaml", f"# All my own.\ndefaults: [rating, _self_]\n{mine}")
    out = llm4rec("list", "prompts", "p5/mine").out
    assert all(text in out for text in ("p5/mine: All my own.", "And {user} ?", "\n1-10 "))


def test_models_are_sorted_by_kind_with_their_tasks_and_prompts_by_their_fields(llm4rec):
    listed = [line.split() for line in llm4rec("list", "models", "--wide").out.splitlines()]
    kinds = {words[0]: words[1] for words in listed if words and words[0] in model_names()}
    assert kinds.keys() == {*model_names()}
    assert [*kinds.values()] == sorted(kinds.values(), key=["paper", "ours", "baseline", "floor"].index)
    assert all((kinds[name] == "floor") == config_class(name).traits.is_floor for name in kinds)
    lines = {line.split()[0]: line for line in llm4rec("list", "prompts", "--wide").out.splitlines() if line.split()}
    assert all(word in lines["1-6"] for word in ("rating", "user_name, item", "{star}", "how would {user_name} score"))
    assert "oracle_input" not in lines["1-6"] and "held out, oracle_input" in lines["3-12"]


# ---- runs


def test_an_interrupted_run_is_not_called_failed_and_found_by_both_words(run, line, llm4rec):
    run("seed1-b", "failed", "interrupted")
    assert line("seed1-b").count(" interrupted ") == 1
    assert all("seed1-b" in llm4rec("list", "runs", f"status={state}").out for state in ("interrupted", "failed"))


def test_a_run_whose_lock_is_held_is_running_and_one_whose_lock_is_free_was_killed(run, line):
    held, free = run("seed0-a", "running"), run("seed1-b", "running")
    (free / ".lock").touch()
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert " running " in line("seed0-a")
        assert " killed " in line("seed1-b")
    assert " killed " in line("seed0-a")


def test_a_torn_file_makes_a_run_unreadable_and_the_others_are_listed(run, line):
    run("seed1-b")
    for torn in ("status.json", "metrics.json"):
        (run("seed0-a") / torn).write_text('{"status": "do')
        assert " unreadable " in line("seed0-a"), torn
        assert " done " in line("seed1-b")


def test_runs_of_another_folder_are_listed_and_neither_other_folders_nor_links(run, llm4rec, tmp_path):
    assert llm4rec("list", "runs").code == 0, "no run yet"
    elsewhere = run("seed0-a").rename(tmp_path / "elsewhere")
    (tmp_path / "outputs/sasrec/demo/sequential/seed0-a").symlink_to(elsewhere)
    run("seedling")
    run("seed1-b")
    (tmp_path / "outputs").rename(tmp_path / "mine")
    out = llm4rec("list", "runs", "--outputs", str(tmp_path / "mine")).out
    assert "seed1-b" in out
    assert "seed0-a" not in out and "seedling" not in out


def test_status_and_size_are_shown_within_100_columns(run, llm4rec):
    long = "file.csv: " + "a long problem " * 20
    (run("seed0-0123456789", "failed", long) / "weights").write_bytes(b"0" * 3_000_000)
    lines = llm4rec("list", "runs").out.splitlines()
    assert max(map(len, lines)) <= 100
    (line,) = (line for line in lines if "seed0-" in line)
    assert " failed " in line and " 3.0 MB " in line


# ---- the cache


def test_the_cache_is_listed_by_part_and_entry(llm4rec, tmp_path):
    assert llm4rec("list", "cache", "--cache", "none").code == 0
    entry = tmp_path / "cache/datasets/demo-0123456789abcdef/items.arrow"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"0" * 2_000_000)
    os.utime(entry, (1e9, 1e9))
    (entry.parent.parent / ".demo-0123456789abcdef.lock").touch()
    out = llm4rec("list", "cache", "--cache", "cache").out.splitlines()
    assert any(line.split() == ["datasets", "1", "2.0", "MB"] for line in out)
    (line,) = (line for line in out if "demo-0123456789abcdef" in line)
    assert "2.0 MB" in line and "2001-09-0" in line
