"""The typed root of the configuration: types live here, values in conf/.

A field without a value is MISSING: the YAML of its group must give one. Enums close the sets of allowed words. Every
model adds a dataclass of its own in `models/<name>/config.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError


class Question(Enum):
    """What a task asks of a model."""

    rank = "rank"
    rate = "rate"
    write = "write"
    pretrain = "pretrain"  # nothing: weights are learned for other data; a ranking of the own data is their probe
    all = "all"  # nothing of its own: one training for every task, each asked of it apart


class SplitName(Enum):
    """Which held-out part is evaluated."""

    valid = "valid"
    test = "test"


class Candidates(Enum):
    """Among which items a target is ranked."""

    full = "full"  # the whole catalogue
    uniform = "uniform"  # 99 sampled uniformly, and the target
    popularity = "popularity"  # 99 sampled by training popularity, and the target
    impression = "impression"  # what the user was shown, of a click log


class SplitRule(Enum):
    """How interactions are divided into train, valid and test."""

    leave_one_out = "leave_one_out"  # a user's last interaction is test, the one before validation
    temporal = "temporal"  # one cut in time for all users
    p5_reviews = "p5_reviews"  # P5's random 80/10/10 of all interactions: leaks into the ranking tasks
    mind = "mind"  # a click log: its dev part is test, and 5 % of its train part are validation
    transfer = "transfer"  # trained on all domains but one; asked about the shared users' interactions of that one


class Index(Enum):
    """How items are numbered or named where a model writes them as text."""

    sequential = "sequential"  # by first appearance while walking the train parts, then the rest: no leak
    random = "random"
    collaborative = "collaborative"  # a path of clusters of items that train histories hold together
    semantic = "semantic"  # a path of clusters of the items' texts
    leaky_p5 = "leaky_p5"  # by first appearance while walking whole sequences, as the paper: leaks the test items


class Written(Enum):
    """Which column of the interactions a text is asked to resemble."""

    explanation = "explanation"
    review_title = "review_title"


class EmptyHistory(Enum):
    """What becomes of held-out impressions of users without a history; in training they always stay."""

    keep = "keep"
    skip = "skip"


class Control(Enum):
    """What is destroyed on purpose: a gain that survives its control is not what it claims to be."""

    none = "none"
    shuffle_text = "shuffle_text"  # item texts permuted
    shuffle_tokens = "shuffle_tokens"  # tokens permuted among the items
    shuffle_history = "shuffle_history"  # order within each history permuted
    swap_users = "swap_users"  # someone else's history at evaluation


class TextRecipe(Enum):
    """Which fields make an item's text."""

    unisrec = "unisrec"  # title, categories, brand, cleaned as UniSRec does
    title = "title"
    attributes = "attributes"  # brand and categories alone, which are then the item's tokens
    enriched = "enriched"  # as unisrec, and then the tokens that a chat model wrote of the item


class Pooling(Enum):
    """How an encoder's token vectors become one."""

    mean = "mean"
    cls = "cls"


class Schedule(Enum):
    """How the learning rate goes on after its warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class Backend(Enum):
    """Who answers what a chat model is asked."""

    local = "local"  # a causal language model of transformers, on this machine
    openai = "openai"  # any endpoint that speaks OpenAI's chat completions


class Keep(Enum):
    """Which checkpoint a training ends with."""

    best = "best"  # the one with the best validation metric; training ends when that has stopped rising
    last = "last"  # that of the last epoch, whatever validation says


class Precision(Enum):
    """The arithmetic of some work."""

    fp32 = "fp32"
    bf16 = "bf16"
    auto = "auto"  # the faster of the two on the machine at hand


class Work(Enum):
    """Kinds of work whose arithmetic may be chosen."""

    training = "training"  # forward and back
    reading = "reading"  # forward alone: texts encoded, given answers judged
    answering = "answering"  # prompts are read, and answers written token by token


def about(role: Role, default: Any) -> Any:
    """A field whose role is another than its dataclass's."""
    return field(default=default, metadata={"role": role})


def precision(work: Work) -> Any:
    """A field for the arithmetic of this kind of work; a run's address holds what the config says, `auto` too."""
    return field(default=MISSING, metadata={"work": work})


class Weights(Enum):
    """Kinds of pretrained weights that a setting may name."""

    encoder = "encoder"  # a frozen text encoder
    backbone = "backbone"  # weights that training begins with
    chat = "chat"  # a chat model, or what a server calls one


class Named(NamedTuple):
    """What a setting's value names.

    Attributes:
        kind: of weights.
        drawn: values that name no published weights but ones that are drawn anew.
    """

    kind: Weights
    drawn: frozenset[str]


