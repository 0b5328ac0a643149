"""A walk through the README, the start, the guides and the results. A file of its own, so that another worker may take
it."""

import pytest

from tests.docs.commands import GUIDES, walk_through


@pytest.mark.slow
def test_commands_run_in_their_order(tmp_path_factory, cache):
    walk_through(GUIDES, tmp_path_factory.mktemp, cache)
