"""P5 (Geng et al., RecSys 2022): ratings, items, explanations and headlines, written by one T5 under one loss."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.config.schema import Index, Written
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.indexing import ItemIndex, index_items
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.p5 import decoding, prompts
from llm4rec_cli.models.p5.config import P5Config, WholeWord
from llm4rec_cli.models.p5.families import Family
from llm4rec_cli.models.p5.questions import LIKED, Prompter, Question, whole_stars
from llm4rec_cli.models.p5.rows import KINDS, P5Rows, packed
from llm4rec_cli.models.p5.rows import kind as kind_of
from llm4rec_cli.models.p5.t5 import Groups, PackedT5, load
from llm4rec_cli.models.p5.trie import Trie
from llm4rec_cli.models.p5.vocabulary import END, PAD, Vocabulary, tokenizer
from llm4rec_cli.models.shared.sequences import IGNORED
from llm4rec_cli.text.features import encode_texts

log = logging.getLogger(__name__)

CLASSES = [f"{tenth / 10:.1f}" for tenth in range(10, 51)]  # of jittered ratings (code)
STARS = ["1", "2", "3", "4", "5"]
TOKENS_AT_ONCE = 1 << 15  # source tokens encoded together
UNREACHED = -1e30  # the score of an item that beam search did not end with
ROWS_HELD_OUT = 256  # computed together

Source = tuple[IntArray, IntArray]


class P5(nn.Module):
    """One T5 for all prompts.

    Attributes:
        index: what items are called.
    """

    def __init__(self, config: P5Config, context: Context, vocabulary: Vocabulary, index: ItemIndex, names: list[str]):
        super().__init__()
        self.config, self.split, self.seed, self.task = config, context.split, context.seed, context.task
        self.vocabulary, self.index = vocabulary, index
        self.prompter = Prompter(config, context.split, names, index, vocabulary)
        self.packed = PackedT5(
            load(config.backbone, len(vocabulary), config.dropout), config.whole_word is not WholeWord.never
        )
        self.items = Trie.of([code.tolist() for code in self.prompter.items])

    def training_rows(self) -> P5Rows:
        rows = P5Rows(self.config, self.split, self.prompter, self._trained(), self.seed)
        if not len(rows):
            raise DataError(
                f"there is nothing to train task '{self.task}' on: no user or interaction has what its prompts tell, "
                "or model.samples has none of its kinds",
                f"raise one of model.samples.{', '.join(KINDS)}",
            )
        return rows

    def _trained(self) -> list[str]:
        """The prompts that the task is trained with, as far as the data have what they tell.

        Raises:
            DataError: the data lack what every prompt of the task needs.
        """
        dataset = self.split.dataset
        if self.task == "all":
            return [name for name, prompt in prompts.usable(self.config.prompts, dataset).items() if prompt.trained]
        asked = self.config.prompts[getattr(self.config.ask, self.task)].family  # stars may be read off a review, too
        families = dict.fromkeys([Family(self.task), asked])
        return [name for family in families for name in prompts.trained(self.config, family, dataset)]

    def forward(self, kind: Tensor, **batch: Tensor) -> dict[str, Any]:
        """The cross-entropy of target tokens, mean over each row's, then over rows.

        Args:
            kind: (n,) which of rows.KINDS each row is of.
            batch: as `rows.packed` gives it.
        """
        placed = self._losses(**batch)
        kind = kind[batch["order"]]
        sums = {
            f"loss/{KINDS[i]}": torch.stack([placed[kind == i].sum(), (kind == i).sum()]).detach()
            for i in kind.unique().tolist()
        }
        return {"loss": placed.mean(), "n_terms": len(placed), "sums": sums}

    def _losses(
        self,
        source: Tensor,
        words: Tensor,
        begun: Tensor,
        wanted: Tensor,
        order: Tensor,
        shapes: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """(n,) losses of rows, in the order of the groups' places."""
        groups = Groups.of(order, shapes, lengths)
        states = self.packed.decode(begun, self.packed.encode(source, words, groups), groups)
        carries = torch.nonzero(wanted != IGNORED).squeeze(1)
        losses = F.cross_entropy(self.packed.t5.lm_head(states[carries]).float(), wanted[carries], reduction="none")
        row = torch.repeat_interleave(torch.arange(len(lengths), device=losses.device), lengths[:, 1])
        return losses.new_zeros(len(lengths)).index_add(0, row, losses) / lengths[:, 1]

    @torch.no_grad()
    def held_out_losses(self, examples: Examples) -> dict[str, float]:
        """The mean loss of each kind of prompt about these held-out interactions."""
        self.eval()
        rows = P5Rows(self.config, self.split, self.prompter, self._trained(), self.seed, examples)
        totals: dict[str, list[float]] = {}
        for start in range(0, len(rows), ROWS_HELD_OUT):
            batch = rows.batch(0, list(range(start, min(start + ROWS_HELD_OUT, len(rows)))))
            # The class's own: accelerate wraps the instance's in the arithmetic of training.
            outputs = type(self).forward(self, **{key: value.to(self.device) for key, value in batch.items()})
            for name, pair in outputs["sums"].items():
                totals[name] = [a + b for a, b in zip(totals.get(name, [0, 0]), pair.tolist(), strict=True)]
        return {name: total / n for name, (total, n) in totals.items()}

    @property
    def device(self) -> torch.device:
        return self.packed.t5.shared.weight.device

    def artefacts(self) -> dict[str, str]:
        """What the weights mean nothing without: file name -> content."""
        return {
            "item_index.json": json.dumps(self.index.describe() | {"codes": self.index.codes}) + "\n",
            "tokenizer.json": self.vocabulary.to_json(),
        }

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        """By the prompt that the task is asked with: log p(yes) - log p(no), or the log-likelihood of the item's name.

        With `beams`, those names alone have a score that a constrained beam search ends with; all others tie below.
        """
        self.items = self.items.to(self.device)
        name = getattr(self.config.ask, self.task)
        found = kind_of(self.config, name)
        if found.endswith("yes_no"):
            return self._yes_no(name, examples)
        questions = self._questions(examples, listed=found.endswith("candidates"))
        sources = [self.prompter.source(name, question) for question in questions]
        if examples.candidates is not None:
            candidates = torch.from_numpy(examples.candidates).long()
            return self._answered(
                sources,
                lambda memory, places: decoding.candidate_scores(
                    self.packed.t5, memory, self.items, candidates[places].to(self.device)
                ),
            )
        beams = self.config.beams
        if beams is None or decoding.cheaper_exact(self.items, beams):
            return self._answered(sources, lambda memory, _: decoding.leaf_scores(self.packed.t5, memory, self.items))
        return self._answered(sources, lambda memory, places: self._beams(memory, examples[places], beams))

    def _beams(self, memory: Any, examples: Examples, beams: int) -> Tensor:
        forbidden = examples.masked_items()
        leaves, scores = decoding.beam(self.packed.t5, memory, self.items, beams, forbidden)
        n_items = self.split.n_items
        found = scores.new_full((len(leaves), n_items + 1), UNREACHED)  # the last column takes what is no item
        return found.scatter_(1, leaves % (n_items + 1), scores)[:, :-1]

    def _yes_no(self, name: str, examples: Examples) -> Tensor:
        """One question a candidate."""
        assert examples.candidates is not None
        questions = self._questions(examples)
        sources = [
            self.prompter.source(name, replace(question, item=int(item), one=int(item)))
            for question, candidates in zip(questions, examples.candidates, strict=True)
            for item in candidates
        ]
        scores = self._answered(sources, self._words(["yes", "no"]))
        return (scores[:, 0] - scores[:, 1]).view(examples.candidates.shape)

    @torch.no_grad()
    def rate(self, examples: Examples) -> Ratings:
        """The expected value over the classes' likelihood; and what is said, decoded greedily, as in the paper."""
        name = self.config.ask.rating
        prompt = self.config.prompts[name]
        sources = [self.prompter.source(name, question) for question in self._questions(examples)]
        if "{like}" in prompt.target:
            scores = self._answered(sources, self._words(["like", "dislike"])).cpu()
            liked = (scores[:, 0] - scores[:, 1]).sigmoid().double()
            # Above the middle of 3 and 4 stars where `like` is likelier.
            return Ratings((LIKED - 0.5 + 3 * (liked - 0.5)).numpy())
        classes = CLASSES if prompt.family is Family.rating else STARS
        likelihood = self._answered(sources, self._words(classes)).cpu().double().softmax(1)
        value = likelihood @ torch.tensor([float(c) for c in classes], dtype=torch.float64)
        return Ratings(value.numpy(), np.array([stars(text) for text in self._greedy(sources)]))

    @torch.no_grad()
    def write(self, examples: Examples, written: Written) -> list[str]:
        name = self.config.ask.explanation if written is Written.explanation else self.config.ask.review_summary
        texts = self._greedy([self.prompter.source(name, question) for question in self._questions(examples)])
        if "{star}" in self.config.prompts[name].target:  # told before the explanation
            return [text.partition(",")[2].strip() for text in texts]
        return texts

    def _questions(self, examples: Examples, listed: bool = False) -> list[Question]:
        """What is asked, for prompts of any family.

        Args:
            listed: whether candidates are told: in an order that does not tell the target.
        """
        ratings = self.split.dataset.interactions.get("rating")
        star = whole_stars(np.zeros(len(examples)) if ratings is None else ratings.to_numpy()[examples.row])
        found = []
        for i in range(len(examples)):
            history = examples.sequence[examples.start[i] : examples.end[i]]
            question = Question(
                int(examples.user[i]), int(examples.target[i]), int(examples.row[i]), int(star[i]), history
            )
            if listed:
                assert examples.candidates is not None
                rng = stream(self.split.dataset.seed, "p5 candidates", question.row)
                question.candidates = rng.permutation(examples.candidates[i])
            found.append(question)
        return found

    def _words(self, answers: list[str]) -> Callable[[Any, IntArray], Tensor]:
        """What scores each of a few answers, by the log-likelihood of one among them."""
        trie = Trie.of([[*self.prompter.word(answer)[0].tolist(), END] for answer in answers]).to(self.device)
        return lambda memory, _: decoding.leaf_scores(self.packed.t5, memory, trie)

    def _answered(self, sources: list[Source], answer: Callable[[Any, IntArray], Tensor]) -> Tensor:
        """(n, …) answers, asked of sources of like length at a time.

        Args:
            answer: of a decoder's memory of some sources, and their numbers.
        """
        out: Tensor | None = None
        for memory, places in memories(self.packed, sources, self.config.whole_word is WholeWord.always):
            found = answer(memory, places)
            if out is None:
                out = found.new_empty(len(sources), *found.shape[1:])
            out[torch.from_numpy(places).to(out.device)] = found
        assert out is not None
        return out

    def _greedy(self, sources: list[Source]) -> list[str]:
        texts = [""] * len(sources)
        for memory, places in memories(self.packed, sources, self.config.whole_word is WholeWord.always):
            found = decoding.greedy(self.packed.t5, memory, END, self.config.max_target, PAD)
            for place, tokens in zip(places, found, strict=True):
                texts[place] = self.vocabulary.text(tokens)
        return texts


