"""What a dataset rewards besides taste: facts about it, what simple rules reach on each slice, and plain verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.scrutiny import Catalogue, ClickLog, Order
from llm4rec_cli.data.slices import DIAGNOSTIC, SHORT_HISTORY
from llm4rec_cli.reporting.tables import Content

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.runs.spec import RunSpec

# Rules without training: the name in tables -> the model and its settings. `last_item` recommends what most often
# followed the last item in training.
RULES = {
    "popularity": ("popularity",),
    "next_id": ("next_id",),
    "next_raw_id": ("next_raw_id",),
    "last_item": ("transition_text", "model.recent=1", "model.steps=1", "model.text_weights=[0]"),
    "transition_text": ("transition_text",),
}
CHANCE = "chance"  # the score of a constant scorer
METRICS = ("hr@10", "ndcg@10")
ALL = "all targets"

# Thresholds of the verdicts: shares below them are not worth a sentence.
NOTABLE_USERS = 0.01
NOTABLE_TARGETS = 0.1
NOTABLE_HITS = 0.1
LIFT = 1.2  # of a slice's share of hits over its share of targets
NOTABLE_LATER = 0.05
SORTED = 0.9  # of the pairs with one time ascend, or descend: the file is sorted
UNEVEN = 0.05  # off one half
TIMES_CHANCE = 3  # of a rule that knows only ids


@dataclass(frozen=True)
class Scrutiny:
    """What `llm4rec inspect data` reports.

    Attributes:
        manifest: of the prepared dataset.
        catalogue: facts about the items.
        order: facts about the order of interactions; None for a click log, which has none of the next two either.
        click_log: facts about the impressions of a click log; None for others.
        slices: slice -> number of test targets in it, after that of ALL.
        scores: CHANCE, or a rule -> metric -> mean on each of the slices that is not empty.
    """

    manifest: dict[str, Any]
    catalogue: Catalogue
    order: Order | None
    click_log: ClickLog | None
    slices: dict[str, int]
    scores: dict[str, dict[str, dict[str, float]]]

    def as_json(self) -> dict[str, Any]:
        """Return everything as one JSON object, with the verdicts."""
        facts = {name: asdict(fact) for name in ("order", "click_log") if (fact := getattr(self, name)) is not None}
        return {
            "manifest": self.manifest,
            "catalogue": asdict(self.catalogue),
            **facts,
            "slices": self.slices,
            "scores": self.scores,
            "verdicts": list(verdicts(self)),
        }

    def share_of_hits(self, rule: str, name: str) -> float:
        """Return the share of a rule's HR@10 that lies in a slice."""
        hits = self.scores[rule]["hr@10"]
        return self.slices[name] * hits.get(name, 0.0) / max(1e-12, self.slices[ALL] * hits[ALL])


def scrutinise(spec: RunSpec, split: Split) -> Scrutiny:
    """Return the facts about a dataset, and what each of RULES reaches on its test targets.

    Args:
        spec: with the dataset and a ranking task; its model is not used.
        split: of that dataset.
    """
    from llm4rec_cli.data import scrutiny

    if split.impression_assignment is not None:
        catalogue, log = scrutiny.catalogue_of(split), scrutiny.click_log_of(split)
        return Scrutiny(split.dataset.manifest, catalogue, None, log, {}, {})
    slices, scores = _scores_on_slices(spec, split)
    split = split.for_ranking()
    order = scrutiny.order_of(split)
    return Scrutiny(split.dataset.manifest, scrutiny.catalogue_of(split), order, None, slices, scores)


