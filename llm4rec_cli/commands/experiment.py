"""What `train` and `eval` share: checks before anything is computed, the data, and one evaluated run."""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from llm4rec_cli import arithmetic, processes, ranges
from llm4rec_cli.capabilities import Foreseeing, Incomplete
from llm4rec_cli.errors import DataError, RunError, UsageError, did_you_mean
from llm4rec_cli.evaluation.rating import direction
from llm4rec_cli.files import sha256, write_json, write_text
from llm4rec_cli.llm import enrichment
from llm4rec_cli.models import base as models
from llm4rec_cli.overrides import quoted
from llm4rec_cli.runs.address import Address
from llm4rec_cli.runs.folder import METRICS, Facts, peak_rss_mb, write_results
from llm4rec_cli.schema import (
    Backend,
    Candidates,
    Config,
    Control,
    EmptyHistory,
    Keep,
    Precision,
    Question,
    SplitRule,
    TextRecipe,
    Work,
    Written,
)
from llm4rec_cli.tasks import base as tasks

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.llm.requests import Backend as ChatBackend

log = logging.getLogger(__name__)
T = TypeVar("T")

MEMORISED = "the chat model may have read these very data in its training: a high number can be memory"
DEVICES = ("auto", "cpu", "cuda", "mps")
ARITHMETIC = "arithmetic.json"
DEFAULTS = ("dataset", "task", "trainer")  # groups that a model has defaults of its own for
NOT_OF_ENRICH = ("dataset.text", "dataset.control", "llm.replay", "llm.dry_run", "paths.outputs")


