"""Called by soak_resume.sh: kill -9, the same command again, and a comparison with an uninterrupted run."""

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
    *("model.hidden_size=32", "model.inner_size=32", "model.layers=1", "model.experts=2"),
    *("model.encoder.max_length=16", "paths.cache=cache"),
)
NOT_COMPARED = ("seconds", "peak_rss_mb")  # keys of training_done.json and metrics.json
RUN = f"outputs/{MODEL}/demo/sequential/seed0-*"

# Event -> glob in the working folder; the run is killed as soon as a path matches.
EVENTS = {
    "raw files half written": "cache/raw/.*.part/*",
    "dataset half written": "cache/datasets/.*.part/*",
    "text features half written": "cache/features/.*.part",
    "first weights saved": f"{RUN}/checkpoints/checkpoint-*/model.safetensors",
    "an optimiser saved": f"{RUN}/checkpoints/checkpoint-*/optimizer.pt",
    "a manifest half written": f"{RUN}/checkpoints/checkpoint-*/.manifest*",
    "an epoch logged": f"{RUN}/train_log.jsonl",
    "end of training half recorded": f"{RUN}/checkpoints/.training_done*",
    "end of training recorded": f"{RUN}/checkpoints/training_done.json",
    "an older checkpoint to be removed": f"{RUN}/checkpoints/checkpoint-4*/manifest.json",
    "predictions written": f"{RUN}/predictions.parquet",
    "metrics written": f"{RUN}/metrics.json",
}


def main() -> int:
    parser = argparse.ArgumentParser("scripts/soak_resume.sh", description=__doc__)
    parser.add_argument("kills", type=int, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments (default: 0)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="soak-"))
    uninterrupted = work / "uninterrupted"
    uninterrupted.mkdir()
    started = time.monotonic()
    start(uninterrupted).wait()
    seconds = time.monotonic() - started
    print(f"uninterrupted: {seconds:.0f} s", flush=True)
    expected = outputs(uninterrupted)
    states: Counter[str] = Counter()
    equal = 0
    for i in range(options.kills):
        rng = np.random.default_rng([options.seed, i])
        folder = work / f"kill{i}"
        moment = kill(folder, rng, seconds)
        killed_in = state(folder)
        code = start(folder).wait()
        actual = outputs(folder) if code == 0 else {"exit code": code}
        problems = sorted(key for key in expected.keys() | actual.keys() if expected.get(key) != actual.get(key))
        problems += [f"leftover {path.name}" for path in folder.rglob("*.part")]
        states[killed_in] += 1
        equal += not problems
        result = f"NOT EQUAL: {', '.join(problems)}" if problems else "equal"
        print(f"kill {i + 1:>3}: killed {moment}; state: {killed_in}; resumed: {result}", flush=True)
        if not problems:
            shutil.rmtree(folder)
    for killed_in, count in states.most_common():
        print(f"  {count:>3} × {killed_in}")
    print(f"{equal} of {options.kills} equal")
    if equal == options.kills:
        shutil.rmtree(work)
    return int(equal != options.kills)


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(COMMAND, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def kill(folder: Path, rng: np.random.Generator, seconds: float) -> str:
    """Start the command in a new folder and kill it at a random moment or event; return that moment in words.

    A run that ends before it is killed is started again, to be killed at another moment.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    process = start(folder)
    started = time.monotonic()
    if rng.random() < 0.5:
        delay = rng.uniform(0, seconds)
        moment = f"after {delay:.1f} s"
        due: Callable[[], bool] = lambda: time.monotonic() - started > delay  # noqa: E731
    else:
        event = str(rng.choice(list(EVENTS)))
        moment = f"at: {event}"
        due = lambda: any(folder.glob(EVENTS[event]))  # noqa: E731
    while process.poll() is None and not due():
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return moment
    return kill(folder, rng, seconds)


def state(folder: Path) -> str:
    """Describe how far a killed run had come."""
    run = next(folder.glob(RUN), None)
    if run is None:
        return "no run folder yet"
    status = json.loads((run / "status.json").read_text())["status"] if (run / "status.json").exists() else "no status"
    complete = len(list(run.glob("checkpoints/checkpoint-*/manifest.json")))
    incomplete = len(list(run.glob("checkpoints/checkpoint-*"))) - complete
    if status == "done":
        return "done"
    if (run / "metrics.json").exists():
        return "metrics written, not done"
    if (run / "checkpoints/training_done.json").exists():
        return "trained, not evaluated"
    if incomplete:
        return "saving a checkpoint"
    return f"training, {complete} checkpoint(s)" if complete else "before the first checkpoint"


def outputs(folder: Path) -> dict[str, object]:
    """Return all outputs of a finished run that must not depend on a kill."""
    (run,) = folder.glob(RUN)
    done = json.loads((run / "checkpoints/training_done.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    weights = {str(p.relative_to(run)): p.read_bytes() for p in run.glob("checkpoints/*/model.safetensors")}
    return {
        **weights,
        "training_done": {key: value for key, value in done.items() if key not in NOT_COMPARED},
        "metrics": {key: value for key, value in metrics.items() if key not in NOT_COMPARED},
        "status": json.loads((run / "status.json").read_text())["status"],
        "predictions": pd.read_parquet(run / "predictions.parquet").to_json(),
        "log": (run / "train_log.jsonl").read_text(),
    }


if __name__ == "__main__":
    sys.exit(main())
