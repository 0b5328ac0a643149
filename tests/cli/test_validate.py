"""`validate`: all configs, all errors at once, each with its file and line; the single errors are in messages/."""

import pytest

from llm4rec_cli.config import compose as composing
from llm4rec_cli.files import write_text
from tests.cli import states


@pytest.fixture
def only_mine(monkeypatch):
    """Validate only the options called `mine`."""
    states.only_mine(None, None, lambda _: monkeypatch)


@pytest.fixture
def conf(tmp_path):
    """conf(**contents): write files of these contents into ./conf."""
    return lambda contents: states.files(tmp_path, {f"conf/{name}.yaml": text for name, text in contents.items()})


def test_all_errors_of_all_files_are_reported_at_once(llm4rec, conf, only_mine):
    experiment = "# @package _global_\ndevice: gpu\ntask:\n  selection: hr@3\n  floors: [randm, nextid]\n"
    conf({"dataset/mine": "defaults: [demo, _self_]\nuser_cores: 5\nitem_core: five\n", "experiment/mine": experiment})
    conf({"trainer/mine": "defaults: [default, _self_]\nepoch: 1\n"})
    places = [line.split(": ")[0] for line in llm4rec("validate").out.splitlines() if line.startswith("conf/")]
    lines = {"dataset": (2, 3), "experiment": (2, 4, 5, 5), "trainer": (2,)}
    assert places == [f"conf/{group}/mine.yaml:{line}" for group in lines for line in lines[group]]


@pytest.mark.parametrize("fault", ["user_cores: 5", "reader: recbol"])
def test_an_error_is_reported_once_in_its_own_file_and_not_in_configs_that_build_on_it(llm4rec, conf, only_mine, fault):
    builds_on_it = "# @package _global_\ndefaults: [{override /dataset: mine}, _self_]\n"
    conf({"dataset/mine": f"defaults: [demo, _self_]\n{fault}\n", "experiment/mine": builds_on_it})
    answer = llm4rec("validate")
    assert [line.split(": ")[0] for line in answer.out.splitlines() if "conf/" in line] == ["conf/dataset/mine.yaml:2"]
    assert "1 error; 2 invalid configs" in answer.out


def test_names_choose_the_configs_to_validate(llm4rec, conf):
    conf({"dataset/mine": "defaults: [demo, _self_]\n", "trainer/wrong": "epoch: 1\n"})
    for name in ("dataset/mine", "conf/dataset/mine.yaml", "mine"):
        answer = llm4rec("validate", name)
        assert (answer.code, answer.out.startswith("1 config (1 dataset, 1 of them in ./conf)")) == (0, True)
    answer = llm4rec("validate", "task")
    assert (answer.code, answer.out.startswith(f"{len(composing.options('task'))} configs (")) == (0, True)


def test_mistakes_in_the_statements_of_a_model_are_reported_with_their_lines(tmp_path, llm4rec):
    content = """\
deviations:
  penalty: no {penalty
  width: "{sizes} wide"
refused:
  - {when: {dropuot: 1}, problem: none, remedy: none}
"""
    write_text(tmp_path / "conf/deviations/simplex.yaml", content)
    write_text(tmp_path / "conf/deviations/simplexx.yaml", "deviations: {words: none}\n")
    write_text(tmp_path / "conf/deviations/peter.yaml", "words: as written\n")
    write_text(tmp_path / "conf/deviations/nrms.yaml", "deviations: {invented: {when: {trained: true}}}\n")
    answer = llm4rec("validate", "deviations")
    assert answer.code == 2
    for message in (
        "simplex.yaml:2: 'penalty' is not a sentence",
        "simplex.yaml:3: 'width': no setting 'sizes'",
        "no setting 'dropuot'\n  try: did you mean 'dropout'?",
        "unknown model 'simplexx'\n  try: did you mean 'simplex'?",
        "peter.yaml:1: unknown section 'words'",
        "'invented' has no sentence\n  try: invented: SENTENCE",
    ):
        assert message in answer.out