@dataclass
class Clock:
    """Seconds spent by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self.last, 3)
        self.last = now


def check(config: Config) -> None:
    """Refuses what cannot work, before torch is imported.

    Raises:
        UsageError: the first of `problems`.
    """
    for problem in problems(config):
        raise problem
    settings(config.model).check_task(settings(config.task))
    of_pretraining = [o for o in HydraConfig.get().overrides.task if o.startswith("model.pretraining")]
    if of_pretraining and config.task.question != Question.pretrain:
        raise UsageError(f"{of_pretraining[0]} is read by task=pretrain alone", "task=pretrain, or leave it out")
    if config.device not in ("auto", "cpu"):
        device(config)  # asks torch, which nothing else here does
    if config.trainer.report_to:
        from transformers.integrations import get_available_reporting_integrations

        installed = get_available_reporting_integrations()
        for tracker in config.trainer.report_to:
            if tracker not in installed:
                raise UsageError(f"no tracker '{tracker}' is installed", f"installed: {', '.join(installed) or 'none'}")


def problems(config: Config) -> Iterator[UsageError]:
    """What cannot work: a name that nothing goes by, or a model that cannot answer the task's question; the remedy
    lists those that can."""
    unknown = [name for name in (config.model.name, *config.task.floors) if name not in models.names()]
    yield from (UsageError(f"unknown model '{name}'", did_you_mean(name, models.names())) for name in unknown)
    if config.device not in DEVICES:
        yield UsageError(
            f"unknown device '{config.device}'", f"one of {', '.join(DEVICES)}; CUDA_VISIBLE_DEVICES picks"
        )
    if config.model.name not in unknown and OmegaConf.get_type(config.model) is not models.config_class(
        config.model.name
    ):
        yield UsageError("model.name is no choice of a model", f"model={config.model.name}")
    if config.task.question == Question.pretrain and getattr(config.model, "pretraining", ...) is None:
        yield UsageError("task=pretrain needs model.pretraining, which is null", "leave model.pretraining as it is")
    if config.task.question == Question.pretrain and getattr(config.model, "use_ids", False):
        yield UsageError(
            "pre-training is on text alone: ids of other data's items would be of no use", "model.use_ids=false"
        )
    if (config.dataset.split, config.dataset.control) == (SplitRule.p5_reviews, Control.shuffle_history):
        yield UsageError(
            "dataset.control=shuffle_history would change what rankings ask about under dataset.split=p5_reviews",
            "dataset.split=leave_one_out",
        )
    if config.task.question == Question.all and config.task.candidates != Candidates.full:
        yield UsageError("task=all asks each task with candidates of its own", "leave task.candidates out")
    yield from _problems_of_impressions(config)
    needed = needed_capability(config.task)
    if config.model.name not in unknown and needed not in models.config_class(config.model.name).capabilities:
        fitting = [name for name in models.names() if needed in models.config_class(name).capabilities]
        yield UsageError(
            f"model '{config.model.name}' cannot do task '{config.task.name}', which asks it to {needed}",
            f"models that can: {', '.join(fitting) or 'none yet'}; {config.model.name} can "
            f"{', '.join(sorted(models.config_class(config.model.name).capabilities))}",
        )
    if config.model.name not in unknown and builds_on_chat_model(config):
        yield from _problems_of_chat_model(config)
    yield from enrichment.problems(config.enrichment)
    if config.dataset.text not in (TextRecipe.attributes, TextRecipe.enriched):
        for setting in tokens_wanted(config):
            yield UsageError(
                f"{setting} is about tokens of items, which dataset.text={config.dataset.text.name} does not have",
                "dataset.text=attributes, or dataset.text=enriched once llm4rec enrich has had them written",
            )
    if config.task.question == Question.write and config.task.written is None:
        yield UsageError(
            "task.question=write needs task.written, which is null", f"one of {', '.join(w.name for w in Written)}"
        )
    metrics = tasks.metric_names(config.task)
    if config.task.selection not in metrics:
        yield UsageError(
            f"task.selection={config.task.selection} is none of the task's metrics",
            did_you_mean(config.task.selection, metrics),
        )
    if config.model.name not in unknown:
        yield from settings(config.model).problems()


def _problems_of_impressions(config: Config) -> Iterator[UsageError]:
    """A click log has impressions alone, and nothing else has any; and what is told of impressions alone."""
    name, task = config.dataset.name, config.task.name
    is_log, asks = config.dataset.split == SplitRule.mind, tasks.asks_about_impressions(config.task)
    if is_log and not asks:
        yield UsageError(
            f"dataset '{name}' is a click log, and task '{task}' asks about interactions, which it has none of",
            "task=impressions, or a dataset of interactions: dataset=demo",
        )
    if asks and not is_log:
        yield UsageError(
            f"task.candidates=impression asks about what users were shown, and dataset '{name}' is no click log",
            "task=direct or task=sequential; or a click log: dataset=demo_news, dataset=mind-small",
        )
    if is_log and (config.dataset.cold_items > 0 or config.dataset.train_users < 1):
        yield UsageError(
            f"dataset.cold_items and dataset.train_users hold out interactions, and '{name}' is a click log",
            "leave them out",
        )
    if config.dataset.empty_history != EmptyHistory.keep and not is_log:
        yield UsageError(
            f"dataset.empty_history is about impressions, and dataset '{name}' is no click log", "leave it out"
        )


def problems_of_llm(config: Config) -> Iterator[UsageError]:
    """A budget that nothing would count against, and where no endpoint can be."""
    if config.llm.budget_cost is not None and not (config.llm.price_prompt or config.llm.price_answer):
        yield UsageError(
            "llm.budget_cost needs the model's prices, and both are 0",
            "llm.price_prompt=0.15 llm.price_answer=0.6 (of a million tokens), or llm.budget_tokens=N",
        )
    if config.llm.backend != Backend.openai:
        return
    from llm4rec_cli.llm.endpoint import check

    try:
        check(settings(config.llm))
    except UsageError as refused:
        yield refused


def _problems_of_chat_model(config: Config) -> Iterator[UsageError]:
    """The same, and what no endpoint can answer."""
    yield from problems_of_llm(config)
    answer = getattr(config.model, "answer", None)
    if config.llm.backend == Backend.openai and answer is not None and answer.name != "generate":
        yield UsageError(
            f"model.answer={answer.name} needs likelihoods of given answers, which llm.backend=openai does not tell",
            "model.answer=generate, or llm=local",
        )


def tokens_wanted(config: Config) -> list[str]:
    """The settings that are of no use without tokens of items."""
    of_model = ["model.tokens=true"] if getattr(config.model, "tokens", False) else []
    return of_model + ["dataset.control=shuffle_tokens"] * (config.dataset.control == Control.shuffle_tokens)


def needed_capability(task: Any) -> str:
    """The capability that a task's question asks for."""
    if task.question != Question.rank:
        return str(task.question.name)
    if tasks.asks_about_impressions(task):
        return "rank_impressions"
    return "rank_catalogue" if task.candidates == Candidates.full else "rank_candidates"


