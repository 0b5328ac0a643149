"""Check a chat model that judges texts: does the order of the texts decide, does it see damage, does it like its own?

- *Order:* each example is judged in several orders of its texts. The judge's mean by place should be flat, and its
  judgements in different orders should agree.
- *Known order:* a text is judged together with damaged ones, which are worse by construction: its own words shuffled,
  which nobody understands at once, and the text of another example, which is about another item.
- *Own texts:* for a system whose texts the same chat model wrote, how much better their rank is than that of the other
  systems; and, where people have judged the sheet, how much of that people do not see.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.results.result import Interval, Result
from llm4rec_cli.studies.human.agreement import FloatArray, Scale, krippendorff_alpha, ranks
from llm4rec_cli.studies.human.export import REFERENCE
from llm4rec_cli.studies.human.sheets import Example, Key, Sheet

ORDERS = 3  # in which each example is judged at most, the sheet's included
SHUFFLED, FOREIGN = "its words shuffled", "the text of another example"  # kinds of damage
INTACT = "intact"
Parsed = Mapping[str, Mapping[str, int]]  # criterion -> label -> score or rank


@dataclass(frozen=True)
class Gap:
    """A mean over examples, with its 95 % interval; None without examples."""

    mean: float | None
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class OwnTexts(Gap):
    """By how many ranks a system's texts are above the mean of the others, by the judge and by people."""

    people: float | None


@dataclass(frozen=True)
class Check:
    """The check on one criterion."""

    judgements: int  # of examples in several orders
    alpha_between_orders: float | None  # agreement of the judgements in different orders; None where it is undefined
    mean_by_place: Sequence[float]  # the mean judgement of a text at each place
    variance_by_place: float | None  # the share of the variance that places explain
    known_order: Mapping[str, Gap]  # kind of damage -> how often the intact text is judged better, a tie counting half
    own_texts: Mapping[str, OwnTexts]  # of each system whose texts the judge wrote


@dataclass(frozen=True)
class Probe:
    """An example as the judge is shown it."""

    example: Example  # with letters in the order shown
    origin: tuple[str, ...]  # of the text under each letter: its letter on the sheet, INTACT, or a kind of damage
    order: int | None  # which of up to ORDERS orders of the texts it is, 0 = the sheet's; None for damaged texts


def probe_of(example: Example, texts: Mapping[str, str], order: int | None = None) -> Probe:
    """Return an example with other texts.

    Args:
        texts: origin -> text, in the order in which they are shown.
    """
    lettered = dict(zip(string.ascii_uppercase, texts.values(), strict=False))
    return Probe(Example(example.item, example.stars, example.review, lettered, example.name), tuple(texts), order)


def as_on_sheet(example: Example) -> Probe:
    """Return an example as it is on the sheet."""
    return probe_of(example, example.texts, order=0)


