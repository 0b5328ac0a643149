"""TIGER (Rajput et al., NeurIPS 2023, arXiv 2305.05065): the next item's id is generated code by code by a T5.

The source is a token for the user, of those into which users are hashed, and the codes of the latest items; the target
is the next item's id. Each training target is one row.

Items are ranked as `generated_ids` says. Unconstrained beams choose among all tokens, and one that is no item's id is
lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.errors import DataError
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.batch import as_tensors
from llm4rec_cli.models.shared.seq2seq import PackedT5, pack_batch, random_t5
from llm4rec_cli.models.shared.sequences import PrefixRows
from llm4rec_cli.models.shared.t5_shapes import T5Shape
from llm4rec_zoo.ids.config import Softmax
from llm4rec_zoo.ids.generated_ids import IdRanker, IdTokens
from llm4rec_zoo.ids.semantic import codes_of
from llm4rec_zoo.models.tiger.config import TigerConfig


class Sources:
    """Token sequences of histories."""

    def __init__(self, ids: IdTokens, user_tokens: int, max_length: int) -> None:
        self.of_item, self.first_user = ids.of_item, int(ids.first[-1])
        self.user_tokens, self.max_length = user_tokens, max_length
        self.n_tokens = self.first_user + user_tokens

    def __call__(self, user: int, items: IntArray) -> decoding.Source:
        """Return the tokens of a user and the latest items, and zeros in place of whole words; those of an empty
        history are the decoder's first token, if users are not read."""
        parts = [np.array([self.first_user + user % self.user_tokens])] if self.user_tokens else []
        parts += [self.of_item[item] for item in items[-self.max_length :]]
        tokens = np.concatenate(parts) if parts else np.zeros(1, dtype=np.int64)
        return tokens, np.zeros_like(tokens)


class TargetRows:
    """One training row for each target, with the latest items before it.

    Args:
        target_of: what is to be predicted of each item: tokens, or nodes of the tree of ids.
    """

    def __init__(self, split: Split, sources: Sources, target_of: list[IntArray]) -> None:
        self.sources, self.prefixes = sources, PrefixRows(split, sources.max_length)
        self.target_of, self.n_codes = target_of, np.array([len(tokens) for tokens in sources.of_item])

    def __len__(self) -> int:
        return len(self.prefixes)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the arguments of `Tiger.forward`, whatever the epoch: those of `seq2seq.pack_batch`, and the number of
        codes of each row's target, `n_codes` (n,), by place."""
        rows, prefixes = [], self.prefixes
        starts = prefixes.starts[indices]
        ends = starts + prefixes.lengths[indices]
        for user, start, end in zip(prefixes.users[indices], starts, ends, strict=True):
            source = self.sources(int(user), prefixes.flat[start:end])
            rows.append((*source, self.target_of[prefixes.flat[end]]))
        batch = pack_batch(rows)
        return {**batch, **as_tensors({"n_codes": self.n_codes[prefixes.flat[ends]][batch["order"]]})}


class Tiger(IdRanker):
    """A T5 with random weights over the tokens of codes and users."""

    def __init__(self, config: TigerConfig, context: Context, ids: ItemIds) -> None:
        super().__init__(context.split, ids, config.beams)
        self.constrained, self.softmax, self.embedding_rate = config.constrained, config.softmax, config.embedding_rate
        self.sources = Sources(self.id_tokens, config.user_tokens, config.max_length)
        shape = T5Shape(config.layers, config.hidden_size, config.heads, config.head_size, config.inner_size)
        self.packed = PackedT5(random_t5(shape, self.sources.n_tokens, config.dropout), whole_word=False)

    def training_rows(self) -> TargetRows:
        target_of = self.path_of if self.softmax is Softmax.continuations else self.id_tokens.of_item
        return TargetRows(self.split, self.sources, target_of)

    def forward(
        self, words: Tensor, row: Tensor, decoder_inputs: Tensor, targets: Tensor, n_codes: Tensor, **batch: Any
    ) -> dict[str, Any]:
        """Return the cross-entropy, averaged over each target's codes, then over targets; from a batch of `TargetRows`,
        whose `words` are not read. A code that is forced, because no other continues an id, costs nothing."""
        if self.softmax is Softmax.continuations:  # the targets are nodes, and their parents what was decoded before
            tokens = self.trie.token.to(decoder_inputs.device)[decoder_inputs]
            logits = self.packed.target_logits(words=None, decoder_inputs=tokens, **batch)
            losses = self.choice_losses(logits, decoder_inputs[batch["read"]], targets)
        else:
            losses = self.packed.losses(words=None, decoder_inputs=decoder_inputs, targets=targets, **batch)
        return {"loss": (losses / n_codes[row]).sum() / len(n_codes), "n_terms": len(n_codes)}

    epsilon = 1e-8

    def learning_rate_of(self, name: str, usual: float) -> float:
        return usual * self.embedding_rate if name == "packed.t5.shared.weight" else usual

    @property
    def decoder(self) -> decoding.T5Decoder:
        return decoding.T5Decoder(self.packed.t5)

    def memories(self, examples: Examples) -> Iterator[tuple[decoding.Memory, IntArray]]:
        histories = zip(examples.user, examples.start, examples.end, strict=True)
        sources = [self.sources(int(user), examples.sequence[start:end]) for user, start, end in histories]
        return decoding.encode_sources(self.packed, sources, False)

    def is_exact(self) -> bool:
        return super().is_exact() and (self.constrained or self.beams is None)

    def beam_leaves(self, examples: Examples, memory: decoding.Memory) -> tuple[Tensor, Tensor]:
        return super().beam_leaves(examples, memory) if self.constrained else self._free_beams(memory)

    def _free_beams(self, memory: decoding.Memory) -> tuple[Tensor, Tensor]:
        """Return (B, beams) the leaf of each unconstrained beam, -1 for codes of no item, and the scores."""
        assert self.beams is not None
        tokens, scores = decoding.free_beam_search(self.decoder, memory, len(self.distinct_ids[0]), self.beams)
        leaf_of = {tuple(tokens): leaf for leaf, tokens in enumerate(self.distinct_ids)}
        leaves = [[leaf_of.get(tuple(beam), -1) for beam in beams] for beams in tokens.tolist()]
        return torch.tensor(leaves, device=scores.device), scores

    def invalid_beams(self, sample: Examples) -> str:
        if self.constrained:
            return ""
        leaves = self.score_by(sample, lambda memory, _: self._free_beams(memory)[0])
        return f", and {(leaves < 0).double().mean().item():.1%} of the beams are codes of no item"


def build(context: Context) -> Tiger:
    config: TigerConfig = context.config
    ids = codes_of(context)
    if not config.constrained and (ids.codes == END).any():
        raise DataError("ids of the file have different lengths, and unconstrained beams one", "model.constrained=true")
    return Tiger(config, context, ids)