def cache_dir(config: Config) -> Path:
    """`paths.cache`, or the user's cache folder."""
    if config.paths.cache:
        return Path(config.paths.cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm4rec"


def settled(config: Config) -> Config:
    """The composed config with user paths resolved against the working directory, and no mask where none applies.

    Raises:
        UsageError: a value is out of its range, or read from the environment: it might be a secret, and config.yaml
            would hold it.
    """
    ranges.check(config)
    if "${oc.env" in OmegaConf.to_yaml(config):
        raise UsageError("the config reads an environment variable, which config.yaml would hold", "write the value")
    config.dataset.raw_dir = _resolved(config.dataset.raw_dir)
    config.paths.cache = _resolved(config.paths.cache)
    config.run = _resolved(config.run)
    config.llm.store = _resolved(config.llm.store)
    model: Any = config.model
    for key in ("file", "init_from"):
        if key in model:
            model[key] = _resolved(model[key])
    for key, value in settings(config.model).resolved(settings(config.task), settings(config.llm)).items():
        model[key] = value
    if config.trainer.keep == Keep.last:
        config.trainer.patience = 1  # nobody asks for it, so it shall make no other address
    config.paths.outputs = str(Path(config.paths.outputs).expanduser())
    if config.task.candidates != Candidates.full or config.task.question not in (Question.rank, Question.pretrain):
        config.task.mask_history = False  # sampled candidates are never in the history, and others are not ranked
    return config


def _resolved(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())


def defaults_in_words(config: Config) -> str:
    """`prompt4nr: dataset=demo_news task=impressions, its defaults`: the choices that the command line left to the
    model; empty where it names all or an experiment."""
    from llm4rec_cli.hydra_app import options

    runtime = HydraConfig.get()
    typed = {override.partition("=")[0].lstrip("+") for override in runtime.overrides.task}
    left = [f"{group}={runtime.runtime.choices[group]}" for group in DEFAULTS if group not in typed]
    if "experiment" in typed or not left:
        return ""
    if config.task.max_examples is not None and "task.max_examples" not in typed:
        left.append(f"task.max_examples={config.task.max_examples}")
    home = runtime.runtime.choices.get("home@_global_")
    if home in options("home"):
        left.append(f"conf/home/{home}.yaml")
    return f"{config.model.name}: {' '.join(left)}, its defaults"


def facts(command: str, config: Config) -> Facts:
    """How this run was asked for, out of what Hydra knows; a relative raw_dir would mean another folder elsewhere."""
    runtime = HydraConfig.get()
    choices = {key: value for key, value in runtime.runtime.choices.items() if not key.startswith("hydra/")}
    typed = [o for o in runtime.overrides.task if not o.startswith("dataset.raw_dir=")]
    if config.dataset.raw_dir is not None:
        typed.append(f"dataset.raw_dir={quoted(config.dataset.raw_dir)}")
    return Facts(command, typed, {k: str(v) for k, v in choices.items()})


def settings(node: T) -> T:
    """A config node as an instance of its dataclass, methods and all."""
    return cast(T, OmegaConf.to_object(node))


def load(config: Config, cache: Path) -> RecDataset:
    """The prepared dataset with item texts, under its control."""
    from llm4rec_cli.data.controls import controlled_dataset
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.texts import with_texts
    from llm4rec_cli.data.tokens import of_attributes, with_tokens

    dataset = prepare(settings(config.dataset), cache)
    if config.dataset.text == TextRecipe.enriched:
        dataset = enriched(config, dataset, cache)
    if config.dataset.text == TextRecipe.attributes:
        attributes = of_attributes(dataset.items)
        if not any(attributes):
            raise DataError(
                f"dataset.text=attributes: dataset '{config.dataset.name}' knows no brand and no categories of items",
                "dataset.text=unisrec, or another dataset",
            )
        dataset = with_tokens(dataset, attributes)
    dataset = controlled_dataset(dataset, config.dataset.control, config.dataset.seed)
    dataset = with_texts(dataset, config.dataset.text)
    needs_text = models.config_class(config.model.name).needs_text
    if needs_text and not any(dataset.texts):
        raise DataError(
            f"model '{config.model.name}' needs item text, and dataset '{config.dataset.name}' has none",
            "choose a dataset with titles, or a model of ids: llm4rec list models",
        )
    settings(config.model).check(dataset)
    settings(config.model).check_task(settings(config.task), dataset)
    tasks.check(config.task, dataset)
    return dataset


def enriched(config: Config, dataset: RecDataset, cache: Path) -> RecDataset:
    """The dataset with the tokens of its items that the store has; nothing is asked.

    Raises:
        DataError: some are not there.
    """
    from llm4rec_cli.data.tokens import with_tokens
    from llm4rec_cli.llm import ask
    from llm4rec_cli.llm.store import Store

    asked = enrichment.questions(dataset, settings(config.enrichment), settings(config.llm))
    reader = item_reader(config, cache)
    with Store(ask.store_path(settings(config.llm), cache)) as store:
        answers = enrichment.stored(asked, reader, store)
        if missing := len(asked.requests) - len(answers):
            raise DataError(
                f"dataset.text=enriched: {missing:,} of {len(asked.requests):,} texts of items have no tokens by "
                f"llm.model={config.llm.model} in {store.path}",
                enrich_command(config),
            )
    return with_tokens(dataset, enrichment.enriched(asked, answers, settings(config.enrichment)).tokens)


def item_reader(config: Config, cache: Path) -> ChatBackend:
    """Who writes the tokens of items: one for all seeds of a model, as they belong to the data."""
    return chat_backend(config, cache, config.dataset.seed)


def chat_backend(config: Config, cache: Path, seed: int) -> ChatBackend:
    """The chat model of `llm`, which writes answers."""
    from llm4rec_cli.llm import ask

    llm = settings(config.llm)
    if llm.backend is not Backend.openai:
        llm = replace(llm, precision=_faster(config, llm.precision, Work.answering))
    return ask.backend(llm, cache, device(config), seed)


def with_arithmetic(config: Config, folder: Path | None = None, began: Path | None = None) -> Config:
    """A copy of the config with each `auto` that this run reads replaced by the arithmetic that it takes.

    A run goes on in the arithmetic that it began with, wherever it goes on.

    Args:
        folder: a run folder, whose arithmetic.json keeps what is taken.
        began: the run folder that says what to take; None = `folder`.
    """
    keys = {key: work for key, work in arithmetic.settings(config) if _is_read(key, config)}
    config = copy.deepcopy(config)
    at = began or folder

    def choose() -> dict[str, str]:
        known = json.loads((at / ARITHMETIC).read_text()) if at and (at / ARITHMETIC).exists() else {}
        taken = {}
        for key, work in keys.items():
            stated = OmegaConf.select(cast(Any, config), key)
            auto = stated is Precision.auto
            taken[key] = known[key] if auto and key in known else _faster(config, stated, work).name
        if folder and taken:
            write_json(folder / ARITHMETIC, taken)
        return taken

    taken = processes.from_first(choose)
    for key, name in taken.items():
        OmegaConf.update(cast(Any, config), key, Precision[name])
    if taken and folder:
        log.info("arithmetic: %s", "  ".join(f"{key}={name}" for key, name in taken.items()))
    return config


def taken_arithmetic(config: Config) -> dict[str, str]:
    """The precision settings that a run reads, by key."""
    keys = [key for key, _ in arithmetic.settings(config) if _is_read(key, config)]
    return {key: OmegaConf.select(cast(Any, config), key).name for key in keys}


def _is_read(key: str, config: Config) -> bool:
    """Whether this run does the work that a precision setting is about."""
    if key == "trainer.precision":
        return models.config_class(config.model.name).trainable
    if key == "llm.precision":
        return builds_on_chat_model(config) and config.llm.backend != Backend.openai
    return True


def _faster(config: Config, stated: Precision, work: Work) -> Precision:
    """`stated`, with `auto` replaced by what is faster on the device."""
    if stated is not Precision.auto:
        return stated
    work = settings(config.model).chat_work() if work is Work.answering else work
    return arithmetic.fastest(work, device(config), cache_dir(config))


def enrich_command(config: Config) -> str:
    """The command that has the tokens written, out of what was typed."""
    typed = {o.partition("=")[0].lstrip("+"): o for o in HydraConfig.get().overrides.task}
    named = [] if typed.keys() & {"dataset", "experiment"} else [f"dataset={config.dataset.name}"]
    of_data = ("dataset", "llm", "enrichment", "experiment", "paths")
    kept = [o for key, o in typed.items() if key.split(".")[0] in of_data and key not in NOT_OF_ENRICH]
    return " ".join(["llm4rec enrich", *named, *kept])


def split(config: Config, dataset: RecDataset) -> Split:
    """The dataset divided, with what the config holds out of training; with explanations, where they are asked for."""
    from llm4rec_cli.data.explanations import with_explanations
    from llm4rec_cli.data.split import divide, held_out

    found = held_out(divide(dataset), config.dataset.cold_items, config.dataset.train_users, config.dataset.seed)
    wanted = config.task.written == Written.explanation or models.config_class(config.model.name).task_bound
    if wanted and "review_text" in dataset.interactions and "explanation" not in dataset.interactions:
        return with_explanations(found, cache_dir(config))
    return found


def device(config: Config) -> str:
    """`device`, with `auto` resolved.

    Raises:
        UsageError: this machine has no such.
    """
    if config.device == "cpu":
        return "cpu"
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = accelerator.type if accelerator else "cpu"
    if config.device not in ("auto", found):
        raise UsageError(f"torch finds no {config.device} on this machine", f"device={found}; llm4rec doctor says more")
    return found


def encoder_weights(config: Config) -> str | None:
    """What identifies the weights of the model's text encoder; None for a model without one."""
    encoder = getattr(settings(config.model), "encoder", None)
    if encoder is None:
        return None
    from llm4rec_cli.text.weights import locate_encoder

    return locate_encoder(encoder.name)[1]


def backbone_weights(config: Config) -> str | None:
    """What identifies the weights that the model begins with; None for one that is drawn anew, or has no such."""
    backbone = getattr(config.model, "backbone", None)
    if backbone is None or backbone in getattr(models.config_class(config.model.name), "from_scratch", ()):
        return None
    from llm4rec_cli.text.weights import backbone_identity

    return backbone_identity(backbone)


def builds_on_chat_model(config: Config) -> bool:
    """Whether the model asks a chat model, or reads texts of items that one has enriched."""
    enriched = config.dataset.text == TextRecipe.enriched and settings(config.model).reads_text()
    return enriched or models.config_class(config.model.name).uses_llm


def chat_model(config: Config, dataset: RecDataset) -> str | None:
    """What identifies the chat model that numbers build on, and the tokens that it wrote; None where there is none.

    Raises:
        UsageError: there is no such model on this machine.
    """
    if not builds_on_chat_model(config):
        return None
    tokens = dataset.manifest["tokens"] if config.dataset.text == TextRecipe.enriched else None
    wrote = f" wrote {tokens['sha256']}" if tokens else ""
    if config.llm.backend == Backend.openai:
        return f"{config.llm.model}{wrote}"
    from llm4rec_cli.llm.local import VERSION
    from llm4rec_cli.llm.weights import locate

    return f"{locate(config.llm.model).identity} version {VERSION}{wrote}"


def file_content(config: Config) -> str | None:
    """What identifies the content of the files that the model is read from; None for a model that comes of none."""
    found = [sha256(Path(file)) for file in settings(config.model).contents()]
    return " ".join(found) or None


def build(config: Config, split: Split, cache: Path) -> Any:
    """The model, its initial weights a function of `seed` alone."""
    import torch
    from transformers import set_seed

    set_seed(config.seed)
    config = with_arithmetic(config)
    where = device(config)
    if config.task.question == Question.rank and not models.config_class(config.model.name).task_bound:
        split = split.ranking()  # one that is trained for several tasks sees to that itself
    model = models.build(
        models.Context(settings(config.model), split, config.seed, cache, where, config.task.name, settings(config.llm))
    )
    return model.to(where) if isinstance(model, torch.nn.Module) else model


def rehearse(config: Config, split: Split) -> None:
    """Shows what a chat model would be asked, and touches no run.

    Raises:
        DryRun: always, when it has.
    """
    cache = cache_dir(config)
    build(config, split, cache).foresee(tasks.module(config.task).examples(split, config.split, config, cache))


def keep_artefacts(model: Any, folder: Path) -> None:
    """Writes beside the weights what they mean nothing without, and refuses to train on with another."""
    if not isinstance(model, models.Kept) or not processes.is_first():
        return
    check_artefacts(model, folder)
    for name, content in model.artefacts().items():
        write_text(folder / name, content)


def check_artefacts(model: Any, folder: Path) -> None:
    """Refuses weights that were trained with other artefacts than the model has now.

    Raises:
        RunError: so it is.
    """
    for name, content in model.artefacts().items() if isinstance(model, models.Kept) else ():
        kept = folder / name
        if kept.exists() and kept.read_text(encoding="utf-8") != content:
            raise RunError(
                f"{kept} is not what the model is built with now, so the weights of {folder} mean nothing to it",
                "train anew: force=true",
            )


def with_model(config: Config, model: str) -> Config:
    """The same experiment with another model at its default settings; `next_id` takes this model's item numbers."""
    from llm4rec_cli.data.indexing import NUMBERS

    other = copy.deepcopy(config)
    OmegaConf.resolve(cast(Any, other))  # `epochs: ${model.prompts.epochs}` means the first model's
    other.model = hydra.compose("config", overrides=[f"model={model}"]).model
    index, floor = getattr(config.model, "index", None), cast(Any, other.model)
    if "index" in floor and index in NUMBERS:
        floor.index = index
    other.deviations = []
    return other


def labels(config: Config, dataset: RecDataset, n_examples: int) -> list[str]:
    """The marks that must ride with this run's numbers, which are of so many examples."""
    found = settings(config.model).labels(config.task.name)
    if dataset.manifest["synthetic"]:
        found.append("synthetic")
    if dataset.manifest["users_without_times"] and not dataset.manifest["synthetic"]:
        found.append("no-timestamps")
    if "explanations" in dataset.manifest and config.task.written == Written.explanation:
        found.append("extracted-explanations")
    if config.dataset.part_of is not None or config.task.max_examples == n_examples:
        found.append("subset")
    if builds_on_chat_model(config):
        found += of_chat_model(config, dataset)
    if config.dataset.split == SplitRule.temporal:
        found.append("temporal-split")
    if config.dataset.split == SplitRule.p5_reviews:
        found.append("leaky")
    if config.dataset.split == SplitRule.transfer:
        found.append("transfer")
    if config.dataset.cold_items > 0:
        found.append("cold-items")
    if config.dataset.train_users < 1:
        found.append("few-users")
    if config.dataset.empty_history == EmptyHistory.skip:
        found.append("empty-history-skipped")
    if config.dataset.control.name != "none":
        found.append(f"control-{config.dataset.control.name}")
    return found


def of_chat_model(config: Config, dataset: RecDataset) -> list[str]:
    """The marks of numbers that build on a chat model's answers. The paper's of 2023 is gone, so any model is another;
    and it may have read the very data that it is asked about."""
    found = ["substitute-llm"] if models.config_class(config.model.name).uses_llm else ["llm-tokens"]
    return found if dataset.manifest["synthetic"] else [*found, "may-be-memorised"]


def deviations(config: Config) -> list[str]:
    """In words, where this run departs from its paper: by the model, by the trainer, and what the experiment says."""
    found = settings(config.model).deviations()
    if models.config_class(config.model.name).trainable and config.trainer.precision == Precision.bf16:
        found.append("bf16 arithmetic in training")
    if config.dataset.text == TextRecipe.enriched and models.config_class(config.model.name).needs_text:
        found.append(f"item texts end with tokens that {Path(config.llm.model).name} wrote")
    return [*found, *config.deviations]


def begun_with(metrics: dict[str, Any]) -> dict[str, Any]:
    """What a run tells of the one whose weights it began with; its numbers carry that one's marks too.

    Args:
        metrics: metrics.json of that one.
    """
    of_its_own = ("floor-not-beaten", "subset", "cold-items", "few-users", "empty-history-skipped")
    return {
        **{key: metrics[key] for key in ("dataset", "experiment", "seed", "config_hash", "deviations")},
        "labels": [label for label in metrics["labels"] if label not in of_its_own],
    }


def measure(
    config: Config,
    split: Split,
    model: Any,
    where: Address,
    clock: Clock,
    beside: Sequence[dict[str, Any]],
    init_from: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Asks the model the task's question and writes the answers and metrics.json, as section 8 of the design fixes it.

    Args:
        beside: metrics.json of the floors.
        init_from: of the run whose weights training began with, what `begun_with` says.
        more: the fields that only the caller knows.

    Returns:
        metrics.json.
    """
    import torch

    task = tasks.module(config.task)
    asked = task.examples(split, config.split, config, cache_dir(config))
    n_asked, foreseen = len(asked), isinstance(model, Foreseeing)
    if foreseen:
        asked = model.foresee(asked)
        clock.lap("ask")
    evaluation = task.evaluate(model, split, asked, config)
    if foreseen:
        evaluation = tasks.accounted(evaluation, model, task, split, asked, config)
    clock.lap("evaluate")
    gaps = {}
    if isinstance(model, Incomplete):
        gaps = model.gaps(asked, evaluation.predictions, list(config.task.cutoffs))
    marks = labels(config, split.dataset, n_asked)
    weights = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    metrics = {
        "schema": 1,
        "model": config.model.name,
        "shown_as": settings(config.model).shown_as(),
        "dataset": config.dataset.name,
        "task": config.task.name,
        "split": config.split.name,
        "split_rule": config.dataset.split.name,
        "protocol": task.protocol(config.task),
        "mask_history": bool(config.task.mask_history),
        "seed": config.seed,
        "config_hash": where.config_hash,
        "variant": where.variant,
        "experiment": None,
        "trained_run": None,
        "init_from": init_from,
        "text_encoder": encoder_weights(config),
        "tokens": split.dataset.manifest.get("tokens"),
        "training": None,
        "arithmetic": taken_arithmetic(config),
        "overrides": [],
        "dataset_fingerprint": split.dataset.fingerprint,
        "labels": [
            *dict.fromkeys([*marks, *(init_from or {}).get("labels", [])]),
            *gaps,
            *unbeaten(config, evaluation.metrics, beside),
        ],
        "deviations": [*deviations(config), *(f"pre-training: {d}" for d in (init_from or {}).get("deviations", []))],
        "n_examples": n_asked,
        "metrics": evaluation.metrics,
        "intervals": evaluation.intervals,
        "breakdown": evaluation.breakdown,
        "signatures": evaluation.signatures,
        "n_parameters": sum(p.numel() for p in weights),
        "n_trainable": sum(p.numel() for p in weights if p.requires_grad),
        "llm": model.spent() if foreseen else None,
        "seconds": clock.seconds,
        "peak_rss_mb": peak_rss_mb(),
        **({"members": [*of]} if (of := getattr(config.model, "members", None)) else {}),
        "warnings": [*evaluation.warnings, *gaps.values(), *([MEMORISED] if "may-be-memorised" in marks else [])],
        **more,
    }
    write_results(where.folder, metrics, evaluation.predictions)
    return metrics


def relabelled(
    metrics: dict[str, Any], where: Address, config: Config, beside: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A finished run's metrics.json, marked now if a floor that it first ran without beats it."""
    missing = [m for m in unbeaten(config, metrics["metrics"], beside) if m not in metrics["labels"]]
    if missing:
        metrics = metrics | {"labels": [*metrics["labels"], *missing]}
        if processes.is_first():
            write_json(where.folder / METRICS, metrics)
    return metrics


def unbeaten(config: Config, metrics: dict[str, float], floors: Sequence[dict[str, Any]]) -> list[str]:
    """`floor-not-beaten` for a model that is no floor where a floor is at least as good."""
    if models.config_class(config.model.name).floor:
        return []
    metric = config.task.selection
    sign = direction(metric)
    beaten = all(sign * metrics[metric] > sign * floor["metrics"][metric] for floor in floors)
    return [] if beaten else ["floor-not-beaten"]
