"""One LaTeX table as a paper prints it: models down, datasets and metrics across, with marks of significance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.evaluation.paired import Difference, as_one_family
from llm4rec_cli.labels import NOT_ABOVE_POPULARITY
from llm4rec_cli.results.describe import SYNTHETIC_NOTE, shared
from llm4rec_cli.results.report import mean_and_deviation
from llm4rec_cli.results.tables import escaped
from llm4rec_cli.results.variants import Group, Variant
from llm4rec_studies.comparison import compare

LEVEL = 0.05  # of significance, after Holm's correction
MARK = r"$^{*}$"

Name = tuple[str, str]  # of a variant: its model, and what else tells it apart
Tests = Mapping[tuple[str, Name], Mapping[str, Difference]]  # dataset and row -> metric -> its difference


@dataclass(frozen=True)
class LatexTable:
    """A table of groups of one task and protocol, a dataset each.

    Attributes:
        metrics: of each dataset.
        rows: the variants by name, in the order of the table; of a dataset without one the cell is empty.
        against: the name that others are tested against; None = no marks.
        names: model -> its name in the table.
        sd: whether cells show the standard deviation over seeds.
    """

    groups: Sequence[Group]
    metrics: Sequence[str]
    rows: Mapping[Name, Mapping[str, Variant]]
    against: Name | None
    tests: Tests
    names: Mapping[str, str]
    sd: bool

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table, then its notes as comments. The document must load booktabs."""
        datasets, n = list(map(_dataset, self.groups)), len(self.metrics)
        title = self.groups[0].title
        caption = title if len(self.groups) == 1 else title.partition(" · ")[2]
        yield from (r"\begin{table}[t]", r"\centering", rf"\caption{{{escaped(caption)}}}")
        yield rf"\begin{{tabular}}{{l{'r' * n * len(datasets)}}}"
        yield r"\toprule"
        if len(datasets) > 1:
            yield " & ".join(["", *(rf"\multicolumn{{{n}}}{{c}}{{{escaped(name)}}}" for name in datasets)]) + r" \\"
            ends = [(2 + n * i, 1 + n * (i + 1)) for i in range(len(datasets))]
            yield " ".join(rf"\cmidrule(lr){{{first}-{last}}}" for first, last in ends)
        yield " & ".join(["", *(escaped(heading(metric)) for _ in datasets for metric in self.metrics)]) + r" \\"
        yield r"\midrule"
        for name in self.rows:
            cells = [self._cell(name, dataset, metric) for dataset in datasets for metric in self.metrics]
            yield " & ".join([escaped(self._shown(name)), *cells]) + r" \\"
        yield from (r"\bottomrule", r"\end{tabular}", r"\end{table}")
        yield from (f"% {note}" for note in self._notes())

    def _shown(self, name: Name) -> str:
        model, variant = name
        others = [other for other in self.rows if other[0] == model]
        return " ".join([self.names.get(model, model), *([f"({variant})"] if variant and len(others) > 1 else [])])

    def _cell(self, name: Name, dataset: str, metric: str) -> str:
        variant = self.rows[name].get(dataset)
        if variant is None or not variant.values(metric):
            return ""
        text = escaped(mean_and_deviation(variant, metric) if self.sd else _mean(variant, metric))
        means = {other[dataset].mean(metric) for other in self.rows.values() if _has(other, dataset, metric)}
        best = sorted(means, key=lambda mean: -direction(metric) * mean)
        place = best.index(variant.mean(metric))
        text = rf"\textbf{{{text}}}" if place == 0 else rf"\underline{{{text}}}" if place == 1 else text
        test = self.tests.get((dataset, name), {}).get(metric)
        return text + (MARK if test is not None and test.p_holm < LEVEL else "")

    def _notes(self) -> Iterator[str]:
        yield f"{self.groups[0].title.partition(' · ')[2]}; best bold, second underlined"
        variants = [variant for row in self.rows.values() for variant in row.values()]
        if seeds := sorted({len(variant.runs) for variant in variants if variant.is_trained}):
            yield f"trained models: means over {' or '.join(map(str, seeds))} seeds"
        in_all = {"synthetic", *shared([variant.labels for variant in variants])}
        if labels := sorted(in_all - {"synthetic"}):
            yield f"all rows: {', '.join(labels)}"
        for name, row in self.rows.items():
            for dataset, variant in row.items():
                if labels := [label for label in variant.labels if label not in in_all]:
                    yield f"{dataset}, {self._shown(name)}: {', '.join(labels)}"
        if any("synthetic" in variant.labels for variant in variants):
            yield SYNTHETIC_NOTE
        if self.against is None:
            return
        n = sum(map(len, self.tests.values()))
        yield f"* differs from {self._shown(self.against)}, p < .05 by t, Holm over the {n} comparisons of this table:"
        for (dataset, name), of_metrics in self.tests.items():
            for metric, test in of_metrics.items():
                yield f"  {dataset}, {self._shown(name)}, {metric}: {test.difference:+.4f}, {p_in_words(test.p_holm)}"


