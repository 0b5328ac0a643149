"""The stages of a run, in order: load, split, build, evaluate. Fitting is in `training.fit`."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from llm4rec_cli import processes
from llm4rec_cli.capabilities import BatchAnswering, HasControls, Incomplete
from llm4rec_cli.config import walk
from llm4rec_cli.config.keys import key_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Control, Question, SeenItems, TextRecipe, Written
from llm4rec_cli.errors import DataError, DryRun, RunError, raise_first
from llm4rec_cli.evaluation.metrics import paired_metric
from llm4rec_cli.files import write_text
from llm4rec_cli.labels import IMPORTED, MAY_BE_MEMORISED
from llm4rec_cli.llm import enrichment
from llm4rec_cli.llm.completions import Usage
from llm4rec_cli.models import base as models
from llm4rec_cli.results.result import AnswerCosts, Controls, Imported, InitFrom, Number, Result
from llm4rec_cli.runs import marks, rules
from llm4rec_cli.runs.folder import peak_rss_mb, write_results
from llm4rec_cli.runs.identity import RESULTS_VERSION, Address, text_encoder_identity
from llm4rec_cli.runs.precision import llm_for_answers, precision_settings, resolve_precision
from llm4rec_cli.tasks import base as tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm4rec_cli.data.examples import Examples
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.llm.requests import Backend as ChatBackend
    from llm4rec_cli.runs.spec import RunSpec

ENRICH_ROLES = (Role.data, Role.source, Role.division, Role.chat, Role.machine)  # of what item tokens depend on


@dataclass
class Clock:
    """Seconds spent by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self.last, 3)
        self.last = now


# --- load


def load(spec: RunSpec) -> RecDataset:
    """Return the prepared dataset with item texts, and with `dataset.control` applied.

    Raises:
        DataError, UsageError: it lacks what the model or the task needs.
    """
    from llm4rec_cli.data.controls import controlled_dataset
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.texts import with_texts
    from llm4rec_cli.data.tokens import attribute_tokens, with_tokens

    config = spec.config.dataset
    dataset = prepare(config, spec.cache)
    if config.text is TextRecipe.enriched:
        dataset = _enriched(spec, dataset)
    if config.text is TextRecipe.attributes:
        attributes = attribute_tokens(dataset.items)
        if not any(attributes):
            raise DataError(
                f"dataset.text=attributes: dataset '{config.name}' has no item brands or categories",
                "dataset.text=unisrec, or another dataset",
            )
        dataset = with_tokens(dataset, attributes)
    dataset = controlled_dataset(dataset, config.control, config.seed)
    dataset = with_texts(dataset, config.text)
    raise_first(rules.problems_with_dataset(spec, dataset))
    return dataset


def _enriched(spec: RunSpec, dataset: RecDataset) -> RecDataset:
    """Return the dataset with the stored tokens of its items, and with their cost in its manifest; no chat model is
    called.

    Raises:
        DataError: tokens are missing.
    """
    from llm4rec_cli.data.tokens import with_tokens
    from llm4rec_cli.llm import completions
    from llm4rec_cli.llm.store import Store

    item_requests = enrichment.item_requests(dataset, spec.config.enrichment, spec.llm, spec.config.dataset.seed)
    with Store(completions.store_path(spec.llm, spec.cache)) as store:
        answers = enrichment.stored_completions(item_requests, enrichment_backend(spec), store)
        if missing := len(item_requests.requests) - len(answers):
            raise DataError(
                f"dataset.text=enriched: {missing:,} of {len(item_requests.requests):,} item texts have no tokens by "
                f"llm.model={spec.llm.model} in {store.path}",
                _enrich_command(spec),
            )
    usage = completions.Usage(requests=len(answers))
    for completion in answers.values():
        usage.add(completion, spec.llm)
    dataset = with_tokens(dataset, enrichment.parse_tokens(item_requests, answers, spec.config.enrichment).tokens)
    return replace(dataset, manifest=dataset.manifest | {"enrichment": usage.describe()})


