"""A CUDA card computes what the CPU computes, and a training step never waits for it; skipped without a card.

python -m pytest -m gpu -n 0 -s              prints the speed, waits and peak memory of each training
GPU_TESTS=cpu python -m pytest -m gpu …      tries the tests themselves, on a CPU
"""

import os
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.conformance.suite import EXAMPLES, LOG, SHOWN, SPLIT, built  # noqa: F401
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from tests.models.test_conformance import MODELS, bert, chat_model, composed, is_tested  # noqa: F401

DEVICE = torch.device(os.environ.get("GPU_TESTS", "cuda"))
ON_GPU = DEVICE.type == "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="no CUDA card")]

TOLERANCE = 1e-3  # of fp32, as a share of the largest value of a tensor
STEPS, WARM_UP = 20, 3
MADE = ["trainer.precision=bf16", f"device={DEVICE.type}"]


@pytest.mark.parametrize("name", [name for name in MODELS if is_tested(name, ("trainable",))])
def test_loss_gradients_and_scores_are_those_of_the_cpu(name, built):  # noqa: F811
    of_clicks = is_tested(name, ("rank_impressions",)) and not is_tested(name, ("rank_catalogue",))
    model = built(name, split=LOG if of_clicks else SPLIT).eval()
    rows = model.training_rows()
    batch = rows.batch(0, list(range(min(len(rows), 32))))
    expected = computed(model, batch, name)
    actual = computed(model.to(DEVICE).eval(), on_device(batch, DEVICE), name)  # eval() forgets vectors of the CPU
    assert actual.keys() == expected.keys()
    for what in expected:
        assert_close(actual[what], expected[what], rel=TOLERANCE, msg=what)


def computed(model, batch, name):
    """Return the loss, the gradients of each module, and the scores, on the CPU."""
    weights = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    loss = model(**batch)["loss"]
    gradients = torch.autograd.grad(loss, [*weights.values()], allow_unused=True, materialize_grads=True)
    parts = {"loss": [loss.detach()]}
    for key, gradient in zip(weights, gradients, strict=True):  # of a bias alone, it may be 0 but for rounding
        parts.setdefault(f"gradient of {key.rpartition('.')[0]}", []).append(gradient)
    if is_tested(name, ("rank_catalogue",)):
        parts["scores"] = [model.score(EXAMPLES)]
    elif is_tested(name, ("rank_impressions",)):
        parts["scores"] = [model.score_shown(SHOWN)]
    elif is_tested(name, ("rate",)):
        parts["ratings"] = [torch.from_numpy(model.rate(EXAMPLES).value)]
    return {what: torch.cat([x.float().cpu().flatten() for x in each]) for what, each in parts.items()}


@pytest.mark.parametrize("name", [name for name in model_names() if config_class(name).traits.trainable])
def test_twenty_steps_of_a_training_never_wait_and_their_losses_are_finite(name, cache):
    job = settled(Job.unchecked(compose([f"model={name}", f"paths.cache={cache / 'llm4rec'}", *MADE]), "train"))
    model = stages.build(job, stages.split_dataset(job, stages.load(job)), is_loaded=True).train()
    rows, size = model.training_rows(), job.config.trainer.batch_size
    order = np.random.default_rng(0).permutation(np.resize(np.arange(len(rows)), (WARM_UP + STEPS) * size))
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-5, fused=True)
    batches = [rows.batch(0, indices.tolist()) for indices in np.split(order, WARM_UP + STEPS)]

    def step(batch):
        with autocast(DEVICE, job.config.trainer.precision):
            loss = model(**on_device(batch, DEVICE))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    for batch in batches[:WARM_UP]:
        step(batch)
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    start = now()
    with waits() as found:
        losses = [step(batch) for batch in batches[WARM_UP:]]
    seconds = now() - start
    peak = torch.cuda.max_memory_allocated() if ON_GPU else 0
    print(f"{name}: {STEPS * size / seconds:,.0f} rows/s, {len(found)} waits, {peak / 2**30:.2f} GiB at the peak")
    assert torch.stack(losses).isfinite().all()
    assert found == []


def now():
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def waits():
    """Yield a list that gets the place of each wait of the processor for the GPU within the block."""
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if ON_GPU:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if ON_GPU:
                torch.cuda.set_sync_debug_mode("default")
    found += [f"{each.filename}:{each.lineno}" for each in caught if "synchroniz" in str(each.message)]
