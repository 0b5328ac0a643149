"""What a dataset rewards besides taste: facts about it, what simple rules reach on each slice, and plain verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.slices import DIAGNOSTIC, SHORT_HISTORY, target_slices
from llm4rec_cli.data.split import Split
from llm4rec_cli.evaluation.beyond_accuracy import by_group
from llm4rec_cli.evaluation.crossed import Estimate, difference, means_by_user
from llm4rec_cli.evaluation.proportions import Proportion
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.progress import track
from llm4rec_cli.results.tables import Content
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_studies.inspection.dataset import Catalogue, ClickLog, Order, catalogue_of, click_log_of, order_of

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
HEADLINE = "ndcg@10"  # `train` compares a model with its strongest floor by this
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
TOO_FEW = "too few targets to be sure"


@dataclass(frozen=True)
class Scrutiny:
    """What `llm4rec inspect data` reports. A click log has no slices and scores.

    `over_floor` is the gain in HEADLINE, over users, of each rule that is not a floor over the best floor.
    """

    manifest: Mapping[str, Any]
    catalogue: Catalogue
    order: Order | None  # None for a click log
    click_log: ClickLog | None  # None for other data
    slices: dict[str, int]  # slice -> number of test targets in it, after that of ALL
    scores: dict[str, dict[str, dict[str, float]]]  # CHANCE, or a rule -> metric -> slice that is not empty -> mean
    floors: list[str] = field(default_factory=list)  # the rules that `train` runs as floors
    over_floor: dict[str, Estimate] = field(default_factory=dict)

    def as_json(self) -> Mapping[str, object]:
        facts = {name: asdict(fact) for name in ("order", "click_log") if (fact := getattr(self, name)) is not None}
        return {
            "manifest": self.manifest,
            "catalogue": asdict(self.catalogue),
            **facts,
            "slices": self.slices,
            "scores": self.scores,
            "floors": self.floors,
            "over_floor": {
                rule: {"gain": gain.value, "interval": gain.interval()} for rule, gain in self.over_floor.items()
            },
            "verdicts": list(verdicts(self)),
        }

    @property
    def strongest_floor(self) -> str:
        """The best of `floors` by HEADLINE."""
        return max(self.floors, key=lambda rule: self.scores[rule][HEADLINE][ALL])

    def hit_rate(self, rule: str, name: str = ALL) -> Proportion:
        """Return a rule's HR@10 on a slice, which may be empty."""
        return Proportion.of(self.scores[rule]["hr@10"].get(name, 0.0), self.slices.get(name, 0))

    def share_of_hits(self, rule: str, name: str) -> Proportion:
        """Return the share of a rule's hits (HR@10) that lies in a slice."""
        in_slice, on_all = self.hit_rate(rule, name), self.hit_rate(rule)
        hits = on_all.share * on_all.n
        return Proportion.of(in_slice.share * in_slice.n / max(1e-12, hits), hits)


def scrutinise(job: Job, split: Split) -> Scrutiny:
    """Return the facts about a dataset, and what each of RULES reaches on its test targets. The job's model is not
    used."""
    if split.impression_assignment is not None:
        catalogue, log = catalogue_of(split), click_log_of(split)
        return Scrutiny(split.dataset.manifest, catalogue, None, log, {}, {})
    of_rules = _scores_of_rules(job, split)
    split = split.for_ranking()
    order = order_of(split)
    return Scrutiny(split.dataset.manifest, catalogue_of(split), order, None, **of_rules)


def _scores_of_rules(job: Job, split: Split) -> Mapping[str, Any]:
    """Return `slices`, `scores`, `floors` and `over_floor` of Scrutiny."""
    from llm4rec_cli.tasks import ranking

    config = job.config
    examples = ranking.examples(split, config.split, config, job.cache)
    groups: dict[str, NDArray[np.bool_]] = {ALL: np.ones(len(examples), dtype=bool)}
    groups |= target_slices(split.for_ranking(), examples)

    def means(values: Mapping[str, NDArray[np.floating[Any]]]) -> dict[str, dict[str, float]]:
        by_slice = by_group({metric: values[metric] for metric in METRICS}, groups)
        return {metric: {name: values[metric] for name, values in by_slice.items()} for metric in METRICS}

    scores: dict[str, dict[str, dict[str, float]]] = {}
    by_user: dict[str, NDArray[np.floating[Any]]] = {}
    for name, (model_name, *settings) in track(list(RULES.items()), "rules"):
        model = stages.build(job.floor(model_name, *settings), split)
        ranks = ranking.rank(model, examples, config.task.masked, 0, config.trainer.eval_batch_size)
        if not scores:
            missed, n = replace(examples, mask_history=config.task.masked).masked_targets(), ranks.n_candidates
            scores[CHANCE] = means(ranking_metrics(np.where(missed, n - 1, 0), np.where(missed, 0, n), n, [10]))
        values = ranking_metrics(ranks.n_better, ranks.n_tied, ranks.n_candidates, [10])
        scores[name] = means(values)
        by_user[name] = means_by_user([values[HEADLINE]], examples.user)
    floors = [name for name in RULES if name in config.task.floors]
    strongest = max(floors, key=lambda name: scores[name][HEADLINE][ALL], default=None)
    return {
        "slices": {name: int(inside.sum()) for name, inside in groups.items()},
        "scores": scores,
        "floors": floors,
        "over_floor": {name: difference(by_user[name], by_user[strongest]) for name in RULES if name not in floors}
        if strongest
        else {},
    }


