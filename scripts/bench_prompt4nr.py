"""How fast Prompt4NR trains and scores, against its published formulation with the same weights, in turns.

Published: each filled template is a string, tokenised anew whenever it is read, padded to 500 tokens, and read by
transformers' `BertForMaskedLM`, which gives every token's logits of the whole vocabulary; fp32. The same padded to the
longest of its batch alone stands beside. Ours is `models.prompt4nr`, as `llm4rec train` calls it, in fp32, which is the
gain by algorithm, and in bf16, which shows what precision adds. All take batches of the same size (ours scores by
tokens), train by the same pointwise loss with dropout and a step of AdamW a batch, and begin with the same weights.

Titles are drawn at random from the words of the backbone's vocabulary, about as long as MIND's. Operations are those of
matrix products, counted by torch as they run. A share is of this machine's measured rate in the same arithmetic.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from machine import Timing, executed, in_turns, machine_in_words, measured_rate, number, report
from numpy.typing import NDArray
from omegaconf import OmegaConf
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoTokenizer, BertForMaskedLM
from transformers.utils import logging as transformers_logging

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.config import Loss, Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.model import Prompt4NR
from llm4rec_cli.models.prompt4nr.sequences import clean_title, pack_rows

PUBLISHED, DYNAMIC, OURS, OURS_BF16 = "published", "published, padded less", "ours", "ours, bf16"
MEANING = {
    PUBLISHED: "tokenised anew, padded to 500, all logits, fp32",
    DYNAMIC: "tokenised anew, padded to its batch's longest, all logits, fp32",
    OURS: "titles tokenised once, no padding, two logits at the blank, fp32",
    OURS_BF16: "the same in bf16",
}
TIMES = 6.0  # the published speed that ours should reach, in bf16
WORST = 1e-3  # difference of two log-odds that rounding makes in fp32
TITLES = 2_000
WORDS = 11  # of a title, on average
CLICKED = 0.2  # of the examples: one in 1 + 4
RATE, DECAY, EPSILON = 2e-5, 1e-3, 1e-6  # code


@dataclass(frozen=True)
class Bench:
    """What all contenders share.

    Attributes:
        ours: as `llm4rec train` builds it; trains and scores in fp32.
        theirs: transformers' own with the same weights.
        tokenizer: transformers' own, with the new tokens.
        asked: histories, and one candidate each.
        sentences: the filled templates as strings.
        is_click: (n,) bool.
        batch: examples of a step.
    """

    ours: Prompt4NR
    theirs: Any
    tokenizer: Any
    asked: Examples
    sentences: list[str]
    is_click: Tensor
    batch: int

    def batches(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self.sentences), self.batch):
            yield np.arange(start, min(start + self.batch, len(self.sentences)))


def settings(titles: int, backbone: str) -> Prompt4NRConfig:
    """The shipped ones with the published loss, a history of so many titles, and no warm-up."""
    chosen = ["model=prompt4nr", "task=impressions", "dataset=demo_news"]
    found = cast(Prompt4NRConfig, OmegaConf.to_object(compose(chosen).config.model))
    found.warm_up.epochs = 0
    return replace(found, backbone=backbone, titles=titles, loss=Loss.pointwise, scoring=Precision.fp32)


def drawn_titles(tokenizer: Any, seed: int = 0) -> list[str]:
    """Words of the vocabulary, each one token; lengths as if each word had a part of its own in them."""
    rng = np.random.default_rng(seed)
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    return [" ".join(rng.choice(words, size)) for size in 3 + rng.poisson(WORDS - 3, TITLES)]


def drawn_examples(n: int, mean: float, seed: int = 0) -> Examples:
    """Histories whose lengths are geometric, and one candidate each."""
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(1 / mean, n)
    ends = np.cumsum(lengths)
    nothing = np.zeros(n, dtype=np.int64)
    return Examples(
        user=nothing,
        target=nothing,
        sequence=rng.integers(0, TITLES, ends[-1]),
        start=ends - lengths,
        end=ends,
        row=nothing,
        candidates=rng.integers(0, TITLES, (n, 1)),
    )


def made(titles: int, n: int, mean: float, batch: int, backbone: str) -> Bench:
    """All contenders, ready."""
    transformers_logging.set_verbosity_error()  # of a head that the weights lack a page is told
    torch.manual_seed(0)
    config, folder = settings(titles, backbone), str(templates.backbone_folder(backbone))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = drawn_titles(tokenizer)
    split: Any = SimpleNamespace(dataset=SimpleNamespace(items=pd.DataFrame({"title": names})))
    with tempfile.TemporaryDirectory() as cache:
        ours = Prompt4NR(config, Context(config, split, 0, Path(cache), "cpu"))
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ours.filler.template.new_tokens])
    asked = drawn_examples(n, mean)
    is_click = torch.from_numpy(np.random.default_rng(1).random(n) < CLICKED)
    told = list(sentences(config, tokenizer, names, asked))
    return Bench(ours, transformers_own(ours, folder), tokenizer, asked, told, is_click, batch)


def transformers_own(ours: Prompt4NR, folder: str) -> Any:
    """`BertForMaskedLM` with these weights."""
    bert, theirs = ours.bert, BertForMaskedLM.from_pretrained(folder)
    embeddings, head = theirs.bert.embeddings, theirs.cls.predictions
    embeddings.word_embeddings.load_state_dict(bert.words.state_dict())
    embeddings.position_embeddings.load_state_dict(bert.positions.state_dict())
    embeddings.LayerNorm.load_state_dict(bert.norm.state_dict())
    theirs.bert.encoder.layer.load_state_dict(bert.layers.state_dict())
    head.transform.load_state_dict(bert.transform.state_dict())
    with torch.no_grad():
        embeddings.token_type_embeddings.weight[0] = bert.kind
        head.bias.copy_(bert.bias)
        theirs.resize_token_embeddings(len(bert.bias) + len(bert.new), mean_resizing=False)
        embeddings.word_embeddings.weight[len(bert.bias) :] = bert.new
    return theirs


def sentences(config: Prompt4NRConfig, tokenizer: Any, titles: Sequence[str], asked: Examples) -> Iterator[str]:
    """Each filled template as the published code makes it, a string."""
    text = config.prompts.text.replace("{mask}", "[MASK]").replace("{sep}", "[SEP]")
    assert asked.candidates is not None
    flat, offsets = asked.histories(config.titles)
    for i, (candidate,) in enumerate(asked.candidates):
        newest_first = flat[offsets[i] : offsets[i + 1]][::-1]
        read = [" ".join(clean_title(titles[item]).split(" ")[: config.title_words]) for item in newest_first]
        told = tokenizer.encode("[NSEP] " + " [NSEP] ".join(read), add_special_tokens=False)[: config.history_tokens]
        named = " ".join(clean_title(titles[candidate]).split(" ")[: config.candidate_words])
        yield text.format(user=tokenizer.decode(told), candidate=named)


# --- the contenders: log-odds of some examples, and what is made of them


def published(bench: Bench, padding: str | bool, rows: NDArray[np.int64]) -> Tensor:
    """(n, 2) logits of the two answer words, by transformers."""
    read = bench.tokenizer(
        [bench.sentences[i] for i in rows],
        padding=padding,
        truncation=True,
        max_length=bench.ours.config.max_length,
        return_tensors="pt",
    )
    logits = bench.theirs(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits
    blanks = logits[read["input_ids"] == bench.tokenizer.mask_token_id]
    return cast(Tensor, blanks[:, bench.ours.answers])


def training_published(bench: Bench, padding: str | bool) -> Callable[[], float]:
    """What trains a copy of the weights for an epoch."""
    copied = replace(bench, theirs=copy.deepcopy(bench.theirs).train())
    optimizer = optimizer_of(copied.theirs)

    def train() -> float:
        for rows in copied.batches():
            step(optimizer, F.cross_entropy(published(copied, padding, rows), copied.is_click[rows].long()))
        return len(copied.sentences)

    return train


@torch.no_grad()
def score_published(bench: Bench, padding: str | bool) -> Tensor:
    """(n,) log-odds."""
    bench.theirs.eval()
    return torch.cat([published(bench, padding, rows).diff(dim=1).squeeze(1) for rows in bench.batches()])


def training_ours(bench: Bench, precision: Precision) -> Callable[[], float]:
    """What trains a copy of the weights for an epoch."""
    model = copy.deepcopy(bench.ours).train()
    optimizer = optimizer_of(model)
    assert bench.asked.candidates is not None
    candidates = bench.asked.candidates[:, 0]

    def train() -> float:
        for rows in bench.batches():
            users = model.filler.tokenize_histories(bench.asked[rows])
            filled = model.filler.fill(users, np.arange(len(rows)), candidates[rows])
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is Precision.bf16):
                found = model(torch.from_numpy(filled.mask_position), bench.is_click[rows], **pack_rows(filled.tokens))
            step(optimizer, found["loss"])
        return len(bench.sentences)

    return train


@torch.no_grad()
def score_ours(bench: Bench, precision: Precision) -> Tensor:
    """(n,) log-odds."""
    model = bench.ours.eval()
    model.config.scoring = precision
    return model.score(bench.asked).squeeze(1).logit()


def optimizer_of(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, eps=EPSILON, fused=True)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


TRAINERS: dict[str, Callable[[Bench], Callable[[], float]]] = {
    PUBLISHED: partial(training_published, padding="max_length"),
    DYNAMIC: partial(training_published, padding=True),
    OURS: partial(training_ours, precision=Precision.fp32),
    OURS_BF16: partial(training_ours, precision=Precision.bf16),
}
SCORERS: dict[str, Callable[[Bench], Tensor]] = {
    PUBLISHED: partial(score_published, padding="max_length"),
    DYNAMIC: partial(score_published, padding=True),
    OURS: partial(score_ours, precision=Precision.fp32),
    OURS_BF16: partial(score_ours, precision=Precision.bf16),
}


# --- tables


def rows_of(timings: dict[str, Timing], flops: dict[str, float], rates: dict[str, float]) -> list[dict[str, str]]:
    """The table of speed.

    Args:
        flops: contender -> operations an example, as executed.
        rates: contender -> the machine's in its arithmetic, in GFLOP/s.
    """
    return [
        {
            "by": name,
            "is": MEANING[name],
            "examples/s: median (min–max)": str(timing),
            "times": number(timing.median / timings[PUBLISHED].median),
            "times ours in fp32": number(timing.median / timings[OURS].median),
            "GFLOP an example: executed": number(flops[name] / 1e9),
            "GFLOP/s": number(timing.median * flops[name] / 1e9),
            "of the machine's": f"{100 * timing.median * flops[name] / 1e9 / rates[name]:.0f} %",
        }
        for name, timing in timings.items()
    ]


def agreement_rows(found: dict[str, Tensor]) -> list[dict[str, str]]:
    """One row a contender, against the published log-odds."""
    theirs = found[PUBLISHED]
    return [
        {
            "by": name,
            "worst difference of log-odds": f"{float((ours - theirs).abs().max()):.6f}",
            "on average": f"{float((ours - theirs).abs().mean()):.6f}",
            "log-odds: mean ± sd": f"{float(ours.mean()):.3f} ± {float(ours.std()):.3f}",
        }
        for name, ours in found.items()
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_prompt4nr.py                                    needs no file; twenty minutes on two cores
  python scripts/bench_prompt4nr.py --titles 6 --examples 32 --markdown
  python scripts/bench_prompt4nr.py --backbone FOLDER --examples 4 --batch 2 --rounds 1             whether it works
Run it on a quiet machine. OMP_NUM_THREADS sets the threads, of all contenders and of the measured rate alike.""",
    )
    parser.add_argument("--backbone", default="minilm", help="a BERT: minilm (default), a folder, or a hub id")
    parser.add_argument(
        "--titles", nargs="+", type=int, default=[50, 6], help="of a history at most (default: 50, published, and 6)"
    )
    parser.add_argument("--history", type=float, default=20, help="titles of a user on average (default 20)")
    parser.add_argument("--examples", type=int, default=64, help="filled templates a turn (default 64)")
    parser.add_argument("--batch", type=int, default=16, help="of them a step (default 16, published)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, after one to warm up (default 3)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown sections, for docs/benchmarks.md")
    return parser.parse_args(arguments)


