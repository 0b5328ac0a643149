"""The typed schema of the configuration: types are here, values in conf/.

A field without a default is MISSING: the YAML of its group must set it. Enums list the allowed values. Every model
adds its own dataclass in `models/<name>/config.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from omegaconf import MISSING, OmegaConf

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.statements import Statements
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.paths import default_outputs

T = TypeVar("T")


class Question(StrEnum):
    """What a task of ours requires of a model. Installed packages offer others: `config.questions`."""

    rank = "rank"
    rate = "rate"
    write = "write"
    pretrain = "pretrain"  # learn weights for other data; monitored by a ranking task on the training data
    all = "all"  # one training for all tasks, each evaluated separately


class SplitName(Enum):
    """The held-out split that is evaluated."""

    valid = "valid"
    test = "test"


class Candidates(Enum):
    """The candidate set in which a target is ranked."""

    full = "full"  # the whole catalogue
    uniform = "uniform"  # 99 sampled uniformly, and the target
    popularity = "popularity"  # 99 sampled by training popularity, and the target
    impression = "impression"  # the items shown to the user, in a click log


SAMPLED = (Candidates.uniform, Candidates.popularity)


class SplitRule(Enum):
    """How interactions are split into train, valid and test."""

    leave_one_out = "leave_one_out"  # a user's last interaction is test, the one before validation
    temporal = "temporal"  # one cut in time for all users
    p5_reviews = "p5_reviews"  # P5's random 80/10/10 split of all interactions: leaks into the ranking tasks
    mind = "mind"  # a click log: its dev part is test, 5 % of its train part are validation
    mind_last_day = "mind_last_day"  # the same, but the last day of its train part is validation
    given = "given"  # as the raw files give it: train, valid and test rows
    transfer = "transfer"  # trained on all domains but one; evaluated on the shared users' interactions in that one

    @property
    def splits_impressions(self) -> bool:
        return self in (SplitRule.mind, SplitRule.mind_last_day)


class Index(Enum):
    """How items are numbered or named where a model generates them as text."""

    sequential = "sequential"  # by first appearance in the train parts, then in the rest: no leak
    random = "random"
    collaborative = "collaborative"  # a path of clusters of items that co-occur in train histories
    semantic = "semantic"  # a path of clusters of item texts
    independent = "independent"  # one token of its own for each item
    leaky_p5 = "leaky_p5"  # by first appearance in whole sequences, as in the paper: leaks the test items

    @property
    def is_number(self) -> bool:
        return self in (Index.sequential, Index.random, Index.leaky_p5)


class Written(Enum):
    """The column of the interactions with the reference texts."""

    explanation = "explanation"
    review_title = "review_title"


class EmptyHistory(Enum):
    """How held-out impressions of users without a history are treated; training always keeps them."""

    keep = "keep"
    skip = "skip"


class Control(Enum):
    """Information that is destroyed on purpose. A gain that survives does not come from that information."""

    none = "none"
    shuffle_text = "shuffle_text"  # item texts permuted
    shuffle_tokens = "shuffle_tokens"  # tokens permuted among the items
    shuffle_history = "shuffle_history"  # order within each history permuted
    shuffle_ties = "shuffle_ties"  # order of a user's interactions at one time permuted, before the split
    swap_users = "swap_users"  # someone else's history at evaluation


class TextRecipe(Enum):
    """The fields that form an item's text."""

    unisrec = "unisrec"  # title, categories, brand, cleaned as UniSRec does; an empty field adds nothing
    unisrec_verbatim = "unisrec_verbatim"  # as UniSRec's code writes it: a present but empty field is a full stop
    title = "title"
    attributes = "attributes"  # brand and categories only, which are then the item's tokens
    enriched = "enriched"  # as unisrec, followed by the tokens that a chat model wrote for the item


class Pooling(Enum):
    """How an encoder's token vectors are pooled."""

    mean = "mean"
    cls = "cls"  # the first token
    last = "last"  # the last token, the only one of a causal model that has seen the whole text


