"""`llm4rec recommend`: the top items of a model for a user of the data, or for somebody who likes some titles; or the
rating or text that it gives of a user and an item.

The model is the trained run that `eval` would take, or a floor fitted on the spot. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import Candidates, Control, Question
from llm4rec_cli.errors import DataError, RunError, UsageError, raise_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llm4rec_cli.config.compose import Composed
    from llm4rec_cli.data.examples import Examples, IntArray
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.data.titles import Titles
    from llm4rec_cli.runs.spec import RunSpec
    from llm4rec_cli.training.trained import TrainedRun

log = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  llm4rec recommend model=unisrec --user ASASDIE2W9UHU                  a user of the demo data
  llm4rec recommend model=sasrec dataset=ml-100k --title "Toy Story" --title "Star Wars" --k 5
  llm4rec recommend run=PATH --user 196 --json                          a trained run by its folder
  llm4rec recommend task=rating model=mf --user ID --item ID            the stars that the user would give it
  llm4rec recommend task=explanation model=retrieval --user ID --item ID      what the user would say of it
"""
SHOWN = 3  # items of the history that the heading names
CHOICES = 5  # similar titles to choose from on a terminal


def parser() -> argparse.ArgumentParser:
    """The options beside overrides; free text stays out of Hydra's grammar."""
    found = argparse.ArgumentParser(
        "llm4rec recommend",
        usage="llm4rec recommend [overrides] (--user ID [--item ID] | --title TEXT …) [--k N] [--again] [--json]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    found.add_argument("--user", metavar="ID", help="a user of the data, by the id of the raw files")
    found.add_argument("--item", metavar="ID", help="with a task that asks for a rating or a text: about which item")
    found.add_argument("--title", metavar="TEXT", action="append", help="an item of the history; repeat, oldest first")
    found.add_argument("--k", metavar="N", type=_positive, default=10, help="how many items (default: 10)")
    found.add_argument("--again", action="store_true", help="items of the history may be recommended again")
    found.add_argument("--json", action="store_true", help="one JSON object an item, a line each")
    return found


def run(composed: Composed, asked: argparse.Namespace) -> None:
    """Prints the top items for `--user` or for `--title`, or the rating or text for `--user` and `--item`."""
    if (asked.user is None) == (asked.title is None):
        raise UsageError("recommend needs a user or titles, one of the two", "--user ID, or --title TEXT")

    from llm4rec_cli.runs import rules, stages
    from llm4rec_cli.runs.spec import RunSpec
    from llm4rec_cli.training import trained

    by_title = asked.title is not None
    spec = RunSpec.resolve_unchecked(composed, "recommend")
    _check(spec, by_title)
    source = None
    if spec.model.trainable:
        source = trained.find(spec)
        if source.spec.task.question is Question.all:
            source = trained.with_task(source, "sequential")
        spec = source.spec
        _check(spec, by_title)
    else:
        rules.check(spec)

    told = spec.task.question in (Question.rate, Question.write)
    if told and (asked.user is None or asked.item is None):
        raise UsageError(f"task={spec.task.name} is asked about a user and an item", "--user ID --item ID")
    if asked.item is not None and not told:
        raise UsageError(
            f"task={spec.task.name} ranks items: it is not asked about one",
            "leave out --item, or task=rating, task=explanation, task=review_summary",
        )
    if not told:
        # Whoever has candidates of their own asks `score`.
        spec = spec.with_config(task={"candidates": Candidates.full})
        raise_first(spec.model.problems(spec.config))
    dataset = stages.load(spec)
    if source:
        source.check_data(dataset)
    if dataset.impressions is not None:
        raise DataError(
            f"dataset {dataset.manifest['name']} is a click log: it has no histories of interactions to recommend from",
            "choose a dataset of interactions: llm4rec list datasets",
        )
    if told:
        _tell(spec, asked, dataset, lambda split: _model(spec, split, source))
        return
    if asked.user is not None:
        user = user_number(dataset, asked.user)
        example = question(user, dataset.sequence, int(dataset.offsets[user]), int(dataset.offsets[user + 1]))
    else:
        history = titled_items(dataset, asked.title)
        example = question(0, history, 0, len(history))  # any user: the model does not read who it is
    history, _ = example.histories()

    model = _model(spec, stages.split_dataset(spec, dataset), source)
    items, scores = top_items(model, example, asked.k, asked.again)
    rows = [
        {"rank": rank, **_named(dataset, item), "score": score, "in_history": item in history}
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
    ]
    if asked.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    name = spec.model.display_name()
    whose = "these titles" if asked.user is None else f"user {asked.user}"
    _show(rows, f"{name} on {spec.config.dataset.name} for {whose}, {_in_words(dataset, history)}", asked.again)


def _model(spec: RunSpec, split: Split, source: TrainedRun | None) -> Any:
    """The model, with the weights of the trained run if there is one."""
    from llm4rec_cli.runs import stages
    from llm4rec_cli.runs.precision import resolve_precision

    model = stages.build(resolve_precision(spec, source=source.folder if source else None), split)
    if source:
        from llm4rec_cli.training.checkpoints import load_best

        stages.check_artifacts(model, source.folder)
        load_best(model, source.checkpoints)
        log.info("%s as trained in %s", spec.model.name, source.folder)
    return model


def _tell(spec: RunSpec, asked: argparse.Namespace, dataset: RecDataset, model_of: Callable[[Split], Any]) -> None:
    """Prints the rating or text that a model gives of a user and an item, and what the data have of them.

    Raises:
        UsageError: a text is asked for where the data have no interaction of the two.
    """
    from llm4rec_cli.data.split import TRAIN
    from llm4rec_cli.runs import stages
    from llm4rec_cli.tasks import base, rating, text

    user, item = user_number(dataset, asked.user), item_number(dataset, asked.item)
    example, met = pair(dataset, user, item)
    if spec.task.written is not None and not met:
        theirs = dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]][-SHOWN:]
        raise UsageError(
            f"user {asked.user} has no interaction with item {asked.item}, and a text is about one",
            f"an item of theirs: {_quoted(dataset.items['item_id'].iloc[theirs])}",
        )
    if not met and "oracle_input" in spec.model.labels(spec.task.name):
        raise UsageError(
            f"the prompt tells something of the review, and user {asked.user} has none of item {asked.item}",
            f"model.ask.{spec.task.name}=… one that tells nothing of it: llm4rec list prompts",
        )
    split = stages.split_dataset(spec, dataset)
    model = model_of(split)
    if spec.task.written is None:
        answer: Any = round(float(rating.rate(model, example, 1).value[0]), 4)
    else:
        (answer,) = text.write(model, example, spec.task.written, 1)
    column = str(base.reference_column(spec.task))
    row = int(example.row[0])
    given = split.dataset.interactions.iloc[row].get(column) if met else None
    told = {"user_id": asked.user, **_named(dataset, item), column: answer, "given": None if _missing(given) else given}
    if asked.json:
        print(json.dumps(told, ensure_ascii=False))
        return
    from llm4rec_cli.reporting.tables import console

    out = console()
    name = spec.model.display_name()
    out.print(
        f"{name} on {spec.config.dataset.name}, {column}: user {asked.user}, '{told['title'] or told['item_id']}'"
    )
    out.print(str(answer), soft_wrap=True, highlight=False)
    if told["given"] is not None:
        seen = ", which it was trained on" if split.assignment[row] == TRAIN else ""
        out.print(f"in the data: {given}{seen}", soft_wrap=True, highlight=False)


