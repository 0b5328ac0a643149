"""The work of soak_resume.sh: kill -9, the same command again, and a comparison with an undisturbed run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

MODEL = "unisrec"
COMMAND = (
    *(sys.executable, "-m", "llm4rec_cli", "train", f"model={MODEL}", "trainer.epochs=4", "task.floors=[popularity]"),
    *(
        "model.hidden_size=32",
        "model.inner_size=32",
        "model.layers=1",
        "model.experts=2",
        "model.encoder.max_length=16",
    ),
    "paths.cache=cache",
)
APART = ("seconds", "peak_rss_mb")  # of metrics.json
RUN = f"outputs/{MODEL}/demo/sequential/seed0-*"

# Where a kill may be aimed: the moment at which something of this name is first seen in the working folder.
AIMS = {
    "raw files half written": "cache/raw/.*.part/*",
    "dataset half written": "cache/datasets/.*.part/*",
    "text features half written": "cache/features/.*.part",
    "a first weight saved": f"{RUN}/checkpoints/checkpoint-*/model.safetensors",
    "an optimiser saved": f"{RUN}/checkpoints/checkpoint-*/optimizer.pt",
    "a manifest half written": f"{RUN}/checkpoints/checkpoint-*/.manifest*",
    "an epoch logged": f"{RUN}/train_log.jsonl",
    "training half noted as done": f"{RUN}/checkpoints/.training_done*",
    "training just done": f"{RUN}/checkpoints/training_done.json",
    "an older checkpoint due to go": f"{RUN}/checkpoints/checkpoint-4*/manifest.json",
    "predictions written": f"{RUN}/predictions.parquet",
    "metrics written": f"{RUN}/metrics.json",
}


def main() -> int:
    parser = argparse.ArgumentParser("scripts/soak_resume.sh", description=__doc__)
    parser.add_argument("kills", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="soak-"))
    whole = work / "undisturbed"
    whole.mkdir()
    begun = time.monotonic()
    start(whole).wait()
    seconds = time.monotonic() - begun
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    expected = facts(whole)
    told: Counter[str] = Counter()
    equal = 0
    for i in range(options.kills):
        rng = np.random.default_rng([options.seed, i])
        folder = work / f"kill{i}"
        how = kill(folder, rng, seconds)
        where = state(folder)
        code = start(folder).wait()
        found = facts(folder) if code == 0 else {"exit code": code}
        differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        left = [path.name for path in folder.rglob("*.part")]
        told[where] += 1
        equal += not differing and not left
        said = "equal" if not differing and not left else f"NOT EQUAL: {', '.join(differing + left)}"
        print(f"kill {i + 1:>3}: {how}; then: {where}; resumed: {said}", flush=True)
        if not differing and not left:
            shutil.rmtree(folder)
    for where, times in told.most_common():
        print(f"  {times:>3} × {where}")
    print(f"{equal} of {options.kills} equal")
    if equal == options.kills:
        shutil.rmtree(work)
    return int(equal != options.kills)


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(COMMAND, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def kill(folder: Path, rng: np.random.Generator, seconds: float) -> str:
    """Starts the command in a new folder and kills it: at a random moment, or when something is first seen.

    A run that ended before is no kill: it is begun again, to be killed at another moment.

    Returns:
        in words, when.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    process = start(folder)
    begun = time.monotonic()
    if rng.random() < 0.5:
        moment = rng.uniform(0, seconds)
        what = f"after {moment:.1f} s"
        due: Callable[[], bool] = lambda: time.monotonic() - begun > moment  # noqa: E731
    else:
        what = str(rng.choice(list(AIMS)))
        due = lambda: any(folder.glob(AIMS[what]))  # noqa: E731
    while process.poll() is None and not due():
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"killed {what}"
    return kill(folder, rng, seconds)


def state(folder: Path) -> str:
    """What a killed run had come to."""
    run = next(folder.glob(RUN), None)
    if run is None:
        return "nothing of the run yet"
    status = json.loads((run / "status.json").read_text())["status"] if (run / "status.json").exists() else "no status"
    sealed = len(list(run.glob("checkpoints/checkpoint-*/manifest.json")))
    unsealed = len(list(run.glob("checkpoints/checkpoint-*"))) - sealed
    if status == "done":
        return "done"
    if (run / "metrics.json").exists():
        return "metrics, not yet done"
    if (run / "checkpoints/training_done.json").exists():
        return "trained, not evaluated"
    return "in a save" if unsealed else f"training, {sealed} checkpoint(s)" if sealed else "before the first checkpoint"


def facts(folder: Path) -> dict[str, object]:
    """All of a finished run that must not depend on a kill."""
    (run,) = folder.glob(RUN)
    metrics = json.loads((run / "metrics.json").read_text())
    weights = {str(p.relative_to(run)): p.read_bytes() for p in run.glob("checkpoints/*/model.safetensors")}
    return {
        **weights,
        "training_done": (run / "checkpoints/training_done.json").read_text(),
        "metrics": {key: value for key, value in metrics.items() if key not in APART},
        "status": json.loads((run / "status.json").read_text())["status"],
        "predictions": pd.read_parquet(run / "predictions.parquet").to_json(),
        "log": (run / "train_log.jsonl").read_text(),
    }


if __name__ == "__main__":
    sys.exit(main())
