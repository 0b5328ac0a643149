"""The run folder: one process at a time, a truthful status, complete files."""

import os

import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config.walk import plain
from llm4rec_cli.errors import RunError
from llm4rec_cli.results.result import read_result
from llm4rec_cli.results.results import Results
from llm4rec_cli.run.folder import recorded, write_results
from llm4rec_cli.run.identity import Address
from llm4rec_cli.run.job import Job
from tests.results.finished_runs import run
from tests.support.driver import job_of, read

JOB = Job(job_of("seed=0").config, "train", ("seed=0",), {"model": "sasrec"})
METRICS = {"metrics": {"ndcg@10": 0.5, "coverage@10": 1.0}, "intervals": {"ndcg@10": [0.4, 0.6]}}
ROWS = pd.DataFrame({"user_id": ["u"], "n_better": [0]})


@pytest.fixture
def where(tmp_path):
    folder = tmp_path / "sasrec/demo/sequential/seed0-abc"
    folder.mkdir(parents=True)
    return Address(folder, "abc", "v")


def status(where):
    return read(where.folder / "status.json")


# ---- recorded


def test_a_run_has_its_config_and_environment_while_it_goes_on_and_is_done_when_it_ends_well(where):
    with recorded(where, JOB) as folder:
        assert status(where)["status"] == "running"
        assert status(where)["pid"] == os.getpid()
        assert OmegaConf.load(folder / "config.yaml") == plain(JOB.config)
        assert {"python", "packages", "commit"} <= set(read(folder / "environment.json"))
    assert (status(where)["status"], status(where)["error"]) == ("done", None)
    assert (status(where)["overrides"], status(where)["choices"]) == (["seed=0"], {"model": "sasrec"})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RunError("the scores are not numbers", "lower it"), "the scores are not numbers"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_run_that_ends_badly_is_failed_with_its_error(where, error, message):
    with pytest.raises(type(error)), recorded(where, JOB):
        raise error
    assert (status(where)["status"], status(where)["error"]) == ("failed", message)


def test_force_removes_an_earlier_run_and_a_resumed_run_keeps_it(where):
    for name in ("metrics.json", "checkpoints/checkpoint-1/weights"):
        (where.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (where.folder / name).write_text("{}")
    with recorded(where, JOB):
        assert (where.folder / "checkpoints").exists()
    with recorded(where, JOB.with_config(force=True)):
        assert not (where.folder / "checkpoints").exists()
        assert not (where.folder / "metrics.json").exists()


# ---- finished


def test_results_are_written_as_json_csv_and_parquet_and_read_only_once_the_run_is_done(where, tmp_path):
    with recorded(where, JOB) as folder:
        result = run(folder=folder, **METRICS)
        write_results(result, ROWS)
        assert read_result(folder) is None
        assert not Results.under(tmp_path)
    assert read_result(where.folder) == result
    assert [*Results.under(tmp_path)] == [result]
    table = "metric,value,low,high\nndcg@10,0.5,0.4,0.6\ncoverage@10,1.0,,\n"
    assert (where.folder / "metrics.csv").read_text() == table
    pd.testing.assert_frame_equal(pd.read_parquet(where.folder / "predictions.parquet"), ROWS)
