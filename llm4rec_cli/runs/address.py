"""A run's address: one folder an experiment, however it was typed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.models import base as models
from llm4rec_cli.schema import TextRecipe

RESULTS_VERSION = 2  # raised when a change moves numbers; the CHANGELOG says which

# What changes where or how fast things are computed, or how they are shown, but no number.
OUTSIDE = (
    "paths",
    "device",
    "force",
    "run",
    "deviations",
    "dataset.raw_dir",
    "dataset.columns",  # they are in the fingerprint
    "dataset.get",
    "dataset.download",
    "dataset.paper",
    "dataset.part_of",  # a mark of the data, which are in the fingerprint
    "trainer.eval_batch_size",
    "trainer.report_to",
    "task.floors",
    "model.max_missing",  # more than so many is an error
    *("llm.key_variable", "llm.concurrency", "llm.timeout", "llm.retries", "llm.price_prompt", "llm.price_answer"),
    *("llm.budget_tokens", "llm.budget_cost", "llm.replay", "llm.dry_run", "llm.store", "llm.context"),
)


# Settings of data that came later than some runs, and the values that these had unknowing: they move no address.
DATASET_LATER = {"empty_history": "keep"}


@dataclass(frozen=True)
class Address:
    """Where a run lives.

    Attributes:
        folder: outputs/<model>/<dataset>/<task>/seed<seed>-<hash>.
        config_hash: of everything that changes a number.
        variant: the same without the seed: what seeds are averaged over.
    """

    folder: Path
    config_hash: str
    variant: str


def address(
    config: Any,
    fingerprint: str,
    trainable: bool,
    encoder: str | None = None,
    trained: tuple[str, str] | None = None,
    file: str | None = None,
    initial: tuple[str, str] | None = None,
    backbone: str | None = None,
    llm: str | None = None,
) -> Address:
    """The address of a composed config on a dataset.

    Args:
        fingerprint: the dataset's.
        trainable: whether the model has weights; optimisation is no part of the address of one that has none.
        encoder: what identifies the weights of the model's text encoder, if it has one: its path says nothing.
        trained: for `eval`, what identifies the weights that are asked, and the variant of the run they come from.
        file: what identifies the content of the file that the model is read from, if it is: its path says nothing.
        initial: for `train`, what identifies the weights that it begins with, and the variant of the run that they
            come from.
        backbone: what identifies the published weights that training begins with, if it does: their name says nothing.
        llm: what identifies the chat model that is asked or has enriched the items, and what it wrote of them: its path
            says nothing. None = there is none.
    """
    content = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(content, dict)
    outside = [*OUTSIDE, *([] if trainable else ["trainer"])]
    if content["dataset"]["text"] != TextRecipe.enriched.name:
        outside.append("enrichment")
    for key in outside:
        *parents, leaf = key.split(".")
        node: Any = content
        for parent in parents:
            node = node.get(parent, {})
        node.pop(leaf, None)
    facts: dict[str, Any] = {"config": content, "dataset": fingerprint, "results": RESULTS_VERSION}
    of_model = models.config_class(config.model.name).later
    for node, later in ((content["model"], of_model), (content["dataset"], DATASET_LATER)):
        for key, value in later.items():
            if node.get(key) == value:
                del node[key]
    if llm is None:
        del content["llm"]
    else:
        content["llm"]["model"] = llm
    if encoder is not None:
        content["model"]["encoder"]["name"] = encoder
    if backbone is not None:
        content["model"]["backbone"] = backbone
    for key in models.config_class(config.model.name).files:
        content["model"].pop(key, None)
    if file is not None:
        content["model"]["file"] = file
    begin, begin_variant = initial or (None, None)
    if "init_from" in content["model"]:
        content["model"]["init_from"] = begin
    weights, variant = trained or (None, None)
    config_hash = _digest(facts | {"trained": weights})
    seed = content.pop("seed")
    content["model"].pop("file", None)  # another seed's answers stand in another file
    if "init_from" in content["model"]:
        content["model"]["init_from"] = begin_variant
    folder = Path(config.paths.outputs) / config.model.name / config.dataset.name / config.task.name
    return Address(folder / f"seed{seed}-{config_hash}", config_hash, _digest(facts | {"trained": variant}))


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
