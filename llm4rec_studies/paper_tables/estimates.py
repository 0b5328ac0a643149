"""What the tables of the papers ask of a GPU, and how long that takes on one: estimates, from counted work.

work.json has the work of each run, which scripts/table_costs.py counts without training anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.results.tables import Content
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.cost.work import Work

if TYPE_CHECKING:
    from llm4rec_studies.paper_tables.steps import Step

FILE = Path(__file__).with_name("work.json")
WITHOUT_EFFECT = ("seed", "split", "trainer.learning_rate")  # on what a run costs
COLUMNS = ["runs", "PFLOP", "TB", "GiB", "GPU hours"]


@dataclass(frozen=True)
class Estimate:
    """The cost of some runs.

    Attributes:
        work: of training with its validations, and of evaluation.
        memory: peak bytes of the run that needs most.
        seconds: on the GPU of the rates.
        unknown: runs whose work is not counted.
    """

    runs: int = 0
    work: Work = field(default_factory=Work)
    memory: int = 0
    seconds: float = 0.0
    unknown: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            *(self.runs + other.runs, self.work + other.work, max(self.memory, other.memory)),
            *(self.seconds + other.seconds, self.unknown + other.unknown),
        )

    def cells(self) -> list[str]:
        """Return the texts of COLUMNS."""
        if not self.runs:
            return [""] * len(COLUMNS)
        if self.unknown == self.runs:
            return [str(self.runs), "", "", "", "unknown"]
        hours = f"{'> ' if self.unknown else ''}{short(self.seconds / 3600)}"
        memory = short(self.memory / 2**30) if self.memory else ""
        return [str(self.runs), short(self.work.operations / 1e15), short(self.work.bytes / 1e12), memory, hours]


def key_of(step: Step) -> str:
    """Return the command and the overrides of a step that its cost depends on."""
    kept = [override for override in step.overrides if key_typed(override) not in WITHOUT_EFFECT]
    return " ".join([step.command, *sorted(kept)])


def of_run(key: str, rates: Rates, runs: int = 1) -> Estimate:
    """Return the cost of the run with this key, times `runs`."""
    counted = _stored()["work"].get(key, {})
    if "step" not in counted and "evaluation" not in counted:
        return Estimate(runs, unknown=runs)
    step, validation, evaluation = (Work(*counted.get(part, ())) for part in ("step", "validation", "evaluation"))
    n, precision = counted.get("steps", 0), Precision[counted["precision"]]
    answers, of_answers = validation + evaluation, Precision[counted.get("scoring", "fp32")]
    seconds = n * rates.seconds(step, precision) + rates.seconds(answers, of_answers)
    return Estimate(runs, (step * n + answers) * runs, counted.get("memory", 0), seconds * runs)


def of_rows(table: str, rates: Rates) -> dict[str, Estimate]:
    """Return the cost of each row of a table, in all columns, with all seeds and searches, and what they start from. A
    run that several rows share belongs to the first."""
    rows: Mapping[str, Mapping[str, int]] = _stored()["tables"].get(table, {})
    return {row: total(of_run(key, rates, runs) for key, runs in keys.items()) for row, keys in rows.items()}


def of_steps(steps: Sequence[Step], rates: Rates) -> Estimate:
    """Return the cost of steps; those that no table lists, such as a rule or a chat model, need no GPU."""
    listed = {key for rows in _stored()["tables"].values() for keys in rows.values() for key in keys}
    return total(of_run(key, rates) for key in map(key_of, steps) if key in listed)


def total(estimates: Iterable[Estimate]) -> Estimate:
    return sum(estimates, Estimate())


def content(title: str, named: Mapping[str, Estimate], first: str, rates: Rates) -> Content:
    """Return a table with a line for each estimate, and their sum."""
    rows = [[name, *estimate.cells()] for name, estimate in named.items()]
    if len(rows) > 1:
        rows.append(["together", *total(named.values()).cells()])
    return Content(title, [first, *COLUMNS], rows, notes(rates))


def notes(rates: Rates) -> list[str]:
    return [
        f"estimate on one {rates.device}: {rates.source}; counted, not run; early stopping may end training sooner; "
        "without preparing data, encoding texts, and computing metrics; a run of more GiB than the card has needs a "
        "smaller trainer.micro_batch_size or several GPUs"
    ]


def short(number: float) -> str:
    """Return two significant digits: 0.034, 5.6, 780, 12,000."""
    if number == 0:
        return "0"
    rounded = float(f"{number:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


@cache
def _stored() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))
