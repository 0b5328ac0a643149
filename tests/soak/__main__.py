"""Called by scripts/soak.sh: disturb commands on small data, and count how often they end as undisturbed ones."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial

from tests.soak import damage, disturb, together
from tests.soak.bench import COMMANDS, bench

PARTS = {
    "kills": partial(disturb.soak, disturb=disturb.kill),
    "power-cuts": partial(disturb.soak, disturb=disturb.cut_power),
    "damaged": damage.soak,
    "together": together.soak,
}


def main(*arguments: str) -> int:
    parser = argparse.ArgumentParser("scripts/soak.sh", description=__doc__)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=int, default=0, metavar="N", help="number of trials (default: 0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, metavar="I", help="number of the first trial, to repeat it")
    parser.add_argument("--commands", help="or kinds of damaged files, separated by commas")
    parser.add_argument("--folder", help="where to work and leave the last trial (default: a temporary folder)")
    options = parser.parse_args(arguments)
    names = options.commands.split(",") if options.commands else list(COMMANDS)
    rows: list[Sequence[object]] = []
    with bench(options.folder) as made:
        for part, soak in PARTS.items():
            if n := getattr(options, part.replace("-", "_")):
                begun = time.monotonic()
                trials = range(options.first, options.first + n)
                chosen = names if soak is damage.soak else [name for name in names if name in COMMANDS]
                failed = soak(made, trials, options.seed, names=chosen)
                rows.append((part, n - failed, n, (time.monotonic() - begun) / 60))
    for row in rows:
        print("{:<12} {:>5} of {:<5} {:.1f} minutes".format(*row))
    return int(any(passed != trials for _, passed, trials, _ in rows))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
