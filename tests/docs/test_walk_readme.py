"""A walk through the README and docs/results.md. A file of its own, so that another worker may take it."""

import pytest

from tests.docs.commands import README, walk_through


@pytest.mark.slow
def test_commands_run_in_their_order(tmp_path_factory, cache):
    walk_through(README, tmp_path_factory.mktemp, cache)
