"""Puts the scripts' folder on the path, as when one of them is run; it is not a package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))


@pytest.fixture
def bench_prints(capsys):
    """bench_prints(main, arguments, *words): run a benchmark, which prints these words."""

    def check(main, arguments, *words):
        main(arguments)
        printed = capsys.readouterr().out
        assert [word for word in words if word not in printed] == []

    return check
