"""The stages of a run, in order: load, split, build, evaluate. `fit` is a module of its own."""

from __future__ import annotations

import logging
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
from llm4rec_cli.config.schema import Control, Question, SeenItems, SplitName, TextRecipe, Written
from llm4rec_cli.errors import DataError, DryRun, RunError, raise_first
from llm4rec_cli.evaluation.metrics import paired_metric
from llm4rec_cli.files import write_text
from llm4rec_cli.labels import IMPORTED, MAY_BE_MEMORISED
from llm4rec_cli.llm import enrichment
from llm4rec_cli.llm.completions import Usage
from llm4rec_cli.models import base as models
from llm4rec_cli.results.describe import MIN_USERS
from llm4rec_cli.results.result import AnswerCosts, Controls, Number, Result
from llm4rec_cli.run import gpu, labels, memorisation
from llm4rec_cli.run.folder import peak_rss_mb, write_results
from llm4rec_cli.run.identity import RESULTS_VERSION, Address
from llm4rec_cli.run.job import Evaluation, Job
from llm4rec_cli.run.precision import llm_for_answers, settled
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks.modules import problems_of_evaluation, protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm4rec_cli.data.examples import Examples
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.llm.requests import Backend as ChatBackend

log = logging.getLogger(__name__)

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


def load(job: Job) -> RecDataset:
    """Return the prepared dataset with item texts, and with `dataset.control` applied.

    Raises:
        DataError, UsageError: it lacks what the model or the task needs.
    """
    from llm4rec_cli.data.controls import controlled_dataset
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.texts import with_texts
    from llm4rec_cli.data.tokens import attribute_tokens, with_tokens

    config = job.config.dataset
    dataset = prepare(config, job.cache)
    if config.text is TextRecipe.enriched:
        dataset = _enriched(job, dataset)
    if config.text is TextRecipe.attributes:
        attributes = attribute_tokens(dataset.items)
        if not any(attributes):
            raise DataError(
                f"dataset.text=attributes: dataset '{config.name}' has no item brands or categories",
                "dataset.text=unisrec, or another dataset",
            )
        dataset = with_tokens(dataset, attributes)
    dataset = controlled_dataset(dataset, config.control, config.seed)
    dataset = with_texts(dataset, config.text, job.cache)
    raise_first(job.problems_with_data(dataset))
    return dataset


def _enriched(job: Job, dataset: RecDataset) -> RecDataset:
    """Return the dataset with the stored tokens of its items, and with their cost in its manifest. No chat model is
    called.

    Raises:
        DataError: tokens are missing.
    """
    from llm4rec_cli.data.tokens import with_tokens
    from llm4rec_cli.llm import completions
    from llm4rec_cli.llm.store import Store

    item_requests = enrichment.item_requests(dataset, job.config.enrichment, job.llm, job.config.dataset.seed)
    with Store(completions.store_path(job.llm, job.cache)) as store:
        answers = enrichment.stored_completions(item_requests, enrichment_backend(job), store)
        if missing := len(item_requests.requests) - len(answers):
            raise DataError(
                f"dataset.text=enriched: {missing:,} of {len(item_requests.requests):,} item texts have no tokens by "
                f"llm.model={job.llm.model} in {store.path}",
                _enrich_command(job),
            )
    usage = completions.Usage(requests=len(answers))
    for completion in answers.values():
        usage.add(completion, job.llm)
    dataset = with_tokens(dataset, enrichment.parse_tokens(item_requests, answers, job.config.enrichment).tokens)
    return replace(dataset, manifest=dataset.manifest | {"enrichment": usage.describe()})