def _enrich_command(spec: RunSpec) -> str:
    """Return the command that generates the tokens, from the typed overrides."""
    dataset = [] if spec.typed_keys & {"dataset", "experiment"} else [f"dataset={spec.config.dataset.name}"]
    keys = [(typed, key_typed(typed)) for typed in spec.typed]
    kept = [
        typed
        for typed, key in keys
        if key == "experiment"
        or (key_role(key) in ENRICH_ROLES and not key.startswith(("model.", "trainer.")) and key != "dataset.text")
    ]
    return " ".join(["llm4rec enrich", *dataset, *kept])


def enrichment_backend(spec: RunSpec) -> ChatBackend:
    """Return the backend that writes item tokens: seeded by the dataset, as all model seeds share the tokens."""
    return chat_backend(spec, spec.config.dataset.seed)


def chat_backend(spec: RunSpec, seed: int) -> ChatBackend:
    """Return the chat model of `llm`, for generating answers."""
    from llm4rec_cli.llm import completions

    return completions.build_backend(llm_for_answers(spec), spec.cache, spec.device, seed)


# --- split


def split_dataset(spec: RunSpec, dataset: RecDataset) -> Split:
    """Return the split dataset, with its held-out items and users, and with explanations if needed."""
    from llm4rec_cli.data import split
    from llm4rec_cli.data.explanations import with_explanations

    config = spec.config.dataset
    result = split.hold_out(split.split_dataset(dataset), config.cold_items, config.train_users, config.seed)
    if config.train_impressions < 1:
        result = split.keep_impressions(result, config.train_impressions, config.seed)
    needs_explanations = spec.task.written is Written.explanation or spec.model.traits.task_bound
    if needs_explanations and "review_text" in dataset.interactions and "explanation" not in dataset.interactions:
        return with_explanations(result, spec.cache)
    return result


# --- build


def build(spec: RunSpec, split: Split, is_loaded: bool = False) -> Any:
    """Return the model; its initial weights depend only on `seed`.

    Args:
        spec: with its precision resolved (`resolve_precision`).
        is_loaded: whether the weights of a run are loaded afterwards.
    """
    import torch

    # As transformers' set_seed does; importing it takes seconds, and floors need nothing else of transformers.
    random.seed(spec.config.seed)
    np.random.seed(spec.config.seed)  # noqa: NPY002
    torch.manual_seed(spec.config.seed)
    torch.backends.cudnn.allow_tf32 = False  # else a GRU's fp32 has ten bits of mantissa on a GPU
    if spec.task.question is Question.rank and not spec.model.traits.task_bound:
        split = split.for_ranking()  # a model trained for several tasks does this itself
    context = models.Context(
        spec.model, split, spec.config.seed, spec.cache, spec.device, spec.task.name, spec.llm, is_loaded
    )
    model = models.build(context)
    return model.to(spec.device) if isinstance(model, torch.nn.Module) else model


def show_requests(spec: RunSpec, split: Split) -> Usage:
    """Show what a chat model would be sent, with its controls, under `llm.dry_run`; return an estimate of it."""
    task = tasks.module(spec.task)
    examples = task.examples(split, spec.config.split, spec.config, spec.cache)
    model = build(resolve_precision(spec), split)
    with suppress(DryRun):
        model.prepare_answers(examples)
    summary = model.usage_summary()
    total = {name: summary[name] for name in Usage().describe()}
    sample = _control_sample(spec, model, examples)
    if sample is not None and (of_controls := model.controls_usage(sample, spec.config.dataset.seed)) is not None:
        total = {name: total[name] + of_controls[name] for name in total}
    return Usage(**total)


def save_artifacts(model: Any, folder: Path) -> None:
    """Write the model's artifacts next to its checkpoints; raise if a resumed run has different ones."""
    if not isinstance(model, models.HasArtifacts) or not processes.is_first():
        return
    raise_first(problems_of_artifacts(model, folder))
    for name, content in model.artifacts().items():
        write_text(folder / name, content)