def heading(metric: str) -> str:
    """Return a metric as papers print it: `NDCG@10`."""
    return metric.upper() if "/" not in metric else metric


def p_in_words(p: float) -> str:
    """Return `p < .001`, or `p = .012`."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def latex_table(
    groups: Sequence[Group],
    metrics: Sequence[str] | None,
    models: Sequence[str] | None,
    floors: bool,
    against: str | None,
    outputs: Path,
    names: Mapping[str, str],
    sd: bool,
) -> LatexTable:
    """Return the table of these groups.

    Args:
        metrics: None = those that all groups show.
        models: the rows in their order, as model names; None = all, floors first.
        floors: whether rules that any model should beat have rows.
        against: the model that the others are tested against, user by user, over seeds where all have several.
        outputs: where their other seeds are.

    Raises:
        UsageError: the groups have several protocols, a model is unknown, or cannot be compared with.
    """
    if len(protocols := {group.title.partition(" · ")[2] for group in groups}) > 1:
        listed = "; ".join(sorted(protocols))
        raise UsageError(f"these runs have several tasks or protocols: {listed}", "name one: task=… split=… protocol=…")
    shown = [metric for metric in groups[0].metrics if all(metric in group.metrics for group in groups)]
    rows = _rows(groups, models, floors)
    tested = None if against is None else _named(against, rows)
    tests = {} if tested is None else _tests(groups, rows, tested, metrics or shown, outputs)
    return LatexTable(groups, metrics or shown, rows, tested, tests, names, sd)


def _dataset(group: Group) -> str:
    return group.members[0].heading[0]


def _mean(variant: Variant, metric: str) -> str:
    return f"{variant.mean(metric):.4f}"


def _has(row: Mapping[str, Variant], dataset: str, metric: str) -> bool:
    return dataset in row and bool(row[dataset].values(metric))


def _rows(groups: Sequence[Group], models: Sequence[str] | None, floors: bool) -> dict[Name, dict[str, Variant]]:
    rows: dict[Name, dict[str, Variant]] = {}
    for group in groups:
        for variant in sorted(group.members, key=lambda variant: not variant.is_floor):
            if not variant.is_control and (floors or not variant.is_floor or models is not None):
                rows.setdefault(variant.name, {})[_dataset(group)] = variant
    if models is None:
        return rows
    return {name: rows[name] for model in models for name in _matching(model, rows)}


def _matching(model: str, rows: Mapping[Name, Mapping[str, Variant]]) -> list[Name]:
    """Return the rows of a model, by its name or as tables show it."""
    if found := [name for name, row in rows.items() if model in (name[0], next(iter(row.values())).first_run.model)]:
        return found
    raise UsageError(f"no run of '{model}' is selected", did_you_mean(model, [name for name, _ in rows]))


def _named(model: str, rows: Mapping[Name, Mapping[str, Variant]]) -> Name:
    first, *others = _matching(model, rows)
    if others:
        variants = "; ".join(variant or "its defaults" for _, variant in (first, *others))
        raise UsageError(
            f"--against {model}: it has several variants: {variants}", "select one: variant=… experiment=…"
        )
    if any(NOT_ABOVE_POPULARITY in variant.labels for variant in rows[first].values()):
        raise UsageError(
            f"--against {model}: its training probably failed ({NOT_ABOVE_POPULARITY}), so nothing is better than it",
            f"llm4rec tune model={model}",
        )
    return first


def _tests(
    groups: Sequence[Group],
    rows: Mapping[Name, Mapping[str, Variant]],
    tested: Name,
    metrics: Sequence[str],
    outputs: Path,
) -> Tests:
    """Return the difference of each row to the tested one, corrected over all of them."""
    found: dict[tuple[str, Name], Mapping[str, Difference]] = {}
    for dataset in map(_dataset, groups):
        of_dataset = {name: row[dataset] for name, row in rows.items() if dataset in row}
        if tested not in of_dataset:
            continue
        others = [name for name in of_dataset if name != tested]
        seeds = all(len(variant.runs) > 1 for variant in of_dataset.values() if variant.is_trained)
        runs = [of_dataset[name].first_run for name in (tested, *others)]
        pairs = compare(runs, outputs, metrics, seeds, False, None, None, False).pairs
        found |= {(dataset, name): pair.metrics for name, pair in zip(others, pairs, strict=True)}
    return dict(zip(found, as_one_family([{**tests} for tests in found.values()]), strict=True))
