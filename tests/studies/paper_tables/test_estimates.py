"""What the papers' tables ask of a GPU."""

import json

import pytest

from llm4rec_cli.config.schema import Precision
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.cost.work import Work
from llm4rec_studies.paper_tables import definitions, estimates
from llm4rec_studies.paper_tables.steps import Step
from tests.support.extras import needs_zoo

RATES = Rates("a device", fp32=10.0, bf16=20.0, bytes=5.0, launch=0.5, overlaps=False, source="by hand")
COUNTED = {
    "precision": "bf16",
    "rows": 30,
    "steps": 3,
    "step": [40.0, 0.0, 0.0, 0.0],
    "memory": 2**30,
    "validation": [10.0, 0.0, 0.0, 0.0],
    "examples": 5,
    "evaluation": [20.0, 0.0, 0.0, 0.0],
}


@pytest.fixture
def stored(monkeypatch):
    tables = {"a/b": {"row": {"train model=x": 3, "train model=y": 2}}}
    monkeypatch.setattr(estimates, "_stored", lambda: {"work": {"train model=x": COUNTED}, "tables": tables})


def test_a_run_takes_its_steps_in_its_precision_and_answers_in_fp32_or_as_scored(stored, monkeypatch):
    estimate = estimates.of_run("train model=x", RATES)
    assert estimate.work == Work(operations=150)
    assert estimate.seconds == 3 * 40 / RATES.bf16 + 30 / RATES.fp32
    assert RATES.seconds(Work(40), Precision.bf16) == 2
    monkeypatch.setitem(COUNTED, "scoring", "bf16")
    assert estimates.of_run("train model=x", RATES).seconds == (3 * 40 + 30) / RATES.bf16


def test_runs_that_are_not_counted_make_a_sum_a_lower_bound(stored):
    row = estimates.of_rows("a/b", RATES)["row"]
    assert (row.runs, row.unknown, row.memory) == (5, 2, 2**30)
    assert row.cells()[0] == "5"
    assert row.cells()[-1].startswith("> ")
    assert estimates.of_run("train model=y", RATES).cells()[-1] == "unknown"
    numbers = (0, 0.0344, 5.61, 784, 12345)
    assert [estimates.short(number) for number in numbers] == ["0", "0.034", "5.6", "780", "12,000"]


def test_what_no_table_lists_needs_no_gpu_and_what_is_listed_but_not_counted_is_unknown(stored):
    steps = [Step("train", (f"model={name}",)) for name in ("x", "y", "a_rule")]
    estimate = estimates.of_steps(steps, RATES)
    assert (estimate.runs, estimate.unknown) == (2, 1)
    assert estimates.of_steps(steps[2:], RATES).cells() == [""] * 5


def test_seed_and_learning_rate_change_no_cost_and_the_order_of_overrides_neither():
    one = Step("train", ("model=sasrec", "dataset=demo", "seed=1", "trainer.learning_rate=1"))
    other = Step("train", ("dataset=demo", "model=sasrec", "seed=2", "split=valid"))
    assert estimates.key_of(one) == estimates.key_of(other) == "train dataset=demo model=sasrec"


@needs_zoo
def test_the_file_has_every_table_and_keys_of_known_parts():
    content = json.loads(estimates.FILE.read_text())
    assert {*content["tables"]} == {*definitions.names()}
    listed = {key for rows in content["tables"].values() for keys in rows.values() for key in keys}
    assert {*content["work"]} <= listed
    for key, counted in content["work"].items():
        parts = [counted[part] for part in ("step", "validation", "evaluation") if part in counted]
        assert parts or "unknown" in counted, key
        assert all(len(part) == 4 and min(part) >= 0 for part in parts), key
