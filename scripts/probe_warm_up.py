"""What Prompt4NR's warm-up teaches and costs: how well the head fills blanks, and how good frozen text states remain.

For each number of epochs: the minutes; over the blanks of titles that no training impression shows or has in a history,
the share of right words, the median rank of the right word in the vocabulary, and its cross-entropy; and the AUC of the
backbone without its head as frozen text, on validation: the cosine of a candidate's mean state with the mean of the
history's. There is no distillation. A finished warm-up is read from the cache, and its minutes are then those of
reading.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import logging as transformers_logging

from llm4rec_cli.config.compose import compose
from llm4rec_cli.data.examples import Impressions, IntArray, slices
from llm4rec_cli.data.split import SPLIT_CODES, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.impressions import impression_metrics
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.model import Prompt4NR
from llm4rec_cli.models.prompt4nr.sequences import clean_title
from llm4rec_cli.models.prompt4nr.warm_up import mask_tokens
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows
from llm4rec_cli.results import tables
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.text.backbone import backbone_folder, load_tokenizer

EXAMPLES = """examples:
  python scripts/probe_warm_up.py dataset=demo_news --epochs 0 1 10
  python scripts/probe_warm_up.py +experiment=prompt4nr/mind-small-5k dataset.raw_dir=PATH --epochs 0 1 4 16"""
TITLES_AT_ONCE = 256


@torch.no_grad()
def blanks(bert: PackedBert, titles: Ragged, ids: dict[str, int]) -> dict[str, float]:
    """Return the share of right words, the median rank of the right word (1 = first) and its mean cross-entropy."""
    ranks: list[Tensor] = []
    losses: list[Tensor] = []
    for begin in range(0, len(titles), TITLES_AT_ONCE):
        inputs = pack_rows(titles.rows(np.arange(begin, min(begin + TITLES_AT_ONCE, len(titles)))))
        index, targets = mask_tokens(inputs, ids, stream(0, "probe: blanks", begin))
        del inputs["starts"]
        logits = F.linear(bert.states_at(index, **inputs), bert.words.weight, bert.bias)
        of_target = logits.gather(1, targets[:, None])
        ranks.append(1 + (logits > of_target).sum(1))
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
    rank = torch.cat(ranks)
    return {
        "right": (rank == 1).double().mean().item(),
        "median rank": rank.double().median().item(),
        "cross-entropy": torch.cat(losses).double().mean().item(),
    }


@torch.no_grad()
def frozen_auc(bert: PackedBert, titles: Ragged, impressions: Impressions) -> float:
    """Return the mean AUC of cosines of mean states; a history without titles has the cosine 0.

    Args:
        titles: (n_items) as tokens.
    """
    vectors = torch.zeros(len(titles), bert.words.embedding_dim)
    shown, offsets = impressions.shown()
    history, history_offsets = impressions.histories()
    needed = np.unique(np.concatenate([shown, history]))
    for begin in range(0, len(needed), TITLES_AT_ONCE):
        items = needed[begin : begin + TITLES_AT_ONCE]
        inputs = pack_rows(titles.rows(items))
        starts = inputs.pop("starts")
        states = bert.states(**inputs)
        lengths = titles.lengths[items]
        index = torch.from_numpy(slices(np.arange(len(states)), starts.numpy(), starts.numpy() + lengths)[0])
        row = torch.from_numpy(np.repeat(np.arange(len(items)), lengths))
        sums = torch.zeros(len(items), states.shape[1]).index_add(0, row, states[index])
        vectors[torch.from_numpy(items)] = F.normalize(sums, dim=1)
    row = torch.from_numpy(np.repeat(np.arange(len(impressions)), np.diff(history_offsets)))
    users = torch.zeros(len(impressions), vectors.shape[1]).index_add(0, row, vectors[torch.from_numpy(history)])
    owner = torch.from_numpy(np.repeat(np.arange(len(impressions)), np.diff(offsets)))
    scores = (F.normalize(users, dim=1)[owner] * vectors[torch.from_numpy(shown)]).sum(1).double().numpy()
    return float(impression_metrics(scores, offsets, impressions.clicked(), [])["auc"].mean())


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=formatter)
    parser.add_argument("--epochs", nargs="+", type=int, default=[0, 1, 10], help="of warm-up (default 0 1 10)")
    parser.add_argument("--titles", type=int, default=1000, help="held-out titles (default 1000)")
    parser.add_argument("overrides", nargs="+", help="as for llm4rec train model=prompt4nr")
    options = parser.parse_intermixed_args()
    transformers_logging.set_verbosity_error()  # hides a long warning about the weights of the missing head
    composed = compose(["model=prompt4nr", "task=impressions", "split=valid", *options.overrides])
    job = settled(Job.resolve(composed, "train"))
    split = stages.split_dataset(job, stages.load(job))
    impressions = split.impressions(SPLIT_CODES[job.config.split])
    impressions = impressions[np.flatnonzero(impressions.rankable)]
    tokenizer = load_tokenizer(backbone_folder(cast(Prompt4NRConfig, job.config.model).backbone))
    titles = [clean_title(title) for title in split.dataset.items["title"].fillna("")]
    encodings = tokenizer.encode_batch_fast(titles)
    held_out = held_out_titles(split, titles, options.titles)
    if not len(held_out):
        parser.error("training shows all titles, so that none is left to fill blanks in")
    lines = []
    for epochs in options.epochs:
        config = cast(Prompt4NRConfig, job.config.model)
        without = replace(config.warm_up.distillation, steps=0)  # the demo's settings have some
        config = replace(config, warm_up=replace(config.warm_up, epochs=epochs, distillation=without))
        begin = time.monotonic()
        model: Any = stages.build(replace(job, config=replace(job.config, model=config)), split)
        minutes = (time.monotonic() - begin) / 60
        bert = cast(Prompt4NR, model).eval().cpu().bert
        tokens = Ragged.from_rows([encoding.ids[: bert.positions.num_embeddings] for encoding in encodings])
        values = blanks(bert, tokens.rows(held_out), tokenizer.get_vocab(with_added_tokens=True))
        auc = frozen_auc(bert, tokens, impressions)
        right, rank, loss = values["right"], values["median rank"], values["cross-entropy"]
        lines.append([str(epochs), f"{minutes:.1f}", f"{right:.3f}", f"{rank:,.0f}", f"{loss:.2f}", f"{auc:.4f}"])
    header = ["epochs", "minutes", "right", "median rank", "cross-entropy", "AUC as frozen text"]
    print(f"{len(held_out):,} held-out titles, {len(impressions):,} impressions of {job.config.split.name}")
    tables.show(tables.Content("The backbone after its warm-up", header, lines, []))


def held_out_titles(split: Split, titles: list[str], n: int) -> IntArray:
    """Return up to n items whose titles training does not have, drawn at random."""
    seen = {titles[item] for item in np.flatnonzero(split.seen_in_training()).tolist()} | {""}
    unseen = np.array([item for item, title in enumerate(titles) if title not in seen], dtype=np.int64)
    return np.sort(np.random.default_rng(0).permutation(unseen)[:n])


if __name__ == "__main__":
    main()