class Schedule(Enum):
    """The learning rate schedule after warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"
    inverse_sqrt = "inverse_sqrt"  # in proportion to the inverse root of the steps, of those beyond the warm-up


class Backend(Enum):
    """Where the chat model runs."""

    local = "local"  # a causal language model of transformers, on this machine
    openai = "openai"  # any endpoint with OpenAI's chat completions API


class Structured(Enum):
    """How a request names the only answers that an endpoint may give."""

    none = "none"  # it cannot be
    json_schema = "json_schema"  # response_format of OpenAI, vLLM and others: a schema of an object
    json_object = "json_object"  # response_format of llama-cpp-python: any schema
    structured_outputs = "structured_outputs"  # of vLLM
    guided = "guided"  # guided_choice and guided_json of vLLM before 0.12


class SeenItems(Enum):
    """What task.mask_history does with the items of a user's history."""

    excluded = "excluded"  # they are not ranked
    zeroed = "zeroed"  # they are ranked with a score of 0, as in the code of S3-Rec and its successors


class PromptLogprobs(Enum):
    """How an endpoint returns the log-probabilities of a prompt's tokens."""

    none = "none"  # it returns none
    chat = "chat"  # chat completions with prompt_logprobs, of vLLM
    echo = "echo"  # completions of a text with echo and logprobs, of llama-cpp-python, vLLM and others


class Keep(Enum):
    """The checkpoint that training returns."""

    best = "best"  # the best by validation metric; training stops early when it no longer improves
    last = "last"  # the last epoch, regardless of validation


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    auto = "auto"  # the faster of the two on this machine


class Work(Enum):
    """Kinds of work with a precision setting."""

    training = "training"  # forward and backward passes
    reading = "reading"  # forward passes only: encoding texts, scoring fixed answers
    answering = "answering"  # generation: a prompt, then an answer token by token


def about(role: Role, default: Any) -> Any:
    """Return a field with another role than its dataclass."""
    return field(default=default, metadata={"role": role})


def added(default: Any) -> Any:
    """Return a field that came after runs existed: at its default, which they used, it is left out of run addresses."""
    return field(default=default, metadata={"added": True})


def precision(work: Work) -> Any:
    """Return a field for the precision of this kind of work. Run addresses contain the value as set, even `auto`."""
    return field(default=MISSING, metadata={"work": work})


class Weights(Enum):
    """Kinds of pretrained weights."""

    encoder = "encoder"  # a frozen text encoder
    backbone = "backbone"  # an encoder that training starts from
    causal = "causal"  # a causal language model that training starts from
    chat = "chat"  # a chat model, or a server's name for one
    ids = "ids"  # a file of item ids


def noted(
    setting: Any,
    named: bool = False,
    provenance: bool = False,
    agrees_in: Sequence[str] | None = None,
    input_file: str | None = None,
    members: bool = False,
    names_member: bool = False,
    copied_if: Callable[[Any], bool] | None = None,
    generates: Enum | None = None,
) -> Any:
    """Return a field of a model's config with facts for generic code, which `walk.settings_with` reads.

    Args:
        setting: the field or its default.
        named: `display_name` shows its value, or it is specific to one run, so tables do not repeat it.
        provenance: it says how weights were obtained, not what they are.
        agrees_in: it names the run with the initial weights, which must agree in these settings.
        input_file: it names input files, or folders with files of this name; addresses hash their content, not paths.
        members: it lists the run folders of a combination's members.
        names_member: in an ensemble's name its own name replaces the model's.
        copied_if: a floor copies it from the model that it is compared with, if this is true of the value.
        generates: the value under which a chat model generates text; under others it only reads.
    """
    facts = {name: fact for name, fact in locals().items() if name != "setting" and fact not in (None, False)}
    own: Any = setting
    if not isinstance(setting, Field):
        own = field(default_factory=setting.copy) if isinstance(setting, list) else field(default=setting)
    own.metadata = MappingProxyType({**own.metadata, **facts})
    return own


class WeightsField(NamedTuple):
    """Metadata of a setting that names weights. The values in `random` mean randomly initialised ones, or none."""

    kind: Weights
    random: frozenset[str | None]


def weights(kind: Weights, random: Iterable[str] = ()) -> Any:
    """Return a field that names pretrained weights: a packaged name, a hub id or a folder.

    A run's address contains the identity of the weights, not this name.
    """
    return field(default=MISSING, metadata={"weights": WeightsField(kind, frozenset(random))})


TFIDF, RANDOM, ENDPOINT = "tfidf", "random", "endpoint:"  # encoders without weights of their own


