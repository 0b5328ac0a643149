"""What commands refuse: a table a command in messages/, one line a case.

A case has what is typed, the exit code (2 unless stated), words of the problem and of the remedy, and words that must
not appear. Its other keys are states of the working directory (states.py), with their arguments.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from tests.cli.states import STATES
from tests.support.driver import call

TABLES = sorted((Path(__file__).parent / "messages").glob("*.yaml"))


def words(entry):
    return [entry] if isinstance(entry, str) else entry or []


def offences(case, home, cache, fixture):
    """Return what is wrong with the answer to a case."""
    states = [key for key in case if key not in ("typed", "code", "problem", "remedy", "absent")]
    for state in states:
        STATES[state](home, case[state], fixture)
    before = {*home.rglob("status.json")} if states else {*home.iterdir()}
    answer = call(*shlex.split(case["typed"]), cwd=home, cache=cache)
    said = " ".join((answer.err + answer.out).split())
    problem, _, remedy = said.partition(" try: ")
    error = answer.err[answer.err.rfind("error: ") :] if "error: " in answer.err else ""
    if answer.code != case.get("code", 2):
        yield f"exit code {answer.code}"
    yield from (f"not a problem: {text}" for text in words(case.get("problem")) if text not in problem)
    yield from (f"not a remedy: {text}" for text in words(case.get("remedy")) if text not in remedy)
    yield from (f"said: {text}" for text in ["Traceback", *words(case.get("absent"))] if text in said)
    if len(error.splitlines()) > 2:
        yield "more than two lines"
    if before != ({*home.rglob("status.json")} if states else {*home.iterdir()}):
        yield "something was written"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_refusals_say_the_problem_and_the_remedy_in_two_lines(table, tmp_path, cache, request):
    if table.stem == "tune":
        pytest.importorskip("optuna")
    offenders = {}
    for number, case in enumerate(yaml.safe_load(table.read_text(encoding="utf-8"))):
        home = tmp_path / str(number)
        home.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

            def fixture(name, patch=patch):
                return patch if name == "monkeypatch" else request.getfixturevalue(name)

            if found := [*offences(case, home, cache, fixture)]:
                offenders[f"{case['typed']} (case {number})"] = found
    assert not offenders, yaml.safe_dump(offenders, width=200)
