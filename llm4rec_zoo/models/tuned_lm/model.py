"""A causal language model that is tuned on questions about users, and scores items by its answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.arithmetic import at_once, autocast, on_cpu
from llm4rec_cli.capabilities import Likes
from llm4rec_cli.data.examples import Examples, Impressions, IntArray
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy
from llm4rec_cli.models.shared.tokens import TOKENS_PER_BATCH
from llm4rec_cli.text.backbone import load_tokenizer
from llm4rec_zoo.models.tuned_lm import backbone
from llm4rec_zoo.models.tuned_lm.config import TunedLmConfig
from llm4rec_zoo.models.tuned_lm.packing import Row, blocks_of_segments, pack
from llm4rec_zoo.models.tuned_lm.questions import Questions
from llm4rec_zoo.models.tuned_lm.rows import Clicks, Histories, LabelledLikes, Source, TrainingRows
from llm4rec_zoo.models.tuned_lm.settings import Answer, TitleScore
from llm4rec_zoo.models.tuned_lm.titles import TitleTree

HISTORIES_AT_ONCE = 8  # in scoring
ROWS_OF_LOGITS = 512  # computed at once: a vocabulary of 49,152 then takes 100 MB


class TunedLm(nn.Module):
    """A language model with the questions that it is asked. Its state has the trained weights only.

    Attributes:
        head: under `answer=item_head`, the vector of each item.
    """

    def __init__(self, config: TunedLmConfig, context: Context) -> None:
        super().__init__()
        self.config, self.split, self.seed, self.likes = config, context.split, context.seed, context.rows
        folder = backbone.folder_of(config, context.cache)
        self.questions = Questions(config, context.split, load_tokenizer(folder))
        self.lm = backbone.load(config, folder)
        self.decoder = [self.lm.get_decoder()]  # in a list, so that its weights are registered once
        settings = self.lm.config
        self._check_length(settings.max_position_embeddings)
        if config.answer is Answer.item_head:
            self.head = nn.Linear(settings.hidden_size, context.split.n_items, bias=False)
            nn.init.normal_(self.head.weight, std=settings.initializer_range)
        elif config.answer is Answer.title:
            firsts, self.leaf = np.unique(self.questions.same_title, return_inverse=True)
            self.codes = [self.questions.codes[item] for item in firsts]
            self.tree = TitleTree(self.codes)
            self.whole = self.tree.reading(np.arange(len(self.codes)))
        backbone.keep_only_trained(self)

    @property
    def output(self) -> Tensor:
        """(n, hidden) the vectors whose inner products with a state are logits: of tokens, or of items."""
        layer: Any = self.head if self.config.answer is Answer.item_head else self.lm.get_output_embeddings()
        weight: Tensor = layer.weight
        return weight

    def training_rows(self) -> TrainingRows:
        source: Source
        if self.likes is not None:
            source = LabelledLikes(self.likes, self.questions)
        elif self.config.answer is Answer.yes_no:
            source = Clicks(self.config, self.split, self.questions, self.seed)
        else:
            source = Histories(self.config, self.split, self.questions)
        return TrainingRows(self.config, source, self.seed)

    def forward(self, read: Tensor, targets: Tensor, **packed: Any) -> dict[str, Any]:
        """Return the mean cross-entropy of what follows each token that is read; a batch of `TrainingRows`."""
        loss = catalogue_cross_entropy(self.states(**packed)[read], self.output, targets)
        return {"loss": loss, "n_terms": len(read)}

    def states(self, tokens: Tensor, position: Tensor, segments: IntArray) -> Tensor:
        """Return (total, hidden) the last layer's state at each token of packed rows."""
        # An accelerator trains on few rows that share tokens. In scoring many do, and blocks would copy their keys.
        if on_cpu(tokens) or not torch.is_grad_enabled():
            rows: dict[str, Any] = {"segments": segments.tolist()}
        else:
            rows = {"blocks": blocks_of_segments(self.output, segments)}
        outputs = self.decoder[0](input_ids=tokens[None], position_ids=position[None], use_cache=False, **rows)
        states: Tensor = outputs.last_hidden_state[0]
        return states

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        flat, offsets = examples.histories(self.config.titles)
        histories, candidates = np.split(flat, offsets[1:-1]), examples.candidates
        if self.config.answer is Answer.item_head:
            rows = [self.questions.next(history) for history in histories]
            scores = self._read(rows, [[len(row.tokens) - 1] for row in rows]) @ self.output.t()
            return scores if candidates is None else scores.gather(1, torch.from_numpy(candidates).to(scores.device))
        catalogue = np.arange(self.split.n_items)
        return torch.stack(
            self._scores(histories, [catalogue] * len(examples) if candidates is None else [*candidates])
        )

    @torch.no_grad()
    def score_shown(self, impressions: Impressions) -> Tensor:
        both = impressions.histories(self.config.titles), impressions.shown()
        return torch.cat(self._scores(*(np.split(flat, offsets[1:-1]) for flat, offsets in both)))

    @torch.no_grad()
    def like(self, examples: Examples) -> Likes:
        log_odds = self._log_odds(self.questions.likes(examples))
        return Likes(log_odds.cpu().numpy(), log_odds.sigmoid().cpu().numpy())

    def _scores(self, histories: Sequence[IntArray], items: Sequence[IntArray]) -> list[Tensor]:
        """Return the scores of items after each history. Those of one title are scored once, so that they tie."""
        by_title = {TitleScore.renormalised: self._constrained, TitleScore.grounded: self._grounded}
        score = self._decisions
        if self.config.answer is Answer.title:
            score = by_title.get(self.config.score, self._whole_titles)
        scores: list[Tensor] = []
        for start in range(0, len(histories), HISTORIES_AT_ONCE):
            part = slice(start, start + HISTORIES_AT_ONCE)
            firsts = [self.questions.same_title[each] for each in items[part]]
            distinct, of_item = zip(*(np.unique(each, return_inverse=True) for each in firsts), strict=True)
            of_titles = score(histories[part], distinct)
            scores += [own[torch.from_numpy(index)] for own, index in zip(of_titles, of_item, strict=True)]
        return scores

    def _constrained(self, histories: Sequence[IntArray], items: Sequence[IntArray]) -> Sequence[Tensor]:
        leaves = [self.leaf[each] for each in items]
        readings = [self.whole if len(each) == len(self.codes) else self.tree.reading(each) for each in leaves]
        rows, places = [], []
        for history, reading in zip(histories, readings, strict=True):
            question = tuple(self.questions.next(history).tokens)
            rows += [Row(question, chain) for chain in reading.chains]
            places += [[len(question) + place for place in of_chain] for of_chain in reading.places]
        states = self._read(rows, places).split([len(reading.nodes) for reading in readings])
        return [
            self.tree.log_probs(reading, own, self.output, each)
            for reading, own, each in zip(readings, states, leaves, strict=True)
        ]

    def _whole_titles(self, histories: Sequence[IntArray], items: Sequence[IntArray]) -> Sequence[Tensor]:
        rows, codes = [], []
        for history, each in zip(histories, items, strict=True):
            rows += [Row(tuple(self.questions.next(history).tokens), [])] * len(each)
            codes += [self.questions.codes[item] for item in each]
        scores = self._log_probs(rows, codes)
        if self.config.score is TitleScore.mean:
            scores /= torch.tensor([len(code) for code in codes], device=scores.device)
        return scores.split([len(each) for each in items])

    def _grounded(self, histories: Sequence[IntArray], items: Sequence[IntArray]) -> Sequence[Tensor]:
        written = self._title_vectors([self._written(history) for history in histories])
        return [-(self.title_vectors[each] - vector).norm(dim=1) for vector, each in zip(written, items, strict=True)]

    def _written(self, history: IntArray) -> str:
        """Return the title that the model writes after a history, greedily."""
        question, end = self.questions.next(history).tokens, self.questions.tokens(self.config.prompts.separator)[-1]
        with autocast(self.output.device, self.config.scoring):
            return self.questions.title_of(backbone.continued(self.lm, question, self.config.title_tokens, end))

    @cached_property
    def title_vectors(self) -> Tensor:
        """(items, hidden) the vectors of the items' titles, which no training changes."""
        return self._title_vectors(self.questions.titles)

    def _title_vectors(self, titles: Sequence[str]) -> Tensor:
        """Return (n, hidden) the mean state of the untuned model over the tokens of each title, as a first line."""
        begin = self.questions.before
        rows = [Row(begin, self.questions.tokens(title)) for title in titles]
        with backbone.untuned(self.lm):
            states = self._read(rows, [range(len(begin), len(row.tokens)) for row in rows])
        return torch.stack([own.mean(0) for own in states.split([len(row.own) for row in rows])])

    def _decisions(self, histories: Sequence[IntArray], items: Sequence[IntArray]) -> Sequence[Tensor]:
        asked = map(self.questions.click, histories, items)
        return self._log_odds([row for rows in asked for row in rows]).split([len(each) for each in items])

    def _log_odds(self, rows: Sequence[Row]) -> Tensor:
        """Return (n,) log p(yes) - log p(no) after each question, of the whole answers."""
        yes, no = self.questions.yes, self.questions.no
        if len(yes) == len(no) == 1:  # their normaliser is the same
            states = self._read(rows, [[len(row.tokens) - 1] for row in rows])
            return states @ (self.output[yes[0]] - self.output[no[0]])
        return self._log_probs(rows, [yes] * len(rows)) - self._log_probs(rows, [no] * len(rows))

    def _log_probs(self, rows: Sequence[Row], answers: Sequence[Sequence[int]]) -> Tensor:
        """Return (n,) the log-probability of an answer after each row, over the vocabulary."""
        begins = [len(row.tokens) - 1 for row in rows]
        places = [range(begin, begin + len(answer)) for begin, answer in zip(begins, answers, strict=True)]
        read = [Row(row.shared, [*row.own, *answer[:-1]]) for row, answer in zip(rows, answers, strict=True)]
        states = self._read(read, places)
        tokens = torch.tensor([token for answer in answers for token in answer], device=states.device)
        blocks = zip(states.split(ROWS_OF_LOGITS), tokens.split(ROWS_OF_LOGITS), strict=True)
        log_probs = [-F.cross_entropy(block @ self.output.t(), token, reduction="none") for block, token in blocks]
        return torch.stack([part.sum() for part in torch.cat(log_probs).split([len(answer) for answer in answers])])

    def _read(self, rows: Sequence[Row], places: Sequence[Sequence[int]]) -> Tensor:
        """Return (total, hidden) the states at some places of each row, in order."""
        device = self.output.device
        limit, used, batches = at_once(TOKENS_PER_BATCH, device.type), 0, [0]
        for number, row in enumerate(rows):
            used += len(row.own)
            if used > limit:
                batches.append(number)
                used = len(row.own)
        states = []
        for begin, end in pairwise([*batches, len(rows)]):
            packed = pack(rows[begin:end])
            read = [packed.place(row, place) for row in range(end - begin) for place in places[begin + row]]
            with autocast(device, self.config.scoring):
                arguments: dict[str, Any] = on_device(packed.batch, device)
                states.append(self.states(**arguments)[read].float())
        return torch.cat(states)

    def _check_length(self, limit: int) -> None:
        """Raise a UsageError if the longest question may exceed what the backbone can read."""
        most = self.config.titles if self.likes is None else int(self.likes.examples.history_length.max(initial=0))
        longest = (most + 1) * max(map(len, self.questions.codes)) + len(self.questions.before)
        if longest > limit:
            raise UsageError(
                f"{most} titles of {self.config.title_tokens} tokens may exceed the {limit} that "
                f"{self.config.backbone} can read",
                "lower model.title_tokens, and model.titles or task.history",
            )


def build(context: Context) -> TunedLm:
    return TunedLm(context.config, context)
