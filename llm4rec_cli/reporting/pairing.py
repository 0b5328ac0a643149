"""Two runs side by side: whether they were asked the same, and what each example got of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import DatasetConfig
from llm4rec_cli.config.walk import declarations
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.evaluation import metrics

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llm4rec_cli.evaluation.paired import Values

# What two runs must have been asked alike, besides the same data; in the words of metrics.json.
ASKED = ("split", "split_rule", "protocol", "mask_history")
EXAMPLE, IMPRESSION = ("user_id", "target"), ("impression_id",)  # what tells examples apart
# What predictions.parquet says of answers: rankings, ratings, texts about a feature, texts, and rankings of what was
# shown together, whose metrics stand there.
ANSWERS = (
    ("n_better", "n_tied", "n_candidates"),
    ("rating", "prediction"),
    ("reference", "prediction", "feature"),
    ("reference", "prediction"),
    ("items", "clicked", *metrics.table_metrics(of_impressions=True)),
)
# What is the question's and not the answer's: it must be equal. Candidates are counted where they were drawn.
GIVEN = {"rating": "ratings", "reference": "texts of users", "n_candidates": "numbers of candidates"}
GIVEN |= {"items": "items shown", "clicked": "clicks"}
Run = tuple[Path, dict[str, Any]]  # its folder and metrics.json


@dataclass(frozen=True)
class Paired:
    """What two runs answered to the same n examples.

    Attributes:
        user: (n,) whose example it is.
        a, b: metric -> (n,) values; position i of all is about the same example.
    """

    user: NDArray[Any]
    a: Values
    b: Values


def refuse_other_questions(runs: Sequence[Run]) -> None:
    """Raises UsageError, naming all that differs, if the two were not asked the same."""
    (_, a), (_, b) = runs  # of before 0.2, a run does not say its split_rule
    differ = [f"{key} is {a.get(key)} in A and {b.get(key)} in B" for key in ASKED if a.get(key) != b.get(key)]
    if a["dataset_fingerprint"] != b["dataset_fingerprint"]:
        data_a, data_b = (f"{m['dataset']} {m['dataset_fingerprint'][:12]}" for m in (a, b))
        differ = [f"the data is {data_a} in A and {data_b} in B", *_settings_of_data(runs), *differ]
    if differ:
        raise UsageError(f"these runs are not paired: {'; '.join(differ)}", "compare runs that were asked the same")


def _settings_of_data(runs: Sequence[Run]) -> list[str]:
    """Which settings make data of one name different: a seed, a core, a split."""
    a, b = (config_of(folder).get("dataset", {}) for folder, _ in runs)
    if a.get("name") != b.get("name"):
        return []
    told = {one.field.name for one in declarations(DatasetConfig) if one.role in NOT_HASHED}
    keys = [key for key in {**a, **b} if key not in {"name", *told} and a.get(key) != b.get(key)]
    return [f"dataset.{key} is {a.get(key)} in A and {b.get(key)} in B" for key in keys]


def config_of(folder: Path) -> dict[str, Any]:
    """config.yaml of a run; empty where there is none."""
    import yaml

    from llm4rec_cli.runs.catalog import CONFIG

    file = folder / CONFIG
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.exists() else {}


def shared_metrics(runs: Sequence[Run], wanted: Sequence[str] | None = None) -> list[str]:
    """The metrics to compare: those wanted, or those usually shown that all runs have a value an example of.

    Raises:
        UsageError: some run does not have one that is wanted.
    """
    from llm4rec_cli.reporting.runs import usual_metrics

    # An interval: a mean over users; a slash: over some of them.
    shared = [name for name in runs[0][1]["intervals"] if all(name in one["intervals"] for _, one in runs)]
    shared = [name for name in shared if "/" not in name and not metrics.paired_metric(name)]
    if wanted is None:
        usual = ("mse", *usual_metrics(runs[0][1]["protocol"]))
        return [name for name in usual if name in shared and not metrics.may_be_missing(name)]
    for name in wanted:
        if other := metrics.paired_metric(name):
            raise UsageError(
                f"{name} is of all answers together, and nothing to pair example by example",
                f"--metric {other}",
            )
        if name not in shared:
            both = "the two runs do not both" if len(runs) == 2 else "these runs do not all"
            raise UsageError(f"{both} have the metric '{name}'", did_you_mean(name, shared))
    return list(dict.fromkeys(wanted))


def paired(runs: Sequence[Run], metrics: Sequence[str], targets: str | None = None) -> Paired:
    """What A and B got for each example that both were asked, in order of user and target, or of impression.

    Args:
        runs: A and B, which `refuse_other_questions` has let pass.
        metrics: the names of what is compared.
        targets: `cold` or `warm` for those whose target was held out of training, or was not; None for all.

    Raises:
        UsageError: the runs hold no answers, or not about the same examples, or nothing was held out, or some example
            has no value.
    """
    import pandas as pd

    files = [folder / "predictions.parquet" for folder, _ in runs]
    columns = _answers(files)
    example = IMPRESSION if "items" in columns else EXAMPLE
    a, b = (pd.read_parquet(file) for file in files)
    if any("turn" in answers for answers in (a, b)):
        raise UsageError(
            "one of these runs asked every example in several orders of its candidates: its rows are not independent",
            "compare runs of prompt.shuffles=1",
        )
    if targets is not None:
        if any("target_is_cold" not in answers for answers in (a, b)):
            raise UsageError("nothing was held out of one of these runs", "compare runs of one dataset.cold_items")
        a, b = (answers[answers["target_is_cold"] == (targets == "cold")] for answers in (a, b))
    key, own = [*example, "time"], [name for name in ("user_id", *columns) if name not in example]
    a, b = (
        answers.assign(time=answers.groupby([*example]).cumcount())[[*key, *own]]  # one may be asked about one again
        for answers in (a, b)
    )
    both = a.merge(b, on=key, how="outer", suffixes=("_a", "_b"), indicator="found")
    _refuse_other_examples(a, b, both, example)
    _refuse_other_givens(both, columns, runs[0][1]["protocol"])
    of_a, of_b = (both[[f"{name}_{side}" for name in columns]].set_axis(list(columns), axis=1) for side in "ab")
    user = both["user_id" if "user_id" in key else "user_id_a"].to_numpy(dtype=object)
    return Paired(user, _values(of_a, metrics), _values(of_b, metrics))


def _answers(files: Sequence[Path]) -> tuple[str, ...]:
    """The columns that tell the answers of both runs.

    Raises:
        UsageError: there are none.
    """
    import pyarrow.parquet

    known = [set(pyarrow.parquet.read_schema(file).names) if file.exists() else set() for file in files]
    for columns in ANSWERS:
        if all(set(columns) <= names for names in known):
            return columns
    without = next(
        (file for file, names in zip(files, known, strict=True) if not any(set(c) <= names for c in ANSWERS)), files[1]
    )
    raise UsageError(
        f"{without.parent} holds no answers to pair",
        "compare takes two runs that ranked, two that rated or two that wrote",
    )


def _refuse_other_examples(a: pd.DataFrame, b: pd.DataFrame, both: pd.DataFrame, example: Sequence[str]) -> None:
    """Raises UsageError, saying how, if the two were not asked about the same examples.

    Args:
        both: the outer join of a and b, whose column `found` says where each row comes from.
    """
    alone = both[both["found"] != "both"]
    if alone.empty:
        return
    only_a, only_b = ((alone["found"] == side).sum() for side in ("left_only", "right_only"))
    what = "impressions" if tuple(example) == IMPRESSION else "examples"
    named = ", ".join(f"{name.removesuffix('_id')} {alone.iloc[0][name]}" for name in example)
    users_a, users_b = set(a["user_id"]), set(b["user_id"])
    told = [f"{len(users_a - users_b):,} users in A only", f"{len(users_b - users_a):,} in B only"]
    if tuple(example) == EXAMPLE:
        told.append(f"{len(set(alone['user_id']) & users_a & users_b):,} of both asked about other targets")
    raise UsageError(
        f"these runs are not paired: of {len(a):,} {what} in A and {len(b):,} in B, {only_a:,} are in A only and "
        f"{only_b:,} in B only ({named}): {', '.join(told)}",
        "give both the same task.max_examples and dataset.seed",
    )


def _refuse_other_givens(both: pd.DataFrame, columns: Sequence[str], protocol: str) -> None:
    """Raises UsageError if what was asked about an example is not the same: what the user gave, among what it stands.

    What a history masks differs under a control that swaps it, so among a whole catalogue candidates are not counted.
    """
    for name in columns:
        if name not in GIVEN or (name == "n_candidates" and protocol == "full"):
            continue
        given_a, given_b = (both[f"{name}_{side}"].map(_plain) for side in "ab")
        differ = given_a != given_b
        if differ.any():
            i = int(differ.to_numpy().argmax())
            raise UsageError(
                f"these runs are not paired: {differ.sum():,} of {len(both):,} examples have other {GIVEN[name]} "
                f"({given_a.iloc[i]} in A, {given_b.iloc[i]} in B)",
                "compare runs of one dataset.seed on data prepared alike",
            )


def _plain(value: Any) -> Any:
    """Lists come out of Parquet as arrays, which no `!=` compares as wholes."""
    return tuple(value) if hasattr(value, "shape") and value.shape else value


def _values(answers: pd.DataFrame, metrics: Sequence[str]) -> Values:
    """(n,) values of each metric.

    Raises:
        UsageError: some example has none.
    """
    from llm4rec_cli.evaluation.ranking import ranking_metrics
    from llm4rec_cli.evaluation.rating import rating_values
    from llm4rec_cli.evaluation.text import text_values

    told: dict[str, Any] = {str(name): column.to_numpy() for name, column in answers.items()}
    if "items" in told:
        values = told
    elif "n_better" in told:
        cutoffs = sorted({int(name.partition("@")[2]) for name in metrics if "@" in name})
        values = ranking_metrics(told["n_better"], told["n_tied"], told["n_candidates"], cutoffs)
    elif "rating" in told:
        values = rating_values(told["rating"], told["prediction"])
    else:
        values = text_values(told["prediction"], told["reference"], told.get("feature"))
    found = {name: values[name] for name in metrics}
    for name, of_each in found.items():
        if (of_each != of_each).any():  # NaN
            others = ",".join(other for other in metrics if other != name)
            raise UsageError(f"not every example has a {name}", f"--metric {others or 'rouge1'}")
    return found
