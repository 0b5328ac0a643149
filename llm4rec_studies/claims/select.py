"""Select the finished runs that a test is about: variants that match a side, and comparable pairs of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from llm4rec_cli.config import walk
from llm4rec_cli.config.keys import all_declarations
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.labels import UNUSUAL
from llm4rec_cli.results.pairing import PROTOCOL_KEYS
from llm4rec_cli.results.papers import facts
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.results import Results
from llm4rec_cli.results.variants import Variant
from llm4rec_studies.claims.spec import ClaimTest, Side

NO_TOKENS = {"model.tokens": [False, None]}  # default of a side's settings


def variants_under(outputs: Path) -> list[Variant]:
    """Return the test runs under `outputs` and its subfolders outputs/NAME, to which scripts write, as variants, newest
    first in each folder. Of several runs with one seed the newest counts."""
    subfolders = sorted(path for path in outputs.iterdir() if path.is_dir()) if outputs.is_dir() else []
    finished = Results(run for root in (outputs, *subfolders) for run in Results.under(root))
    tested = finished.select(lambda run: run.split == "test")
    return [Variant([runs[seed] for seed in sorted(runs)]) for runs in tested.by_variant().values()]


def matches(variant: Variant, side: Side, test: ClaimTest) -> bool:
    """Return whether a variant is one of those that a side of a test names."""
    run = variant.first_run
    labels, config = set(run.labels), run.settings.flat
    trained_for = run.trained_run.split("/")[-2] if run.trained_run else run.task
    settings = {**NO_TOKENS, **side.settings}
    return (
        (run.model, run.task) == (side.model, test.task)
        and test.protocol in (None, run.protocol)
        and bool(variant.values(test.metric))
        and labels & UNUSUAL <= set(side.labels) <= labels
        and side.trained_for in (None, trained_for)
        and side.pretrained in (None, run.init_from is not None)
        and all(config.get(key) in (value if isinstance(value, list) else [value]) for key, value in settings.items())
    )


def best_by_protocol(test: ClaimTest, variants: Iterable[Variant]) -> list[Variant]:
    """Return the variant that decides for each dataset and protocol."""

    def preference(variant: Variant) -> tuple[float, ...]:
        return not untestable_reason(test, variant.runs[:1]), variant.first_run.n_examples, len(variant.runs)

    by_protocol: dict[tuple[Any, ...], list[Variant]] = {}
    for variant in variants:
        by_protocol.setdefault(_protocol_key(variant, test.b), []).append(variant)
    return [max(candidates, key=preference) for candidates in by_protocol.values()]


def best_pairs(
    test: ClaimTest, variants_a: Sequence[Variant], variants_b: Sequence[Variant]
) -> list[tuple[Variant, Variant]]:
    """Return the comparable pair of A and B that decides for each dataset and protocol."""
    assert test.a is not None
    best, sign = test.a.best, direction(test.metric)

    def preference(pair: tuple[Variant, Variant]) -> tuple[float, ...]:
        a, b = pair
        testable = not untestable_reason(test, (a.runs[0], b.runs[0]))
        mean = sign * a.mean(test.metric) if best else 0.0
        return testable, a.first_run.n_examples, n_seeds(a, b), mean

    by_protocol: dict[tuple[Any, ...], list[tuple[Variant, Variant]]] = {}
    for a, b in itertools.product(variants_a, variants_b):
        protocol, protocol_b = (_protocol_key(variant, test.a) for variant in (a, b))
        same_examples = protocol == protocol_b and a.first_run.n_examples == b.first_run.n_examples
        if same_examples and _settings_agree(test, a, b) and _may_be_member(a, b):
            by_protocol.setdefault(protocol, []).append((a, b))
    return [max(pairs, key=preference) for pairs in by_protocol.values()]


def seeds_of(variant: Variant) -> Sequence[Result]:
    """Return a variant's runs; of what depends on no seed, the first."""
    return variant.runs if variant.is_seeded else variant.runs[:1]


def n_seeds(*variants: Variant) -> int:
    """Return the smallest number of seeds among trained variants; 1 without trained ones."""
    return min((len(variant.runs) for variant in variants if variant.is_trained), default=1)


def _may_be_member(a: Variant, b: Variant) -> bool:
    """Return whether A is a member of B, if B is an ensemble: it is compared with its own members only."""
    members = {Path(member).parts[-4:] for run in b.runs for member in run.members or ()}
    return not members or any(run.folder.parts[-4:] in members for run in a.runs)


def is_synthetic(variant: Variant) -> bool:
    return "synthetic" in variant.first_run.labels


def _protocol_key(variant: Variant, side: Side) -> tuple[Any, ...]:
    """Return what two variants must share to be compared: the data, and the protocol but for what the side sets."""
    run = variant.first_run
    return (
        run.dataset_fingerprint,
        *(getattr(run, key) for key in PROTOCOL_KEYS if f"task.{key}" not in side.settings),
    )


def _settings_agree(test: ClaimTest, a: Variant, b: Variant) -> bool:
    """Return whether two variants differ only in settings that the test names or that change no number."""
    if test.may_differ is None:
        return True
    assert test.a is not None
    # A and B may differ in seeds, and in what writes item tokens, as in `llm`, which every config holds.
    ignored = [*test.may_differ, *test.a.settings, *test.b.settings, "seed", "enrichment"]
    ignored += [setting.key for setting in all_declarations() if setting.role in {*NOT_HASHED, Role.chat}]
    if test.a.pretrained != test.b.pretrained:
        starting = [walk.settings_with(config_class(side.model), "agrees_in") for side in (test.a, test.b)]
        ignored += [f"model.{setting}" for settings in starting for setting in settings]

    def compared(variant: Variant) -> Mapping[str, Any]:
        return {
            key: value
            for key, value in variant.first_run.settings.flat.items()
            if not any(f"{key}.".startswith(f"{name}.") for name in ignored)
        }

    return compared(a) == compared(b)


def untestable_reason(test: ClaimTest, runs: Iterable[Result]) -> str:
    """Return why these runs do not test the claim; empty if they do."""
    runs = list(runs)
    return reason_of_marks(test, {mark for run in runs for mark in _marks(run)}, runs)


def reason_of_marks(test: ClaimTest, marks: Set[str], runs: Sequence[Result] = ()) -> str:
    """Return why runs with these marks do not test the claim; empty if they do."""
    return next(
        (reason for mark, reason in test.untestable.items() if mark in marks or _departs(mark, runs)),
        "",
    )


def _departs(mark: str, runs: Sequence[Result]) -> bool:
    """Return whether a run departs from a fact of its method: `pre-trained on!=NAME`, where it has that fact at all.

    Only runs that are pre-trained depart from what they should be pre-trained on: the other side is to be without.
    """
    fact, negated, value = mark.partition("!=")
    if not negated:
        return False
    values = {facts(run).get(fact, value) for run in runs}
    return bool(values - {value, "nothing"})


def _marks(run: Result) -> set[str]:
    """Return a run's labels, and `llm=NAME` if its numbers depend on a chat model."""
    labels = set(run.labels)
    uses_llm = labels & {"substitute-llm", "llm-tokens"}
    return labels | ({f"llm={Path(run.settings.get('llm.model', '')).name}"} if uses_llm else set())