# --- verdicts


def verdicts(scrutiny: Scrutiny) -> Iterator[str]:
    """Yield sentences that say in plain words what a result on the dataset may be worth, each by its own rule.

    Facts about the data: users whose split the file's order decides (NOTABLE_USERS); targets on the last item's day
    (NOTABLE_TARGETS); other users' later interactions in training (NOTABLE_LATER); the long tail, unseen targets and
    short histories, where there are any; popular items, and near-duplicates in the catalogue.

    Other sentences generalise from cases. They print a 95 % interval, which must exclude what data without such an
    accident would show; otherwise the sentence says that the cases are too few. They are about:

    - equal times ordered by ids (SORTED, UNEVEN), and interactions without times ordered by ids (UNEVEN);
    - a rule that knows only the order of ids and scores an HR@10 above TIMES_CHANCE times chance;
    - a rule that hits LIFT times as many of the targets with a higher id as of the others;
    - the share of a rule's hits in a slice (NOTABLE_HITS, and LIFT times the slice's share of targets);
    - the places of clicks (UNEVEN);
    - a rule that `train` does not run and that may be above the strongest floor that it runs.
    """
    if scrutiny.order is not None:
        yield from _verdicts_on_order(scrutiny, scrutiny.order)
        yield from _verdicts_on_rules(scrutiny)
        yield from _verdicts_on_slices(scrutiny)
    if scrutiny.click_log is not None:
        yield from _verdicts_on_clicks(scrutiny.click_log)
    items = scrutiny.catalogue
    yield (
        f"The most popular fifth of the items has {_percent(items.head_interactions, 0)} of the {_unit(scrutiny)} "
        f"(Gini {items.gini:.2f})."
    )
    if items.near_duplicates:
        yield f"{_percent(items.near_duplicates, 0)} of the items have a near-duplicate in the catalogue."
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
        if (ascending := order.other_ascending_id) is not None:
            uneven = _is_uneven(ascending.share, ascending.low, ascending.high)
            if uneven:
                yield (
                    f"{_in_words(ascending)} adjacent interactions ascend by raw id, where 50 % would if ids said "
                    "nothing: the file's order is partly that of ids, or newer items have higher ids. Without times "
                    "the two cannot be distinguished, and a model of directed transitions may learn either."
                )
            elif uneven is None:
                yield f"{_too_few(ascending, 'adjacent interactions')} the file's order is that of ids."
    if order.users_split_by_ties is not None and order.users_split_by_ties >= NOTABLE_USERS:
        yield (
            f"For {_percent(order.users_split_by_ties, 0)} of the users, equal times leave open which interaction is "
            "training, validation or test: the order of the file decides. Repeat results with "
            "dataset.control=shuffle_ties."
        )
    if (ascending := order.tied_ascending_id) is not None:
        way = "ascend" if ascending.share > 0.5 else "descend"
        pairs = "adjacent interactions of equal time"
        uneven = _is_uneven(ascending.share, ascending.low, ascending.high)
        if max(ascending.low, 1 - ascending.high) > SORTED:
            yield (
                f"{_in_words(_majority(ascending))} {pairs} {way} by raw id: the file is sorted by item, and a model "
                "can learn that order instead of the users'."
            )
        elif uneven:
            yield (
                f"{_in_words(_majority(ascending))} {pairs} {way} by raw id, where 50 % would if ids said nothing: "
                "the file is at least partly sorted by item, and a model can learn that order instead of the users'."
            )
        elif uneven is None:
            yield f"{_too_few(ascending, pairs)} the file is sorted by item."
    same_day = scrutiny.slices.get("same_day", 0) / scrutiny.slices[ALL]
    if same_day >= NOTABLE_TARGETS:
        yield (
            f"{_percent(same_day, 0)} of the {scrutiny.slices[ALL]:,} targets are on the day of the last history item: "
            "predicting them is completing a basket or a session, not foreseeing a later one."
        )
    if order.later_training is not None and order.later_training >= NOTABLE_LATER:
        yield (
            f"On average {_percent(order.later_training, 0)} of the training interactions are later than a test "
            "target: models learn from the future. dataset.split=temporal does not allow that."
        )


