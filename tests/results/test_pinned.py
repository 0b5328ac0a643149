"""What `report` and `list` print of finished runs: `tests.support.pinned`."""

import pytest

from tests.support.pinned import hold_of_records, hold_of_runs, outputs

__all__ = ["outputs"]

OF_RUNS = {
    "report": "report",
    "report-all": "report --all",
    "report-csv": "report --csv",
    "report-markdown": "report --markdown",
    "report-latex": "report --latex dataset=shop task=sequential",
    "report-draws": "report --draws task=direct",
    "report-slices": "report --slices",
    "report-costs": "report --costs",
    "report-filtered": "report model=popularity,sasrec labels=no-timestamps,x seed=0 --metrics mrr",
    "report-html": "report --html page.html",
    "list-runs": "list runs --wide",
    "list-runs-filtered": "list runs model=unisrec,chatgptrec status=done --wide",
}
OF_RECORDS = {
    "recorded": "report",
    "recorded-all": "report --all --wide",
    "recorded-one": "report dataset=amazon2018-scientific",
    "recorded-csv": "report --csv",
    "recorded-papers": "report --papers",
    "recorded-papers-csv": "report --papers --csv",
    "recorded-slices": "report --slices --csv",
    "recorded-costs": "report --costs --csv",
    "recorded-draws": "report --draws --csv task=direct,sequential",
    "recorded-latex": "report --latex dataset=ml-100k",
    "recorded-rating": "report dataset=ml-100k task=rating",
    "recorded-list-runs": "list runs dataset=mind-small-5k --wide",
}


@pytest.mark.parametrize("name", OF_RUNS)
def test_what_is_printed_of_runs(name, outputs, llm4rec, tmp_path):
    hold_of_runs(name, OF_RUNS[name], outputs, llm4rec, tmp_path)


@pytest.mark.parametrize("name", OF_RECORDS)
def test_what_is_printed_of_recorded_runs(name, llm4rec, tmp_path):
    hold_of_records(name, OF_RECORDS[name], llm4rec, tmp_path)
