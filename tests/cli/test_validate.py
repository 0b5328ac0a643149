"""`validate`: all configs, all errors at once, each with file, line and remedy."""

import shutil

import pytest

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config import folders
from llm4rec_cli.files import write_text
from tests.support.driver import python

# name -> file in ./conf, its content, line of the error (0 = none reported), problem, remedy


@pytest.mark.parametrize("name", ["conf/dataset/demo.yaml", "dataset/demo"])
def test_a_file_that_a_shipped_one_hides_is_reported_when_it_is_named(llm4rec, tmp_path, name):
    for file in ("conf/dataset/demo.yaml", "conf/task/sequential.yaml"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("name: mine\n")
    answer = llm4rec("validate", name)
    assert answer.code == 2
    assert "conf/dataset/demo.yaml: this file is never read: a shipped config has the same name" in answer.out
    assert "conf/task" not in answer.out
    assert llm4rec("validate", "trainer/default").code == 0


def test_all_errors_of_all_files_are_reported_at_once(llm4rec, tmp_path, only_mine):
    write_text(tmp_path / "conf/dataset/mine.yaml", "defaults: [demo, _self_]\nuser_cores: 5\nitem_core: five\n")
    write_text(tmp_path / "conf/trainer/mine.yaml", "defaults: [default, _self_]\nepoch: 1\n")
    write_text(
        tmp_path / "conf/experiment/mine.yaml",
        "# @package _global_\ndevice: gpu\ntask:\n  selection: hr@3\n  floors: [randm, nextid]\n",
    )
    places = [line.split(": ")[0] for line in llm4rec("validate").out.splitlines() if line.startswith("conf/")]
    assert places == [
        "conf/dataset/mine.yaml:2",
        "conf/dataset/mine.yaml:3",
        "conf/experiment/mine.yaml:2",
        "conf/experiment/mine.yaml:4",
        "conf/experiment/mine.yaml:5",
        "conf/experiment/mine.yaml:5",
        "conf/trainer/mine.yaml:2",
    ]


@pytest.mark.parametrize("fault", ["user_cores: 5", "reader: recbol"])
def test_an_error_is_reported_once_in_its_own_file_and_not_in_configs_that_build_on_it(
    llm4rec, tmp_path, only_mine, fault
):
    write_text(tmp_path / "conf/dataset/mine.yaml", f"defaults: [demo, _self_]\n{fault}\n")
    write_text(
        tmp_path / "conf/experiment/mine.yaml", "# @package _global_\ndefaults: [{override /dataset: mine}, _self_]\n"
    )
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


def test_a_file_that_is_not_utf8_is_reported(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "")
    (tmp_path / "conf/dataset/mine.yaml").write_bytes("name: M\xfcll\n".encode("latin-1"))
    answer = llm4rec("validate", "dataset/mine")
    assert answer.code == 2
    assert "not UTF-8" in answer.out


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("dataset/mine", "1 config (1 dataset, 1 of them in ./conf)"),
        ("conf/dataset/mine.yaml", "1 config (1 dataset, 1 of them in ./conf)"),
        ("mine", "1 config (1 dataset, 1 of them in ./conf)"),
        ("experiment/unisrec/paper", "1 config (1 experiment, 0 of them in ./conf)"),
        ("task", f"{len(composing.options('task'))} configs ({len(composing.options('task'))} tasks, 0 of them in"),
    ],
)
def test_names_choose_the_configs_to_validate(llm4rec, tmp_path, name, summary):
    write_text(tmp_path / "conf/dataset/mine.yaml", "defaults: [demo, _self_]\n")
    write_text(tmp_path / "conf/trainer/wrong.yaml", "epoch: 1\n")
    answer = llm4rec("validate", name)
    assert answer.code == 0, answer.out
    assert answer.out.startswith(summary)


def test_validating_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['validate', 'task', 'experiment/p5']) == 0; "
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
