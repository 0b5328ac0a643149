"""Errors: one line that says what is wrong, one that says what to do, the right exit code, and nothing computed."""

import logging

import pytest
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli.errors import UsageError
from llm4rec_cli.run import stages
from llm4rec_cli.run.execute import run
from llm4rec_cli.tasks import ranking
from tests.support.driver import job_of, read


@pytest.mark.parametrize(
    "typed",
    [
        "model=unisrec model.encoder.name=no/encoder",
        "model=p5 model.backbone=no/backbone",
        "model=chatgptrec llm.model=no/model.gguf",
        "model=sasrec dataset.text=enriched model.tokens=true llm.model=no/model.gguf",
    ],
)
def test_missing_weights_are_reported_before_data_and_floors(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "load", lambda job: pytest.fail("data were loaded"))
    with pytest.raises(UsageError) as refused:
        run(job_of(*typed.split()))
    assert "takes" in refused.value.remedy


def test_an_error_of_yaml_during_a_run_is_no_wrong_override(llm4rec, monkeypatch):
    def fail(composed):
        raise OmegaConfBaseException("a torn config.yaml")

    monkeypatch.setattr("llm4rec_cli.commands.train.run", fail)
    answer = llm4rec("train", "model=popularity")
    assert answer.code == 1
    assert "a torn config.yaml" in answer.err


def test_verbose_lowers_the_level_of_the_log_and_shows_the_traceback_as_hydras_variable_does(llm4rec, monkeypatch):
    levels = []
    log = logging.getLogger("llm4rec_cli")
    with monkeypatch.context() as patch:
        patch.setattr("llm4rec_cli.commands.train.run", lambda composed: levels.append(log.level))
        for flags in ([], ["-v"]):
            llm4rec("train", "model=popularity", *flags)
    assert levels == [logging.INFO, logging.DEBUG]
    for flags, variable, shown in (([], "0", False), (["-v"], "0", True), ([], "1", True)):
        monkeypatch.setenv("HYDRA_FULL_ERROR", variable)
        answer = llm4rec("train", "model=unisrc", *flags)
        assert (answer.code, "Traceback" in answer.err) == (2, shown)


def test_a_bug_of_ours_exits_1_and_is_said_to_be_one(llm4rec, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(ranking, "evaluate", broken)
    answer = llm4rec("train", "model=popularity", "task.floors=[]")
    assert answer.code == 1
    assert "error: ZeroDivisionError: division by zero" in answer.err
    assert "Traceback" not in answer.err


def test_ctrl_c_exits_130_and_leaves_the_run_failed(llm4rec, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ranking, "evaluate", interrupted)
    answer = llm4rec("train", "model=popularity", "task.floors=[]")
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "interrupted: the same command resumes"
    (status,) = tmp_path.rglob("status.json")
    assert (read(status)["status"], read(status)["error"]) == ("failed", "interrupted")
    assert llm4rec("report").code == 1
