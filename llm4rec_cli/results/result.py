"""The result of one finished run: metrics.json, typed, with the run's settings and the answers to its examples."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import write_json
from llm4rec_cli.results.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

# What a run folder holds.
STATUS, METRICS, CONFIG, LOCK = "status.json", "metrics.json", "config.yaml", ".lock"
INTERRUPTED = "interrupted"  # the error of a run that was ended by Ctrl-C
PREDICTIONS, TRAIN_LOG, CHECKPOINTS = "predictions.parquet", "train_log.jsonl", "checkpoints"
ARITHMETIC = "arithmetic.json"  # what a precision of `auto` became

Number = int | float
Interval = tuple[float, float]
# aspect -> group -> metric, and the number `n` of examples
Breakdown = Mapping[str, Mapping[str, Mapping[str, Number]]]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search that chose a run's settings; None = not recorded, or no limit."""

    dataset: str | None = None
    trials: int
    minutes: float
    max_trials: int | None = None
    max_minutes: float | None = None
    metric: str
    mask_history: bool | None = None
    score: float
    expected_best: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class InitFrom:
    """The run whose weights a training starts from. Earlier versions recorded no overrides."""

    dataset: str
    experiment: str | None = None
    overrides: Sequence[str] | None = None
    seed: int
    config_hash: str
    deviations: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Weights that were not trained here: the file, its hash, and the code that writes such files."""

    file: str
    sha256: str
    code: str


@dataclass(frozen=True, kw_only=True)
class AnswerCosts:
    """What the answers of a chat model cost when they were made; of a run's own answers also who gave them."""

    backend: str | None = None
    model: str | None = None
    requests: int
    resent: int = 0
    prompt_tokens: int
    cached_tokens: int = 0  # not counted by earlier versions
    answer_tokens: int
    seconds: float
    cost: float


@dataclass(frozen=True)
class MemorisationScore:
    """How often a chat model finds the true end of a record likeliest, or writes it.

    Attributes:
        share: of the records. Ties count in part.
        low, high: the exact interval over records, of 95 % for all probes together (Bonferroni).
        chance: of the likeliest end, the share of the most frequent end among those offered, which needs no beginning,
            and at least that of a random one; of a written one, its mean over the ends of the other records, and at
            least one in as many as there are different ends.
        made_up: the share of made-up records, of which there is one for each record; None without these.
        p: of the sign test that true ends are had more often than made-up ones, over the records where one of them is.
        n: records.
    """

    share: float
    low: float
    high: float
    chance: float
    n: int
    made_up: float | None = None
    p: float | None = None

    @property
    def above_chance(self) -> bool:
        return self.low > self.chance


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A metric after a change of the questions, and its difference from the metric before, with a 95 % interval."""

    value: float
    difference: float
    low: float | None = None
    high: float | None = None
    invalid: float | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """How ranks depend on the order in which candidates are listed (`chatgptrec.controls.order`)."""

    orders: int = 0
    share: float
    mean_rank: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What a chat model's metric depends on, measured on some users."""

    users: int
    metric: str
    value: float
    invalid: float | None = None  # the share of unreadable answers
    variations: Mapping[str, Variation]
    wordings: float | None = None
    order: Order | None = None
    popularity: float | None = None
    llm: AnswerCosts | None = None


@dataclass(frozen=True, kw_only=True)
class GpuCosts:
    """What a run took of its GPUs.

    Attributes:
        number: of GPUs, one a process.
        peak_mb: the most memory that torch reserved on one of them, in MiB.
        kilojoules: of all of them together, other programs on them included.
    """

    name: str
    number: int
    peak_mb: int
    kilojoules: float