def _scores_on_slices(spec: RunSpec, split: Split) -> tuple[dict[str, int], dict[str, dict[str, dict[str, float]]]]:
    from llm4rec_cli.data.slices import target_slices
    from llm4rec_cli.evaluation.beyond_accuracy import by_group
    from llm4rec_cli.evaluation.ranking import ranking_metrics
    from llm4rec_cli.progress import track
    from llm4rec_cli.runs import stages
    from llm4rec_cli.tasks import ranking

    config = spec.config
    examples = ranking.examples(split, config.split, config, spec.cache)
    groups: dict[str, NDArray[np.bool_]] = {ALL: np.ones(len(examples), dtype=bool)}
    groups |= target_slices(split.for_ranking(), examples)

    def means(n_better: Any, n_tied: Any, n_candidates: Any) -> dict[str, dict[str, float]]:
        values = ranking_metrics(n_better, n_tied, n_candidates, [10])
        by_slice = by_group({metric: values[metric] for metric in METRICS}, groups)
        return {metric: {name: values[metric] for name, values in by_slice.items()} for metric in METRICS}

    scores: dict[str, dict[str, dict[str, float]]] = {}
    for name, (model_name, *settings) in track(list(RULES.items()), "rules"):
        model = stages.build(spec.for_floor(model_name, *settings), split)
        ranks = ranking.rank(model, examples, config.task.mask_history, 0, config.trainer.eval_batch_size)
        if not scores:
            missed, n = replace(examples, mask_history=config.task.mask_history).masked_targets(), ranks.n_candidates
            scores[CHANCE] = means(np.where(missed, n - 1, 0), np.where(missed, 0, n), n)
        scores[name] = means(ranks.n_better, ranks.n_tied, ranks.n_candidates)
    return {name: int(inside.sum()) for name, inside in groups.items()}, scores


# --- verdicts


def verdicts(scrutiny: Scrutiny) -> Iterator[str]:
    """Yield sentences that say in plain words what a result on the dataset may be worth, each by its own rule.

    Times: users whose split the file's order decides (NOTABLE_USERS); order within equal times that is that of ids
    (SORTED), and the same without times (UNEVEN); targets on the last item's day (NOTABLE_TARGETS); other users' later
    interactions in training (NOTABLE_LATER). Ids: a rule that knows only their order and has an HR@10 above
    TIMES_CHANCE times chance; one that hits LIFT times as many of the targets with a higher id as of the others.
    Slices: the share of what a rule hits that is in a slice (NOTABLE_HITS, and LIFT times the slice's share of
    targets). The long tail, unseen targets and short histories, where there are any. Popular items, and near-duplicates
    in the catalogue.
    """
    if scrutiny.order is not None:
        yield from _verdicts_on_order(scrutiny, scrutiny.order)
        yield from _verdicts_on_slices(scrutiny)
    if scrutiny.click_log is not None:
        yield from _verdicts_on_clicks(scrutiny.click_log)
    items = scrutiny.catalogue
    yield (
        f"The most popular fifth of the items has {items.head_interactions:.0%} of the {_unit(scrutiny)} "
        f"(Gini {items.gini:.2f})."
    )
    if items.near_duplicates:
        yield f"{items.near_duplicates:.0%} of the items have a near-duplicate in the catalogue."
    if scrutiny.manifest["synthetic"]:
        yield "The data is synthetic: a result on it settles no claim."


def _unit(scrutiny: Scrutiny) -> str:
    return "training interactions" if scrutiny.click_log is None else "training clicks"