def _missing(value: Any) -> bool:
    """Whether a cell of a table holds nothing: None, or not a number."""
    return value is None or value != value


def pair(dataset: RecDataset, user: int, item: int) -> tuple[Examples, bool]:
    """One example about a user and an item, and whether the data have an interaction of the two.

    The last of theirs counts, and the history is what precedes it; without any it is all that the user did.
    """
    import numpy as np

    from llm4rec_cli.data.examples import Examples

    begin, end = dataset.offsets[user], dataset.offsets[user + 1]
    met = begin + np.flatnonzero(dataset.sequence[begin:end] == item)
    row, end = (met[-1], met[-1]) if len(met) else (-1, end)
    one = [np.array([number]) for number in (user, item, begin, end, row)]
    return Examples(one[0], one[1], dataset.sequence, start=one[2], end=one[3], row=one[4]), len(met) > 0


def _check(spec: RunSpec, by_title: bool) -> None:
    """Refuses what no answer can come of, before any data is read.

    Raises:
        UsageError: the model cannot answer, or not by titles; or the data is destroyed on purpose.
    """
    from llm4rec_cli.runs import rules

    if spec.task.question in (Question.rate, Question.write):
        raise_first(rules.problems(spec.config) if spec.config.run is None else ())  # a run brings its own model
    else:  # whatever the task's own question and candidates are
        asked = spec.with_config(task={"question": Question.rank, "candidates": Candidates.full})
        raise_first(rules.problems_of_capability(asked.config))
        if by_title and spec.model.needs_user:
            ranking = (name for name in model_names() if "rank_catalogue" in config_class(name).capabilities)
            others = [name for name in ranking if not config_class(name).needs_user]
            raise UsageError(
                f"model '{spec.model.name}' scores by who the user is, not by a history: it cannot take --title",
                f"--user ID, or another model: {', '.join(others)}",
            )
    control = spec.config.dataset.control
    if control is not Control.none:
        raise UsageError(
            f"under dataset.control={control.name} recommendations mean nothing: it destroys what they rest on",
            "dataset.control=none, for a run on the data as it is",
        )


