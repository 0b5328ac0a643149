"""The result of a run: read from metrics.json and written back, and refused where the file is torn."""

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import write_json
from llm4rec_cli.results.result import read_result, result_of
from tests.results.finished_runs import metrics_json, rankings, run, started_from, write_run
from tests.support.driver import read

RECORDED = sorted((Path(__file__).parents[2] / "docs/recorded").glob("*.jsonl"))
# The entries of metrics.json in their order: those that every run has, and those that it has only where they are known.
EVERY_RUN = [
    *("schema", "model", "shown_as", "paper_method", "dataset", "task", "split", "split_rule"),
    *("protocol", "mask_history", "seed", "config_hash", "variant", "results_version", "experiment"),
    *("trained_run", "imported", "init_from", "text_encoder", "tokens", "enrichment", "training"),
    *("tuning", "arithmetic", "overrides", "dataset_fingerprint", "labels", "deviations"),
    *("selected_masked", "chosen", "n_examples", "metrics", "intervals", "breakdown", "signatures"),
    *("n_parameters", "n_trainable", "llm", "seconds", "peak_rss_mb", "warnings"),
]
VARIATION = {"value": 0.2, "difference": 0.1, "low": -0.05, "high": 0.25}
WHERE_KNOWN = {
    "controls": {"users": 50, "metric": "ndcg@10", "value": 0.1, "variations": {"order 2": VARIATION}},
    "memorisation": {"titles": {"share": 0.5, "low": 0.4, "high": 0.6, "chance": 0.25, "n": 90}},
    "gpu": {"name": "a GPU", "number": 2, "peak_mb": 3072, "kilojoules": 1.5},
    "members": ["a", "b"],
    "training_seconds": 90.0,
    "intervals_over_seeds": {"seeds": [0, 1], "intervals": {"ndcg@10": [0.1, 0.2]}},
}


def without_null(content):
    if isinstance(content, dict):
        return {key: without_null(value) for key, value in content.items() if value is not None}
    return content


def test_recorded_results_are_written_as_they_were_read():
    assert RECORDED
    for line in itertools.chain.from_iterable(file.read_text().splitlines() for file in RECORDED):
        content = json.loads(line)["metrics"]
        written = json.loads(json.dumps(result_of(content, Path()).content()))
        assert without_null(written) == without_null(content), content["config_hash"]


def test_entries_keep_their_order_and_some_are_there_only_where_they_are_known(tmp_path):
    run(folder=tmp_path).write()
    assert [*read(tmp_path / "metrics.json")] == EVERY_RUN
    run(folder=tmp_path, **WHERE_KNOWN).write()
    written = read(tmp_path / "metrics.json")
    assert [name for name in written if name in EVERY_RUN] == EVERY_RUN
    assert {name: written[name] for name in written if name not in EVERY_RUN} == WHERE_KNOWN


def test_what_was_written_is_read_again(tmp_path):
    search = {"trials": 8, "minutes": 31.4, "metric": "ndcg@10", "score": 0.1}
    facts = {"init_from": started_from("shop"), "tuning": search, "intervals": {"ndcg@10": [0.05, 0.15]}}
    result = run(folder=tmp_path, **facts, **WHERE_KNOWN)
    result.write()
    write_json(tmp_path / "status.json", {"status": "done"})
    assert read_result(tmp_path) == result
    assert result.init_from.dataset == "shop" and result.tuning.trials == 8
    assert result.intervals == {"ndcg@10": (0.05, 0.15)}
    assert read(tmp_path / "metrics.json")["tuning"] == search, "without what is not known of the search"


def test_an_unknown_entry_of_another_version_is_ignored(tmp_path):
    assert result_of(metrics_json(of_tomorrow=1, tuning=None), tmp_path) == run(folder=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"metr',
        "[]",
        "null",
        json.dumps(metrics_json() | {"tokens": "x"}),
        json.dumps({name: value for name, value in metrics_json().items() if name != "dataset_fingerprint"}),
    ],
)
def test_a_torn_or_incomplete_file_is_no_result(tmp_path, caplog, content):
    write_run(tmp_path, metrics_json())
    assert read_result(tmp_path) is not None and not caplog.text
    (tmp_path / "metrics.json").write_text(content)
    assert read_result(tmp_path) is None
    assert f"{tmp_path} is not readable" in caplog.text


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_run_that_is_not_done_has_no_result_and_no_warning(tmp_path, caplog, status):
    write_run(tmp_path, metrics_json(), status=status)
    assert read_result(tmp_path) is None
    assert read_result(tmp_path / "nowhere") is None
    assert not caplog.text


def test_answers_are_read_in_part_or_in_full(tmp_path):
    stored = rankings([3, 20])
    result = write_run(tmp_path, metrics_json(), stored)
    assert result.columns == {*stored.columns}
    pd.testing.assert_frame_equal(result.answers(), stored)
    pd.testing.assert_frame_equal(result.answers(["n_better"]), stored[["n_better"]])


def test_missing_or_damaged_answers_are_named(tmp_path):
    result = write_run(tmp_path / "missing", metrics_json())
    assert result.columns == frozenset()
    with pytest.raises(RunError, match=r"predictions\.parquet is damaged or missing"):
        result.answers()
    damaged = write_run(tmp_path / "damaged", metrics_json())
    (damaged.folder / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"predictions\.parquet is damaged or missing"):
        assert damaged.columns
