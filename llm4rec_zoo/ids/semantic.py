"""Semantic ids of a catalogue, made from texts, training interactions or a file, and cached by their inputs."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from llm4rec_cli.config import walk
from llm4rec_cli.config.schema import EncoderConfig, Index
from llm4rec_cli.data.recdataset import IntArray, RecDataset
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.files import write_once, write_text
from llm4rec_cli.ids.files import read_codes
from llm4rec_cli.ids.index import index_items
from llm4rec_cli.ids.item_ids import END, ItemIds, from_pieces
from llm4rec_cli.ids.trees import Floats
from llm4rec_cli.models.base import Context
from llm4rec_zoo.ids.config import Collisions, IdKind, IdsConfig, SemanticIdsConfig
from llm4rec_zoo.ids.quantisers import opq, rq_kmeans

log = logging.getLogger(__name__)

VERSION = 1  # raised when the same settings and inputs would give other codes


def item_ids(
    config: IdsConfig, encoder: EncoderConfig | None, split: Split, cache: Path, device: str, seed: int | None = None
) -> ItemIds:
    """Return the ids of a catalogue, computed once and cached. They see item texts and training interactions only.

    Args:
        encoder: of item texts, for kinds that read them.
        split: as ranking tasks use it.
        seed: in place of the setting.

    Raises:
        UsageError, DataError: the settings do not fit the texts, or the file does not fit the catalogue.
    """
    if seed is not None:
        config = replace(config, seed=seed)
    vectors = None
    if config.kind.reads_text:
        from llm4rec_cli.text.features import encode_texts

        assert encoder is not None
        vectors = encode_texts(split.dataset.texts, encoder, cache, device, split.dataset).numpy()
    if config.kind is IdKind.file:
        ids = imported(Path(str(config.file)), split.dataset)
    elif config.kind.is_tree:
        ids = _tree(config, split, cache, vectors)
    else:
        key_parts = [VERSION, walk.plain(replace(config, collisions=Collisions.shared)), split.n_items]
        key = hashlib.sha256(json.dumps(key_parts).encode())
        if vectors is not None:
            key.update(f"{vectors.shape}".encode() + vectors.tobytes())
        path = cache / "ids" / f"{config.kind.name}-{key.hexdigest()[:24]}.npy"
        write_once(path, lambda aside: _save(aside, quantised(config, vectors, split.n_items, device, path)))
        _checkpoint(path).unlink(missing_ok=True)
        ids = ItemIds(np.load(path, allow_pickle=False), parallel=config.kind in (IdKind.opq, IdKind.random))
    return ids.separated(config.seed) if config.collisions is Collisions.extra_code else ids


def _save(path: Path, codes: IntArray) -> None:
    with path.open("wb") as file:  # np.save would add .npy to a temporary name
        np.save(file, codes)


def _checkpoint(path: Path) -> Path:
    return path.with_suffix(".checkpoint")


def quantised(config: IdsConfig, vectors: Floats | None, n_items: int, device: str, path: Path) -> IntArray:
    """Return (n_items, codes) by a quantiser of text vectors (n_items, size), or at random.

    Args:
        path: of the codes. Beside it, an autoencoder keeps its checkpoint, and its log as JSON lines.
    """
    sizes = config.codes, config.codebook
    if config.kind is IdKind.random:
        return stream(config.seed, "random codes").integers(config.codebook, size=(n_items, config.codes))
    assert vectors is not None
    with threadpool_limits(1):  # with several threads the order of summation varies
        if config.kind is IdKind.rq_kmeans:
            return rq_kmeans(vectors, *sizes, config.seed)[0]
        if config.kind is IdKind.opq:
            return opq(vectors, *sizes, config.seed)[0]
    import torch

    from llm4rec_zoo.ids.rq_vae import rq_vae

    x = torch.from_numpy(vectors).to(device)
    codes, epochs = rq_vae(x, config.rq_vae, *sizes, config.seed, _checkpoint(path))
    write_text(path.with_suffix(".log.jsonl"), "".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
    return codes


def _tree(config: IdsConfig, split: Split, cache: Path, vectors: Floats | None) -> ItemIds:
    kind = Index.semantic if config.kind is IdKind.tree else Index.collaborative
    sizes = config.codebook, config.codebook
    index = index_items(kind, split, config.seed, 1, cache, vectors, *sizes)
    return from_pieces(index.codes, numbers_last=True)


def imported(file: Path, dataset: RecDataset) -> ItemIds:
    """Return the ids in a file. Items that the catalogue lacks are ignored.

    Raises:
        UsageError: there is no such file.
        DataError: it lacks an item of the catalogue, an item has no code, or an id begins another.
    """
    found = read_codes(file)
    raw = dataset.items["item_id"].astype(str).tolist()
    if missing := [item for item in raw if not found.get(item)]:
        raise DataError(
            f"{file.name} has no codes of item '{missing[0]}' and of {len(missing) - 1:,} others of the catalogue",
            "write one entry for each item, under its raw id",
        )
    if ignored := len(found) - len(raw):
        log.info("%s: %d items are not in the catalogue", file.name, ignored)
    ids = from_pieces([found[item] for item in raw])
    in_order = ids.distinct[0]  # rows in order: one that begins others is followed by one of them
    ends = in_order == END
    begins = ((in_order[:-1] == in_order[1:]) | ends[:-1]).all(axis=1)
    if begins.any():
        item = raw[int((ids.distinct[1] == begins.argmax()).argmax())]
        raise DataError(f"{file.name}: the codes of item '{item}' begin those of another", "use ids of one length")
    return ids


def codes_of(context: Context, seed: int | None = None) -> ItemIds:
    """Return the ids of all items, by another seed than that of the settings if there is one."""
    config: SemanticIdsConfig = context.config
    return item_ids(config.ids, config.encoder, context.split.for_ranking(), context.cache, context.device, seed)