def user_number(dataset: RecDataset, user_id: str) -> int:
    """The number of a user by raw id.

    Raises:
        UsageError: the data has no such user; the remedy names the nearest, and how ids look.
    """
    return _number(dataset, "user", dataset.user_ids.tolist(), user_id)


def item_number(dataset: RecDataset, item_id: str) -> int:
    """The number of an item by raw id.

    Raises:
        UsageError: the data has no such item; the remedy names the nearest, and how ids look.
    """
    return _number(dataset, "item", dataset.items["item_id"].tolist(), item_id)


def _number(dataset: RecDataset, kind: str, ids: list[str], wanted: str) -> int:
    from rapidfuzz import process

    if wanted in ids:
        return ids.index(wanted)
    nearest, *_ = process.extractOne(wanted, ids)
    raise UsageError(
        f"dataset {dataset.manifest['name']} has no {kind} '{wanted}'",
        f"did you mean '{nearest}'? Ids look like {_quoted(ids[:SHOWN])}",
    )


def titled_items(dataset: RecDataset, typed: Sequence[str]) -> IntArray:
    """The items that these titles mean; doubts are asked about on a terminal, and said elsewhere.

    Raises:
        UsageError: the dataset has no titles, or none near enough.
    """
    import numpy as np

    from llm4rec_cli.data.titles import Titles

    if "title" not in dataset.items:
        ids = dataset.items["item_id"].head(SHOWN)
        raise UsageError(
            f"dataset {dataset.manifest['name']} has no titles, only item ids such as {_quoted(ids)}", "--user ID"
        )
    counts = np.bincount(dataset.sequence, minlength=dataset.n_items)
    titles = Titles(dataset.items["title"].fillna("").tolist(), counts)
    return np.array([_titled_item(title, titles, dataset) for title in typed])


def _titled_item(typed: str, titles: Titles, dataset: RecDataset) -> int:
    same = titles.exact_matches(typed)
    if same:
        if len(same) > 1:
            ids = dataset.items["item_id"]
            others = ", ".join(f"{ids[i]} '{titles.titles[i]}'" for i in same[1:])
            log.info(
                "%d items are titled '%s': took the most frequent, %s '%s', not %s",
                *(len(same), typed, ids[same[0]], titles.titles[same[0]], others),
            )
        return same[0]
    from llm4rec_cli.data.titles import MIN_SIMILARITY
    from llm4rec_cli.progress import console

    taken = titles.correct_misspelling(typed)
    if console.is_terminal and sys.stdin.isatty():
        near = titles.suggest(typed, CHOICES, MIN_SIMILARITY)
        if taken is not None:
            near = [taken, *(item for item in near if item != taken)]
        taken = _chosen(typed, near, titles) if near else None
    elif taken is not None:
        log.info("took '%s' for '%s'", titles.titles[taken], typed)
    if taken is None:
        nearest = _quoted(titles.titles[i] for i in titles.suggest(typed, 3))
        raise UsageError(f"no title in dataset {dataset.manifest['name']} is '{typed}'", f"the nearest: {nearest}")
    return taken