def problems_of_artifacts(model: Any, folder: Path) -> Iterator[RunError]:
    """Yield each artifact in a run folder that differs from the model's now: the weights there do not fit it."""
    for name, content in model.artifacts().items() if isinstance(model, models.HasArtifacts) else ():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != content:
            yield RunError(
                f"{path} differs from what the model is built with now, so the weights in {folder} do not fit it",
                "train again with force=true",
            )


# --- evaluate


@dataclass(frozen=True)
class Origin:
    """Where the weights of an evaluation come from, and with which overrides; mostly fields of `Result`.

    Attributes:
        experiment: its name, if one was typed.
        overrides: those of the training, then those typed now.
        trained_task: the task that the weights were trained on.
        trained_masked: whether validation in training left out items of the history; None if it ranked no catalogue.
        training: epochs and validation score of the training that precedes it in this run.
        init_from: the run whose weights training started from.
        imported: weights that were not trained here.
        trained_run: the folder of the run that trained them, under `paths.outputs`; None in the run itself.
        training_seconds: how long that took, where it is known.
    """

    experiment: str | None
    overrides: list[str]
    trained_task: str
    trained_masked: bool | None = None
    training: Mapping[str, Number] | None = None
    init_from: InitFrom | None = None
    imported: Imported | None = None
    trained_run: str | None = None
    training_seconds: float | None = None


def description(spec: RunSpec, address: Address, origin: Origin, dataset: RecDataset | None = None) -> Result:
    """Return what a run is, without its numbers.

    Args:
        dataset: None for imported weights, which are of no prepared data.
    """
    config = spec.config
    enrichment = dataset.manifest.get("enrichment") if dataset and config.model.uses_item_text() else None
    return Result(
        folder=address.folder,
        model=config.model.name,
        shown_as=config.model.display_name() + (f", {IMPORTED}" if origin.imported else ""),
        paper_method=marks.paper_method(spec),
        dataset=config.dataset.name,
        task=config.task.name,
        split=config.split.name,
        split_rule=config.dataset.split.name,
        protocol=tasks.module(spec.task).protocol(config.task),
        mask_history=SeenItems.zeroed.name if tasks.is_zeroed(config.task) else bool(config.task.mask_history),
        seed=config.seed,
        config_hash=address.config_hash,
        variant=address.variant,
        results_version=f"{RESULTS_VERSION}.{config.model.results_version}",
        experiment=origin.experiment,
        trained_run=origin.trained_run,
        imported=origin.imported,
        init_from=origin.init_from,
        text_encoder=text_encoder_identity(config.model),
        tokens=dataset.manifest.get("tokens") if dataset else None,
        enrichment=AnswerCosts(**enrichment) if enrichment else None,
        training=origin.training,
        tuning=marks.tuning_of(config.tuning),
        arithmetic=precision_settings(spec) if dataset else None,
        overrides=origin.overrides,
        dataset_fingerprint=dataset.fingerprint if dataset else "",
    )


