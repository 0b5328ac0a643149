"""Results as a table with complete rows, and in words for a terminal."""

from llm4rec_cli.studies.claims.render import claims_content, claims_text, commands_to_run
from tests.studies.claims.examples import claim, claim_about_one


def test_files_have_complete_rows_and_the_terminal_shows_every_verdict(write, judge):
    write("sasrec", [4] * 50)
    write("unisrec", [1] * 50)
    results = [*judge(claim()), *judge(claim_about_one())]
    table = claims_content(results)
    compared, missing = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (compared["claim"], compared["words"]) == ("text", "Text is better than numbers.")
    assert (compared["source"], compared["tested by"]) == ("a paper", "unisrec/scientific")
    assert compared["rule"] == "mrr: B better than A by more than 5 %; A: sasrec; B: unisrec"
    assert (compared["verdict"], compared["to run"]) == ("supported under leave-one-out", "")
    assert missing["rule"] == "listed/hallucinated of chatgptrec above 0.05 by more than 0"
    assert missing["to run"] == "llm4rec train model=unisrec"
    assert missing["verdict"] == "not run"
    first, verdict, *_ = claims_text(results)
    assert first == "text: Text is better than numbers. (a paper)"
    assert verdict.startswith(
        "  supported under leave-one-out · mrr: B better than A by more than 5 %; A: sasrec; B: unisrec · "
    )
    assert claims_text(results)[-1].startswith("  not run · listed/hallucinated of chatgptrec above 0.05")
    assert commands_to_run(results) == ["text: llm4rec train model=unisrec"]
