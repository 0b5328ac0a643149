"""`bundle` on the command line, and reports over bundles."""

import json


def test_a_bundle_is_made_verified_reported_and_compared(llm4rec, trained, tmp_path):
    made = llm4rec("bundle", "make", "sasrec", "transition_text", "--out", "lab")
    assert made.code == 0, made.err
    assert made.out.splitlines()[-1] == "next: llm4rec bundle verify lab"
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
    listed = llm4rec("list", "runs", "--outputs", "lab")
    assert listed.code == 0 and "sasrec" in listed.out


def test_a_bundle_that_does_not_hold_fails_and_its_rows_are_marked(llm4rec, trained, tmp_path):
    llm4rec("bundle", "make", "sasrec", "transition_text", "--out", "lab")
    metrics = tmp_path / "lab" / trained.relative_to(tmp_path / "outputs") / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"hr@10": 0.', '"hr@10": 0.9'))
    verified = llm4rec("bundle", "verify", "lab")
    assert verified.code == 1
    assert verified.out.startswith("FAILED  files: sasrec/demo/sequential/seed0-")
    assert "unverified" in llm4rec("report", "--outputs", "lab").out
    compared = llm4rec("compare", "sasrec", "transition_text", "--outputs", "lab")
    assert compared.code == 0 and "unverified" in compared.out


def test_what_is_wrong_is_said_in_two_lines(llm4rec, trained, tmp_path):
    for arguments, said in (
        (("bundle", "verify", "outputs"), "has no bundle.json"),
        (("bundle", "make", "unisrec", "--out", "lab"), "'unisrec'"),
        (("bundle", "make", "sasrec", "--out", "outputs"), "has files, and no bundle.json of ours"),
    ):
        answer = llm4rec(*arguments)
        assert answer.code in (1, 2) and said in answer.err
        assert len(answer.err.strip().splitlines()) == 2
