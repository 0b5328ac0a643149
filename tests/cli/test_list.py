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

    def run(name, status, error=None, ndcg=0.1, place="sasrec/demo/sequential", masked=False, labels=()):
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


@pytest.mark.parametrize("kind", OPTIONS)
def test_each_kind_names_all_its_options(llm4rec, kind):
    answer = llm4rec("list", kind)
    assert answer.code == 0
    assert all(name in answer.out for name in options(kind.removesuffix("s")))


def test_every_option_has_a_description():
    for kind in OPTIONS:
        assert all(descriptions(kind.removesuffix("s")).values()), kind


def test_models_show_their_tasks_methods_of_papers_first_and_floors_last(llm4rec):
    lines = llm4rec("list", "models", "--wide").out.splitlines()
    models = {line.split()[0]: line.split()[1] for line in lines if line.split() and line.split()[0] in model_names()}
    assert models.keys() == set(model_names())
    assert list(models.values()) == sorted(models.values(), key=["paper", "ours", "baseline", "floor"].index)
    assert [name for name, kind in models.items() if kind == "ours"] == ["evidence_mix"]
    assert all((models[name] == "floor") == config_class(name).traits.is_floor for name in models)
    assert any(line.startswith("p5 ") and "sequential, direct, rating, explanation" in line for line in lines)
    assert any(line.startswith("mf ") and " rating " in line and "direct" not in line for line in lines)


def test_datasets_that_need_no_download_come_first_and_a_users_own_before_them(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "# All my own. Every row.\ndefaults: [ml-100k, _self_]\n")
    lines = [line.split() for line in llm4rec("list", "datasets").out.splitlines()[3:] if line.strip()]
    names = [line[0] for line in lines]
    assert lines[0] == ["mine", "downloaded", "All", "my", "own"]
    assert names[1] == "demo"
    assert names.index("demo_null") < names.index("ml-100k") < names.index("amazon2018-scientific")


@pytest.mark.parametrize("kind", OPTIONS)
def test_lists_fit_100_columns_and_options_take_one_line_unless_wide(llm4rec, kind):
    by_option = descriptions(kind.removesuffix("s"))
    out = llm4rec("list", kind).out if kind != "prompts" else ""
    assert max(map(len, [*out.splitlines(), ""])) <= 100
    lengths = {option: len(first_sentence(text)) for option, text in by_option.items()}
    longest = {"dataset": 56, "model": 68, "prompt": 68, "experiment": 65}.get(kind.removesuffix("s"), 85)
    assert {option: n for option, n in lengths.items() if n > longest} == {}


def test_prompts_show_their_fields_target_text_and_oracle_inputs(llm4rec):
    out = llm4rec("list", "prompts", "--wide").out
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert all(word in lines["1-6"] for word in ("rating", "user_name, item", "{star}", "how would {user_name} score"))
    assert "oracle_input" not in lines["1-6"]
    assert "oracle_input" in lines["3-3"]
    assert "star*" in lines["3-3"]
    assert "held out, oracle_input" in lines["3-12"]
    assert {name for name, line in lines.items() if "held out" in line} >= {"1-10", "2-13", "4-4", "5-8", "Z-7"}


@pytest.mark.parametrize("name", ["p5/rating", "rating"])
def test_prompts_of_one_file_are_listed(llm4rec, name):
    out = llm4rec("list", "prompts", name).out
    assert "p5/rating: P5, family 1" in out
    assert re.search("^ *1-10 ", out, re.MULTILINE)
    assert not re.search("^ *2-1 ", out, re.MULTILINE)


def test_a_users_own_prompts_are_listed_with_inherited_ones(llm4rec, tmp_path):
    mine = 'mine-1: {family: rating, source: "And {user} ?", target: "{star}"}\n'
    write_text(tmp_path / "conf/prompt/p5/mine.yaml", f"# All my own.\ndefaults: [rating, _self_]\n{mine}")
    out = llm4rec("list", "prompts", "mine").out
    assert "p5/mine: All my own." in out
    assert "And {user} ?" in out
    assert "\n1-10 " in out


def test_prompts_of_a_model_without_prompts_are_not_listed(llm4rec, tmp_path):
    write_text(tmp_path / "conf/prompt/sasrec/mine.yaml", "a: 1\n")
    assert "sasrec" not in llm4rec("list", "prompts").out
    assert "unknown prompts 'sasrec/mine'" in llm4rec("list", "prompts", "sasrec/mine").err


def test_without_a_kind_everything_but_runs_and_cache_is_listed(llm4rec):
    out = llm4rec("list").out
    assert all(name in out for name in ("unisrec", "demo", "sequential", "default"))
    assert "status" not in out
    assert "last used" not in out


def test_a_users_own_options_are_listed(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "# All my own.\ndefaults: [demo, _self_]\n")
    out = llm4rec("list", "datasets").out
    assert "mine" in out
    assert "All my own" in out


