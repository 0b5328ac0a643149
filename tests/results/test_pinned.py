"""What commands print of finished runs, in tests/golden/outputs: refactoring must not change it.

Long outputs are kept as one line for each table or row: the hash of its text and how it begins. If a change must move
some, rewrite the files in a commit that says which sentence was wrong, and why:

    GOLDEN=write python -m pytest tests/results/test_pinned.py -n 0
"""

import hashlib
import re

import pytest

from llm4rec_cli.results.tables import markdown
from llm4rec_studies.paper_tables import definitions, reproduction
from llm4rec_studies.paper_tables.definitions import Size
from tests.results.pinned_runs import write_all
from tests.support.golden import FOLDER, WRITES

RECORDED = FOLDER.parents[1] / "docs/recorded"
WHOLE = 40_000  # characters of an output that is kept as it is
# Times, sizes on disk and folders, which differ from one checkout or machine to the next.
PASSING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d[\d.,]* (?:bytes|kB|MB)")
SASREC, UNISREC = "sasrec/shop/sequential/seed0-plain", "unisrec/shop/sequential/seed0-plain"
RULE = "transition_text/amazon2018-scientific/sequential/seed0-16f6b3370c"
UNISREC_RECORDED = "unisrec/amazon2018-scientific/sequential/seed0-afb2877f82"
OF_RUNS = {
    "report": "report",
    "report-all": "report --all",
    "report-csv": "report --csv",
    "report-markdown": "report --markdown",
    "report-latex": "report --latex dataset=shop task=sequential",
    "report-draws": "report --draws task=direct",
    "report-slices": "report --slices",
    "report-costs": "report --costs",
    "report-claims": "report claims",
    "report-filtered": "report model=popularity,sasrec labels=no-timestamps,x seed=0 --metrics mrr",
    "report-html": "report --html page.html",
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
    "inspect-result-json": f"inspect result {SASREC} --json",
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
    "recorded-claims": "report claims",
    "recorded-claims-csv": "report claims --csv",
    "recorded-compare": f"compare {RULE} {UNISREC_RECORDED} --seeds --ratio",
    "recorded-inspect": f"inspect result {UNISREC_RECORDED}",
    "recorded-latex": "report --latex dataset=ml-100k",
    "recorded-rating": "report dataset=ml-100k task=rating",
    "recorded-list": "list papers",
    "recorded-list-runs": "list runs dataset=mind-small-5k --wide",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pinned") / "outputs"
    write_all(folder)
    return folder


def shortened(text):
    """Return a text as it is kept."""
    if len(text) <= WHOLE:
        return text
    blocks = text.split("\n\n") if text.count("\n\n") > 10 else text.splitlines()
    kept = [
        f"{hashlib.sha256(block.encode()).hexdigest()[:12]} {block.strip().partition(chr(10))[0][:100].rstrip()}"
        for block in blocks
    ]
    return "".join(f"{line}\n" for line in kept)


def hold(name, text):
    """Assert that a text equals the pinned one, or rewrite that under GOLDEN=write."""
    file = FOLDER / "outputs" / f"{name}.txt"
    kept = shortened(PASSING.sub("…", text))
    if WRITES:
        file.write_text(kept)
    assert kept == file.read_text()


@pytest.mark.parametrize("name", OF_RUNS)
def test_what_is_printed_of_runs(name, outputs, llm4rec, tmp_path):
    (tmp_path / "outputs").symlink_to(outputs)  # lines are wrapped by their length
    answer = llm4rec(*OF_RUNS[name].split())
    page = (tmp_path / "page.html").read_text() if "--html" in OF_RUNS[name] else ""
    hold(name, f"{answer.code}\n{answer.out}{answer.err}{page}".replace(str(outputs), "OUTPUTS"))


@pytest.mark.parametrize("name", OF_RECORDS)
def test_what_is_printed_of_recorded_runs(name, llm4rec, tmp_path):
    (tmp_path / "recorded").symlink_to(RECORDED)
    answer = llm4rec(*OF_RECORDS[name].split(), "--outputs", "recorded")
    hold(name, f"{answer.code}\n{answer.out}{answer.err}")


@pytest.mark.parametrize("name", ["unisrec/main", "prompt4nr/main", "p5/sequential", "chatgptrec/rating"])
def test_what_reproduce_shows_of_recorded_cells(name):
    table = definitions.table(name)
    shown = reproduction.contents(table, Size.cpu, reproduction.recorded_lines(table, Size.cpu, RECORDED))
    tables = [f"{content.title}\n{markdown(content.columns, content.rows)}\n" for content in shown]
    hold(f"reproduce-{name.replace('/', '-')}", "\n".join([*tables, *shown[-1].notes, ""]))