@dataclass
class EncoderConfig:
    """What turns a text into a vector. Pooling, max_length and precision are those of a language model."""

    # `minilm` or `smollm2` (packaged), a hub id, a folder or a GGUF file; `endpoint:MODEL`, the embeddings of a server;
    # `tfidf`; or `random`, a control
    name: str = weights(Weights.encoder)
    pooling: Pooling = MISSING  # how token vectors become one
    max_length: int = ranges.number(at_least=1)  # tokens
    precision: Precision = precision(Work.reading)
    # of a language model or an endpoint: written before each text, or around it if it contains {text}
    instruction: str | None = added(None)
    # maximal size of the vectors: of tfidf (by SVD) and random their size, 256 by default; others are reduced by PCA
    dimension: int | None = ranges.number(None, at_least=1, added=True)
    whiten: bool = added(False)  # principal components of the catalogue's texts, each scaled to variance 1
    base_url: str | None = added(None)  # of an endpoint; null = OpenAI

    @property
    def is_fitted(self) -> bool:
        """Whether vectors depend on the catalogue, so that those of another one do not match."""
        return self.name == TFIDF or self.dimension is not None or self.whiten

    @property
    def label(self) -> str:
        """The name, pooling and options, as tables show them."""
        name = self.name.removeprefix(ENDPOINT)
        options = [self.pooling.name] if name == self.name and name not in (TFIDF, RANDOM) else []
        options += ["instruction"] if self.instruction else []
        options += [f"{self.dimension} dimensions"] if self.dimension else []
        options += ["whitened"] if self.whiten else []
        return " ".join([Path(name).name, *options])


@dataclass
class PaperStatistics:
    """Dataset statistics printed in the paper, after its filters."""

    users: int = ranges.number(at_least=1)  # as printed, for `prepare` to compare with ours
    items: int = ranges.number(at_least=1)  # likewise
    interactions: int | None = ranges.number(None, at_least=1)  # null for click logs, which have the following fields
    impressions: int | None = ranges.number(None, at_least=1)  # of a click log
    clicks: int | None = ranges.number(None, at_least=1)  # of a click log
    train: int | None = ranges.number(None, at_least=1)  # impressions of this split
    valid: int | None = ranges.number(None, at_least=1)  # impressions of this split
    test: int | None = ranges.number(None, at_least=1)  # impressions of this split
    source: str = MISSING  # where they are printed
    rounded: bool = False  # printed as 94.8K or 2.5M


@dataclass
class DownloadConfig:
    """A file that can be downloaded: a raw file, or an archive of raw files."""

    file: str = ""  # local file name
    urls: list[str] = field(default_factory=list)  # tried in this order
    hash: str = ""  # "md5:…", or SHA-256 without a name; empty = remembered from the first download
    max_bytes: int = 0  # larger files are refused
    unpack: dict[str, str] = field(default_factory=dict)  # for archives: name of a raw file -> its name in the archive