def test_of_two_options_of_one_name_the_shipped_one_is_listed_as_it_is_the_one_composed(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/demo.yaml", "# All my own.\ndefaults: [_dataset, _self_]\n")
    assert "All my own." not in llm4rec("list", "datasets").out


def test_a_finished_run_shows_the_selection_metric_of_its_task(run, line):
    run("seed0-a", "done", ndcg=0.1198)
    assert "sasrec/demo/sequential/seed0-a" in line("seed0-a")
    assert " done " in line("seed0-a")
    assert "ndcg@10 0.1198 · test · full" in line("seed0-a")
    assert "2001-09-0" in line("seed0-a")  # 1e9 seconds after 1970, in any time zone


def test_nonstandard_runs_show_their_labels(run, line):
    run("seed0-a", "done", masked=True, labels=["synthetic", "control-shuffle_text", "floor-not-beaten"])
    assert "test · full · masked · control-shuffle_text " in line("seed0-a")


def test_a_failed_run_shows_the_first_line_of_its_error_and_no_metric(run, line):
    run("seed0-a", "failed", "diverged\nat step 3")
    assert " failed " in line("seed0-a")
    assert "diverged" in line("seed0-a")
    assert "at step 3" not in line("seed0-a")
    assert "ndcg" not in line("seed0-a")


def test_an_interrupted_run_is_not_called_failed(run, line, llm4rec):
    run("seed0-a", "failed", "interrupted")
    assert line("seed0-a").count(" interrupted ") == 1
    assert all("seed0-a" in llm4rec("list", "runs", f"status={state}").out for state in ("interrupted", "failed"))


def test_a_run_whose_lock_is_held_is_running_and_one_whose_lock_is_free_was_killed(run, line):
    held, free = run("seed0-a", "running"), run("seed1-b", "running")
    (free / ".lock").touch()
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert " running " in line("seed0-a")
        assert " killed " in line("seed1-b")
    assert " killed " in line("seed0-a")


@pytest.mark.parametrize("torn", ["status.json", "metrics.json"])
@pytest.mark.parametrize("text", ["", '{"status": "do', "[]", "{}", "null"])
def test_a_torn_file_makes_a_run_unreadable_and_the_others_are_listed(run, line, torn, text):
    (run("seed0-a", "done") / torn).write_text(text)
    run("seed1-b", "done")
    assert " unreadable " in line("seed0-a")
    assert " done " in line("seed1-b")


def test_a_run_without_its_config_is_listed_with_its_score(run, line):
    (run("seed0-a", "done") / "config.yaml").unlink()
    assert "ndcg@10 0.1000 · test · full" in line("seed0-a")


def test_the_newest_run_comes_first(run, llm4rec):
    for name in ("seed1-b", "seed0-a", "seed2-c"):
        run(name, "done")
    out = llm4rec("list", "runs").out
    assert out.index("seed2-c") < out.index("seed0-a") < out.index("seed1-b")


def test_the_size_of_a_run_is_that_of_all_its_files(run, line):
    folder = run("seed0-a", "done")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/weights").write_bytes(b"0" * 5_000_000)
    assert "5.0 MB" in line("seed0-a")


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (["model=sasrec"], {"seed0-a", "seed1-b"}),
        (["task=direct"], {"seed2-c"}),
        (["seed=1,2"], {"seed1-b", "seed2-c"}),
        (["status=failed", "seed=0"], {"seed0-a"}),
        (["dataset=other"], set()),
    ],
)
def test_filters_choose_among_the_runs(run, llm4rec, filters, shown):
    run("seed0-a", "failed")
    run("seed1-b", "done")
    run("seed2-c", "failed", place="p5/demo/direct")
    out = llm4rec("list", "runs", *filters).out
    assert {name for name in ("seed0-a", "seed1-b", "seed2-c") if name in out} == shown


def test_other_folders_and_links_are_not_runs(run, llm4rec, tmp_path):
    elsewhere = run("seed0-a", "done").rename(tmp_path / "elsewhere")
    (tmp_path / "outputs/sasrec/demo/sequential/seed0-a").symlink_to(elsewhere)
    run("seedling", "done")
    out = llm4rec("list", "runs").out
    assert "seed0-a" not in out
    assert "seedling" not in out


def test_runs_of_another_folder_are_listed(run, llm4rec, tmp_path):
    run("seed0-a", "done")
    (tmp_path / "outputs").rename(tmp_path / "mine")
    assert "seed0-a" in llm4rec("list", "runs", "--outputs", str(tmp_path / "mine")).out
    assert llm4rec("list", "runs", "--outputs", str(tmp_path / "none")).code == 2


def test_a_trained_run_is_listed(llm4rec, trained):
    out = llm4rec("list", "runs", "model=sasrec", "--wide").out
    assert f"sasrec/demo/sequential/{trained.name}" in out
    assert "ndcg@10 0." in out
    assert " model.hidden_size=16 model.inner_size=16 model.layers=1 trainer.epochs=1 " in out, "what was typed"


def test_the_cache_is_listed_by_part_and_entry(llm4rec, tmp_path):
    entry = tmp_path / "cache/datasets/demo-0123456789abcdef/items.arrow"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"0" * 2_000_000)
    os.utime(entry, (1e9, 1e9))
    out = llm4rec("list", "cache", "--cache", "cache").out.splitlines()
    assert any(line.split() == ["datasets", "1", "2.0", "MB"] for line in out)
    (line,) = (line for line in out if "demo-0123456789abcdef" in line)
    assert "2.0 MB" in line
    assert "2001-09-0" in line


def test_files_being_written_into_the_cache_are_distinguished_from_leftovers_of_a_killed_process(llm4rec, tmp_path):
    features = tmp_path / "cache/features"
    features.mkdir(parents=True)
    for name in ("a", "b"):
        (features / f".{name}.safetensors.x1y2.part").touch()
    with (features / ".a.safetensors.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = llm4rec("list", "cache", "--cache", "cache").out.splitlines()
    assert any(".a.safetensors.x1y2.part" in line and "being written" in line for line in out)
    assert any(".b.safetensors.x1y2.part" in line and "left half written" in line for line in out)
    assert not any(".lock" in line for line in out)


def test_an_empty_cache_is_listed(llm4rec, tmp_path):
    assert llm4rec("list", "cache", "--cache", "none").code == 0


def test_listing_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['list']) == 0; assert main(['list', 'runs']) == 0; "
        "assert main(['list', 'prompts']) == 0; "
        "assert main(['list', 'cache', '--cache', 'none']) == 0; assert 'torch' not in sys.modules",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