def _enrich_command(job: Job) -> str:
    """Return the command that generates the tokens, from the typed overrides."""
    dataset = [] if job.typed_keys & {"dataset", "experiment"} else [f"dataset={job.config.dataset.name}"]
    keys = [(typed, key_typed(typed)) for typed in job.typed]
    kept = [
        typed
        for typed, key in keys
        if key == "experiment"
        or (key_role(key) in ENRICH_ROLES and not key.startswith(("model.", "trainer.")) and key != "dataset.text")
    ]
    return " ".join(["llm4rec enrich", *dataset, *kept])


def enrichment_backend(job: Job) -> ChatBackend:
    """Return the backend that writes item tokens: seeded by the dataset, as all model seeds share the tokens."""
    return chat_backend(job, job.config.dataset.seed)


def chat_backend(job: Job, seed: int) -> ChatBackend:
    from llm4rec_cli.llm import completions

    return completions.build_backend(llm_for_answers(job), job.cache, job.device, seed)


def split_dataset(job: Job, dataset: RecDataset) -> Split:
    """Return the split dataset, with its held-out items and users, and with explanations if needed."""
    from llm4rec_cli.data import split
    from llm4rec_cli.data.explanations import with_explanations

    config = job.config.dataset
    result = split.hold_out(split.split_dataset(dataset), config.cold_items, config.train_users, config.seed)
    if config.train_impressions < 1:
        result = split.keep_impressions(result, config.train_impressions, config.seed)
    needs_explanations = job.task.written is Written.explanation or job.model.traits.task_bound
    if needs_explanations and "review_text" in dataset.interactions and "explanation" not in dataset.interactions:
        return with_explanations(result, job.cache)
    return result


def load_examples(job: Job) -> tuple[Split, dict[str, Any]]:
    """Return the split that the task trains on, and its examples by part, `valid` and `test`, for any model."""
    job = job.floor("popularity")  # which needs no texts
    split = split_dataset(job, load(job))
    if job.task.question == Question.rank:
        split = split.for_ranking()
    parts = (SplitName.valid, SplitName.test)
    return split, {part.value: job.task_module.examples(split, part, job.config, job.cache) for part in parts}


def build(job: Job, split: Split, folder: Path | None = None, is_loaded: bool = False) -> Any:
    """Return the model: with the weights of the run that the job evaluates or starts from, or with initial ones that
    depend only on `seed`.

    Args:
        job: with its precision settled.
        folder: the run folder, which keeps the files that belong to the weights.
        is_loaded: skip what trains initial weights, for a measurement of speed.

    Raises:
        RunError: the weights do not fit what the model is built with now.
    """
    import torch

    # As transformers' set_seed does; importing it takes seconds, and floors need nothing else of transformers.
    random.seed(job.config.seed)
    np.random.seed(job.config.seed)  # noqa: NPY002
    torch.manual_seed(job.config.seed)
    # With TF32 a product's fp32 has ten bits of mantissa on a GPU. cuDNN's, as of a GRU, would have it by default.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = job.config.trainer.tf32
    if job.task.question == Question.rank and not job.model.traits.task_bound:
        split = split.for_ranking()  # a model trained for several tasks does this itself
    evaluated = job.evaluated.folder if isinstance(job, Evaluation) else None
    is_loaded = is_loaded or evaluated is not None
    task = job.task_module
    rows = task.training_rows(split, job.config) if hasattr(task, "training_rows") else None
    scoring = job.config.trainer.scoring
    context = models.Context(
        job.model, split, job.config.seed, job.cache, job.device, job.task.name, job.llm, is_loaded, rows, scoring
    )
    model: Any = models.build(context)
    if isinstance(model, torch.nn.Module):
        model.to(job.device)
    files = model.artifacts() if isinstance(model, models.HasArtifacts) else {}
    if weights_in := evaluated or folder:
        raise_first(_problems_of_artifacts(files, weights_in))
    if folder and not evaluated and processes.is_first():
        for name, content in files.items():
            write_text(folder / name, content)
    job.load_weights(model)
    return model