def weights(kind: Weights, drawn: Iterable[str] = ()) -> Any:
    """A field that names pretrained weights: a packaged name, a hub id or a folder. A run's address holds what
    identifies the weights, not what they are called."""
    return field(default=MISSING, metadata={"weights": Named(kind, frozenset(drawn))})


@dataclass
class EncoderConfig:
    """A frozen text encoder."""

    name: str = weights(Weights.encoder)  # `minilm` (packaged), a hub id, or a folder
    pooling: Pooling = MISSING
    max_length: int = ranges.number(at_least=1)  # tokens
    precision: Precision = precision(Work.reading)


@dataclass
class PaperStatistics:
    """What the paper prints about a dataset after its filters."""

    users: int = ranges.number(at_least=1)
    items: int = ranges.number(at_least=1)
    interactions: int | None = ranges.number(None, at_least=1)  # null of a click log, which has the others
    impressions: int | None = ranges.number(None, at_least=1)
    clicks: int | None = ranges.number(None, at_least=1)
    train: int | None = ranges.number(None, at_least=1)  # impressions of each part
    valid: int | None = ranges.number(None, at_least=1)
    test: int | None = ranges.number(None, at_least=1)
    source: str = MISSING


@dataclass
class DownloadConfig:
    """A file that can be fetched: a raw file, or an archive of raw files."""

    file: str = ""  # what it is called here
    urls: list[str] = field(default_factory=list)  # tried in this order
    hash: str = ""  # "md5:…", or SHA-256 without a name; empty = remembered from the first download
    max_bytes: int = 0  # a longer file is refused
    unpack: dict[str, str] = field(default_factory=dict)  # of an archive: a raw file's name -> its name in there


@dataclass
class DatasetConfig:
    """A dataset: raw files, how they are read, filtered and split."""

    role: ClassVar[Role] = Role.data

    name: str = ranges.folder_name()
    reader: str = MISSING  # a module of data/readers; a domain may name one of its own
    domains: dict[str, dict[str, str]] = MISSING  # domain -> role of a raw file (or `reader`) -> name
    columns: dict[str, str] = field(
        default_factory=dict, metadata={"role": Role.source}
    )  # our name of a column -> the file's, for `reader: table`
    raw_dir: str | None = ranges.path(None, role=Role.source)
    generator: str | None = None  # a variant of data/demo: raw files are written, not fetched
    get: str = about(Role.source, "")  # where raw files come from and where to put them
    download: list[DownloadConfig] = field(
        default_factory=list, metadata={"role": Role.source}
    )  # how those that are missing are fetched
    user_core: int = ranges.number(at_least=0)  # each user keeps at least so many interactions
    item_core: int = ranges.number(at_least=0)
    split: SplitRule = about(Role.intervention, SplitRule.leave_one_out)  # what a training does not see
    cuts: list[float] = ranges.number(
        [0.8, 0.9], above=0, below=1, role=Role.division
    )  # temporal: the share of interactions before each
    test_domain: str | None = about(Role.division, None)  # transfer: the domain that is asked about
    shared_users: bool = False  # the same raw id in two domains is one user
    cold_items: float = ranges.number(
        0.0, at_least=0, below=1, role=Role.intervention
    )  # the share of items held out of all training
    train_users: float = ranges.number(
        1.0, above=0, at_most=1, role=Role.intervention
    )  # the share of users trained and validated on
    empty_history: EmptyHistory = about(Role.question, EmptyHistory.keep)  # of a click log
    text: TextRecipe = TextRecipe.unisrec
    control: Control = about(Role.intervention, Control.none)
    seed: int = ranges.seed(Role.division)  # splits, candidates, generated data, subsets and bootstrap
    paper: PaperStatistics | None = about(Role.citation, None)
    part_of: str | None = about(
        Role.citation, None
    )  # the published dataset that this is a part of: numbers are marked `subset`

    def without_tokens(self, setting: str) -> Iterator[UsageError]:
        """The problem of a setting that is of no use without tokens of items, where they have none."""
        if self.text not in (TextRecipe.attributes, TextRecipe.enriched):
            yield UsageError(
                f"{setting} is about tokens of items, which dataset.text={self.text.name} does not have",
                "dataset.text=attributes, or dataset.text=enriched once llm4rec enrich has had them written",
            )


