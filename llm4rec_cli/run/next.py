"""What to run next."""

from __future__ import annotations

from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.folders import options
from llm4rec_cli.config.overrides import MASK, SEARCH_SPACES, command_line, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.schema import Control
from llm4rec_cli.labels import NOT_ABOVE_POPULARITY
from llm4rec_cli.paths import outputs_option
from llm4rec_cli.results.describe import MIN_SEEDS
from llm4rec_cli.results.report import FloorComparison
from llm4rec_cli.results.result import Result, read_result
from llm4rec_cli.run.job import Job


def next_command(job: Job, run: Result, comparison: FloorComparison | None) -> str:
    """Return what to run next, as `next, …: llm4rec …`.

    Other settings come first after a training that probably failed, then more seeds, then what uses them: the audit of
    a ranking, or the comparison. For a gain of a model that is not trained, it is the control that its item texts
    explain. A command that is not installed is not named.
    """
    known = commands()
    if NOT_ABOVE_POPULARITY in run.labels and "tune" in known and run.model in options(SEARCH_SPACES):
        kept = ("task", "trainer", "experiment", MASK)
        settings = [o for o in job.typed if (key := key_typed(o)).startswith("dataset") or key in kept]
        return f"next, settings with which it learns: {command_line('tune', [f'model={run.model}', *settings])}"
    seeds = _seeds(run)
    if job.command == "train" and job.model.traits.trainable and len(seeds) < MIN_SEEDS:
        typed = [o for o in job.typed if key_typed(o) not in ("seed", "force")]
        wanted = f"seed={','.join(map(str, range(MIN_SEEDS)))}"
        return f"next, to see how much depends on the seed: {command_line('train -m', [*typed, wanted])}"
    outputs = outputs_option(run.outputs)
    if "inspect-result" in known and len(seeds) >= MIN_SEEDS and comparison and "slice" in comparison.run.breakdown:
        inspect = command_line("inspect result", [run.name], *outputs)
        return f"next, on all seeds and slices, does it beat the floor? {inspect}"
    is_seeded = job.model.traits.seeded or (comparison and config_class(comparison.floor.model).traits.seeded)
    if "compare" in known and len(seeds) > 1 and comparison and is_seeded:
        compare = command_line("compare", [comparison.floor.name, run.name], "--seeds", *outputs)
        return f"next, for an interval over users and seeds: {compare}"
    reads_text = job.model.uses_item_text() and not job.model.traits.uses_llm  # whose answers may cost money
    if comparison and comparison.beaten and reads_text and not job.model.traits.trainable:
        control = f"dataset.control={Control.shuffle_text.name}"
        return f"next, does the gain come from the texts? {command_line(job.command, [*job.typed, control])}"
    filters = [f"dataset={job.config.dataset.name}", f"task={run.task}"]
    return f"next, all results on this task: {command_line('report', filters, *outputs)}"


def _seeds(run: Result) -> set[int]:
    """Return the seeds of the finished runs of this run's variant."""
    others = [read_result(folder) for folder in run.folder.parent.glob("seed*")]
    return {other.seed for other in others if other and other.variant == run.variant}
