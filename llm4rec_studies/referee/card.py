"""The card of judged lists: what was judged, on what, what is known of its making, and the verdict, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from llm4rec_cli import __version__
from llm4rec_cli.config.overrides import command_line, key_typed
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.results.describe import count_in_words, protocol_in_words, shown_as
from llm4rec_cli.results.page import templates
from llm4rec_cli.results.report import compare_with_floor, results_table
from llm4rec_cli.results.result import Result
from llm4rec_studies.inspection.audit import Audit, Check, tables

NOT_STATED = "not stated"
STATED = ("system", "code", "training", "tuning", "seeds")  # what only the makers of lists can say


def statements(texts: Iterable[str]) -> dict[str, str]:
    """Return what is stated, of `KEY=TEXT`.

    Raises:
        UsageError: a text has another form, or another key than STATED.
    """
    stated = {}
    for text in texts:
        key, equals, said = text.partition("=")
        if not equals or key not in STATED:
            raise UsageError(
                f"--stated {text}: it is KEY=TEXT, with KEY one of {', '.join(STATED)}", did_you_mean(key, STATED)
            )
        stated[key] = said
    return stated


def card(
    run: Result,
    floors: Sequence[Result],
    audit: Audit | None,
    checks: Mapping[str, Check],
    stated: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """Return the card as HTML.

    Args:
        audit: of the run over its strongest floor; None if it has none.
        checks: of `targets` and `training`, what was found in files of these.
        stated: from `statements`.
        notes: further remarks.
    """
    comparison = compare_with_floor(run, floors)
    said = [comparison.in_words() if comparison else "No floor was evaluated beside it."]
    said += [audit.verdict] if audit else []
    overrides = [typed for typed in run.overrides if key_typed(typed) not in ("model", "model.file", "model.alias")]
    file = Path(str(run.settings.get("model.file"))).name
    return (
        templates()
        .get_template("card.html")
        .render(
            title=f"{shown_as(run)} on {run.dataset}, {run.task}",
            verdict=" ".join(said),
            facts=list(_facts(run, checks, stated)),
            tables=[results_table([*floors, run]), *(tables(audit) if audit else [])],
            notes=[*notes, *run.warnings, *(audit.known if audit else ())],
            version=__version__,
            command=command_line("score", [file, *overrides], "--name", shown_as(run)),
        )
    )


def _facts(run: Result, checks: Mapping[str, Check], stated: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    settings = run.settings
    yield "lists", f"{Path(str(settings.get('model.file'))).name}; {count_in_words(run, run.n_examples)} judged"
    for key in ("system", "code"):
        yield key, stated.get(key, NOT_STATED)
    yield "data", f"{run.dataset}, fingerprint {run.dataset_fingerprint}"
    yield "protocol", protocol_in_words(run)
    yield "split", f"{run.split_rule}, drawn by dataset.seed={settings.get('dataset.seed')}"
    yield "their split", checks["targets"].reason if "targets" in checks else NOT_STATED
    training = [checks["training"].reason] if "training" in checks else []
    yield "their training", "; ".join([*training, *filter(None, [stated.get("training")])]) or NOT_STATED
    yield "mask", "items of the history are left out" if run.mask_history else "items of the history may be ranked"
    yield "candidates", "the whole catalogue" if run.protocol == "full" else run.protocol
    yield "ties", f"expectation over the order of equal scores; {ties_in_words(run)}"
    for key in ("tuning", "seeds"):
        yield key, stated.get(key, NOT_STATED)
    yield "labels", ", ".join(run.labels)


def ties_in_words(run: Result) -> str:
    """Return how many targets share their score with other items."""
    answers = run.answers(["n_tied"])
    tied = int((answers["n_tied"] > 1).sum())
    return f"{tied:,} of {len(answers):,} targets share their score or are omitted"