def _chosen(typed: str, near: Sequence[int], titles: Titles) -> int | None:
    """Which of these the user means; None if they say none."""
    from rich.prompt import IntPrompt

    from llm4rec_cli.progress import console

    console.print(f"No title is '{typed}'. Near it:", markup=False, highlight=False)
    for number, item in enumerate(near, start=1):
        console.print(f"  {number}  {titles.titles[item]}", markup=False, highlight=False)
    console.print("  0  none of these", highlight=False)
    try:
        number = IntPrompt.ask(
            "Which", console=console, choices=[str(n) for n in range(len(near) + 1)], show_choices=False, default=1
        )
    except EOFError:
        return None
    return near[number - 1] if number else None


def question(user: int, sequence: IntArray, start: int, end: int) -> Examples:
    """One example without a target and without an interaction of its own (-1): what follows sequence[start:end]?"""
    import numpy as np

    from llm4rec_cli.data.examples import Examples

    number, begin, stop, none = (np.array([value]) for value in (user, start, end, -1))
    return Examples(number, np.zeros(1, dtype=np.int64), sequence, start=begin, end=stop, row=none)


def top_items(model: Any, asked: Examples, k: int, again: bool) -> tuple[list[int], list[float]]:
    """The items with the highest scores for one example, best first, ordered as evaluation orders them.

    Args:
        model: a Ranker that ranks the catalogue.
        asked: a single example.
        k: how many, if so many are left.
        again: items of the history count too.

    Returns:
        item numbers, and their scores.

    Raises:
        RunError: the scores are not numbers.
    """
    import numpy as np
    import torch

    from llm4rec_cli.tasks.topk import top_numbers

    if isinstance(model, torch.nn.Module):
        model.eval()
    (scores,) = model.score(asked).cpu()
    if bool(scores.isnan().any()):
        raise RunError("the model's scores are not numbers: training diverged", "lower trainer.learning_rate")
    history, _ = asked.histories()
    ranked = torch.nonzero(scores > -torch.inf).squeeze(1).numpy()  # a score of -inf refuses an item
    allowed = torch.from_numpy(np.setdiff1d(ranked, [] if again else history))
    best = top_numbers(scores[allowed].unsqueeze(0), allowed, k)[0]
    return best.tolist(), scores[best].tolist()


def _named(dataset: RecDataset, item: int) -> dict[str, str | None]:
    row = dataset.items.iloc[item]
    title = row.get("title")
    return {"item_id": row["item_id"], "title": title if isinstance(title, str) else None}


def _in_words(dataset: RecDataset, history: IntArray) -> str:
    names = [named["title"] or named["item_id"] for named in (_named(dataset, item) for item in history[-SHOWN:])]
    latest = ", ".join(f"'{name}'" for name in names)
    if len(history) > SHOWN:
        return f"{len(history)} items, the latest {latest}"
    return f"{len(history)} item{'s' if len(history) > 1 else ''} known: {latest}"


def _show(rows: Sequence[dict[str, Any]], heading: str, again: bool) -> None:
    from llm4rec_cli.reporting.tables import console, table

    columns = {
        "rank": [str(row["rank"]) for row in rows],
        "item": [row["item_id"] for row in rows],
        "title": [row["title"] or "" for row in rows],
        "score": [f"{row['score']:.4f}" for row in rows],
        "in the history": ["yes" if row["in_history"] else "" for row in rows],
    }
    if not any(columns["title"]):
        del columns["title"]
    if not again:
        del columns["in the history"]
    out = console()
    out.print(heading, soft_wrap=True, highlight=False)
    out.print(table("", list(columns), list(zip(*columns.values(), strict=True))))


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