def _is_uneven(share: float, low: float, high: float) -> bool | None:
    """Return whether a share is off one half by more than UNEVEN; None if its 95 % interval leaves that open."""
    if low <= 0.5 <= high:
        return None if max(high - 0.5, 0.5 - low) > UNEVEN else False
    return abs(share - 0.5) > UNEVEN


def _majority(ascending: Proportion) -> Proportion:
    """Return the share of descending pairs if most descend."""
    return ascending if ascending.share > 0.5 else Proportion.of(1 - ascending.share, ascending.n)


def _in_words(share: Proportion) -> str:
    """Return `69.4 % (95 % interval 68.0 % to 70.8 %) of the 4,109`."""
    return f"{_percent(share.share)} ({_interval(share)}) of the {share.n:,.0f}"


def _interval(share: Proportion) -> str:
    return f"95 % interval {_percent(share.low)} to {_percent(share.high)}"


def _too_few(ascending: Proportion, pairs: str) -> str:
    """Return `1 of 1 pairs of adjacent interactions ascend by raw id (95 % interval …): too few to tell whether`."""
    n = f"{ascending.share * ascending.n:,.0f} of {ascending.n:,.0f}"
    return f"{n} pairs of {pairs} ascend by raw id ({_interval(ascending)}): too few to tell whether"


def _verdicts_on_rules(scrutiny: Scrutiny) -> Iterator[str]:
    """Yield what rules without training reach on all targets."""
    chance = scrutiny.scores[CHANCE]["hr@10"][ALL]
    for rule, knows in (("next_id", "item numbers"), ("next_raw_id", "raw ids")):
        hits = scrutiny.hit_rate(rule)
        if hits.share > TIMES_CHANCE * chance:
            meaning = f"a model that can read {knows} may learn it" if hits.low > chance else TOO_FEW
            yield (
                f"{rule}, which knows only the order of {knows}, has HR@10 {hits.share:.4f} (95 % interval "
                f"{hits.low:.4f} to {hits.high:.4f}), where chance is {chance:.4f}: {meaning}."
            )
    for rule, gain in scrutiny.over_floor.items():
        low, high = gain.interval()
        if high <= 0:
            continue
        floor = scrutiny.strongest_floor
        ours, best = (scrutiny.scores[name][HEADLINE][ALL] for name in (rule, floor))
        model, *settings = RULES[rule]
        relation = "is better than" if low > 0 else "is not distinguishable from"
        yield (
            f"{rule}, which train does not run as a floor, {relation} {floor}, the strongest floor that it runs: "
            f"{HEADLINE.upper()} {ours:.4f} and {best:.4f}, difference {gain.value:+.4f} (95 % interval {low:+.4f} to "
            f"{high:+.4f}, over users). Compare models with it, too: on this dataset, llm4rec train "
            f"{shlex.join([f'model={model}', *settings])}."
        )


def _verdicts_on_slices(scrutiny: Scrutiny) -> Iterator[str]:
    for rule in ("last_item", "transition_text"):
        up, down = (scrutiny.hit_rate(rule, name) for name in ("ascending_id", "descending_id"))
        if down.n and up.share > LIFT * down.share:
            meaning = "part of what it learns may be the order of ids" if up.exceeds(down) else TOO_FEW
            yield (
                f"{rule} has HR@10 {up.share:.4f} on the {up.n:,} targets with a higher raw id than the last item "
                f"(95 % interval {up.low:.4f} to {up.high:.4f}), and {down.share:.4f} on the {down.n:,} others "
                f"({down.low:.4f} to {down.high:.4f}): {meaning}."
            )
        for name, what in (
            ("near_duplicate", "are near-duplicates of a history item"),
            ("repeated", "are in the history already"),
            ("same_day", "are on the day of the last history item"),
        ):
            expected = scrutiny.slices.get(name, 0) / scrutiny.slices[ALL]
            share = scrutiny.share_of_hits(rule, name)
            if expected and share.share >= max(NOTABLE_HITS, LIFT * expected):
                doubt = "" if share.low > expected else ": too few hits to be sure"
                yield (
                    f"{_percent(share.share)} ({_interval(share)}) of the {share.n:,.0f} targets that {rule} hits "
                    f"{what}, which {_percent(expected)} of all targets are{doubt}."
                )
    for name, what in (
        ("long_tail", "are in the long tail"),
        ("cold", "never occur in training"),
        ("short_history", f"have a history of at most {SHORT_HISTORY} items"),
    ):
        if scrutiny.slices[name]:
            yield f"{_percent(scrutiny.slices[name] / scrutiny.slices[ALL])} of the targets {what}."


