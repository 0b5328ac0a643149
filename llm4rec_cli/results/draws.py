"""Runs averaged over draws of sampled candidates (`task.draw`).

Candidates are drawn independently for each user. So the values of two users stay independent after each is averaged
over draws, and intervals need no part for draws. That holds for weights that are the same in all draws. A model that is
trained under each draw is another one each time, as its checkpoint is chosen on other validation candidates: its runs
are not averaged.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import SAMPLED
from llm4rec_cli.config.walk import settings_with
from llm4rec_cli.results.result import Breakdown, Number, Result

# Entries of metrics.json that settings do not decide, besides the protocol and the weights.
FACTS = ("dataset_fingerprint", "shown_as", "text_encoder", "tokens")


def over_draws(runs: Iterable[Result]) -> list[Result]:
    """Average runs of one model and seed that differ only in `task.draw`; of several with one draw the first counts.

    Runs of one draw, of other protocols and of models that read files are returned as they are. An average is the run
    of its lowest draw with `draws`, a protocol such as `uniform-100-draws0+1+2`, means for `metrics`, `breakdown` and
    `seconds`, the labels and deviations of all, and a `variant` that two averages share if they share that of each
    draw. Tokens and controls stay those of the lowest draw.
    """
    result: list[Result] = []
    alike: dict[str, dict[int, Result]] = defaultdict(dict)
    for run in runs:
        if _can_be_averaged(run):
            alike[_without_draw(run)].setdefault(_draw(run), run)
        else:
            result.append(run)
    for draws in alike.values():
        result += [_average(dict(sorted(draws.items())))] if len(draws) > 1 else draws.values()
    return result


def protocol_without_draw(protocol: str) -> str:
    """Return `uniform-100` of `uniform-100-draw1` or `uniform-100-draws0+1`."""
    return protocol.partition("-draw")[0]


def _can_be_averaged(run: Result) -> bool:
    """Return whether a run ranks sampled candidates, and its settings say by which model."""
    is_sampled = run.protocol.partition("-")[0] in {kind.name for kind in SAMPLED}
    is_known = run.model in model_names() and not settings_with(config_class(run.model), "input_file")
    return is_sampled and is_known and bool(run.settings.content)


def _draw(run: Result) -> int:
    return int(run.protocol.partition("-draw")[2] or 0)


def _without_draw(run: Result) -> str:
    """Return what runs share that differ only in `task.draw`."""
    is_training = run.trained_run is None and config_class(run.model).traits.trainable
    facts = {
        "protocol": protocol_without_draw(run.protocol),
        "facts": [getattr(run, name) for name in FACTS],
        "results_version": run.results_version,
        "seed": run.seed,
        "training": run.address.as_posix() if is_training else run.trained_run,
        "settings": run.settings.with_effect(free=frozenset({"task.draw"})),
    }
    return json.dumps(facts, sort_keys=True, default=str)  # a run may lack a setting


def _average(draws: Mapping[int, Result]) -> Result:
    first, *_ = of_draws = list(draws.values())
    variants = [run.variant for run in of_draws]
    training = max(run.seconds.get("train", 0.0) + (run.training_seconds or 0.0) for run in of_draws)
    return replace(
        first,
        draws=draws,
        protocol=f"{protocol_without_draw(first.protocol)}-draws{'+'.join(map(str, draws))}",
        variant=hashlib.sha256(" ".join(variants).encode()).hexdigest()[:10],
        metrics=_means([run.metrics for run in of_draws]),
        breakdown=_mean_breakdown([run.breakdown for run in of_draws]),
        seconds=_means([run.seconds for run in of_draws]),
        training_seconds=training or None,
        labels=list(dict.fromkeys(label for run in of_draws for label in run.labels)),
        deviations=list(dict.fromkeys(deviation for run in of_draws for deviation in run.deviations)),
    )


def _mean_breakdown(breakdowns: Sequence[Breakdown]) -> Breakdown:
    """Average the metrics of each group of examples that all runs have. The group's size is that of the first run."""
    first, *further = breakdowns
    return {
        kind: {
            group: _means([means, *(other[kind][group] for other in further)]) | {"n": means["n"]}
            for group, means in groups.items()
            if all(group in other.get(kind, {}) for other in further)
        }
        for kind, groups in first.items()
    }


def _means(values: Sequence[Mapping[str, Number]]) -> dict[str, Number]:
    """Return the mean of each name that all have."""
    return {name: statistics.fmean(v[name] for v in values) for name in values[0] if all(name in v for v in values)}
