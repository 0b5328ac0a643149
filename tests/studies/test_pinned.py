"""What studies print of finished runs: `tests.support.pinned`."""

import pytest

from llm4rec_cli.results.tables import markdown
from llm4rec_studies.paper_tables import definitions, reproduction
from llm4rec_studies.paper_tables.definitions import Size
from tests.support.pinned import RECORDED, hold, hold_of_records, hold_of_runs, outputs

__all__ = ["outputs"]

SASREC, UNISREC = "sasrec/shop/sequential/seed0-plain", "unisrec/shop/sequential/seed0-plain"
RULE = "transition_text/amazon2018-scientific/sequential/seed0-16f6b3370c"
UNISREC_RECORDED = "unisrec/amazon2018-scientific/sequential/seed0-afb2877f82"
OF_RUNS = {
    "compare": f"compare {SASREC} {UNISREC}",
    "compare-seeds": f"compare {SASREC} {UNISREC} transition_text/shop/sequential/seed0-plain --seeds --markdown",
    "compare-json": f"compare {SASREC} {UNISREC} --seeds --json --margin 5% --metric ndcg@10,mrr",
    "compare-ratio": f"compare transition_text/shop/sequential/seed0-plain {UNISREC} --seeds --ratio",
    "compare-draws": "compare popularity/shop/direct/seed0-draw0 chatgptrec/shop/direct/seed0-draw0 --draws",
    "compare-ratings": "compare mean/shop/rating/seed0-plain p5/shop/rating/seed0-plain",
    "compare-texts": "compare retrieval/shop/explanation/seed0-plain chatgptrec/shop/explanation/seed0-plain",
    "compare-masks": f"compare {SASREC} unisrec/shop/sequential/seed0-masked",
    "inspect-result": f"inspect result {UNISREC}",
    "inspect-result-over": f"inspect result {UNISREC} --over {SASREC} --metric mrr",
}
OF_RECORDS = {
    "recorded-compare": f"compare {RULE} {UNISREC_RECORDED} --seeds --ratio",
    "recorded-inspect": f"inspect result {UNISREC_RECORDED}",
    "recorded-list": "list papers",
}


@pytest.mark.parametrize("name", OF_RUNS)
def test_what_is_printed_of_runs(name, outputs, llm4rec, tmp_path):
    hold_of_runs(name, OF_RUNS[name], outputs, llm4rec, tmp_path)


@pytest.mark.parametrize("name", OF_RECORDS)
def test_what_is_printed_of_recorded_runs(name, llm4rec, tmp_path):
    hold_of_records(name, OF_RECORDS[name], llm4rec, tmp_path)


@pytest.mark.parametrize("name", ["unisrec/main", "prompt4nr/main", "p5/sequential", "chatgptrec/rating"])
def test_what_reproduce_shows_of_recorded_cells(name):
    table = definitions.table(name)
    shown = reproduction.contents(table, Size.cpu, reproduction.recorded_lines(table, Size.cpu, RECORDED))
    tables = [f"{content.title}\n{markdown(content.columns, content.rows)}\n" for content in shown]
    hold(f"reproduce-{name.replace('/', '-')}", "\n".join([*tables, *shown[-1].notes, ""]))
