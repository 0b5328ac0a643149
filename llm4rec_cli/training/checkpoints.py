"""Checkpoints that are whole or not there: a manifest of sizes and hashes, written last, makes one."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import flush, sha256, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
TRAINING_DONE = "training_done.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        folder: `checkpoints/checkpoint-<step>`.
        step: optimiser steps done.
        score: the validation metric at that step.
        best_step: the step whose weights were to be chosen then.
        trained_on: processes, device and precision, `2 x cpu, fp32`: the draws of dropout and the rounding are theirs.
        sha256: of its weights.
    """

    folder: Path
    step: int
    score: float
    best_step: int
    trained_on: str
    sha256: str


def seal(folder: Path, step: int, score: float, trained_on: str, before: list[Checkpoint]) -> Checkpoint:
    """Makes the files in `folder` a whole checkpoint; all of them are on disk before the manifest is.

    Args:
        before: the checkpoints kept so far that might be better.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; our config.yaml holds what it says
    files = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != MANIFEST:
            flush(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    best_step = step if all(score > c.score for c in before) else best(before).step
    facts = {"step": step, "score": score, "best_step": best_step, "trained_on": trained_on}
    write_json(folder / MANIFEST, facts | {"files": files})
    flush(folder.parent)
    return Checkpoint(folder, step, score, best_step, trained_on, str(files[WEIGHTS]["sha256"]))


def list_complete(root: Path) -> list[Checkpoint]:
    """The checkpoints under `root` that training can go on from, oldest first.

    What is torn is removed, and so is what comes after a best one that is lost: going on from there would end with
    other weights than an undisturbed run. The log says so.
    """
    found = []
    for folder in _folders(root):
        checkpoint = _read(folder)
        if checkpoint is None:
            _remove(folder, "is incomplete or altered")
        else:
            found.append(checkpoint)
    while found and found[-1].best_step not in {c.step for c in found}:
        lost = found.pop()
        _remove(lost.folder, f"is of no use without the best one, checkpoint-{lost.best_step}")
    return found


def best(checkpoints: list[Checkpoint]) -> Checkpoint:
    """The one with the highest validation metric; the earliest of equals."""
    return max(checkpoints, key=lambda c: (c.score, -c.step))


def rotate(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Removes all but the best and the last, where there is any; returns what is left."""
    kept = [c for c in checkpoints if c in (best(checkpoints), checkpoints[-1])]
    for checkpoint in checkpoints:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint.folder)
    return kept


def mark_finished(root: Path, last: Checkpoint) -> None:
    """Notes that training ended with `last`: what was chosen, and that it must not go on."""
    write_json(root / TRAINING_DONE, {"step": last.step, "best_step": last.best_step})


def selected(root: Path) -> Checkpoint:
    """The checkpoint that a finished training chose; `root` is read, nothing there is changed.

    Raises:
        RunError: training has not finished, or that checkpoint is not whole any more.
    """
    try:
        done = json.loads((root / TRAINING_DONE).read_text())
    except FileNotFoundError as error:
        raise RunError(
            f"{root} holds no finished training: it was killed, or its weights were removed",
            "give the train command again, with force=true if it had finished",
        ) from error
    folder = root / f"checkpoint-{done['best_step']}"
    checkpoint = _read(folder)
    if checkpoint is None:
        raise RunError(f"{folder}, the best one, is incomplete or altered", "train anew with force=true")
    return checkpoint


def load_best(model: nn.Module, folder: Path) -> Checkpoint:
    """Loads the weights with the highest validation metric; reads `folder`, changes nothing there.

    Raises:
        RunError: training has not finished, or its best checkpoint is torn.
    """
    best = selected(folder)
    load(model, best)
    return best


def load(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads its weights."""
    model.load_state_dict(weights(checkpoint))


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Its weights by name, on the CPU."""
    from safetensors.torch import load_file

    return load_file(checkpoint.folder / WEIGHTS)


def _folders(root: Path) -> list[Path]:
    return sorted(root.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1]))


def _remove(folder: Path, why: str) -> None:
    log.warning("%s %s: removed", folder, why)
    shutil.rmtree(folder)


def _read(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`; None where it is not whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return None
    for name, fact in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != fact["bytes"] or sha256(path) != fact["sha256"]:
            return None
    facts = {key: manifest[key] for key in ("step", "score", "best_step", "trained_on")}
    return Checkpoint(folder, **facts, sha256=manifest["files"][WEIGHTS]["sha256"])