@dataclass
class DatasetConfig:
    """A dataset: raw files, how they are read, filtered and split."""

    role: ClassVar[Role] = Role.data

    name: str = ranges.folder_name()  # in tables and run folders
    reader: str = MISSING  # a module of data/readers; a domain may name its own
    domains: dict[str, dict[str, str]] = MISSING  # domain -> role of a raw file (or `reader`) -> name
    # our column name -> the file's, for `reader: table` and `recbole`
    columns: dict[str, str] = field(default_factory=dict, metadata={"role": Role.source})
    encoding: str = added("utf-8")  # of the raw files: utf-8, latin-1, cp1252, utf-16, …
    category_separator: str | None = added(None)  # between the categories of an item, such as |
    raw_dir: str | None = ranges.path(None, role=Role.source)  # folder of the raw files; null = the cache
    generator: str | None = None  # a variant of data/demo: raw files are generated, not downloaded
    get: str = about(Role.source, "")  # where to get raw files and where to put them
    licence: str = about(Role.source, "")  # terms of the raw files
    # how missing files are downloaded
    download: list[DownloadConfig] = field(default_factory=list, metadata={"role": Role.source})
    min_rating: float | None = ranges.number(None, added=True)  # interactions with a lower rating are dropped
    drop_duplicates: bool = added(False)  # drop interactions that have user, item and time of an earlier row
    user_core: int = ranges.number(at_least=0)  # minimum interactions per user
    item_core: int = ranges.number(at_least=0)  # minimum interactions per item
    split: SplitRule = about(Role.intervention, SplitRule.leave_one_out)  # which interactions are hidden from training
    # temporal: the share of interactions before each cut
    cuts: list[float] = ranges.number([0.8, 0.9], above=0, below=1, role=Role.division)
    test_domain: str | None = about(Role.division, None)  # transfer: the domain that is evaluated
    shared_users: bool = False  # the same raw id in two domains is the same user
    # share of items held out of training
    cold_items: float = ranges.number(0.0, at_least=0, below=1, role=Role.intervention)
    # share of users used for training and validation
    train_users: float = ranges.number(1.0, above=0, at_most=1, role=Role.intervention)
    # for click logs: share of the training impressions that are used
    train_impressions: float = ranges.number(1.0, above=0, at_most=1, role=Role.intervention, added=True)
    empty_history: EmptyHistory = about(Role.question, EmptyHistory.keep)  # for click logs
    # task like: an item is liked if its rating is higher
    liked_above: float = ranges.number(3.0, role=Role.question, added=True)
    text: TextRecipe = TextRecipe.unisrec
    control: Control = about(Role.intervention, Control.none)
    seed: int = ranges.seed(Role.division)  # for splits, candidates, generated data, subsets and bootstrap
    paper: PaperStatistics | None = about(Role.citation, None)
    # the published dataset of which this is a subset: numbers are marked `subset`
    part_of: str | None = about(Role.citation, None)

    def problems_without_tokens(self, setting: str) -> Iterator[UsageError]:
        """Yield a problem if a setting needs item tokens and the dataset has none."""
        if self.text not in (TextRecipe.attributes, TextRecipe.enriched):
            yield UsageError(
                f"{setting} needs item tokens, which dataset.text={self.text.name} does not have",
                "set dataset.text=attributes; or run llm4rec enrich and set dataset.text=enriched",
            )


class ModelKind(Enum):
    """What a model is to the project, in the order of tables."""

    paper = "paper"  # a method of a paper whose results are reproduced
    ours = "ours"  # the project's own method, of no paper
    baseline = "baseline"
    floor = "floor"  # a simple rule that any model should beat


class PublishedWeights(NamedTuple):
    """Weights that a method's published code writes, for `import-weights`; `models/NAME/published.py` maps them.

    Attributes:
        code: repository and commit.
        experiment: the training that they stand for, unless the user names another.
    """

    code: str
    experiment: str


@dataclass(frozen=True)
class Traits:
    """What a model is, can do and needs, whatever its settings."""

    capabilities: frozenset[str] = (
        frozenset()
    )  # rank_catalogue, rank_candidates, rank_impressions, rate, like, write, …
    kind: ModelKind = ModelKind.baseline
    trainable: bool = False  # has weights that the trainer fits
    seeded: bool = True  # numbers depend on `seed`
    needs_text: bool = False  # refuses data without item texts
    needs_user: bool = False  # scores depend on the user id, not only on the history
    uses_llm: bool = False  # uses the chat model of the group `llm`
    zero_ranks_high: bool = False  # among scores of items: log-likelihoods, negated places
    bf16_scoring: bool = False  # `trainer.scoring` applies to the states of histories
    # weights serve only the task they were trained for, or all tasks after training on task=all
    task_bound: bool = False
    published: PublishedWeights | None = None  # weights that can be imported

    @property
    def is_floor(self) -> bool:
        return self.kind is ModelKind.floor


class PromptTable(NamedTuple):
    """Prompts as a table, with one row per prompt, or per part of one."""

    columns: list[str]
    rows: list[list[str]]


def as_dataclass(kind: type[T], node: Any) -> T:
    """Return a composed config node as an instance of its dataclass.

    Raises:
        OmegaConfBaseException: a key is unknown, or a value has another type.
    """
    return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), node)))


