"""The check of a GPU: its sections in order, each on its own, without network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from llm4rec_cli import arithmetic
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.results.result import Result, read_result
from llm4rec_cli.run import checkpoints, stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks.ranking import rank
from llm4rec_studies.cost.stand_in import Counts, stand_in
from llm4rec_studies.gpu_check import card, equality, sections, training
from llm4rec_studies.gpu_check.sections import SKIPPED, Section, guarded, judged

CATALOGUES = (12_000, 500_000, 1_000_000)
USERS = {False: 4096, True: 32}  # that are scored; with small shapes
SMALL_CATALOGUE = 100
RESUMED = ["model=sasrec", "dataset=demo", "trainer.epochs=4", "task.floors=[]", "trainer.precision=fp32"]
TOLERANCE = 1e-3  # of metrics after a kill, as a GPU adds in another order
TIMEOUT = 600  # seconds of a process


def check(
    shapes: str, folder: Path, only: Sequence[str] = (), models: Sequence[str] | None = None
) -> Iterator[Section]:
    """Yield the sections.

    Args:
        shapes: `full`, or `small` for any machine, also without a GPU.
        folder: for data and runs of the check, emptied by the caller.
        only: names of sections, or the beginnings of names; empty = all.
        models: whose equality with the CPU is checked; None = every model that is trained.

    Raises:
        UsageError: there is no GPU, and shapes are not small.
    """
    device, small = arithmetic.resolve_device("auto"), shapes == "small"
    if device == "cpu" and not small:
        raise UsageError("torch finds no GPU on this machine", "--shapes small tries the check on a CPU")
    rates, section = card.rates_of(device)
    chosen = lambda name: not only or name.startswith(tuple(only))  # noqa: E731
    if chosen("card"):
        yield section
    if models is None:
        models = [name for name in model_names() if config_class(name).traits.trainable]
    for name in models:
        if chosen("equality"):
            yield guarded(f"equality: {name}", lambda name=name: equality.equality(name, device, folder))  # type: ignore[misc]
    if chosen("kill and resume"):
        yield guarded("kill and resume", lambda: kill_and_resume(device, folder / "resumed"))
    for name, spec in training.trainings().items():
        if chosen(name):
            yield guarded(
                name,
                lambda name=name, spec=spec: training.training(name, spec, device, rates, small, folder),  # type: ignore[misc]
            )
    for n_items in CATALOGUES:
        if chosen("scoring"):
            yield guarded(f"scoring {n_items:,} items", lambda n=n_items: scoring(n, device, small, folder))  # type: ignore[misc]
    if chosen("two GPUs"):
        yield guarded("two GPUs", lambda: two_gpus(folder / "two"))


def scoring(n_items: int, device: str, small: bool, folder: Path) -> Section:
    """Rank the catalogue for users by a model with random weights, and count users a second."""
    typed = ["model=sasrec", "task=sequential", f"device={device}", f"paths.cache={folder}"]
    job = settled(Job.unchecked(compose(typed), "train"))
    n_users = USERS[small]
    counts = Counts(n_users, SMALL_CATALOGUE if small else n_items, 9 * n_users)
    split = stages.split_dataset(job, stand_in(job.config.dataset, counts))
    model = stages.build(job, split, is_loaded=True)
    examples = job.task_module.examples(split, SplitName.test, job.config, job.cache)
    size = job.config.trainer.eval_batch_size
    rank(model, tasks.subset(examples, size, 0, "check"), True, 10, size)
    began = time.perf_counter()
    ranking = rank(model, examples, True, 10, size)  # its ranks are on the host when it returns
    seconds = time.perf_counter() - began
    fails = [] if np.isfinite(ranking.top_scores).all() else ["a score is not finite"]
    return judged(f"scoring {n_items:,} items", {"users/s": len(examples) / seconds, "items": counts.items}, fails)


def kill_and_resume(device: str, folder: Path) -> Section:
    """Kill a training after its first checkpoint, run it again, and compare it with one that was left alone."""
    typed = [*RESUMED, f"device={device}", f"paths.cache={folder}/cache"]
    undisturbed = _trained([*typed, f"paths.outputs={folder}/undisturbed"], folder / "undisturbed")
    resumed = [*typed, f"paths.outputs={folder}/resumed"]
    process = subprocess.Popen(_train(resumed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_offline())
    deadline = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        if any((folder / "resumed").rglob(f"checkpoint-*/{checkpoints.MANIFEST}")):
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    process.wait()
    if process.returncode == 0:
        return Section("kill and resume", SKIPPED, why="the training ended before it could be killed")
    return _compared("kill and resume", undisturbed, _trained(resumed, folder / "resumed"))


def two_gpus(folder: Path) -> Section:
    """Compare a training on one GPU with one on two."""
    n = torch.cuda.device_count()
    if n < 2:
        return Section("two GPUs", SKIPPED, why=f"this machine has {n}")
    typed = [*RESUMED, f"paths.cache={folder}/cache"]
    one = _trained([*typed, f"paths.outputs={folder}/one"], folder / "one")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return _compared("two GPUs", one, _trained([*typed, f"paths.outputs={folder}/two"], folder / "two", launcher))


def _compared(name: str, expected: Result, actual: Result) -> Section:
    differences = {key: abs(actual.metrics[key] - value) for key, value in expected.metrics.items()}
    worst = max(differences, key=lambda key: differences[key])
    seconds = {"seconds": actual.seconds.get("train", 0.0), "seconds undisturbed": expected.seconds.get("train", 0.0)}
    facts: dict[str, float | str] = {f"difference of {worst}": differences[worst], **seconds}
    return judged(name, facts, [f"{worst} differs"] if differences[worst] > TOLERANCE else [])


def _train(typed: Sequence[str], launcher: Sequence[str] = ()) -> list[str]:
    return [sys.executable, *launcher, "-m", "llm4rec_cli", "train", *typed]


def _trained(typed: Sequence[str], outputs: Path, launcher: Sequence[str] = ()) -> Result:
    """Run a training in processes of its own and return its result."""
    done = subprocess.run(
        _train(typed, launcher), capture_output=True, text=True, timeout=TIMEOUT, env=_offline(), check=False
    )
    found = [result for file in outputs.rglob("metrics.json") if (result := read_result(file.parent))]
    if done.returncode or not found:
        raise RuntimeError(f"llm4rec train exits with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return found[0]


def _offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def run(shapes: str, out: Path, only: Sequence[str] = ()) -> Iterator[Section]:
    """Yield the sections, and write `gpu-DEVICE.json` and `gpu-DEVICE.md` to a folder, after each section anew."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    scratch, done = out / ".gpu-check", []
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    date = datetime.now().strftime("%Y-%m-%d")
    name = f"gpu-{device.lower().replace(' ', '-')}"
    try:
        for section in check(shapes, scratch, only):
            done.append(section)
            yield section
            write_json(out / f"{name}.json", json.loads(json.dumps(sections.report(device, shapes, date, done))))
            write_text(out / f"{name}.md", sections.markdown_row(device, date, done) + "\n")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