@dataclass(frozen=True, kw_only=True)
class IntervalsOverSeeds:
    """95 % intervals over users and these seeds, of runs that were recorded without their answers."""

    seeds: Sequence[int]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run: the fields of metrics.json (docs/reference/run-folder.md) in their order, and its folder.

    Attributes:
        draws: draw of candidates -> the run under it, of an average over draws.
    """

    schema: int = 1
    model: str
    shown_as: str = ""
    paper_method: Mapping[str, str] = field(default_factory=dict)
    dataset: str
    task: str
    split: str
    split_rule: str
    protocol: str
    mask_history: bool | str
    seed: int
    config_hash: str
    variant: str
    results_version: str | None = None
    experiment: str | None = None
    trained_run: str | None = None
    imported: Imported | None = None
    init_from: InitFrom | None = None
    text_encoder: str | None = None
    tokens: Mapping[str, int | str] | None = None
    enrichment: AnswerCosts | None = None
    training: Mapping[str, Number] | None = None
    tuning: Tuning | None = None
    arithmetic: Mapping[str, str] | None = None
    overrides: Sequence[str] = ()
    dataset_fingerprint: str
    labels: Sequence[str] = ()
    deviations: Sequence[str] = ()
    selected_masked: Mapping[str, bool] | None = None
    chosen: Mapping[str, Number | str] | None = None
    n_examples: int = 0
    metrics: Mapping[str, Number] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    breakdown: Breakdown = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    n_parameters: int = 0
    n_trainable: int = 0
    llm: AnswerCosts | None = None
    controls: Controls | None = None
    memorisation: Mapping[str, MemorisationScore] | None = None
    seconds: Mapping[str, Number] = field(default_factory=dict)
    peak_rss_mb: int = 0
    gpu: GpuCosts | None = None
    members: Sequence[str] | None = None
    warnings: Sequence[str] = ()
    training_seconds: float | None = None
    intervals_over_seeds: IntervalsOverSeeds | None = None

    folder: Path = Path()  # the run folder; no field of metrics.json
    draws: Mapping[int, Result] = field(default_factory=dict)
    trainer: Result | None = None  # the run that trained the evaluated weights, where it was read too

    @classmethod
    def of_numbers(
        cls, folder: Path, dataset: str, metrics: Mapping[str, Number], labels: Sequence[str] = ()
    ) -> Result:
        """Return a result for numbers without a run: statistics of a dataset, or human judgements of its own texts."""
        nothing = dict.fromkeys(("model", "task", "split", "split_rule", "protocol", "config_hash", "variant"), "")
        facts = {"dataset": dataset, "dataset_fingerprint": "", "mask_history": False, "seed": 0}
        return cls(**nothing, **facts, metrics=metrics, labels=labels, folder=folder)  # type: ignore[arg-type]

    @property
    def address(self) -> Path:
        """The path of the run folder, relative to the folder of all runs."""
        return Path(self.model, self.dataset, self.task, f"seed{self.seed}-{self.config_hash}")

    @property
    def outputs(self) -> Path:
        """The folder of all runs."""
        return self.folder.parents[3]

    @property
    def name(self) -> str:
        """`unisrec/demo/sequential/seed0-ab12cd34ef`, the end of the folder's path that commands take."""
        return "/".join(self.folder.parts[-4:])

    @cached_property
    def settings(self) -> Settings:
        """The run's settings, read from config.yaml."""
        return Settings.read(self.folder / CONFIG, self.model)

    @property
    def of_draws(self) -> Sequence[Result]:
        """The runs that this is averaged over; of another run, itself."""
        return [*self.draws.values()] or [self]

    # --- answers

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns of the stored answers; empty if none are stored. Raises RunError if the file is damaged."""
        import pyarrow.parquet

        file = self.folder / PREDICTIONS
        if not file.exists():
            return frozenset()
        with readable(file):
            return frozenset(pyarrow.parquet.read_schema(file).names)

    def answers(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return predictions.parquet, one row an example, or some of its columns. Raises RunError if the file is
        damaged or missing."""
        import pandas as pd

        with readable(self.folder / PREDICTIONS):
            return pd.read_parquet(self.folder / PREDICTIONS, columns=None if columns is None else list(columns))

    # --- writing

    def content(self) -> Mapping[str, object]:
        """Return the content of metrics.json."""
        stored = {name: _stored(getattr(self, name)) for name in FIELDS}
        return {name: value for name, value in stored.items() if value is not None or name not in ONLY_WHERE_KNOWN}

    def write(self) -> None:
        write_json(self.folder / METRICS, self.content())


FIELDS = tuple(own.name for own in fields(Result) if own.name not in ("folder", "draws", "trainer"))
# Entries that metrics.json has only where they are known; others are null.
ONLY_WHERE_KNOWN = ("controls", "memorisation", "gpu", "members", "training_seconds", "intervals_over_seeds")


def _stored(value: Any) -> Any:
    """Return a field of metrics.json. The fields below it are left out where they are not known."""
    if is_dataclass(value):
        entries = {own.name: getattr(value, own.name) for own in fields(value)}
        return {name: _stored(item) for name, item in entries.items() if item is not None}
    if isinstance(value, Mapping):
        return {key: _stored(item) for key, item in value.items()}
    return [*map(_stored, value)] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class Status:
    """status.json of a run folder: the state, and the command that is run there."""

    status: str = "unreadable"
    error: str | None = None
    pid: int | None = None
    command: str | None = None
    overrides: Sequence[str] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)


def read_status(folder: Path) -> Status:
    """Return the status of a run folder; `unreadable` if its file is missing, truncated or not a status."""
    try:
        return msgspec.convert(json.loads((folder / STATUS).read_text()), Status)
    except (OSError, ValueError):
        return Status()


def result_of(content: Any, folder: Path) -> Result:
    """Return the result that a metrics.json describes. Raises ValueError if the content does not describe a run."""
    return replace(msgspec.convert(content, Result), folder=folder)


def read_result(folder: Path) -> Result | None:
    """Return the result in a run folder; None if the run is not finished.

    A torn metrics.json, of a machine that lost power, counts as none, with a warning.
    """
    try:
        if json.loads((folder / STATUS).read_text())["status"] != "done":
            return None
        return result_of(json.loads((folder / METRICS).read_text()), folder)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        log.debug("%s: %s", folder, error)
    log.warning("%s is not readable and left out: llm4rec list runs shows its state", folder)
    return None


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise RunError where the block cannot read a run's file."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise RunError(f"{path} is damaged or missing ({reason})", "type the run's command with force=true") from error
