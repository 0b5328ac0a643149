"""Checkpoints that are whole or not there: a manifest of sizes and hashes, written last, makes one."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import sha256, write_json

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        folder: `checkpoints/checkpoint-<step>`.
        step: optimiser steps done.
        score: the validation metric at that step.
        sha256: of its weights.
    """

    folder: Path
    step: int
    score: float
    sha256: str


def seal(folder: Path, step: int, score: float) -> Checkpoint:
    """Makes the files in `folder` a whole checkpoint."""
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; our config.yaml holds what it says
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"step": step, "score": score, "files": files})
    return Checkpoint(folder, step, score, str(files[WEIGHTS]["sha256"]))


def whole(root: Path, remove: bool = True) -> list[Checkpoint]:
    """The whole checkpoints under `root`, oldest first; what is torn is removed if it may be, and the log says so."""
    found = []
    for folder in sorted(root.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1])):
        checkpoint = _read(folder)
        if checkpoint is None:
            log.warning("%s is incomplete or altered: %s", folder, "removed" if remove else "passed over")
            if remove:
                shutil.rmtree(folder)
        else:
            found.append(checkpoint)
    return found


def best(checkpoints: list[Checkpoint]) -> Checkpoint:
    """The one with the highest validation metric; the earliest of equals.

    Raises:
        RunError: there is none.
    """
    if not checkpoints:
        raise RunError("the run has no whole checkpoint", "train anew with force=true")
    return max(checkpoints, key=lambda c: (c.score, -c.step))


def rotate(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Removes all but the best and the last; returns what is left."""
    kept = [c for c in checkpoints if c in (best(checkpoints), checkpoints[-1])]
    for checkpoint in checkpoints:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint.folder)
    return kept


def _read(folder: Path) -> Checkpoint | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    for name, fact in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != fact["bytes"] or sha256(path) != fact["sha256"]:
            return None
    return Checkpoint(folder, manifest["step"], manifest["score"], manifest["files"][WEIGHTS]["sha256"])