def evaluate(
    spec: RunSpec,
    split: Split,
    model: Any,
    address: Address,
    clock: Clock,
    floors: Sequence[Result],
    origin: Origin,
) -> Result:
    """Evaluate the model on the task, write its answers and the result, and return the latter."""
    import torch

    config = spec.config
    examples = tasks.module(spec.task).examples(split, config.split, config, spec.cache)
    evaluation, gaps = _evaluate(spec, split, model, examples, clock)
    if measured := controls(spec, split, model, examples):
        clock.lap("controls")
    chosen = model.chosen() if isinstance(model, models.ChoosesOnValidation) else None
    selected = marks.selected_masked(spec, origin.trained_masked, chosen)
    labels = [
        *marks.labels(spec, split.dataset, len(examples)),
        *marks.selection_labels(config.task, selected),
        *([IMPORTED] if origin.imported else []),
    ]
    memorisation = marks.memorisation(spec, split.dataset) if MAY_BE_MEMORISED in labels else None
    weights = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    inherited = origin.init_from
    result = replace(
        description(spec, address, origin, split.dataset),
        labels=[
            *dict.fromkeys([*labels, *(inherited.labels if inherited else [])]),
            *gaps,
            *marks.floor_labels(spec, evaluation.metrics, floors),
        ],
        deviations=[
            *(
                marks.imported_deviations(spec, origin.imported)
                if origin.imported
                else marks.deviations(spec, origin.trained_task)
            ),
            *(f"pre-training: {deviation}" for deviation in (inherited.deviations if inherited else [])),
        ],
        selected_masked=selected,
        chosen=chosen,
        n_examples=len(examples),
        metrics=evaluation.metrics,
        intervals=evaluation.intervals,
        breakdown=evaluation.breakdown,
        signatures=evaluation.signatures,
        n_parameters=sum(p.numel() for p in weights),
        n_trainable=sum(p.numel() for p in weights if p.requires_grad),
        llm=AnswerCosts(**model.usage_summary()) if isinstance(model, BatchAnswering) else None,
        controls=measured,
        memorisation=memorisation,
        seconds=clock.seconds,
        peak_rss_mb=peak_rss_mb(),
        members=[run for key in walk.settings_with(config.model, "members") for run in getattr(config.model, key)]
        or None,
        warnings=[
            *evaluation.warnings,
            *gaps.values(),
            *([marks.memorisation_warning(memorisation)] if MAY_BE_MEMORISED in labels else []),
        ],
        training_seconds=origin.training_seconds,
    )
    write_results(result, evaluation.predictions)
    return result


def _evaluate(
    spec: RunSpec, split: Split, model: Any, examples: Examples, clock: Clock
) -> tuple[tasks.Evaluation, dict[str, str]]:
    """Return the scored answers of a model, and label and sentence of each thing that they lack."""
    config, task = spec.config, tasks.module(spec.task)
    if not isinstance(model, BatchAnswering):
        evaluation = task.evaluate(model, split, examples, config)
    else:
        examples = model.prepare_answers(examples)
        clock.lap("ask")
        evaluation = task.evaluate(model, split, examples, config)
        evaluation = tasks.with_answer_details(evaluation, model, task, split, examples, config)
    clock.lap("evaluate")
    if not isinstance(model, Incomplete):
        return evaluation, {}
    return evaluation, model.gaps(examples, evaluation.predictions, list(config.task.cutoffs))


def controls(spec: RunSpec, split: Split, model: Any, examples: Examples) -> Controls | None:
    """Return what the metric depends on; None for a model without them, under `dataset.control`, or where the
    model asks for none.

    Args:
        examples: of the task, none of them repeated.
    """
    if (sample := _control_sample(spec, model, examples)) is None:
        return None
    task, metric = tasks.module(spec.task), paired_metric(spec.task.selection) or spec.task.selection

    def values(varied: Any, changed: Examples) -> NDArray[np.floating[Any]]:
        by_metric: dict[str, NDArray[np.floating[Any]]] = task.per_example(varied, split, changed, spec.config)
        return by_metric[metric]

    measured = model.controls(sample, spec.config.dataset.seed, values)
    if measured is None:
        return None
    users = len(np.unique(sample.user))
    return msgspec.convert({"users": users, "metric": metric, **measured}, Controls)


def _control_sample(spec: RunSpec, model: Any, examples: Examples) -> Examples | None:
    """Return the examples that are answered again; None where there are no controls."""
    n = model.control_examples(spec.config) if isinstance(model, HasControls) else 0
    is_control = spec.config.dataset.control is not Control.none
    if not n or is_control:
        return None
    return tasks.subset(examples, n, spec.config.dataset.seed, "controls")
