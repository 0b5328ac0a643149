"""`validate`: all configs, all errors at once, each with its file and line; the single errors are in messages/."""

import shutil

import pytest

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config import folders
from llm4rec_cli.files import write_text
from tests.cli import states
from tests.support.driver import python


@pytest.fixture
def only_mine(monkeypatch):
    """Validate only the options called `mine`."""
    states.only_mine(None, None, lambda _: monkeypatch)


@pytest.fixture
def conf(tmp_path):
    """conf(**contents): write files of these contents into ./conf."""
    return lambda contents: states.files(tmp_path, {f"conf/{name}.yaml": text for name, text in contents.items()})


def test_a_file_that_a_shipped_one_hides_is_reported_when_it_is_named(llm4rec, conf):
    conf({"dataset/demo": "name: mine\n", "task/sequential": "name: mine\n"})
    for name in ("conf/dataset/demo.yaml", "dataset/demo"):
        answer = llm4rec("validate", name)
        assert answer.code == 2
        assert "conf/dataset/demo.yaml: this file is never read: a shipped config has the same name" in answer.out
        assert "conf/task" not in answer.out
    assert llm4rec("validate", "trainer/default").code == 0


def test_all_errors_of_all_files_are_reported_at_once(llm4rec, conf, only_mine):
    experiment = "# @package _global_\ndevice: gpu\ntask:\n  selection: hr@3\n  floors: [randm, nextid]\n"
    conf({"dataset/mine": "defaults: [demo, _self_]\nuser_cores: 5\nitem_core: five\n", "experiment/mine": experiment})
    conf({"trainer/mine": "defaults: [default, _self_]\nepoch: 1\n"})
    places = [line.split(": ")[0] for line in llm4rec("validate").out.splitlines() if line.startswith("conf/")]
    expected = (
        "dataset/mine.yaml:2",
        "dataset/mine.yaml:3",
        *(f"experiment/mine.yaml:{line}" for line in (2, 4, 5, 5)),
    )
    assert places == [f"conf/{place}" for place in (*expected, "trainer/mine.yaml:2")]


@pytest.mark.parametrize("fault", ["user_cores: 5", "reader: recbol"])
def test_an_error_is_reported_once_in_its_own_file_and_not_in_configs_that_build_on_it(llm4rec, conf, only_mine, fault):
    builds_on_it = "# @package _global_\ndefaults: [{override /dataset: mine}, _self_]\n"
    conf({"dataset/mine": f"defaults: [demo, _self_]\n{fault}\n", "experiment/mine": builds_on_it})
    answer = llm4rec("validate")
    assert [line.split(": ")[0] for line in answer.out.splitlines() if "conf/" in line] == ["conf/dataset/mine.yaml:2"]
    assert "1 error; 2 invalid configs" in answer.out


def test_a_model_that_is_no_yaml_is_reported_with_its_line_for_its_prompts_too(llm4rec, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    shutil.copytree(composing.conf_dir(), shipped)
    for module in (composing, folders):
        monkeypatch.setattr(module, "conf_dir", lambda: shipped)
    n_lines = len((shipped / "model/p5.yaml").read_text().splitlines())
    with (shipped / "model/p5.yaml").open("a") as file:
        file.write("\tlayers: 1\n")
    answer = llm4rec("validate", "prompt/p5/direct")
    assert answer.code == 2, answer.err
    assert f"shipped/model/p5.yaml:{n_lines + 1}: invalid YAML" in answer.out
    assert "1 error; 1 invalid config" in answer.out


def test_a_file_that_is_not_utf8_is_reported(llm4rec, tmp_path, conf):
    conf({"dataset/mine": ""})
    (tmp_path / "conf/dataset/mine.yaml").write_bytes("name: M\xfcll\n".encode("latin-1"))
    answer = llm4rec("validate", "dataset/mine")
    assert (answer.code, "not UTF-8" in answer.out) == (2, True)


def test_names_choose_the_configs_to_validate(llm4rec, conf):
    conf({"dataset/mine": "defaults: [demo, _self_]\n", "trainer/wrong": "epoch: 1\n"})
    n_tasks = len(composing.options("task"))
    summaries = {
        **dict.fromkeys(
            ("dataset/mine", "conf/dataset/mine.yaml", "mine"), "1 config (1 dataset, 1 of them in ./conf)"
        ),
        "experiment/unisrec/paper": "1 config (1 experiment, 0 of them in ./conf)",
        "task": f"{n_tasks} configs ({n_tasks} tasks, 0 of them in",
    }
    for name, summary in summaries.items():
        answer = llm4rec("validate", name)
        assert (answer.code, answer.out.startswith(summary)) == (0, True), answer.out


def test_validating_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; "
        "assert main(['validate', 'task/direct', 'experiment/p5/demo']) == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_sentences_that_no_model_needs_or_that_are_none_are_reported_with_their_lines(tmp_path, llm4rec):
    content = "penalty: no {penalty\nlatest_items: in order\nlatest_item: in order\n"
    write_text(tmp_path / "conf/deviations/simplex.yaml", content)
    write_text(tmp_path / "conf/deviations/simplexx.yaml", "penalty: none\n")
    write_text(tmp_path / "conf/deviations/sasrec.yaml", "{}\n")
    write_text(tmp_path / "conf/deviations/peter.yaml", "words: as written\n")
    answer = llm4rec("validate", "deviations")
    assert answer.code == 2
    assert "simplex.yaml:1: 'penalty' is not a sentence" in answer.out
    assert "simplex.yaml:3: the model has no deviation 'latest_item'\n  try: did you mean 'latest_items'?" in answer.out
    assert "unknown model 'simplexx'\n  try: did you mean 'simplex'?" in answer.out
    assert "sasrec.yaml: the file has no sentences" in answer.out
    assert "'optimizer' has no sentence\n  try: optimizer: SENTENCE" in answer.out
