"""The prompts and answers of a chat model's run, and what was read of each answer.

Answers are stored in the run folder. Prompts are written again from the run's settings, as under `llm.dry_run`: no
request is sent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llm4rec_cli.config.compose import compose
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, printable
from llm4rec_cli.llm.requests import Message
from llm4rec_cli.results.result import Result, read_status
from llm4rec_cli.results.tables import is_wide
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 1200  # characters of a text that are shown without --wide
CUT = " […] "


@dataclass(frozen=True)
class Answer:
    """A stored answer.

    Attributes:
        target: the item, by its id in the raw files.
        prompt: its messages; None if they cannot be rebuilt.
        read: item ids, best first; a rating; or a text. None if the answer could not be read.
    """

    user: str
    target: str
    status: str
    prompt: Sequence[Message] | None
    answer: str
    read: Sequence[str] | float | str | None


@dataclass(frozen=True)
class Answers:
    """What `llm4rec inspect answers` reports.

    Attributes:
        counts: status -> number of answers, of the whole run.
        answers: those that were selected.
        problem: why there are no prompts; empty if there are.
        titles: item id -> title; empty without prompts.
    """

    run: Result
    counts: Mapping[str, int]
    answers: Sequence[Answer]
    problem: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)


def answers_of(run: Result, n: int, status: str | None = None, user: str | None = None) -> Answers:
    """Return the first n answers of a run, of those with a status or of a user.

    Raises:
        UsageError: the run stores no answers, or none of these.
    """
    if "answer" not in run.columns:
        raise UsageError(
            f"{run.folder} stores no answers of a chat model",
            "name a run of model=chatgptrec with model.answer=generate or constrained: llm4rec list runs",
        )
    stored = run.answers()
    counts = {str(name): int(number) for name, number in stored["status"].value_counts().items()}
    selected = np.ones(len(stored), dtype=bool)
    if status is not None:
        selected &= (stored["status"] == status).to_numpy()
    if user is not None:
        selected &= (stored["user_id"].astype(str) == user).to_numpy()
    rows = np.flatnonzero(selected)[:n]
    if not len(rows):
        wanted = " and ".join([*([f"status {status}"] if status else []), *([f"user {user}"] if user else [])])
        users = ", ".join(stored["user_id"].astype(str).unique()[:3])
        raise UsageError(
            f"{run.folder} has no answer with {wanted}", f"the run has {in_words(counts)}; its users are {users}, …"
        )
    prompts: Sequence[Sequence[Message] | None] = [None] * len(rows)
    titles: Mapping[str, str] = {}
    problem = ""
    try:
        prompts, titles = _rebuilt(run, stored, rows)
    except Llm4RecError as error:
        problem = f"the prompts cannot be rebuilt: {error.problem} ({error.remedy})"
    answers = [
        Answer(str(row["user_id"]), str(row["target"]), row["status"], prompt, row["answer"], _read(row))
        for row, prompt in zip(stored.iloc[rows].to_dict("records"), prompts, strict=True)
    ]
    return Answers(run, counts, answers, problem, titles)


def _rebuilt(run: Result, stored: pd.DataFrame, rows: Any) -> tuple[list[Sequence[Message]], dict[str, str]]:
    """Return the prompts of some rows of the stored answers, and the title of each item.

    Raises:
        Llm4RecError: data, chat model or settings are not there, or have changed since.
    """
    job = Job.unchecked(compose(read_status(run.folder).overrides), "train").with_config(llm={"dry_run": True})
    split = stages.split_dataset(job, stages.load(job))
    model = stages.build(job, split)
    examples = model.in_all_orders(job.task_module.examples(split, job.config.split, job.config, job.cache))
    same_users = [*map(str, split.dataset.user_ids[examples.user])] == [*stored["user_id"].astype(str)]
    if job.address(split.dataset).config_hash != run.config_hash or not same_users:
        raise RunError("the run's data or settings have changed since", "run it again")
    ids = map(str, split.dataset.items["item_id"])
    prompts = [request.messages for request in model.requests(job.task.name, examples[rows])]
    return prompts, dict(zip(ids, model.prompts.titles, strict=False))


def _read(row: Mapping[Any, Any]) -> Sequence[str] | float | str | None:
    """Return what was read of a stored answer, as in `Answer.read`."""
    if row["status"] == "invalid":
        return None
    if "top_items" in row:
        # Items are scored by minus their place in the list. Those that it does not name have lower scores.
        n = row["n_listed"] - row["n_duplicate"] - row["n_hallucinated"]
        return [str(item) for item, score in zip(row["top_items"], row["top_scores"], strict=True) if score > -n]
    return float(row["said"]) if "said" in row else str(row["prediction"])


def in_words(counts: Mapping[str, int]) -> str:
    """Return `6 answers: 4 ok, 2 invalid`."""
    return f"{sum(counts.values()):,} answers: {', '.join(f'{number:,} {name}' for name, number in counts.items())}"


def texts(report: Answers) -> list[str]:
    """Return the report as paragraphs for a terminal. Long texts are cut in the middle, unless `--wide` is typed."""

    def named(item: str) -> str:
        return f"{item} ({title})" if (title := report.titles.get(item)) else item

    paragraphs = [f"{report.run.name}: {in_words(report.counts)}", *filter(None, [report.problem])]
    for answer in report.answers:
        read = answer.read
        if read is None:
            read = "nothing"
        elif isinstance(read, float):
            read = f"{read:g}"
        elif not isinstance(read, str):
            read = "\n".join(map(named, read)) or "no item that is ranked"
        parts = [(message["role"], message["content"]) for message in answer.prompt or ()]
        parts += [("answer", answer.answer or "(empty)"), ("read", read)]
        heading = f"--- user {answer.user}, item {named(answer.target)}: {answer.status}"
        indented = [f"{name}:\n{textwrap.indent(_shortened(text), '    ')}" for name, text in parts]
        paragraphs.append("\n".join([heading, *indented]))
    if any(CUT in paragraph for paragraph in paragraphs):
        paragraphs.append(f"{CUT.strip()} stands for what was cut from a long text: --wide shows all")
    return [printable(paragraph) for paragraph in paragraphs]


def _shortened(text: str) -> str:
    half = LONGEST // 2
    return text if is_wide() or len(text) <= LONGEST else f"{text[:half]}{CUT}{text[-half:]}"
