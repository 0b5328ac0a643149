"""A walk through the pages on the other papers. A file of its own, so that another worker may take it."""

import pytest

from tests.docs.commands import DOCS, walk_through


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unisrec", "chatgptrec", "prompt4nr"])
def test_commands_run_in_their_order(name, tmp_path_factory, cache):
    walk_through([DOCS / f"papers/{name}.md"], tmp_path_factory.mktemp, cache)
