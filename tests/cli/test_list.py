"""`list`: options, prompts, runs and the cache."""

import fcntl
import os
import re

import pytest

from llm4rec_cli.commands.list import OPTIONS
from llm4rec_cli.config.folders import options
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.studies.config_options import descriptions, first_sentence
from tests.results.finished_runs import metrics_json
from tests.support.driver import python


@pytest.fixture
def run(tmp_path):
    """run(name, status, …): write a run folder of sasrec on demo under tmp_path/outputs; later ones are newer."""
    names = []

    def run(name, status="done", error=None, ndcg=0.1, place="sasrec/demo/sequential", masked=False, labels=()):
        names.append(name)
        folder = tmp_path / "outputs" / place / name
        write_text(folder / "config.yaml", "task: {selection: ndcg@10}\n")
        write_json(folder / "metrics.json", metrics_json(ndcg, mask_history=masked, labels=labels))
        write_json(folder / "status.json", {"status": status, "error": error})
        os.utime(folder / "status.json", (1e9 + len(names), 1e9 + len(names)))
        return folder

    return run


@pytest.fixture
def line(llm4rec):
    """line(name): the line of that run in `list runs`."""
    return lambda name: next(line for line in llm4rec("list", "runs", "--wide").out.splitlines() if name in line)


# ---- options


def test_each_kind_names_all_its_options_with_descriptions_that_fit_100_columns(llm4rec):
    longest = {"dataset": 56, "model": 68, "prompt": 68, "experiment": 65}
    for kind in OPTIONS:
        group = kind.removesuffix("s")
        answer = llm4rec("list", kind)
        assert answer.code == 0
        assert all(name in answer.out for name in options(group)), kind
        assert all(descriptions(group).values()), kind
        assert kind == "prompts" or max(map(len, answer.out.splitlines())) <= 100, kind
        lengths = {option: len(first_sentence(text)) for option, text in descriptions(group).items()}
        assert {option: n for option, n in lengths.items() if n > longest.get(group, 85)} == {}
    out = llm4rec("list").out
    assert all(name in out for name in ("unisrec", "demo", "sequential", "default"))
    assert "status" not in out and "last used" not in out


def test_models_show_their_tasks_methods_of_papers_first_and_floors_last(llm4rec):
    lines = llm4rec("list", "models", "--wide").out.splitlines()
    models = {line.split()[0]: line.split()[1] for line in lines if line.split() and line.split()[0] in model_names()}
    assert models.keys() == set(model_names())
    assert list(models.values()) == sorted(models.values(), key=["paper", "ours", "baseline", "floor"].index)
    assert [name for name, kind in models.items() if kind == "ours"] == ["evidence_mix"]
    assert all((models[name] == "floor") == config_class(name).traits.is_floor for name in models)
    assert any(line.startswith("p5 ") and "sequential, direct, rating, explanation" in line for line in lines)
    assert any(line.startswith("mf ") and " rating " in line and "direct" not in line for line in lines)


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


def test_prompts_show_their_fields_target_text_and_oracle_inputs(llm4rec):
    out = llm4rec("list", "prompts", "--wide").out
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert all(word in lines["1-6"] for word in ("rating", "user_name, item", "{star}", "how would {user_name} score"))
    assert "oracle_input" not in lines["1-6"]
    assert "oracle_input" in lines["3-3"] and "star*" in lines["3-3"]
    assert "held out, oracle_input" in lines["3-12"]
    assert {name for name, line in lines.items() if "held out" in line} >= {"1-10", "2-13", "4-4", "5-8", "Z-7"}


def test_prompts_of_one_file_are_listed_and_a_users_own_with_inherited_ones(llm4rec, tmp_path):
    for name in ("p5/rating", "rating"):
        out = llm4rec("list", "prompts", name).out
        assert "p5/rating: P5, family 1" in out
        assert re.search("^ *1-10 ", out, re.MULTILINE)
        assert not re.search("^ *2-1 ", out, re.MULTILINE)
    mine = 'mine-1: {family: rating, source: "And {user} ?", target: "{star}"}\n'
    write_text(tmp_path / "conf/prompt/p5/mine.yaml", f"# All my own.\ndefaults: [rating, _self_]\n{mine}")
    write_text(tmp_path / "conf/prompt/sasrec/mine.yaml", "a: 1\n")
    out = llm4rec("list", "prompts", "p5/mine").out
    assert all(text in out for text in ("p5/mine: All my own.", "And {user} ?", "\n1-10 "))
    assert "sasrec" not in llm4rec("list", "prompts").out, "a model without prompts"