def _verdicts_on_order(scrutiny: Scrutiny, order: Order) -> Iterator[str]:
    if order.without_time == 1:
        yield (
            "No interaction has a time: the order is the file's, and whether a target is later than its history cannot "
            "be checked. Results cannot be repeated under shuffled ties or a temporal split."
        )
        if (ascending := order.other_ascending_id) is not None and abs(ascending - 0.5) > UNEVEN:
            yield (
                f"{ascending:.0%} of adjacent interactions ascend by raw id, where 50 % would if ids said nothing: the "
                "file's order is partly that of ids, or newer items have higher ids. Without times the two cannot be "
                "distinguished, and a model of directed transitions may learn either."
            )
    if order.users_split_by_ties is not None and order.users_split_by_ties >= NOTABLE_USERS:
        yield (
            f"For {order.users_split_by_ties:.0%} of the users, equal times leave open which interaction is training, "
            "validation or test: the order of the file decides. Repeat results with dataset.control=shuffle_ties."
        )
    if (ascending := order.tied_ascending_id) is not None and abs(ascending - 0.5) > SORTED - 0.5:
        way = "ascend" if ascending > 0.5 else "descend"
        yield (
            f"{max(ascending, 1 - ascending):.0%} of the {order.tied_pairs:,} adjacent interactions of equal time "
            f"{way} by raw id: the file is sorted by item, and a model can learn that order instead of the users'."
        )
    same_day = scrutiny.slices.get("same_day", 0) / scrutiny.slices[ALL]
    if same_day >= NOTABLE_TARGETS:
        yield (
            f"{same_day:.0%} of the targets are on the day of the last history item: predicting them is completing a "
            "basket or a session, not foreseeing a later one."
        )
    if order.later_training is not None and order.later_training >= NOTABLE_LATER:
        yield (
            f"On average {order.later_training:.0%} of the training interactions are later than a test target: models "
            "learn from the future. dataset.split=temporal does not allow that."
        )


def _verdicts_on_slices(scrutiny: Scrutiny) -> Iterator[str]:
    means = {rule: scores["hr@10"][ALL] for rule, scores in scrutiny.scores.items()}
    for rule, knows in (("next_id", "item numbers"), ("next_raw_id", "raw ids")):
        if means[rule] > TIMES_CHANCE * means[CHANCE]:
            yield (
                f"{rule}, which knows only the order of {knows}, has HR@10 {means[rule]:.4f}, where chance is "
                f"{means[CHANCE]:.4f}: a model that can read {knows} may learn it."
            )
    if means["next_raw_id"] >= max(means[rule] for rule in ("popularity", "next_id", "transition_text")):
        yield (
            "next_raw_id is not below the floors of ordinary tables: name it among them, task.floors=[…,next_raw_id], "
            "and compare with it."
        )
    for rule in ("last_item", "transition_text"):
        hits = scrutiny.scores[rule]["hr@10"]
        if hits.get("ascending_id", 0) > LIFT * hits.get("descending_id", 1):
            yield (
                f"{rule} has HR@10 {hits['ascending_id']:.4f} on targets with a higher raw id than the last item, and "
                f"{hits['descending_id']:.4f} on the others: part of what it learns may be the order of ids."
            )
        for name, what in (
            ("near_duplicate", "are near-duplicates of a history item"),
            ("repeated", "are in the history already"),
            ("same_day", "are on the day of the last history item"),
        ):
            expected = scrutiny.slices.get(name, 0) / scrutiny.slices[ALL]
            if expected and (share := scrutiny.share_of_hits(rule, name)) >= max(NOTABLE_HITS, LIFT * expected):
                yield f"{share:.0%} of what {rule} hits {what}, which {expected:.1%} of all targets are."
    for name, what in (
        ("long_tail", "are in the long tail"),
        ("cold", "never occur in training"),
        ("short_history", f"have a history of at most {SHORT_HISTORY} items"),
    ):
        if scrutiny.slices[name]:
            yield f"{scrutiny.slices[name] / scrutiny.slices[ALL]:.1%} of the targets {what}."


def _verdicts_on_clicks(log: ClickLog) -> Iterator[str]:
    yield f"{log.unseen_clicks:.0%} of the clicks are on items that training never shows: ids say nothing about them."
    if abs(log.click_place - 0.5) > UNEVEN:
        yield (
            f"Clicks are at {log.click_place:.0%} of their lists on average, where 50 % would be if the order said "
            "nothing: the order of items within a list gives clicks away."
        )


# --- tables


