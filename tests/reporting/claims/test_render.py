"""Results as rows for files and as a table for a terminal."""

import io

from rich.console import Console

from llm4rec_cli.reporting.claims.render import COLUMNS, claims_rows, claims_table
from tests.reporting.claims.examples import claim, claim_about_one


def test_files_have_complete_rows_and_the_terminal_shows_every_verdict(write, judge):
    write("sasrec", [4] * 50)
    write("unisrec", [1] * 50)
    results = [*judge(claim()), *judge(claim_about_one())]
    columns, rows = claims_rows(results)
    assert columns == list(COLUMNS)
    compared, missing = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (compared["claim"], compared["words"]) == ("text", "Text is better than numbers.")
    assert (compared["source"], compared["tested by"]) == ("a paper", "unisrec/scientific")
    assert compared["rule"] == "mrr: B better than A by more than 5 %; A: sasrec; B: unisrec"
    assert (compared["verdict"], compared["to run"]) == ("supported under leave-one-out", "")
    assert missing["rule"] == "listed/hallucinated of chatgptrec above 0.05 by more than 0"
    assert missing["to run"] == "llm4rec train model=unisrec"
    terminal = Console(width=300, record=True, markup=False, file=io.StringIO())
    terminal.print(claims_table(results))
    text = terminal.export_text()
    assert "supported" in text
    assert "not run" in text
    assert "text: llm4rec train model=unisrec" in text.splitlines()[-1]
