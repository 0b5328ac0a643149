"""The first optimiser step of a training: loss, gradients and change of weights.

These depend on the machine by rounding alone, where the metrics of a trained model may differ in whole ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from llm4rec_cli.run import fit

Step = dict[str, Any]


@contextmanager
def first_step(stop: bool = False) -> Iterator[Step]:
    """Yield a dict that a training within the block fills; with `stop`, interrupt the training then.

    `loss` is that of the first batch; `gradients` has the norm for each trained tensor, in the model's order; `update`
    is the norm of the change of all weights.
    """
    step: Step = {}
    before: list[tuple[nn.Parameter, torch.Tensor]] = []
    training_step = fit._Trainer.training_step

    def watched(trainer: Any, model: nn.Module, *arguments: Any) -> torch.Tensor:
        loss = training_step(trainer, model, *arguments)
        if not step:
            step["loss"] = loss.item()
            before.extend((weight, weight.detach().clone()) for weight in model.parameters() if weight.requires_grad)
        return loss

    def stepped(*_: Optimizer | Any) -> None:
        if before:
            step["gradients"] = [_norm(weight.grad) for weight, _ in before]
            step["update"] = _norm(torch.cat([(weight.detach() - old).flatten() for weight, old in before]))
            before.clear()
            if stop:
                raise KeyboardInterrupt

    hook = register_optimizer_step_post_hook(stepped)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit._Trainer, "training_step", watched)
            yield step
    finally:
        hook.remove()


def _norm(x: torch.Tensor | None) -> float:
    """Return the norm to six digits; 0 for a weight that no row of the batch uses."""
    return 0.0 if x is None else float(f"{x.double().norm().item():.6g}")