def tables(scrutiny: Scrutiny) -> list[Content]:
    """Return the tables of facts and of scores on slices, of at most 100 columns of text."""
    facts = [_order_table(scrutiny.order)] if scrutiny.order is not None else []
    facts += [_click_table(scrutiny.click_log)] if scrutiny.click_log is not None else []
    return [*facts, _catalogue_table(scrutiny), *_slice_tables(scrutiny)]


def _order_table(order: Order) -> Content:
    rows = {
        "interactions without a time": order.without_time,
        "pairs with the same time": order.tied,
        "pairs on the same day": order.same_day,
        f"of {order.tied_pairs:,} pairs with the same time, ascending by raw id": order.tied_ascending_id,
        "of these, ascending by title": order.tied_ascending_title,
        "of the pairs without the same time, ascending by raw id": order.other_ascending_id,
        "users whose last two interactions have the same time": order.users_tied,
        "users whose last two interactions are on the same day": order.users_same_day,
        "users whose split depends on the order within equal times": order.users_split_by_ties,
        "training interactions later than a test target, on average": order.later_training,
    }
    note = f"a pair is two adjacent interactions of one user: {order.pairs:,} pairs"
    return Content("order", ("order", "share"), _shares(rows), [note])


def _click_table(log: ClickLog) -> Content:
    rows = [
        ["impressions", f"{log.impressions:,}"],
        ["without a history", _percent(log.without_history)],
        ["items shown, on average", f"{log.shown:.1f}"],
        ["clicks, on average", f"{log.clicks:.2f}"],
        ["clicks on items that training never shows", _percent(log.unseen_clicks)],
        ["place of clicks in their lists: 0 first, 1 last", f"{log.click_place:.3f}"],
    ]
    return Content("test impressions", ("impressions", "value"), rows)


def _catalogue_table(scrutiny: Scrutiny) -> Content:
    items = scrutiny.catalogue
    repeats = "interactions" if scrutiny.click_log is None else "test clicks"
    rows = {
        "items not in training": items.unseen,
        "items with the same words as another": items.same_words,
        "items with a near-duplicate": items.near_duplicates,
        f"{repeats} with an item of the history": items.repeated,
        f"{_unit(scrutiny)} with the most popular fifth of the items": items.head_interactions,
        "items in the long tail": items.tail_items,
    }
    note = f"Gini coefficient of {_unit(scrutiny)}: {items.gini:.3f}"
    return Content("items", ("items", "share"), _shares(rows), [note])


def _shares(rows: Mapping[str, float | None]) -> list[list[str]]:
    return [[name, _percent(share)] for name, share in rows.items() if share is not None]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _slice_tables(scrutiny: Scrutiny) -> list[Content]:
    """Return a table for each metric: a row per slice, a column per rule; and one with the shares of hits."""
    shown = [name for name, n in scrutiny.slices.items() if n]
    if not shown:
        return []
    diagnostic = [name for name in DIAGNOSTIC if name in shown]
    notes = [f"diagnostic only, as the target defines them: {', '.join(diagnostic)}"] if diagnostic else []
    result = []
    for metric in METRICS:
        by_rule = [scores[metric] for scores in scrutiny.scores.values()]
        rows = [
            [name, f"{scrutiny.slices[name]:,}", *(f"{by_slice[name]:.4f}" for by_slice in by_rule)] for name in shown
        ]
        columns = ("slice", "targets", *scrutiny.scores)
        result.append(Content(f"{metric.upper()} of rules without training", columns, rows, notes))
    shares = [
        [name, _percent(scrutiny.slices[name] / scrutiny.slices[ALL]), *(_hits(scrutiny, rule, name) for rule in RULES)]
        for name in shown[1:]
    ]
    title = "share of targets, and of each rule's hits (HR@10)"
    return [*result, Content(title, ("slice", "targets", *RULES), shares)]


def _hits(scrutiny: Scrutiny, rule: str, name: str) -> str:
    return _percent(scrutiny.share_of_hits(rule, name))