def compared(asked: argparse.Namespace, titles: int) -> bool:
    """Prints speed and agreement for one length of histories; whether ours is as fast as it should be, and agrees."""
    bench = made(titles, asked.examples, asked.history, asked.batch, asked.backbone)
    found = {name: score(bench) for name, score in SCORERS.items()}
    tokens = number(float(np.mean([len(ids) for ids in bench.tokenizer(bench.sentences)["input_ids"]])))
    name = f"{Path(asked.backbone).name}, histories of at most {titles} titles"
    work: dict[str, dict[str, Callable[[], float]]] = {
        "training": {name: set_up(bench) for name, set_up in TRAINERS.items()},
        "scoring": {name: partial(_counted, score, bench) for name, score in SCORERS.items()},
    }
    gains = []
    for kind, contenders in work.items():
        flops = {name: executed(contender) for name, contender in contenders.items()}
        rate, fast = measured_rate(torch.float32), measured_rate(torch.bfloat16)
        timings = in_turns(contenders, asked.rounds)
        rate, fast = max(rate, measured_rate(torch.float32)), max(fast, measured_rate(torch.bfloat16))
        print(f"machine: {number(rate)} GFLOP/s in fp32, {number(fast)} in bf16 (2048³ matrix product)")
        rates = dict.fromkeys(contenders, rate) | {OURS_BF16: fast}
        report(f"{name}: {kind}, {tokens} tokens on average", rows_of(timings, flops, rates), asked.markdown)
        gains.append(timings[OURS_BF16].median / timings[PUBLISHED].median)
    report(f"{name}: agreement", agreement_rows(found), asked.markdown)
    differs = float((found[OURS] - found[PUBLISHED]).abs().max())
    holds = min(gains) >= TIMES and differs <= WORST
    told = f"training {number(gains[0])} and scoring {number(gains[1])} times as fast, log-odds {differs:.6f} apart"
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: {told} (at least {TIMES:.0f}; at most {WORST:g})")
    return holds


def _counted(score: Callable[[Bench], Tensor], bench: Bench) -> float:
    return len(score(bench))


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    print(machine_in_words())
    held = [compared(asked, titles) for titles in asked.titles]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