def show_requests(job: Job, split: Split) -> Usage:
    """Show what a chat model would be sent, with its controls, under `llm.dry_run`; return an estimate of it."""
    task = job.task_module
    examples = task.examples(split, job.config.split, job.config, job.cache)
    model = build(settled(job), split)
    with suppress(DryRun):
        model.prepare_answers(examples)
    summary = model.usage_summary()
    total = {name: summary[name] for name in Usage().describe()}
    sample = _control_sample(job, model, examples)
    if sample is not None and (of_controls := model.controls_usage(sample, job.config.dataset.seed)) is not None:
        total = {name: total[name] + of_controls[name] for name in total}
    return Usage(**total)


def _problems_of_artifacts(files: Mapping[str, str], folder: Path) -> Iterator[RunError]:
    """Yield each file of a run folder that differs from the model's now: the weights there do not fit it."""
    for name, content in files.items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != content:
            yield RunError(
                f"{path} differs from what the model is built with now, so the weights in {folder} do not fit it",
                "train again with force=true",
            )


def gain_over_popularity(job: Job, split: Split, model: Any, examples: Any) -> dict[str, Number]:
    """Return how much better a fitted model ranks validation examples than `popularity`, as entries of `training`: the
    score of `popularity`, the gain in `task.selection`, and its 95 % t interval over users. Empty for a task that ranks
    nothing, and of too few users for an interval.
    """
    from llm4rec_cli.evaluation import crossed

    if job.task.question != Question.rank or len(np.unique(examples.user)) < MIN_USERS:
        return {}
    floor = build(job.floor("popularity"), split)
    of_model, of_popularity = (
        job.task_module.per_example(ranker, split, examples, job.config)[job.task.selection]
        for ranker in (model, floor)
    )
    by_user = [crossed.means_by_user([values], examples.user) for values in (of_model, of_popularity)]
    gain = crossed.difference(*by_user)
    low, high = gain.interval()
    return {
        "popularity": float(of_popularity.mean()),
        "gain": gain.value,
        "gain_low": low,
        "gain_high": high,
    }


def result_of(job: Job, address: Address, dataset: RecDataset | None, **measured: Any) -> Result:
    """Return the result of a run. Imported weights have no prepared dataset.

    Args:
        measured: fields of the result that the job does not tell.
    """
    config = job.config
    known = job.of_training | measured
    enrichment = dataset.manifest.get("enrichment") if dataset and config.model.uses_item_text() else None
    return Result(
        folder=address.folder,
        model=config.model.name,
        shown_as=config.model.display_name() + (f", {IMPORTED}" if known.get("imported") else ""),
        paper_method=job.paper_method,
        dataset=config.dataset.name,
        task=config.task.name,
        split=config.split.name,
        split_rule=config.dataset.split.name,
        protocol=protocol(config.task),
        mask_history=SeenItems.zeroed.name if tasks.is_zeroed(config.task) else config.task.masked,
        seed=config.seed,
        config_hash=address.config_hash,
        variant=address.variant,
        results_version=f"{RESULTS_VERSION}.{config.model.results_version}",
        experiment=job.experiment,
        init_from=job.init_from,
        text_encoder=job.text_encoder,
        tokens=dataset.manifest.get("tokens") if dataset else None,
        enrichment=AnswerCosts(**enrichment) if enrichment else None,
        tuning=job.tuning,
        arithmetic=job.arithmetic,
        dataset_fingerprint=dataset.fingerprint if dataset else "",
        **known,
    )


