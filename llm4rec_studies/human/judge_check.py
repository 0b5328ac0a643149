"""Check a chat model that judges texts: does it prefer a text to damaged ones?

These are worse by construction: the text's own words shuffled, which nobody understands at once, and the text of
another example, which is about another item. They stand in random order, so that a judge who goes by the place, the
length or nothing at all prefers the intact text in half of the examples.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.results.result import Interval
from llm4rec_studies.human.agreement import Scale
from llm4rec_studies.human.export import REFERENCE
from llm4rec_studies.human.sheets import Example, Key, Sheet

SHUFFLED, FOREIGN = "its words shuffled", "the text of another example"  # kinds of damage
INTACT = "intact"


@dataclass(frozen=True)
class Preference:
    """How often the intact text is judged better than a damaged one, a tie counting half, with its 95 % interval over
    examples; None without examples."""

    mean: float | None
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Probe:
    """An example with its intact and damaged texts under letters."""

    example: Example
    kinds: tuple[str, ...]  # of the text under each letter: INTACT, or a kind of damage


def probes(examples: Sequence[Example], key: Key) -> Iterator[Probe]:
    """Yield each example with an intact text (the user's or the first system's) and damaged copies."""
    system = REFERENCE if REFERENCE in key.systems else key.systems[0]
    intact = [
        next(text for label, text in example.texts.items() if system in key.examples[example.name][label])
        for example in examples
    ]
    for i, (example, text) in enumerate(zip(examples, intact, strict=True)):
        words, rng = text.split(), stream(key.seed, "human: damage", i)
        foreign = sorted(set(intact) - {text})
        texts = {
            INTACT: text,
            SHUFFLED: " ".join(rng.permutation(words).tolist()) if len(set(words)) > 1 else text,
            FOREIGN: foreign[rng.integers(len(foreign))] if foreign else text,
        }
        kinds = [kind for kind in texts if kind == INTACT or texts[kind] != text]
        if len(kinds) > 1:
            order = rng.permutation(kinds).tolist()
            lettered = {letter: texts[kind] for letter, kind in zip(string.ascii_uppercase, order, strict=False)}
            yield Probe(replace(example, texts=lettered), tuple(order))


def preferences(
    sheet: Sheet, seed: int, probes: Sequence[Probe], parsed: Sequence[Mapping[str, Mapping[str, int]]]
) -> dict[str, dict[str, Preference]]:
    """Return criterion -> kind of damage -> how often the intact text is preferred.

    Args:
        parsed: of each probe, criterion -> letter -> score or rank; without incomplete judgements.
    """
    sign = 1 if sheet.scale is Scale.score else -1
    result: dict[str, dict[str, Preference]] = {}
    for criterion in sheet.criteria:
        judged = [
            dict(zip(probe.kinds, judgements[criterion].values(), strict=True))
            for probe, judgements in zip(probes, parsed, strict=True)
            if criterion in judgements
        ]
        for kind in (SHUFFLED, FOREIGN):
            gaps = [sign * (values[INTACT] - values[kind]) for values in judged if kind in values]
            result.setdefault(criterion, {})[kind] = _preference(gaps, seed)
    return result


def _preference(gaps: Sequence[int], seed: int) -> Preference:
    if not gaps:
        return Preference(None, None, 0)
    wins = (np.sign(gaps) + 1) / 2
    interval = bootstrap_intervals({"mean": wins}, stream(seed, "human: check"))["mean"]
    return Preference(float(wins.mean()), interval, len(wins))
