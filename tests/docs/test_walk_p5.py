"""A walk through the page on P5. A file of its own, so that another worker may take it."""

import pytest

from tests.docs.commands import DOCS, walk_through


@pytest.mark.slow
def test_commands_run_in_their_order(tmp_path_factory, cache):
    walk_through([DOCS / "papers/p5.md"], tmp_path_factory.mktemp, cache)
