"""The prefix tree of item codes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.shared.trie import Trie

ENDED = [[7, 3, 1], [7, 1], [7, 3, 3, 1], [7, 3, 3, 3, 1], [9, 3, 1]]  # 1 ends a code


def paths(trie):
    """leaf -> the tokens from below the root to its node."""
    tokens = {}
    for leaf in range(trie.n_leaves):
        above = [trie.token[node].item() for node in trie.ancestors(trie.leaf_node[leaf]) if node > 0]
        tokens[leaf] = above[::-1]
    return tokens


def test_branches_end_at_a_single_leaf_and_codes_that_are_not_prefix_free_are_refused():
    assert paths(Trie.from_codes(ENDED)) == {0: [7, 3, 1], 1: [7, 1], 2: [7, 3, 3, 1], 3: [7, 3, 3, 3], 4: [9]}
    trie = Trie.from_codes([[5, 6, 2], [5, 6, 3, 4], [5, 6, 3, 5]])
    assert trie.n_inner == (1, 1, 1, 1)
    assert trie.n_narrow_levels(1) == 4
    assert trie.n_children.tolist() == [1, 1, 2, 0, 2, 0, 0]
    trie = Trie.from_codes([[4, 5]])
    assert (trie.leaf.tolist(), trie.n_inner) == ([-1, 0], (1,))
    moved = Trie.from_codes(ENDED).to("meta")
    assert {moved.parent.device.type, moved.passes[0].device.type} == {"meta"}
    assert moved.level_starts == (0, 1, 3, 5, 7, 9)
    trie = Trie.from_codes([[a, b, c] for a in range(3) for b in range(4) for c in range(2)] + [[3]])
    assert trie.n_inner == (1, 3, 12)
    assert [trie.n_narrow_levels(n) for n in (1, 2, 3, 11, 12)] == [1, 1, 2, 2, 3]
    assert trie.inner_nodes(0, 2).tolist() == [0, 1, 2, 3]  # node 4 is a leaf
    assert trie.inner_nodes(3, 4).tolist() == []
    for codes, message in (
        ([[3, 4], [5], [3, 4, 2]], r"code 0 \[3, 4\] is a prefix of code 2 \[3, 4, 2\]"),
        ([[3, 4], [5], [3, 4]], r"code 0 \[3, 4\] is a prefix of code 2 \[3, 4\]"),
        ([[3, 4], []], "code 1 has no token"),
    ):
        with pytest.raises(UsageError, match=message):
            Trie.from_codes(codes)


@given(st.sets(st.lists(st.integers(2, 4), max_size=5).map(tuple), min_size=1, max_size=40))
def test_every_code_leads_to_its_leaf(drawn):
    codes = [(*code, 1) for code in drawn]
    trie = Trie.from_codes(codes)
    for leaf, path in paths(trie).items():
        code = codes[leaf]
        assert tuple(path) == code[: len(path)]
        unique_lengths = [n for n in range(1, len(code) + 1) if sum(other[:n] == code[:n] for other in codes) == 1]
        assert len(path) == unique_lengths[0]
    parents = trie.parent[1:]
    assert torch.equal(parents, parents.sort().values)
    assert trie.inner.tolist() == (trie.leaf < 0).nonzero()[:, 0].tolist()
    assert sum(trie.n_inner) == len(trie.inner)
    passes, read = Trie.from_codes(codes, 3).passes, set()
    assert torch.equal(torch.cat(passes).unique(), trie.inner)
    for nodes in passes:
        new = {*nodes.tolist()} - read
        assert 0 < len(new) <= 3
        read |= new
    assert max(trie.widest) == trie.n_children.max()
