"""Whether a device computes what the CPU computes: losses, gradients, scores and the best items of each model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Question, SplitName, TaskConfig
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks import base as tasks
from llm4rec_studies.gpu_check.sections import Section, judged, paths_of_accelerator

ROWS, EXAMPLES, TOP = 8, 8, 10
FP32, BF16 = 1e-3, 5e-2  # largest difference, as a share of the largest value
# Of the largest gradient of all weights: a smaller one, such as that of the bias of keys, may be 0 but for rounding.
SMALL_GRADIENT = 1e-3


def equality(model: str, device: str, cache: Path) -> Section:
    """Compare a model with its shipped settings on generated data. On a device `cpu` the paths of an accelerator are
    compared with those of a CPU.

    FAIL: the loss, a gradient or a score differs by more than FP32 of the largest, the loss in bf16 by more than BF16,
    or a best item has another score than the one in its place.
    """
    job = settled(Job.unchecked(compose([f"model={model}", f"paths.cache={cache}", "device=cpu"]), "train"))
    split = stages.split_dataset(job, stages.load(job))
    built = stages.build(job, split, is_loaded=True).eval()
    rows = built.training_rows()
    batch = rows.batch(0, list(range(min(ROWS, len(rows)))))
    examples = tasks.subset(
        job.task_module.examples(split, SplitName.valid, job.config, job.cache), EXAMPLES, 0, "check"
    )
    expected, scores = _computed(built, batch, "cpu", False), _scores(built, examples, job.task)
    with paths_of_accelerator(device):
        built.to(device).eval()  # which forgets item vectors of the CPU
        ours, our_scores = _computed(built, batch, device, False), _scores(built, examples, job.task)
        rounded = _computed(built, batch, device, True)
    least = SMALL_GRADIENT * max((x.abs().max().item() for x in expected[1:]), default=0.0)
    gradients = max((difference(a, b, least) for a, b in zip(ours[1:], expected[1:], strict=True)), default=0.0)
    facts: dict[str, float | str] = {
        "loss": difference(ours[0], expected[0]),
        "gradients": gradients,
        "loss in bf16": difference(rounded[0], expected[0]),
    }
    if scores is not None and our_scores is not None:
        facts["scores"] = difference(our_scores, scores)
        facts["best items"] = difference_of_best(our_scores, scores)
    limits = {name: BF16 if name == "loss in bf16" else FP32 for name in facts}
    fails = [f"{name} differs by {facts[name]:.1e}" for name, limit in limits.items() if not facts[name] <= limit]  # type: ignore[operator]
    return judged(f"equality: {model}", facts, fails)


def _computed(model: Any, batch: Any, device: str, bf16: bool) -> list[Tensor]:
    """Return the loss and the gradients, on the CPU."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
        loss = model(**on_device(batch, torch.device(device)))["loss"]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return [x.detach().float().cpu() for x in (loss, *gradients)]


def _scores(model: Any, examples: Any, task: TaskConfig) -> Tensor | None:
    """Return the scores of the examples; None if the task asks for no ranking."""
    if task.question != Question.rank:
        return None
    scores = model.score_shown(examples)[None] if tasks.ranks_impressions(task) else model.score(examples)
    return torch.as_tensor(scores).float().cpu()


def difference(actual: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """Return the largest difference as a share of the largest value, or of a larger `least`; nan if only one of
    them is finite."""
    finite = expected.isfinite()
    if not torch.equal(finite, actual.isfinite()):
        return float("nan")
    if not finite.any():
        return 0.0
    largest = max(least, expected[finite].abs().max().item()) or 1.0
    return (actual - expected)[finite].abs().max().item() / largest


def difference_of_best(actual: Tensor, expected: Tensor) -> float:
    """Return how much worse, by the expected scores, the best items are than those expected: 0 if they are the same or
    tie."""
    k = min(TOP, expected.shape[1])
    best = expected.gather(1, actual.topk(k).indices)
    return difference(best, expected.topk(k).values)