@torch.no_grad()
def memories(t5: PackedT5, sources: list[Source], tells_words: bool) -> Iterator[tuple[decoding.Memory, IntArray]]:
    """What the decoder sees of sources of like length, and their numbers.

    Args:
        sources: (n) tokens, and the whole word that each is of.
        tells_words: whether the encoder is told of whole words.
    """
    device = t5.t5.shared.weight.device
    length = np.array([len(tokens) for tokens, _ in sources])
    order = np.argsort(length, kind="stable")
    chunks = np.split(order, np.flatnonzero(np.diff(np.cumsum(length[order]) // TOKENS_AT_ONCE)) + 1)
    for chunk in chunks:
        batch = packed([(*sources[i], np.array([PAD])) for i in chunk])
        groups = Groups.of(batch["order"], batch["shapes"], batch["lengths"])
        words = batch["words"].to(device) if tells_words else None
        hidden = t5.encode(batch["source"].to(device), words, groups)
        place = at = 0
        for rows, longest, _ in groups.shapes:
            part = hidden[at : at + rows * longest].view(rows, longest, -1)
            lengths = torch.from_numpy(groups.source[place : place + rows]).to(device)
            yield decoding.memory(t5.t5, part, lengths), chunk[groups.order[place : place + rows]]
            place, at = place + rows, at + rows * longest


def stars(text: str) -> float:
    """The number from 1 to 5 that a text is; NaN where it is none."""
    try:
        found = float(text.replace(" ", ""))
    except ValueError:
        return float("nan")
    return found if 1 <= found <= 5 else float("nan")


def build(context: Context) -> P5:
    config: P5Config = context.config
    split = context.split
    families = set(Family) if context.task == "all" else {Family(context.task)}
    of_task = {name: prompt for name, prompt in config.prompts.items() if prompt.family in families}
    for told in prompts.left_out(of_task, split.dataset):
        log.info("%s", told)
    features = None
    if config.index is Index.semantic:
        features = encode_texts(split.dataset.texts, config.encoder, context.cache, context.device).numpy()
    index = index_items(config.index, split.for_ranking(), split.dataset.seed, config.digits, context.cache, features)
    names = split.user_names()
    corpus = [*literals(config), *corpus_of(split, names)]
    pieces = [piece for code in index.codes for piece in code]
    numbers = [f"{n:0{config.digits}d}" for n in range(10**config.digits)]
    vocabulary = Vocabulary(tokenizer(config.backbone, corpus, config.vocabulary, context.cache), [*numbers, *pieces])
    return P5(config, context, vocabulary, index, names)


def literals(config: P5Config) -> list[str]:
    """The words of all prompts and short answers, each as often as the tokenizer's training wants to see it."""
    words = [re.sub(r"\{\w+\}", " ", f"{p.source} {p.target}") for p in config.prompts.values()]
    return sorted([*words, "user_ item_ , -> yes no like dislike unknown title brand price"] * 2)


def corpus_of(split: Split, names: list[str]) -> list[str]:
    """Texts of items, and of the training part's interactions."""
    dataset = split.dataset
    items = [dataset.items[c] for c in ("title", "brand") if c in dataset.items]
    trained = dataset.interactions[split.assignment == TRAIN]
    written = [trained[c] for c in ("review_text", "review_title", "explanation") if c in trained]
    return [text for texts in (*items, *written) for text in texts.dropna()] + names