@dataclass
class ModelConfig:
    """What every model states. A model's own dataclass adds its settings."""

    role: ClassVar[Role] = Role.model

    name: str = MISSING  # a package of models/

    capabilities: ClassVar[frozenset[str]] = frozenset()  # rank_catalogue, rank_candidates, rank_impressions, rate, …
    trainable: ClassVar[bool] = False  # has weights that the trainer fits
    floor: ClassVar[bool] = False  # a rule that any model must beat
    needs_text: ClassVar[bool] = False
    # The setting that names the run whose weights training begins with, of a model with `initialise_from`.
    initial: ClassVar[str | None] = None
    inherited: ClassVar[tuple[str, ...]] = ()  # settings that such a run must share
    came_about: ClassVar[tuple[str, ...]] = ()  # settings of how the weights came about, not of what they are
    uses_llm: ClassVar[bool] = False  # asks the chat model of the group `llm`
    needs_user: ClassVar[bool] = False  # scores depend on who the user is, not on their history alone
    # Trained for the questions of its task alone: only one trained for that task, or for all, can be asked.
    task_bound: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ()  # settings that name what it is read from: a path says nothing of the content

    def shown_as(self) -> str:
        """What tables call the model."""
        return self.name

    def contents(self) -> list[str]:
        """The paths of the files that it is read from."""
        return []

    def reads_text(self) -> bool:
        """Whether items' texts move its numbers."""
        return self.needs_text

    def unread(self, task: TaskConfig) -> Mapping[str, str]:
        """Settings that have no effect under a task or beside other settings, and what would read each. They are null
        then, and typing one is refused."""
        return {}

    def resolved(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """Settings that the task or the chat model decides, by name: what `auto` means there."""
        return {}

    def taken_over(self, model: ModelConfig) -> Mapping[str, Any]:
        """Of a floor, the settings that it takes over from the model that it is set beside."""
        return {}

    def paper_method(self, task: str) -> Mapping[str, str]:
        """Facts that say which method of which paper this configuration is, for one task. Printed numbers are joined by
        them: reporting/papers/identities.yaml names those that must agree and those whose difference is printed. A
        fact `task` replaces the task's name, where a paper counts the question as another task.
        """
        return {"method": self.name}

    def facts(self) -> Mapping[str, Any]:
        """Fields that metrics.json has of this model alone."""
        return {}

    def chat_work(self) -> Work:
        """What the chat model does for this model, as `llm.precision=auto` asks."""
        return Work.answering

    def problems_of_stars(self, dataset: Any, least: float, below: float) -> Iterator[DataError]:
        """Of a model that speaks of 1 to 5 stars: a dataset with ratings outside least <= rating < below."""
        ratings = dataset.interactions.get("rating")
        if ratings is not None and not ratings.dropna().between(least, below, inclusive="left").all():
            yield DataError(
                f"model '{self.name}' speaks of 1 to 5 stars, and dataset '{dataset.manifest['name']}' has ratings "
                f"from {ratings.min():g} to {ratings.max():g}",
                "bring them to that scale in your table",
            )

    def deviations(self) -> list[str]:
        """In words, where these settings depart from the paper."""
        return []

    def labels(self, task: str) -> list[str]:
        """Short marks that ride with the numbers of this task."""
        return []

    def problems(self, config: Config) -> Iterable[Llm4RecError]:
        """What is wrong with these settings, by themselves and beside the others of the composed config; found before
        torch is imported."""
        return ()

    def problems_of_data(self, task: TaskConfig, dataset: Any) -> Iterable[Llm4RecError]:
        """What these settings, asked this task, cannot do with a dataset; found before torch is imported."""
        return ()


@dataclass
class LLMConfig:
    """A chat model, how it answers, and what asking it may cost."""

    role: ClassVar[Role] = Role.chat

    backend: Backend = MISSING
    model: str = weights(
        Weights.chat
    )  # local: `smollm2` (packaged), a hub id, a folder or a GGUF file; openai: the server's name
    base_url: str | None = None  # openai: of the endpoint; null = OpenAI's own
    key_variable: str = about(
        Role.machine, MISSING
    )  # openai: the environment variable that holds the key, which is written nowhere
    temperature: float = ranges.number(at_least=0)  # 0 = greedy
    top_p: float = ranges.number(above=0, at_most=1)
    max_tokens: int = ranges.number(at_least=1)  # of an answer, at most
    context: int = ranges.number(at_least=64, role=Role.machine)  # tokens that the model takes, answer included
    precision: Precision = precision(Work.answering)  # local
    batch_tokens: int = ranges.number(at_least=1)  # local: of the prompts answered together, padding included
    concurrency: int = ranges.number(at_least=1, role=Role.machine)  # openai: requests under way at once
    timeout: float = ranges.number(above=0, role=Role.machine)  # openai: seconds until an answer is given up
    retries: int = ranges.number(
        at_least=0, role=Role.machine
    )  # openai: of a request that failed in a way that may pass
    price_prompt: float = ranges.number(
        at_least=0, role=Role.machine
    )  # of a million tokens of prompts, in any currency
    price_answer: float = ranges.number(at_least=0, role=Role.machine)  # of a million tokens of answers, in the same
    budget_tokens: int | None = ranges.number(
        None, at_least=0, role=Role.machine
    )  # that may be spent by one run; null = any number
    budget_cost: float | None = ranges.number(
        None, at_least=0, role=Role.machine
    )  # likewise, in the currency of the prices
    replay: bool = about(Role.machine, False)  # answers come from the store alone
    dry_run: bool = about(
        Role.machine, False
    )  # nothing is asked: requests are shown with the tokens and the cost that they would take
    store: str | None = ranges.path(
        None, role=Role.machine
    )  # the file of all answers; null = llm/answers.sqlite in the cache folder


@dataclass
class EnrichmentConfig:
    """What a chat model is asked about each item, and how much of its answer is kept."""

    role: ClassVar[Role] = Role.data

    system: str | None = None
    noun: str = MISSING  # what an item is called
    prompt: str = MISSING  # may tell {item}, its own text as JSON; {noun}; and {tokens}, how many tags of each kind
    characters: int = ranges.number(at_least=1)  # of each field of an item that are told: its beginning
    tokens: int = ranges.number(at_least=1)  # kept an item of each kind: use, audience, key words
    max_tokens: int = ranges.number(at_least=1)  # the model's own, of an answer; llm.max_tokens if that is less


@dataclass
class TaskConfig:
    """One question, what it is asked about, and how the answers are scored."""

    role: ClassVar[Role] = Role.question

    name: str = ranges.folder_name()
    question: Question = MISSING
    candidates: Candidates = Candidates.full
    negatives: int = ranges.number(99, at_least=1)
    mask_history: bool = about(Role.extent, False)
    written: Written | None = None  # question: write
    max_examples: int | None = ranges.number(None, at_least=1, role=Role.extent)
    cutoffs: list[int] = ranges.number([10], at_least=1, at_most=1_000_000)  # question: rank
    selection: str = MISSING  # the validation metric that chooses the checkpoint, and that floors are compared by
    floors: list[str] = about(Role.citation, MISSING)
    top_items: int = ranges.number(10, at_least=1)  # kept an example in predictions.parquet
    bootstrap: int = ranges.number(1000, at_least=1, at_most=100_000, role=Role.extent)  # resamples of an interval


@dataclass
class TrainerConfig:
    """Optimisation, for every model that has weights."""

    role: ClassVar[Role] = Role.training

    epochs: int = ranges.number(at_least=1)
    batch_size: int = ranges.number(at_least=1)  # rows a step
    learning_rate: float = ranges.number(above=0)
    weight_decay: float = ranges.number(at_least=0)
    warmup_ratio: float = ranges.number(at_least=0, at_most=1)
    schedule: Schedule = MISSING
    gradient_clip: float = ranges.number(at_least=0)  # 0 = none
    precision: Precision = precision(Work.training)
    keep: Keep = MISSING
    patience: int = ranges.number(at_least=1)  # epochs without a better validation metric; keep=last has endless
    valid_examples: int | None = ranges.number(None, at_least=1)  # of validation that choose the checkpoint; null = all
    eval_batch_size: int = ranges.number(
        at_least=1, role=Role.machine
    )  # users scored at once, or items shown in impressions
    report_to: list[str] = about(Role.machine, MISSING)


@dataclass
class PathsConfig:
    """Where things are written. Not part of a run's address."""

    role: ClassVar[Role] = Role.machine

    outputs: str = ranges.path("outputs", kept="relative")
    cache: str | None = ranges.path(None)  # default: the user's cache folder


@dataclass
class Config:
    """The root."""

    dataset: DatasetConfig = MISSING
    model: ModelConfig = MISSING
    task: TaskConfig = MISSING
    trainer: TrainerConfig = MISSING
    llm: LLMConfig = MISSING
    enrichment: EnrichmentConfig = MISSING
    paths: PathsConfig = field(default_factory=PathsConfig, metadata={"role": Role.machine})
    seed: int = ranges.seed(Role.training)
    split: SplitName = about(Role.question, SplitName.test)
    device: str = about(Role.machine, "auto")
    force: bool = about(Role.command, False)
    run: str | None = ranges.path(None, role=Role.command)
    deviations: list[str] = field(default_factory=list, metadata={"role": Role.citation})