def _verdicts_on_clicks(log: ClickLog) -> Iterator[str]:
    yield (
        f"{_percent(log.unseen_clicks, 0)} of the clicks are on items that training never shows: ids say nothing about "
        "them."
    )
    low, high = log.click_place_interval
    uneven = _is_uneven(log.click_place, low, high)
    if uneven is False:
        return
    meaning = "the order of items within a list gives clicks away"
    if uneven is None:
        meaning = f"too few clicks to tell whether {meaning}"
    yield (
        f"Clicks are at {_percent(log.click_place)} of their lists on average (95 % interval "
        f"{_percent(max(0.0, low))} to {_percent(min(1.0, high))}), where 50 % would be if the order said nothing: "
        f"{meaning}."
    )


# --- tables


def tables(scrutiny: Scrutiny) -> list[Content]:
    """Return the tables of facts and of scores on slices, of at most 100 columns of text."""
    facts = [_order_table(scrutiny.order)] if scrutiny.order is not None else []
    facts += [_click_table(scrutiny.click_log)] if scrutiny.click_log is not None else []
    return [*facts, _catalogue_table(scrutiny), *_slice_tables(scrutiny)]


def _order_table(order: Order) -> Content:
    rows: dict[str, float | Proportion | None] = {
        "interactions without a time": order.without_time,
        "pairs with the same time": order.tied,
        "pairs on the same day": order.same_day,
        "of the pairs with the same time, ascending by raw id": order.tied_ascending_id,
        "of the pairs without the same time, ascending by raw id": order.other_ascending_id,
        "users whose last two interactions have the same time": order.users_tied,
        "users whose last two interactions are on the same day": order.users_same_day,
        "users whose split depends on the order within equal times": order.users_split_by_ties,
        "training interactions later than a test target, on average": order.later_training,
    }
    cells = [
        [name, _percent(share.share), f"{share.n:,.0f}", f"{_percent(share.low)} to {_percent(share.high)}"]
        if isinstance(share, Proportion)
        else [name, _percent(share), "", ""]
        for name, share in rows.items()
        if share is not None
    ]
    note = f"a pair is two adjacent interactions of one user: {order.pairs:,} pairs"
    return Content("order", ("order", "share", "pairs", "95 % interval"), cells, [note])


def _click_table(log: ClickLog) -> Content:
    rows = [
        ["impressions", f"{log.impressions:,}"],
        ["without a history", _percent(log.without_history)],
        ["items shown, on average", f"{log.shown:.1f}"],
        ["clicks, on average", f"{log.clicks:.2f}"],
        ["clicks on items that training never shows", _percent(log.unseen_clicks)],
        ["place of clicks in their lists: 0 first, 1 last", f"{log.click_place:.3f}"],
        ["its 95 % interval, over users", "{:.3f} to {:.3f}".format(*log.click_place_interval)],
    ]
    return Content("test impressions", ("impressions", "value"), rows)


def _catalogue_table(scrutiny: Scrutiny) -> Content:
    items = scrutiny.catalogue
    repeats = "interactions" if scrutiny.click_log is None else "test clicks"
    rows = {
        "items not in training": items.unseen,
        "items with a near-duplicate": items.near_duplicates,
        f"{repeats} with an item of the history": items.repeated,
        f"{_unit(scrutiny)} with the most popular fifth of the items": items.head_interactions,
        "items in the long tail": items.tail_items,
    }
    note = f"Gini coefficient of {_unit(scrutiny)}: {items.gini:.3f}"
    cells = [[name, _percent(share)] for name, share in rows.items() if share is not None]
    return Content("items", ("items", "share"), cells, [note])


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _slice_tables(scrutiny: Scrutiny) -> list[Content]:
    """Return a table for each metric: a row per slice, a column per rule."""
    not_empty = [name for name, n in scrutiny.slices.items() if n]
    if not not_empty:
        return []
    diagnostic = [name for name in DIAGNOSTIC if name in not_empty]
    notes = [f"diagnostic only, as the target defines them: {', '.join(diagnostic)}"] if diagnostic else []
    no_floors = list(scrutiny.over_floor)
    floors = [f"train runs {', '.join(scrutiny.floors)} as floors, but not {', '.join(no_floors)}"] if no_floors else []
    result = []
    for metric in METRICS:
        by_rule = [scores[metric] for scores in scrutiny.scores.values()]
        rows = [
            [name, f"{scrutiny.slices[name]:,}", *(f"{by_slice[name]:.4f}" for by_slice in by_rule)]
            for name in not_empty
        ]
        columns, of_floors = ("slice", "targets", *scrutiny.scores), floors if metric == HEADLINE else []
        result.append(Content(f"{metric.upper()} of rules without training", columns, rows, [*notes, *of_floors]))
    return result