def evaluate(
    job: Job,
    split: Split,
    model: Any,
    address: Address,
    training: Mapping[str, Number] | None,
    clock: Clock,
    floors: Sequence[Result],
    meter: gpu.Meter | None = None,
) -> Result:
    """Evaluate the model on the task, write its answers and the result, and return it.

    Args:
        training: the result's entry of this name; None for what was not trained.
    """
    import torch

    config = job.config
    examples = job.task_module.examples(split, config.split, config, job.cache)
    evaluation, gaps = _evaluate(job, split, model, examples, clock)
    if measured := controls(job, split, model, examples):
        clock.lap("controls")
    chosen = model.chosen() if isinstance(model, models.ChoosesOnValidation) else None
    selected = labels.selected_masked(config, job.trained_masked, chosen)
    trained = job.evaluated.result.training if isinstance(job, Evaluation) else training
    imported, metrics = job.of_training.get("imported"), evaluation.metrics
    names = labels.labels(
        config, split.dataset, len(examples), metrics, trained, selected, gaps, floors, imported, job.init_from
    )
    warnings = [*labels.training_warnings(trained or {}), *evaluation.warnings, *gaps.values()]
    memorised = None
    if MAY_BE_MEMORISED in names:
        memorised = memorisation.read(config, split.dataset)
        warnings.append(memorisation.warning(memorised, memorisation.model_name(config)))
    weights = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    result = result_of(
        job,
        address,
        split.dataset,
        training=training,
        labels=names,
        deviations=job.deviations,
        selected_masked=selected,
        chosen=chosen,
        n_examples=len(examples),
        metrics=metrics,
        intervals=evaluation.intervals,
        breakdown=evaluation.breakdown,
        signatures=evaluation.signatures,
        n_parameters=sum(p.numel() for p in weights),
        n_trainable=sum(p.numel() for p in weights if p.requires_grad),
        llm=AnswerCosts(**model.usage_summary()) if isinstance(model, BatchAnswering) else None,
        controls=measured,
        memorisation=memorised,
        seconds=clock.seconds,
        peak_rss_mb=peak_rss_mb(),
        gpu=meter.costs() if meter else None,
        members=[run for key in walk.settings_with(config.model, "members") for run in getattr(config.model, key)]
        or None,
        warnings=warnings,
    )
    write_results(result, evaluation.predictions)
    return result


def _evaluate(
    job: Job, split: Split, model: Any, examples: Examples, clock: Clock
) -> tuple[tasks.Evaluation, dict[str, str]]:
    """Return the scored answers of a model, and label and sentence of each thing that they lack."""
    config, task = job.config, job.task_module
    if not isinstance(model, BatchAnswering):
        evaluation = task.evaluate(model, split, examples, config)
    else:
        examples = model.prepare_answers(examples)
        clock.lap("ask")
        evaluation = task.evaluate(model, split, examples, config)
        evaluation = tasks.with_answer_details(evaluation, model, task, split, examples, config)
    clock.lap("evaluate")
    raise_first(problems_of_evaluation(config.task, evaluation))
    if not isinstance(model, Incomplete):
        return evaluation, {}
    return evaluation, model.gaps(examples, evaluation.predictions, list(config.task.cutoffs))


def controls(job: Job, split: Split, model: Any, examples: Examples) -> Controls | None:
    """Return what the metric depends on; None for a model without controls, under `dataset.control`, or where the
    model asks for none."""
    if (sample := _control_sample(job, model, examples)) is None:
        return None
    task, metric = job.task_module, paired_metric(job.task.selection) or job.task.selection

    def values(varied: Any, changed: Examples) -> NDArray[np.floating[Any]]:
        by_metric: dict[str, NDArray[np.floating[Any]]] = task.per_example(varied, split, changed, job.config)
        return by_metric[metric]

    measured = model.controls(sample, job.config.dataset.seed, values)
    if measured is None:
        return None
    users = len(np.unique(sample.user))
    return msgspec.convert({"users": users, "metric": metric, **measured}, Controls)


def _control_sample(job: Job, model: Any, examples: Examples) -> Examples | None:
    """Return the examples that are answered again; None without controls."""
    n = model.control_examples(job.config) if isinstance(model, HasControls) else 0
    is_control = job.config.dataset.control is not Control.none
    if not n or is_control:
        return None
    return tasks.subset(examples, n, job.config.dataset.seed, "controls")
