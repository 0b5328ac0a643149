"""`bundle` on the command line, and reports over bundles."""

import json


def test_a_bundle_is_made_verified_reported_and_compared(llm4rec, trained, tmp_path):
    made = llm4rec("bundle", "make", "sasrec", "transition_text", "--out", "lab")
    assert made.code == 0, made.err
    verified = llm4rec("bundle", "verify", "lab")
    assert verified.code == 0, verified.out
    assert all(line.startswith("ok ") for line in verified.out.splitlines())
    report = llm4rec("report", "--outputs", "lab")
    assert report.code == 0 and "bundle lab" in report.out
    address = trained.relative_to(tmp_path / "outputs")
    for arguments in (("sasrec", "transition_text", "--outputs", "lab"), (f"lab/{address}", "transition_text")):
        compared = llm4rec("compare", *arguments, "--json")
        assert compared.code == 0, compared.err
        assert json.loads(compared.out)
