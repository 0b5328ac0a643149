"""What a language model has memorised of a dataset: the scores of `inspect memorisation`, kept for its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from llm4rec_cli.config.schema import Backend, Config, causal_backbone
from llm4rec_cli.files import write_json
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.result import MemorisationScore
from llm4rec_cli.run.identity import identity_of

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

CHAT_MODEL = "the chat model"
MEMORISED = (
    "{model} may have read these very data in its training: a high number can be memory (llm4rec inspect memorisation "
    "measures it)"
)


def read(config: Config, dataset: RecDataset) -> Mapping[str, MemorisationScore] | None:
    """Return what `inspect memorisation` measured of the language model on this dataset, by probe; None without."""
    path = _file(config, dataset)
    return msgspec.json.decode(path.read_bytes(), type=dict[str, MemorisationScore]) if path.exists() else None


def model_name(config: Config) -> str:
    """Return what a run's warning calls the language model that may remember the data."""
    backbone = causal_backbone(config.model)
    return f"the backbone {Path(backbone).name}" if backbone else CHAT_MODEL


def warning(scores: Mapping[str, MemorisationScore] | None, model: str = CHAT_MODEL) -> str:
    """Return what was measured of a language model's memory in words, or that it may remember the data."""
    if scores is None:
        return MEMORISED.format(model=model)
    shares = [
        f"{name} {s.share:.2f} ({s.low:.2f}–{s.high:.2f}), chance {s.chance:.2f}"
        + ("" if s.made_up is None else f", made-up records {s.made_up:.2f}")
        for name, s in scores.items()
    ]
    return f"records of these data whose true end {model} finds likeliest, or writes verbatim: {'; '.join(shares)}"


def save(config: Config, dataset: RecDataset, scores: Mapping[str, MemorisationScore]) -> bool:
    """Keep the scores of this chat model on this dataset for its runs; False if scores of more records are kept.

    Scores of a version without made-up records are replaced.
    """
    earlier = read(config, dataset) or {}

    def tells_more(score: MemorisationScore, other: MemorisationScore) -> bool:
        return score.n > other.n and (score.made_up is not None or other.made_up is None)

    if earlier.keys() == scores.keys() and all(tells_more(earlier[probe], scores[probe]) for probe in scores):
        return False
    path = _file(config, dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, msgspec.to_builtins(scores))
    return True


def _file(config: Config, dataset: RecDataset) -> Path:
    """Return the file of the scores, of the model that is tuned or else the chat model. An endpoint's name for a model
    says nothing about another's."""
    llm = config.llm
    if backbone := causal_backbone(config.model):
        llm = replace(llm, backend=Backend.local, model=backbone)
    server = f" {llm.base_url}" if llm.backend is Backend.openai else ""
    key = hashlib.sha256(f"{dataset.fingerprint} {identity_of(llm)}{server}".encode()).hexdigest()[:24]
    return cache_folder(config.paths.cache) / "llm" / "memorisation" / f"{key}.json"