def rotations(example: Example) -> list[Probe]:
    """Return an example in the sheet's order, then in up to two others, in which each text has another place."""
    labels = list(example.texts)
    n_orders = min(ORDERS, len(labels))
    begins = [i * len(labels) // n_orders for i in range(n_orders)]  # spread over the places
    orders = [labels[begin:] + labels[:begin] for begin in begins]
    return [probe_of(example, {label: example.texts[label] for label in o}, k) for k, o in enumerate(orders)]


def damaged(examples: Sequence[Example], key: Key) -> Iterator[Probe]:
    """Yield each example with its intact text, that of the user or of the first system, and damaged ones."""
    system = REFERENCE if REFERENCE in key.systems else key.systems[0]
    intact = {}
    for example in examples:
        systems = key.examples[example.name]
        intact[example.name] = next(text for label, text in example.texts.items() if system in systems[label])
    for i, example in enumerate(examples):
        text, rng = intact[example.name], stream(key.seed, "human: damage", i)
        words = text.split()
        others = sorted(set(intact.values()) - {text})
        kinds = {
            INTACT: text,
            SHUFFLED: " ".join(rng.permutation(words).tolist()) if len(set(words)) > 1 else text,
            FOREIGN: others[rng.integers(len(others))] if others else text,
        }
        shown = [kind for kind in kinds if kind == INTACT or kinds[kind] != text]
        if len(shown) > 1:
            yield probe_of(example, {kind: kinds[kind] for kind in rng.permutation(shown).tolist()})


def probes(examples: Sequence[Example], key: Key) -> list[Probe]:
    """Return all that the judge is shown: each example in several orders, and damaged texts."""
    return [*(probe for example in examples for probe in rotations(example)), *damaged(examples, key)]


def measure(
    sheet: Sheet,
    key: Key,
    shown: Sequence[Probe],
    parsed: Sequence[Parsed],
    own: Sequence[str],
    people: Mapping[str, Result],
) -> dict[str, Check]:
    """Return the check of each criterion.

    Args:
        shown: the `probes`.
        parsed: the judgements of each; without those that are incomplete.
        own: systems whose texts the judge wrote.
        people: the result of `score.judged`; empty if no person has judged the sheet.
    """
    result = {}
    for criterion in sheet.criteria:
        judged = [
            (probe, dict(zip(probe.origin, judgements[criterion].values(), strict=True)))
            for probe, judgements in zip(shown, parsed, strict=True)
            if criterion in judgements
        ]
        of_sheet = [(probe, values) for probe, values in judged if probe.order == 0]
        result[criterion] = _check(
            [(probe, values) for probe, values in judged if probe.order is not None],
            _known_order([v for probe, v in judged if probe.order is None], sheet.scale, key.seed),
            {system: _own_texts(system, of_sheet, sheet.scale, key, people, criterion) for system in own},
        )
    return result


def _check(
    judged: Sequence[tuple[Probe, Mapping[str, int]]], known_order: Mapping[str, Gap], own: Mapping[str, OwnTexts]
) -> Check:
    """Return the check of a criterion, with the mean judgement by place, what places explain, and the agreement.

    Places are compared within texts, those judged in several orders: other texts stand at the fourth place than at the
    first, and examples with many texts have more places.

    Args:
        judged: a probe and origin -> judgement, in the order shown.
    """
    shown = pd.DataFrame(
        [
            (f"{probe.example.name} {label}", probe.order, place, value)
            for probe, values in judged
            for place, (label, value) in enumerate(values.items())
        ],
        columns=["text", "order", "place", "value"],
    )
    ratings = shown.pivot(index="order", columns="text", values="value").to_numpy(dtype=float)
    of_text = shown.groupby("text")["value"]
    several = of_text.transform("size") > 1
    effect = (shown["value"] - of_text.transform("mean"))[several].groupby(shown["place"]).agg(["mean", "size"])
    values = shown["value"][several]
    total = float(((values - values.mean()) ** 2).sum())
    explained = float((effect["size"] * effect["mean"] ** 2).sum()) / total if total else None
    alpha = krippendorff_alpha(ratings) if len(shown) else None
    return Check(len(judged), alpha, (values.mean() + effect["mean"]).tolist(), explained, known_order, own)


def _known_order(judged: Sequence[Mapping[str, int]], scale: Scale, seed: int) -> dict[str, Gap]:
    """Return for each kind of damage how often the intact text is judged better, a tie counting half."""
    sign = 1 if scale is Scale.score else -1
    result = {}
    for kind in (SHUFFLED, FOREIGN):
        gaps = [sign * (values[INTACT] - values[kind]) for values in judged if kind in values]
        result[kind] = _estimate((np.sign(gaps) + 1) / 2, seed)
    return result


def _own_texts(
    system: str,
    judged: Sequence[tuple[Probe, Mapping[str, int]]],
    scale: Scale,
    key: Key,
    people: Mapping[str, Result],
    criterion: str,
) -> OwnTexts:
    """Return by how many ranks the system's texts are above the mean of the others, by the judge and by people."""
    gains = []
    for probe, values in judged:
        of_system = {n: values[label] for label, names in key.examples[probe.example.name].items() for n in names}
        place = dict(zip(of_system, ranks(np.array(list(of_system.values()), dtype=float), scale), strict=True))
        gains.append(np.mean([rank for name, rank in place.items() if name != system]) - place[system])
    by_people = None
    if system in people and f"{criterion}/mean_rank" in people[system].metrics:
        rank_of = {name: people[name].metrics[f"{criterion}/mean_rank"] for name in key.systems}
        by_people = float(np.mean([rank for name, rank in rank_of.items() if name != system]) - rank_of[system])
    gap = _estimate(np.array(gains), key.seed)
    return OwnTexts(gap.mean, gap.interval, gap.n, by_people)


def _estimate(values: FloatArray, seed: int) -> Gap:
    """Return the mean over examples with its 95 % interval, and their number."""
    if not len(values):
        return Gap(None, None, 0)
    interval = bootstrap_intervals({"mean": values}, stream(seed, "human: check"))["mean"]
    return Gap(float(values.mean()), interval, len(values))