# ---- runs


def test_a_finished_run_shows_its_metric_place_size_and_labels(run, line):
    folder = run("seed0-a", ndcg=0.1198)
    (folder / "config.yaml").unlink()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/weights").write_bytes(b"0" * 5_000_000)
    shown = ("sasrec/demo/sequential/seed0-a", " done ", "ndcg@10 0.1198 · test · full", "5.0 MB")
    assert all(text in line("seed0-a") for text in shown)
    assert "2001-09-0" in line("seed0-a")  # 1e9 seconds after 1970, in any time zone
    run("seed1-b", masked=True, labels=["synthetic", "control-shuffle_text", "floor-not-beaten"])
    assert "test · full · masked · control-shuffle_text " in line("seed1-b")


def test_a_failed_run_shows_the_first_line_of_its_error_and_an_interrupted_one_is_not_called_failed(run, line, llm4rec):
    run("seed0-a", "failed", "diverged\nat step 3")
    assert " failed " in line("seed0-a") and "diverged" in line("seed0-a")
    assert "at step 3" not in line("seed0-a") and "ndcg" not in line("seed0-a")
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
        for text in ("", '{"status": "do', "[]", "{}", "null"):
            (run("seed0-a") / torn).write_text(text)
            assert " unreadable " in line("seed0-a"), (torn, text)
            assert " done " in line("seed1-b")


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ([], ["seed2-c", "seed0-a", "seed1-b"]),  # the newest first
        (["model=sasrec"], ["seed0-a", "seed1-b"]),
        (["task=direct"], ["seed2-c"]),
        (["seed=1,2"], ["seed2-c", "seed1-b"]),
        (["status=failed", "seed=0"], ["seed0-a"]),
        (["dataset=other"], []),
    ],
)
def test_filters_choose_among_the_runs_and_the_newest_comes_first(run, llm4rec, filters, shown):
    run("seed1-b")
    run("seed0-a", "failed")
    run("seed2-c", "failed", place="p5/demo/direct")
    assert re.findall(r"seed\d-[abc]", llm4rec("list", "runs", *filters).out) == shown


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


def test_a_trained_run_is_listed(llm4rec, trained):
    out = llm4rec("list", "runs", "model=sasrec", "--wide").out
    assert f"sasrec/demo/sequential/{trained.name}" in out
    assert "ndcg@10 0." in out
    assert " model.hidden_size=16 model.inner_size=16 model.layers=1 trainer.epochs=1 " in out, "what was typed"


# ---- the cache


def test_the_cache_is_listed_by_part_and_entry(llm4rec, tmp_path):
    assert llm4rec("list", "cache", "--cache", "none").code == 0
    entry = tmp_path / "cache/datasets/demo-0123456789abcdef/items.arrow"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"0" * 2_000_000)
    os.utime(entry, (1e9, 1e9))
    features = tmp_path / "cache/features"
    features.mkdir(parents=True)
    for name in ("a", "b"):
        (features / f".{name}.safetensors.x1y2.part").touch()
    with (features / ".a.safetensors.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = llm4rec("list", "cache", "--cache", "cache").out.splitlines()
    assert any(line.split() == ["datasets", "1", "2.0", "MB"] for line in out)
    (line,) = (line for line in out if "demo-0123456789abcdef" in line)
    assert "2.0 MB" in line and "2001-09-0" in line
    assert any(".a.safetensors.x1y2.part" in line and "being written" in line for line in out)
    assert any(".b.safetensors.x1y2.part" in line and "left half written" in line for line in out)
    assert not any(".lock" in line for line in out)


def test_listing_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['list']) == 0; assert main(['list', 'runs']) == 0; "
        "assert main(['list', 'prompts']) == 0; "
        "assert main(['list', 'cache', '--cache', 'none']) == 0; assert 'torch' not in sys.modules",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
