"""Checkpoints. One is complete if its manifest of file sizes and hashes, which is written last, matches its files."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import flush, sha256, write_json
from llm4rec_cli.results.result import readable

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
TRAINING_DONE = "training_done.json"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: `checkpoints/checkpoint-<step>`.
        step: optimiser steps done.
        score: the validation metric at that step; None within an epoch.
        best_step: the step with the best weights until then.
        trained_on: processes, device and precision, as in `2 x cpu, fp32`; dropout and rounding depend on them.
        seconds: training time until that step, in all processes that trained one after the other; 0 in older manifests.
        sha256: hash of the weights.
    """

    folder: Path
    step: int
    score: float | None
    best_step: int
    trained_on: str
    seconds: float
    sha256: str


def seal(
    folder: Path, step: int, score: float | None, trained_on: str, seconds: float, before: list[Checkpoint]
) -> Checkpoint:
    """Make the files in `folder` a complete checkpoint: flush them to disk, then write the manifest. A checkpoint in
    `before` may be better."""
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml has the same content
    files = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != MANIFEST:
            flush(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    earlier = best(before)
    is_best = earlier is None or (score is not None and earlier.score is not None and score > earlier.score)
    best_step = earlier.step if earlier and not is_best else step
    facts = {"step": step, "score": score, "best_step": best_step, "trained_on": trained_on, "seconds": seconds}
    write_json(folder / MANIFEST, facts | {"files": files})
    flush(folder.parent)
    return Checkpoint(folder, step, score, best_step, trained_on, seconds, str(files[WEIGHTS]["sha256"]))


def list_complete(root: Path) -> list[Checkpoint]:
    """Return the checkpoints under `root` from which training can resume, oldest first.

    Incomplete ones are removed, with a warning, and so are checkpoints whose best one is lost: a run resumed from
    them would end with other weights than an uninterrupted run.
    """
    complete = []
    for folder in sorted(root.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1])):
        checkpoint = _read(folder)
        if checkpoint is None:
            _remove(folder, "is incomplete or altered")
        else:
            complete.append(checkpoint)
    while complete and complete[-1].best_step not in {c.step for c in complete}:
        unusable = complete.pop()
        _remove(unusable.folder, f"cannot be resumed without the best checkpoint, checkpoint-{unusable.best_step}")
    return complete


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Return the checkpoint with the highest validation metric, the earliest if several are equal; None without any
    metric."""
    scored = [(c.score, -c.step, c) for c in checkpoints if c.score is not None]
    return max(scored)[2] if scored else None


def rotate(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Remove all but the best and the last checkpoint; return the remaining ones."""
    kept = [c for c in checkpoints if c in (best(checkpoints), checkpoints[-1])]
    for checkpoint in checkpoints:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint.folder)
    return kept


def mark_finished(root: Path, last: Checkpoint) -> None:
    """Record that training ended with checkpoint `last`, so that it is not resumed."""
    write_json(root / TRAINING_DONE, {"step": last.step, "best_step": last.best_step, "seconds": last.seconds})


def write_imported(root: Path, state: Mapping[str, Tensor]) -> Checkpoint:
    """Write weights that were not trained here as the checkpoint of a finished training."""
    from safetensors.torch import save_file

    shutil.rmtree(root, ignore_errors=True)  # left by a killed process
    folder = root / "checkpoint-0"
    folder.mkdir(parents=True)
    save_file({name: weight.contiguous() for name, weight in state.items()}, folder / WEIGHTS)
    checkpoint = seal(folder, 0, 0.0, "imported", 0.0, [])
    mark_finished(root, checkpoint)
    return checkpoint


def selected(root: Path) -> Checkpoint:
    """Return the checkpoint that a finished training selected; nothing in `root` is changed.

    Raises:
        RunError: training has not finished, or the checkpoint is no longer complete.
    """
    if not (file := root / TRAINING_DONE).exists():
        raise RunError(
            f"{root} has no finished training: it was killed, or its weights were removed",
            "repeat the train command, with force=true if it had finished",
        )
    with readable(file):
        folder = root / f"checkpoint-{json.loads(file.read_text())['best_step']}"
    checkpoint = _read(folder)
    if checkpoint is None:
        raise RunError(f"{folder}, the selected checkpoint, is incomplete or altered", "train again with force=true")
    return checkpoint


def load(model: nn.Module, checkpoint: Checkpoint) -> None:
    model.load_state_dict(weights(checkpoint))


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint.folder / WEIGHTS)


def _remove(folder: Path, reason: str) -> None:
    log.warning("%s %s: removed", folder, reason)
    shutil.rmtree(folder)


def _read(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None if it is incomplete or altered."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return None
    for name, fact in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != fact["bytes"] or sha256(path) != fact["sha256"]:
            return None
    facts = {key: manifest[key] for key in ("step", "score", "best_step", "trained_on")}
    return Checkpoint(
        folder, **facts, seconds=manifest.get("seconds", 0.0), sha256=manifest["files"][WEIGHTS]["sha256"]
    )
