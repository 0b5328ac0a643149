"""Tables on a chat model's row: what it depends on, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator

from llm4rec_cli.config.schema import causal_backbone
from llm4rec_cli.results.result import Controls, MemorisationScore, Result, Variation
from llm4rec_cli.results.tables import Content
from llm4rec_cli.results.variants import Group

CONTROL_COLUMNS = ("control", "value", "difference", "95 % interval", "invalid")
MEMORISATION_COLUMNS = ("probe", "share", "interval", "chance", "made-up", "records")
MEMORISATION_NOTES = (
    "chance: always the most frequent of the ends offered; of written ones (verbatim), the same answers with the ends "
    "swapped among the records",
    "made-up: the same records with each id replaced by the next, so that only what is remembered is missing",
)
COST_COLUMNS = ("requests", "prompt tokens", "cached", "answer tokens", "seconds", "seconds a user", "cost")
COST_NOTE = (
    "what answers cost: of one seed and draw, as recorded when each was made; all but seconds a user include those of "
    "controls and of item tokens, which are made once for all models and seeds; cost is in the currency of the prices, "
    "and 0 without any"
)


def tables(group: Group) -> Iterator[Content]:
    """Yield the controls of each variant, for its first seed, and one table each of memory and costs; none where no
    chat model answered anything. What a chat model has memorised is shown once, not for each variant."""
    for variant in group.members:
        if content := controls(variant.first_run, variant.full_name):
            yield content
    if of_memory := memorisation(group):
        title = f"{group.title}: records of the data whose true end the chat model finds likeliest, or writes"
        columns = ("chat model", *(["data"] if group.has_mixed_data else []), *MEMORISATION_COLUMNS)
        yield Content(title, columns, of_memory, MEMORISATION_NOTES)
    rows = [[*variant.name, *costs(variant.first_run)] for variant in group.members if has_costs(variant.first_run)]
    if rows:
        title = f"{group.title}: what chat models cost"
        yield Content(title, ("model", "variant", *COST_COLUMNS), rows, [COST_NOTE], ["variant"])


def controls(run: Result, name: str) -> Content | None:
    """Return a run's metric under controls, one per row; None for a run without them."""
    if not (measured := run.controls):
        return None
    metric, order = measured.metric, measured.order
    rows = [[f"{metric}, unchanged", f"{measured.value:.4f}", "", "", _invalid(measured)]]
    for change, row in measured.variations.items():
        interval = "" if row.low is None else f"{row.low:+.4f} to {row.high:+.4f}"
        rows.append([f"{metric}, {change}", f"{row.value:.4f}", f"{row.difference:+.4f}", interval, _invalid(row)])
    if measured.wordings is not None:
        rows.append(["spread over wordings", f"{measured.wordings:.4f}", "", "", ""])
    if order:
        rows.append(["share of the order in the variance of ranks", f"{order.share:.4f}", "", "", ""])
    if measured.popularity is not None:
        rows.append(["correlation of ranks with popularity", f"{measured.popularity:.4f}", "", "", ""])
    curve = " ".join(f"{rank:.0f}" for rank in order.mean_rank) if order else ""
    notes = [f"mean rank of the candidates in each tenth of the list, as shown: {curve}"] if curve else []
    return Content(f"{name}: controls on {measured.users} users", CONTROL_COLUMNS, rows, notes)


def _invalid(row: Controls | Variation) -> str:
    """Return the share of unreadable answers; nothing where answers are scores, or a run is older than the share."""
    return "" if row.invalid is None else f"{row.invalid:.2f}"


def memorisation(group: Group) -> list[list[str]]:
    """Return a row for each language model, dataset and memory probe, from the probe with the most records."""
    scores: dict[tuple[str, str, str], MemorisationScore] = {}
    for run in (variant.first_run for variant in group.members):
        config = run.settings.model_config
        model = (config and causal_backbone(config)) or run.settings.get("llm.model", "")
        of_run = (model, run.dataset_fingerprint[:8] if group.has_mixed_data else "")
        for probe, score in (run.memorisation or {}).items():
            key = (*of_run, probe)
            scores[key] = max(scores.get(key, score), score, key=lambda score: score.n)
    return [
        [model, *([data] if data else []), *memorisation_cells(probe, score)]
        for (model, data, probe), score in scores.items()
    ]


def memorisation_cells(probe: str, score: MemorisationScore) -> list[str]:
    """Return a cell for each of MEMORISATION_COLUMNS. Earlier versions had no made-up records."""
    interval = f"{score.low:.2f}–{score.high:.2f}"
    made_up = "" if score.made_up is None else f"{score.made_up:.2f}"
    return [probe, f"{score.share:.2f}", interval, f"{score.chance:.2f}", made_up, f"{score.n:,}"]


def has_costs(run: Result) -> bool:
    """Return whether a chat model was needed for a run: it is one, or reads item tokens that one wrote."""
    return bool(run.llm or run.enrichment)


def costs(run: Result) -> list[str]:
    """Return a cell for each of COST_COLUMNS: costs of a run's answers, controls and item tokens."""
    answers = run.llm
    parts = [part for part in (answers, run.controls and run.controls.llm, run.enrichment) if part]

    def total(name: str) -> float:
        return sum(getattr(part, name) for part in parts)

    counts = [f"{total(name):,}" for name in ("requests", "prompt_tokens", "cached_tokens", "answer_tokens")]
    a_user = f"{answers.seconds / run.n_examples:.1f}" if answers else ""
    return [*counts, f"{total('seconds'):,.0f}", a_user, f"{total('cost'):.4f}"]
