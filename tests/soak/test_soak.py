"""A few trials of each part of the soak; scripts/soak.sh runs many."""

import pytest

from tests.soak.__main__ import main
from tests.support import forked


@pytest.mark.slow
def test_disturbed_commands_end_as_undisturbed_ones(tmp_path):
    trials = {"kills": 3, "power-cuts": 3, "damaged": 6, "together": 2}
    options = [word for part, n in trials.items() for word in (f"--{part}", str(n))]
    out = forked.run(main, *options, "--commands", "train sasrec,enriching,raw", "--seed", "5", cwd=tmp_path)
    for part, n in trials.items():
        assert f"{part:<12} {n:>5} of {n:<5}" in out
