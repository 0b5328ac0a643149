"""The Python API of studies does what the commands do."""

import json

import pandas as pd
import pytest

from llm4rec_cli import api
from llm4rec_cli.errors import UsageError
from llm4rec_studies import api as studies
from tests.support.driver import call, read
from tests.test_api import RUN, here

__all__ = ["here"]


def test_runs_are_compared_and_inspected_as_by_the_commands(here, cache, capfd):
    api.train(*RUN, "task.max_examples=null")
    table = studies.compare("popularity", "sasrec", metrics=["ndcg@10", "hr@10"], margin="5%")
    inspection = studies.inspect("sasrec", over="popularity")
    assert capfd.readouterr() == ("", "")
    printed = json.loads(call("compare", "popularity", "sasrec", "--json", cwd=here, cache=cache).out)
    for row in table.to_dict("records"):
        stored = printed["metrics"][row["metric"]]
        assert [row[key] for key in ("a", "b", "difference", "p", "better")] == [
            stored[key] for key in ("a", "b", "difference", "p", "better")
        ]
        assert [row["low"], row["high"]] == stored["interval"]
    assert table["n"].tolist() == [printed["n_examples"]] * 2
    assert table["run_b"].str.contains("sasrec").all() and "equivalent" in table
    printed = " ".join(call("inspect", "result", "sasrec", "--over", "popularity", cwd=here, cache=cache).out.split())
    assert inspection.verdict in printed
    assert all(f" {gain:+.4f} " in printed for gain in inspection.parts["gain"])
    assert set(inspection.conditions["holds"]) <= {True, False, None}

    run = read(here / table["run_b"][0] / "metrics.json")
    answers = pd.read_parquet(here / table["run_b"][0] / "predictions.parquet")
    assert {name: answers[name].mean() for name in ("ndcg@10", "hr@1", "mrr")} == pytest.approx(
        {name: run["metrics"][name] for name in ("ndcg@10", "hr@1", "mrr")}
    )
    with pytest.raises(UsageError, match="'much'"):
        studies.compare("popularity", "sasrec", margin="much")
