"""Run two to four commands at the same time on one cache, one store of answers and one outputs folder."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np

from tests.soak.bench import BEFORE, COMMANDS, Bench, differences, snapshot
from tests.soak.disturb import Changes, Undisturbed, undisturbed

MOST = 4  # commands at the same time
# What several commands decide together (the machine's measurement, the trials of a search, a page of all runs), and
# folders with the time in their names.
SHARED = re.compile(r"cache/arithmetic\.json|outputs/(tune|\.sweeps)/.*|conf/experiment/mine/tuned\.yaml|page\.html")


def soak(bench: Bench, trials: range, seed: int, names: list[str]) -> int:
    """Run commands together, in half of the trials the same one; each must leave what it leaves alone. Return the
    number of failed trials."""
    changes, alone, failed = Changes(), dict[str, Undisturbed](), 0
    for i in trials:
        rng = np.random.default_rng([seed, i])
        n = int(rng.integers(2, MOST + 1))
        chosen = [str(rng.choice(names))] * n if i % 2 else [str(name) for name in rng.choice(names, n)]
        for name in {*chosen} - {*alone}:
            alone[name] = undisturbed(bench, name, changes)
        problems = trial(bench, chosen, alone, rng)
        failed += bool(problems)
        print(f"together {i}: {', '.join(chosen)}: {problems or 'equal'}", flush=True)
    return failed


def trial(bench: Bench, chosen: list[str], alone: dict[str, Undisturbed], rng: np.random.Generator) -> str:
    """Start commands within a second of one another; return the problems with what they leave."""
    folder = bench.fresh("trial")
    for command in (command for name in dict.fromkeys(chosen) for command in BEFORE.get(name, ())):
        bench.run(folder, command)
    begun, pids = time.monotonic(), []
    for name in chosen:
        pids.append(bench.begin(folder, COMMANDS[name]))
        time.sleep(rng.choice([0, rng.uniform(0, 1)]))
    ended = [bench.end(folder, pid, begun) for pid in pids]
    failed = [f"{name}: {end.code}: {end.err[-300:]}" for name, end in zip(chosen, ended, strict=True) if end.code]
    expected: dict[str, Any] = {}
    for name in chosen:
        for path, content in alone[name].left.items():  # a store holds the answers to each
            known = {*expected.get(path, ()), *content} if path.endswith(".sqlite") else None
            expected[path] = content if known is None else sorted(known)
    left = snapshot(folder)
    problems = [path for path in differences(expected, left) if not SHARED.fullmatch(path)]
    return "; ".join([*failed, *problems])
