"""How fast Prompt4NR trains and scores, compared with its published formulation on the same weights.

Published: each filled template is a string, tokenised whenever it is read, padded to 500 tokens, and read by
transformers' `BertForMaskedLM`, which returns logits of the whole vocabulary at every token; fp32. A variant pads only
to the longest of each batch. Ours is `models.prompt4nr`, as `llm4rec train` calls it: fp32 shows the gain by algorithm,
bf16 what precision adds. With shared histories the model is another one (`model.attention=shared`), whose log-odds
differ. All use batches of the same size (ours scores by tokens), train with the same pointwise loss, dropout and an
AdamW step per batch, and start from the same weights. Contenders take turns in one run.

Titles are random words of the backbone's vocabulary, about as long as MIND's. FLOP are those of matrix products,
counted by torch as they run. Shares are of this machine's measured rate in the same precision.
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
from bench_common import (
    Verdict,
    flops_per_unit,
    machine_description,
    number,
    option_parser,
    print_table,
    speed_rows,
    time_with_machine_rate,
)
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
from llm4rec_cli.models.prompt4nr.config import Attention, ClickLoss, Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.model import Prompt4NR
from llm4rec_cli.models.prompt4nr.sequences import clean_title
from llm4rec_cli.text.backbone import backbone_folder

PUBLISHED, DYNAMIC, OURS, OURS_BF16 = "published", "published, padded less", "ours", "ours, bf16"
SHARED, SHARED_BF16 = "ours, shared histories", "ours, shared histories, bf16"
DESCRIPTIONS = {
    PUBLISHED: "tokenised each time, padded to 500, all logits, fp32",
    DYNAMIC: "tokenised each time, padded to its batch's longest, all logits, fp32",
    OURS: "titles tokenised once, no padding, two logits at the mask, fp32",
    OURS_BF16: "the same in bf16",
    SHARED: "a history computed once for its candidates, which it does not attend to, fp32",
    SHARED_BF16: "the same in bf16",
}
SPEED_UP = 6.0  # aim over the published speed, in bf16
WORST = 1e-3  # the largest log-odds difference that rounding explains in fp32
TITLES = 2_000
WORDS = 11  # per title, on average
CLICKED = 0.2  # share of the examples: one in 1 + 4
BATCH = 16  # filled templates per step (published)
HISTORY = 20  # titles per user, on average
RATE, DECAY, EPSILON = 2e-5, 1e-3, 1e-6  # code


@dataclass(frozen=True)
class Bench:
    """Models and data of all contenders.

    Attributes:
        models: ours by attention, as `llm4rec train` builds them, with the same weights.
        theirs: transformers' model with the same weights.
        tokenizer: from transformers, with the new tokens.
        examples: n histories with k candidates each.
        sentences: n · k filled templates as strings.
        is_click: (n · k,) bool.
    """

    models: dict[Attention, Prompt4NR]
    theirs: Any
    tokenizer: Any
    examples: Examples
    sentences: list[str]
    is_click: Tensor

    @property
    def ours(self) -> Prompt4NR:
        return self.models[Attention.full]

    def batches(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self.sentences), BATCH):
            yield np.arange(start, min(start + BATCH, len(self.sentences)))


def model_config(titles: int, backbone: str) -> Prompt4NRConfig:
    """Return the defaults with the published loss and attention, histories of at most `titles` titles; no warm-up."""
    overrides = ["model=prompt4nr", "task=impressions", "dataset=demo_news"]
    config = cast(Prompt4NRConfig, OmegaConf.to_object(compose(overrides).config.model))
    config.warm_up.epochs = config.warm_up.distillation.steps = 0
    config = replace(config, attention=Attention.full, loss=ClickLoss.pointwise, scoring=Precision.fp32)
    return replace(config, backbone=backbone, titles=titles)


def random_titles(tokenizer: Any) -> list[str]:
    """Join words of the vocabulary, one token each; titles have 3 words plus a Poisson number of others."""
    rng = np.random.default_rng(0)
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    return [" ".join(rng.choice(words, size)) for size in 3 + rng.poisson(WORDS - 3, TITLES)]


def random_examples(n: int, candidates: int) -> Examples:
    """Return histories of geometric lengths with some candidates each."""
    rng = np.random.default_rng(0)
    lengths = rng.geometric(1 / HISTORY, n)
    ends = np.cumsum(lengths)
    zeros = np.zeros(n, dtype=np.int64)
    return Examples(
        user=zeros,
        target=zeros,
        sequence=rng.integers(0, TITLES, ends[-1]),
        start=ends - lengths,
        end=ends,
        row=zeros,
        candidates=rng.integers(0, TITLES, (n, candidates)),
    )


def set_up(titles: int, n: int, candidates: int, backbone: str) -> Bench:
    """Build the models and data of all contenders."""
    transformers_logging.set_verbosity_error()  # hides a long warning about the weights of the missing head
    torch.manual_seed(0)
    config, folder = model_config(titles, backbone), str(backbone_folder(backbone))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = random_titles(tokenizer)
    split: Any = SimpleNamespace(dataset=SimpleNamespace(items=pd.DataFrame({"title": names})))
    models = {}
    with tempfile.TemporaryDirectory() as cache:
        for attention in Attention:
            of_attention = replace(config, attention=attention)
            models[attention] = Prompt4NR(of_attention, Context(of_attention, split, 0, Path(cache), "cpu"))
    ours = models[Attention.full]
    models[Attention.shared].load_state_dict(ours.state_dict())
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ours.filler.template.new_tokens])
    examples = random_examples(n, candidates)
    is_click = torch.from_numpy(np.random.default_rng(1).random(n * candidates) < CLICKED)
    strings = list(sentences(config, tokenizer, names, examples))
    return Bench(models, transformers_model(ours, folder), tokenizer, examples, strings, is_click)


def transformers_model(ours: Prompt4NR, folder: str) -> Any:
    """Return a `BertForMaskedLM` with the weights of `ours`."""
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


def sentences(config: Prompt4NRConfig, tokenizer: Any, titles: Sequence[str], examples: Examples) -> Iterator[str]:
    """Yield each filled template as a string, as the published code makes it."""
    text = config.prompts.text.replace("{mask}", "[MASK]").replace("{sep}", "[SEP]")
    assert examples.candidates is not None
    flat, offsets = examples.histories(config.titles)
    for i, candidates in enumerate(examples.candidates):
        newest_first = flat[offsets[i] : offsets[i + 1]][::-1]
        clicked = [" ".join(clean_title(titles[item]).split(" ")[: config.title_words]) for item in newest_first]
        user = tokenizer.encode("[NSEP] " + " [NSEP] ".join(clicked), add_special_tokens=False)[: config.history_tokens]
        for candidate in candidates:
            title = " ".join(clean_title(titles[candidate]).split(" ")[: config.candidate_words])
            yield text.format(user=tokenizer.decode(user), candidate=title)


# --- contenders


def published(bench: Bench, padding: str | bool, rows: NDArray[np.int64]) -> Tensor:
    """Return the (n, 2) logits of the two answer words from transformers."""
    batch = bench.tokenizer(
        [bench.sentences[i] for i in rows],
        padding=padding,
        truncation=True,
        max_length=bench.ours.config.max_length,
        return_tensors="pt",
    )
    logits = bench.theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    mask_logits = logits[batch["input_ids"] == bench.tokenizer.mask_token_id]
    return cast(Tensor, mask_logits[:, bench.ours.answers])


def training_published(bench: Bench, padding: str | bool) -> Callable[[], float]:
    """Return a function that trains a copy of the weights for one epoch and returns the number of examples."""
    copied = replace(bench, theirs=copy.deepcopy(bench.theirs).train())
    optimizer = optimizer_of(copied.theirs)

    def train() -> float:
        for rows in copied.batches():
            step(optimizer, F.cross_entropy(published(copied, padding, rows), copied.is_click[rows].long()))
        return len(copied.sentences)

    return train


@torch.no_grad()
def score_published(bench: Bench, padding: str | bool) -> Tensor:
    """Return (n,) log-odds."""
    bench.theirs.eval()
    return torch.cat([published(bench, padding, rows).diff(dim=1).squeeze(1) for rows in bench.batches()])


def training_ours(bench: Bench, attention: Attention, precision: Precision) -> Callable[[], float]:
    """Return a function that trains a copy of the weights for one epoch and returns the number of examples."""
    model = copy.deepcopy(bench.models[attention]).train()
    optimizer = optimizer_of(model)
    assert bench.examples.candidates is not None
    per_history, candidates = bench.examples.candidates.shape[1], bench.examples.candidates.ravel()

    def train() -> float:
        for rows in bench.batches():
            distinct, history = np.unique(rows // per_history, return_inverse=True)
            users = model.filler.tokenize_histories(bench.examples[distinct])
            filled = model.filler.fill(users, history, candidates[rows])
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is Precision.bf16):
                output = model(bench.is_click[rows], **filled.packed())
            step(optimizer, output["loss"])
        return len(bench.sentences)

    return train


@torch.no_grad()
def score_ours(bench: Bench, attention: Attention, precision: Precision) -> Tensor:
    """Return (n · k,) log-odds."""
    model = bench.models[attention].eval()
    model.config.scoring = precision
    return model.score(bench.examples).flatten().logit()


def optimizer_of(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, eps=EPSILON, fused=True)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


TRAINERS: dict[str, Callable[[Bench], Callable[[], float]]] = {
    PUBLISHED: partial(training_published, padding="max_length"),
    DYNAMIC: partial(training_published, padding=True),
    OURS: partial(training_ours, attention=Attention.full, precision=Precision.fp32),
    OURS_BF16: partial(training_ours, attention=Attention.full, precision=Precision.bf16),
    SHARED: partial(training_ours, attention=Attention.shared, precision=Precision.fp32),
    SHARED_BF16: partial(training_ours, attention=Attention.shared, precision=Precision.bf16),
}
SCORERS: dict[str, Callable[[Bench], Tensor]] = {
    PUBLISHED: partial(score_published, padding="max_length"),
    DYNAMIC: partial(score_published, padding=True),
    OURS: partial(score_ours, attention=Attention.full, precision=Precision.fp32),
    OURS_BF16: partial(score_ours, attention=Attention.full, precision=Precision.bf16),
    SHARED: partial(score_ours, attention=Attention.shared, precision=Precision.fp32),
    SHARED_BF16: partial(score_ours, attention=Attention.shared, precision=Precision.bf16),
}


def compare(options: argparse.Namespace, titles: int) -> Verdict:
    """Print speed for one length of histories, and whether ours reaches the speed-up and agrees."""
    histories = -(-options.examples // options.candidates)
    bench = set_up(titles, histories, options.candidates, options.backbone)
    log_odds = {name: score(bench) for name, score in SCORERS.items()}
    tokens = number(float(np.mean([len(ids) for ids in bench.tokenizer(bench.sentences)["input_ids"]])))
    title = (
        f"{Path(options.backbone).name}, histories of at most {titles} titles, candidates each: {options.candidates}"
    )
    work: dict[str, dict[str, Callable[[], float]]] = {
        "training": {name: train(bench) for name, train in TRAINERS.items()},
        "scoring": {name: partial(_count, score, bench) for name, score in SCORERS.items()},
    }
    speed_ups = []
    for kind, contenders in work.items():
        flops = {name: flops_per_unit(run) for name, run in contenders.items()}
        precisions = {name: "bf16" if name in (OURS_BF16, SHARED_BF16) else "fp32" for name in contenders}
        timings, rates = time_with_machine_rate(contenders, options.rounds, precisions)
        rows = speed_rows("contender", "example", timings, rates, flops, DESCRIPTIONS)
        print_table(f"{title}: {kind}, {tokens} tokens on average", rows)
        speed_ups.append(timings[OURS_BF16].median / timings[PUBLISHED].median)
    fp32, bf16 = (float((log_odds[name] - log_odds[PUBLISHED]).abs().max()) for name in (OURS, OURS_BF16))
    training, scoring = (number(speed_up) for speed_up in speed_ups)
    verdict = Verdict(
        min(speed_ups) >= SPEED_UP and fp32 <= WORST,
        f"speed-up {training} in training and {scoring} in scoring (at least {SPEED_UP:.0f}); "
        f"log-odds differ by {fp32:.6f} in fp32 (at most {WORST:g}) and {bf16:.6f} in bf16",
    )
    print(verdict)
    return verdict


def _count(score: Callable[[Bench], Tensor], bench: Bench) -> float:
    return len(score(bench))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_prompt4nr.py                                    needs no file; twenty minutes on two cores
  python scripts/bench_prompt4nr.py --titles 50 --candidates 37 --examples 74                     as in an impression
  python scripts/bench_prompt4nr.py --titles 6 --examples 4 --rounds 1                            a quick check""",
        rounds=2,
    )
    parser.add_argument("--backbone", default="minilm", help="a BERT: minilm (default), a folder, or a hub id")
    parser.add_argument(
        "--titles", nargs="+", type=int, default=[50, 6], help="most titles per history (default: 50, published, and 6)"
    )
    parser.add_argument("--candidates", type=int, default=1, help="per history (default 1; a click's in training: 5)")
    parser.add_argument("--examples", type=int, default=32, help="filled templates per turn (default 32)")
    options = parser.parse_args(arguments)
    print(machine_description())
    verdicts = [compare(options, titles) for titles in options.titles]
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