@dataclass
class ModelConfig:
    """Base of all model configs: declares what the model can do. Subclasses add the model's settings."""

    role: ClassVar[Role] = Role.model

    name: str = MISSING  # a package in models/

    traits: ClassVar[Traits] = Traits()

    def facts(self, task: str = "", trained_on: str | None = None) -> Mapping[str, Any]:
        """Return what the statements in conf/deviations may name besides the settings.

        Args:
            task: the evaluated task.
            trained_on: the task that the weights were trained on; None for imported weights.
        """
        return {}

    def display_name(self) -> str:
        """Return the name in tables, with what differs from the YAML's settings and matters."""
        return Statements(self, self.facts()).name()

    @property
    def results_version(self) -> int:
        """Version of this model's numbers, raised when a change moves only them. RESULTS_VERSION covers all models."""
        return 1

    def uses_item_text(self) -> bool:
        """Return whether the model's numbers depend on item texts."""
        return self.traits.needs_text

    def unused_settings(self, task: TaskConfig) -> Mapping[str, str]:
        """Return settings that have no effect here, each with the override that would give it one.

        Typing one is an error. Those of the model itself are set to null; those of its groups keep the YAML's value.
        """
        return Statements(self, {"task": task}).unused()

    def derived_settings(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """Return the values of settings that follow from the task or the chat model, such as `auto`, by name."""
        return {}

    def paper_experiment(self, task: TaskConfig) -> str | None:
        """The experiment with the paper's settings for this task. A run's differences from it are deviations."""
        return Statements(self, {"task": task}).experiment()

    def paper_method(self, task: str) -> Mapping[str, str]:
        """Return attributes that identify the paper's method for one task.

        They match runs with printed numbers: results/papers/identities.yaml lists the attributes that must agree and
        those whose difference is printed. An attribute `task` replaces the task's name if the paper's differs.
        """
        return Statements(self, self.facts(task)).method() or {"method": self.name}

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Mapping[str, str]:
        """Return how these settings deviate from the paper, in sentences by id; for the arguments see `facts`."""
        facts = {"task": task, "trained": trained_on is not None, **self.facts(task.name, trained_on)}
        return Statements(self, facts).deviations()

    def labels(self, task: str) -> list[str]:
        return Statements(self, self.facts(task)).labels()

    def problems(self, config: Config) -> Iterable[Llm4RecError]:
        """Yield problems with these settings within the composed config, without importing torch."""
        return Statements(self, vars(config)).refused()

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterable[Llm4RecError]:
        """Yield problems with these settings for a task and dataset, without importing torch."""
        return ()

    def problems_with_new_items(self) -> Iterable[UsageError]:
        """Yield why a model with the capability `rank_new_items` cannot rank new items with these settings."""
        return Statements(self, self.facts()).refused("refused_with_new_items")


def causal_backbone(model: ModelConfig) -> str | None:
    """Return the causal language model that a model's training starts from; None for others."""
    of_kind = (
        getattr(model, own.name)
        for own in fields(model)
        if getattr(own.metadata.get("weights"), "kind", None) is Weights.causal
    )
    return next(of_kind, None)


@dataclass
class LLMConfig:
    """A chat model, its decoding and its budget."""

    role: ClassVar[Role] = Role.chat

    backend: Backend = MISSING
    # local: `smollm2` (packaged), a hub id, a folder or a GGUF file; openai: the server's name
    model: str = weights(Weights.chat)
    base_url: str | None = None  # openai: the endpoint; null = OpenAI
    # openai: the environment variable with the key; the key is never stored
    key_variable: str = about(Role.machine, MISSING)
    temperature: float = ranges.number(at_least=0)  # 0 = greedy
    top_p: float = ranges.number(above=0, at_most=1)  # nucleus sampling; 1 = off
    max_tokens: int = ranges.number(at_least=1)  # maximum length of an answer
    context: int = ranges.number(at_least=64, role=Role.machine)  # context length in tokens, including the answer
    precision: Precision = precision(Work.answering)  # local
    batch_tokens: int = ranges.number(at_least=1)  # local: tokens per batch of prompts, including padding
    concurrency: int = ranges.number(at_least=1, role=Role.machine)  # openai: concurrent requests
    timeout: float = ranges.number(above=0, role=Role.machine)  # openai: seconds
    # openai: retries of a request after a temporary failure
    retries: int = ranges.number(at_least=0, role=Role.machine)
    price_prompt: float = ranges.number(at_least=0, role=Role.machine)  # per million prompt tokens, in any currency
    # per million answer tokens, in the same currency
    price_answer: float = ranges.number(at_least=0, role=Role.machine)
    # per million prompt tokens that the server has cached; null = price_prompt
    price_cached: float | None = ranges.number(None, at_least=0, role=Role.machine)
    structured: Structured = added(Structured.none)  # openai: how model.answer=constrained is requested
    # openai: how the server returns log-probabilities of fixed answers
    prompt_logprobs: PromptLogprobs = about(Role.machine, PromptLogprobs.none)
    # openai: a folder or hub id with the model's tokenizer, to count prompts exactly before a run, and to write out
    # those of prompt_logprobs=echo; null = estimate
    tokenizer: str | None = about(Role.machine, None)
    budget_tokens: int | None = ranges.number(None, at_least=0, role=Role.machine)  # limit per run; null = none
    # limit per run, in the currency of the prices; null = none
    budget_cost: float | None = ranges.number(None, at_least=0, role=Role.machine)
    replay: bool = about(Role.command, False)  # use stored answers only
    # send requests whose answers are stored, too, also of a finished run, and replace those answers
    ask_again: bool = about(Role.command, False)
    dry_run: bool = about(Role.command, False)  # send nothing; print the requests with estimated tokens and cost
    # file of stored answers; null = llm/answers.sqlite in the cache folder
    store: str | None = ranges.path(None, role=Role.machine)


@dataclass
class EnrichmentConfig:
    """The prompt that lets a chat model describe each item, and how much of the answer is kept."""

    role: ClassVar[Role] = Role.data

    system: str | None = None  # the system message; null = none
    noun: str = MISSING  # what an item is called
    prompt: str = MISSING  # fields: {item}, its text as JSON; {noun}; {tokens}, the number of tags per kind
    characters: int = ranges.number(at_least=1)  # of each field of an item in the prompt, from its beginning
    tokens: int = ranges.number(at_least=1)  # kept per item and kind (use, audience, key words)
    max_tokens: int = ranges.number(at_least=1)  # maximum model tokens of an answer; llm.max_tokens if that is less
    # distinct texts that are described, drawn by dataset.seed, the others keep their own text; null = all
    texts: int | None = ranges.number(None, at_least=1, added=True)


@dataclass
class TaskConfig:
    """An evaluation task: the question, its examples and its metrics."""

    role: ClassVar[Role] = Role.question

    name: str = ranges.folder_name()  # in tables and run folders
    question: str = MISSING  # rank, rate, write, pretrain, all, or of an installed package
    candidates: Candidates = Candidates.full
    negatives: int = ranges.number(99, at_least=1)  # sampled candidates besides the target
    draw: int = ranges.number(0, at_least=0, added=True)  # of the sampled candidates; the users stay the same
    # exclude items of the history from a full ranking; null, typed `auto`: where users take hardly any item twice
    mask_history: bool | None = about(Role.extent, False)
    seen_items: SeenItems = field(  # under mask_history
        default=SeenItems.excluded, metadata={"role": Role.extent, "added": True}
    )
    written: Written | None = None  # question: write
    # for questions of installed packages, such as like
    history: int | None = ranges.number(10, at_least=1, added=True)  # latest items that a model sees; null = all
    # training rows that are used, drawn by `seed`, also for floors; null = all
    shots: int | None = ranges.number(None, at_least=1, role=Role.training, added=True)
    # number of test examples, drawn by dataset.seed; null = all
    max_examples: int | None = ranges.number(None, at_least=1, role=Role.extent)
    cutoffs: list[int] = ranges.number([10], at_least=1, at_most=1_000_000)  # question: rank
    selection: str = MISSING  # validation metric for checkpoint selection; also compared with the floors
    floors: list[str] = about(Role.citation, MISSING)  # models that are evaluated too, first in the table
    top_items: int = ranges.number(10, at_least=1)  # recommended per example: coverage, novelty and diversity
    # items stored per example in predictions.parquet, with scores; null = top_items. `ensemble` combines them
    stored_items: int | None = ranges.number(None, at_least=1, role=Role.extent, added=True)
    bootstrap: int = ranges.number(1000, at_least=1, at_most=100_000, role=Role.extent)  # resamples per interval

    @property
    def masked(self) -> bool:
        """Whether items of the history are left out of a ranking.

        Raises:
            UsageError: `auto` is not settled, as nothing but a run does that.
        """
        if self.mask_history is None:
            raise UsageError("task.mask_history=auto is for train, eval and tune", "task.mask_history=true or false")
        return self.mask_history

    @property
    def ranks_catalogue(self) -> bool:
        """Whether the whole catalogue is ranked. Only then `mask_history` has an effect."""
        return self.question in (Question.rank, Question.pretrain) and self.candidates is Candidates.full


@dataclass
class TrainerConfig:
    """Optimisation settings of trainable models."""

    role: ClassVar[Role] = Role.training

    epochs: int = ranges.number(at_least=1)
    batch_size: int = ranges.number(at_least=1)  # rows per step
    # rows computed at once by a process; null = its whole share of a batch. The gradient is that of the batch
    micro_batch_size: int | None = ranges.number(None, at_least=1, added=True)
    learning_rate: float = ranges.number(above=0)
    weight_decay: float = ranges.number(at_least=0)
    warmup_ratio: float = ranges.number(at_least=0, at_most=1)  # share of the steps with a rising learning rate
    schedule: Schedule = MISSING
    gradient_clip: float = ranges.number(at_least=0)  # 0 = none
    precision: Precision = precision(Work.training)
    # on a GPU, products in fp32 read ten bits of the mantissa, in training and evaluation
    tf32: bool = added(False)
    # in validation and test, of the states of histories; scores are products in fp32
    scoring: Precision = field(
        default=Precision.fp32, metadata={"role": Role.extent, "work": Work.reading, "added": True}
    )
    keep: Keep = MISSING
    patience: int = ranges.number(at_least=1)  # epochs without a better validation metric; unlimited for keep=last
    # number of validation examples for checkpoint selection; null = all
    valid_examples: int | None = ranges.number(None, at_least=1)
    # users, or shown items of impressions, per batch
    eval_batch_size: int = ranges.number(at_least=1, role=Role.machine)
    # processes that build batches, each a few ahead; 0 = the training process builds them
    workers: int = ranges.number(0, at_least=0, role=Role.machine)
    # minutes after which a checkpoint is written within an epoch, too; null = only at the end of each
    checkpoint_minutes: float | None = ranges.number(None, above=0, role=Role.machine)
    report_to: list[str] = about(Role.machine, MISSING)


@dataclass
class PathsConfig:
    """Output and cache folders. Not part of a run's address."""

    role: ClassVar[Role] = Role.machine

    # where run folders are written; LLM4REC_OUTPUTS sets the default
    outputs: str = field(default_factory=default_outputs, metadata={"path": "relative"})
    cache: str | None = ranges.path(None)  # null = LLM4REC_CACHE, or the user's cache folder


@dataclass
class TuningConfig:
    """The search that chose these settings, as `llm4rec tune` writes it: its budget and its result on validation."""

    role: ClassVar[Role] = Role.citation

    dataset: str | None = None  # on whose validation part; null = not recorded
    trials: int = ranges.number(at_least=1)  # that were made, pruned and failed ones included
    minutes: float = ranges.number(at_least=0)  # that they took
    max_trials: int | None = ranges.number(None, at_least=1)  # the budget; null = not recorded
    max_minutes: float | None = ranges.number(None, at_least=0)  # the budget of all trials together; null = none
    metric: str = MISSING
    # whether validation excluded items of the history; null = not recorded, or no ranking of the catalogue
    mask_history: bool | None = None
    score: float = ranges.number()  # of the chosen trial
    expected_best: list[float] | None = None  # of n trials, n = 1, 2, …; null = not recorded


@dataclass
class Config:
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
    force: bool = about(Role.command, False)  # repeat a finished run
    run: str | None = ranges.path(None, role=Role.command)  # eval, recommend: a run, by its folder or its path's end
    # an experiment's deviations from its paper, in sentences
    deviations: list[str] = field(default_factory=list, metadata={"role": Role.citation})
    tuning: TuningConfig | None = about(Role.citation, None)

    @property
    def depends_on_chat_model(self) -> bool:
        """Whether the model prompts a chat model, or reads item texts that one has enriched."""
        enriched = self.dataset.text is TextRecipe.enriched and self.model.uses_item_text()
        return enriched or self.model.traits.uses_llm
