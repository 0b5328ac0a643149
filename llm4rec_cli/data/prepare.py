"""From raw files to a numbered, filtered dataset, done once: what was done before is found by its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli import __version__
from llm4rec_cli.config.schema import DatasetConfig, SplitRule
from llm4rec_cli.data import demo, download, readers, store
from llm4rec_cli.data.recdataset import IntArray, RawData, RecDataset
from llm4rec_cli.data.split import TEST, TRAIN, UNUSED, VALID, Split, cut_at, divide, p5_reviews
from llm4rec_cli.data.texts import TEXT_COLUMNS
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, did_you_mean, refusals, refuse
from llm4rec_cli.files import fill_once, sha256

FORMAT = 1  # raised when this module turns the same raw data into another dataset

RawFiles = dict[str, dict[str, Path]]  # domain -> role -> path


@dataclass
class _Filtered:
    """One domain after its filters; `counts` has users, items and interactions after each step."""

    raw: RawData
    counts: list[dict[str, Any]]


def prepare(config: DatasetConfig, cache: Path) -> RecDataset:
    """The dataset that a config describes, read from the cache where it was prepared before.

    Each domain is filtered on its own: interactions of unknown items go, then users and items with too few, until none
    is left to drop. Users are numbered by first appearance, items in the reader's order, and interactions sorted by
    (user, time, position in the file), those without a time last.

    Args:
        config: the dataset's settings (`control` and `text` play no part here).
        cache: the cache folder; the dataset goes to datasets/<name>-<fingerprint>/.

    Raises:
        DataError: a raw file is missing or malformed, the filters leave nothing, or the data cannot be divided.
        UsageError: as `check`.
    """
    refuse(problems(config))
    raw_files = _raw_files(config, cache)
    provenance = _provenance(config, raw_files)
    folder = store.dataset_folder(cache, config.name, provenance["fingerprint"])
    fill_once(folder, lambda aside: store.save(_build(config, raw_files, provenance), aside))
    return store.load(folder)


def problems(config: DatasetConfig) -> Iterator[Llm4RecError]:
    """Settings that no raw file could satisfy: no domain, an unknown generator or reader, roles or columns that
    it does not take, a file outside the folder of raw files, such a folder for a dataset that is generated, a recipe
    that cannot be followed, cuts that are none, a split by domain without a domain to ask about or shared users."""
    if not config.domains:
        yield UsageError(f"dataset '{config.name}' has no domains, so no raw files", "domains: {NAME: {ROLE: FILE}}")
        return
    if config.generator and config.raw_dir:
        yield UsageError(
            f"dataset '{config.name}' is generated and would not read dataset.raw_dir",
            "choose the dataset that these files are: llm4rec list datasets",
        )
    if config.generator:
        yield from refusals(partial(demo.check, config.generator))
    unknown = list(refusals(partial(readers.load, config.reader)))  # one that no domain needs is in the provenance
    named = [of for domain in config.domains.values() if (of := domain.get("reader"))]
    unknown += [refused for of in named for refused in refusals(partial(readers.load, of))]
    yield from unknown
    if unknown:
        return
    used = []
    for domain in config.domains.values():
        reader, files = readers.reader_and_files(domain, config.reader)
        yield from readers.role_problems(reader, files)
        used.append(reader)
        for name in files.values():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                yield UsageError(
                    f"dataset '{config.name}' names a file outside its folder of raw files: {name}",
                    "name it as it is called in there, FILE or FOLDER/FILE, and the folder with dataset.raw_dir=PATH",
                )
    yield from readers.column_problems(next(filter(readers.mappable_columns, used), config.reader), config.columns)
    yield from download.problems(config.download)
    if not (len(config.cuts) == 2 and 0 < config.cuts[0] < config.cuts[1] < 1):
        yield UsageError(f"dataset.cuts={list(config.cuts)} are not two rising shares", "dataset.cuts=[0.8,0.9]")
    if config.split == SplitRule.transfer:
        yield from _problems_of_transfer(config)


def _problems_of_transfer(config: DatasetConfig) -> Iterator[UsageError]:
    if len(config.domains) == 1:
        yield UsageError(
            f"dataset.split=transfer asks about one domain of several, and dataset '{config.name}' has one",
            "dataset=demo_transfer, or a dataset of your own with several domains",
        )
    if config.test_domain is None:
        yield UsageError(
            "dataset.split=transfer needs dataset.test_domain, the domain that is asked about",
            f"dataset.test_domain=NAME, one of {', '.join(config.domains)}",
        )
    elif config.test_domain not in config.domains:
        yield UsageError(
            f"dataset.test_domain={config.test_domain} is no domain of dataset '{config.name}'",
            did_you_mean(config.test_domain, config.domains),
        )
    if not config.shared_users:
        yield UsageError(
            "dataset.split=transfer asks about users of several domains, which dataset.shared_users=false keeps apart",
            "dataset.shared_users=true",
        )


def k_core(user: IntArray, item: IntArray, user_core: int, item_core: int) -> IntArray:
    """The interactions that remain when users and items with too few are dropped until none is left to drop.

    Args:
        user, item: (n,) numbers from 0.
        user_core, item_core: the fewest interactions that a user and an item keep.

    Returns:
        (m,) sorted positions in 0..n-1.
    """
    kept = np.arange(len(user))
    while True:
        before = len(kept)
        kept = kept[np.bincount(user[kept])[user[kept]] >= user_core]
        kept = kept[np.bincount(item[kept])[item[kept]] >= item_core]
        if len(kept) == before:
            return kept


def _raw_files(config: DatasetConfig, cache: Path) -> RawFiles:
    """The raw files, generated or fetched first where the config says so; each may lie there gzipped or not."""
    folder = _generated(config, cache) if config.generator else Path(config.raw_dir or cache / "raw" / config.name)
    if not (config.generator or config.raw_dir):  # into a user's own folder nothing is written
        _fetch(folder, config)
    return {
        name: {
            role: _find(folder, file, config)
            for role, file in readers.reader_and_files(domain, config.reader)[1].items()
        }
        for name, domain in config.domains.items()
    }


def _fetch(folder: Path, config: DatasetConfig) -> None:
    """Downloads the raw files that are missing; those that must be got by hand are asked for first."""
    by_role = [readers.reader_and_files(domain, config.reader)[1] for domain in config.domains.values()]
    names = dict.fromkeys(name for files in by_role for name in files.values())
    missing = [name for name in names if _present(folder, name) is None]
    for name in missing:
        if name not in download.offered(config.download):
            _find(folder, name, config)
    download.fetch(missing, config.download, folder, config.get)


def _present(folder: Path, name: str) -> Path | None:
    twin = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
    return next((path for path in (folder / name, folder / twin) if path.is_file()), None)


def _find(folder: Path, name: str, config: DatasetConfig) -> Path:
    if path := _present(folder, name):
        return path
    lies = "a folder" if (folder / name).is_dir() else "a link to nothing" if (folder / name).is_symlink() else "not"
    if config.raw_dir and name in download.offered(config.download):
        remedy = f"put it there, or leave out dataset.raw_dir to have it fetched. {config.get}"
    else:
        remedy = f"{config.get} Put the files into {folder}, or name their folder with dataset.raw_dir=PATH"
    raise DataError(f"dataset '{config.name}' needs {name}, which is {lies} in {folder}", remedy.strip())


def _generated(config: DatasetConfig, cache: Path) -> Path:
    """The folder of generated raw files, written now where it is new."""
    variant = config.generator
    assert variant is not None
    folder = cache / "raw" / f"{variant}-seed{config.seed}-v{demo.VERSION}"
    fill_once(folder, lambda aside: demo.generate(variant, config.seed, aside))
    return folder


def _provenance(config: DatasetConfig, raw_files: RawFiles) -> dict[str, Any]:
    """What decides the dataset's contents, and its hash; where the files lie does not."""
    files = []
    for domain, roles in raw_files.items():
        for role, path in roles.items():
            size = path.stat().st_size
            files.append({"domain": domain, "role": role, "name": path.name, "bytes": size, "sha256": sha256(path)})
    generator = None
    if config.generator:
        generator = {"variant": config.generator, "version": demo.VERSION}
    decided: dict[str, Any] = {
        "format": FORMAT,
        "reader": _version(config.reader),
        "generator": generator,
        "cores": {"user": config.user_core, "item": config.item_core},
        "split": {"rule": config.split.value, "seed": config.seed},
    }
    if config.split == SplitRule.temporal:
        decided["split"]["cuts"] = list(config.cuts)
    if config.split == SplitRule.transfer:
        decided["split"]["test_domain"] = config.test_domain
    if config.shared_users:
        decided["shared_users"] = True
    if config.columns:
        decided["columns"] = dict(config.columns)
    if own := {name: domain["reader"] for name, domain in config.domains.items() if "reader" in domain}:
        decided["readers"] = {name: _version(reader) for name, reader in own.items()}
    hashed = decided | {"files": [{key: file[key] for key in ("domain", "role", "sha256")} for file in files]}
    fingerprint = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
    return {"name": config.name, "fingerprint": fingerprint, **decided, "files": files}


def _version(reader: str) -> dict[str, Any]:
    return {"name": reader, "version": readers.load(reader).VERSION}


def _build(config: DatasetConfig, raw_files: RawFiles, provenance: dict[str, Any]) -> RecDataset:
    domains = {domain: _filtered(domain, _read(domain, files, config), config) for domain, files in raw_files.items()}
    items, interactions, impressions = _merged(domains, config.shared_users)
    dataset = _numbered(items, interactions, impressions)
    dataset.manifest.update(
        provenance,
        synthetic=config.generator is not None,
        read={domain: filtered.raw.counts for domain, filtered in domains.items()},
        counts=[step for filtered in domains.values() for step in filtered.counts],
        item_order="; ".join(dict.fromkeys(filtered.raw.item_order for filtered in domains.values())),
        created_with=__version__,
    )
    if config.shared_users:
        _, of_item = dataset.domains
        visited = pd.DataFrame({"user": dataset.interactions["user"], "domain": of_item[dataset.sequence]})
        dataset.manifest["users_of_several_domains"] = int((visited.groupby("user")["domain"].nunique() > 1).sum())
    if config.split == SplitRule.p5_reviews and impressions is None:
        dataset.interactions["part"] = p5_reviews(dataset, config.seed)
    dataset.manifest["split"] = provenance["split"] | _split_sizes(dataset)
    return dataset


def _read(domain: str, files: dict[str, Path], config: DatasetConfig) -> RawData:
    name, _ = readers.reader_and_files(config.domains[domain], config.reader)
    mapped = {"columns": config.columns} if config.columns and readers.mappable_columns(name) else {}
    return readers.load(name).read(files, **mapped)


def _filtered(domain: str, raw: RawData, config: DatasetConfig) -> _Filtered:
    """A domain without unknown items and what falls out of the k-core.

    Raises:
        DataError: nothing is left.
    """
    interactions = raw.interactions
    user, user_ids = pd.factorize(interactions["user_id"])
    item = pd.Index(raw.items["item_id"]).get_indexer(interactions["item_id"])
    counts = [_step(domain, "read", len(user_ids), len(raw.items), len(interactions))]

    known = np.flatnonzero(item >= 0)
    n_users = len(np.unique(user[known]))
    counts.append(_step(domain, "items known", n_users, len(raw.items), len(known)))

    kept = known[k_core(user[known], item[known], config.user_core, config.item_core)]
    left = np.bincount(item[kept], minlength=len(raw.items)) >= config.item_core
    (_, rows), *dropped = raw.counts.items()
    step = f"{config.user_core}/{config.item_core}-core"
    counts.append(_step(domain, step, len(np.unique(user[kept])), int(left.sum()), len(kept)))
    if len(kept) == 0 and raw.impressions is None:
        raise DataError(
            f"dataset '{config.name}', domain '{domain}' is empty after the {step}: "
            + ", then ".join(map(_in_words, counts))
            + "".join(f"; {n:,} of {rows:,} rows dropped before: {reason}" for reason, n in dropped if n),
            "lower dataset.user_core and dataset.item_core, or check that the raw files are whole",
        )

    raw = RawData(
        raw.items[left], interactions.iloc[kept], raw.counts, item_order=raw.item_order, impressions=raw.impressions
    )
    return _Filtered(raw, counts)


def _merged(
    domains: dict[str, _Filtered], shared_users: bool
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Items, interactions and impressions of all domains; with several, ids carry their domain and items name it.

    Args:
        shared_users: users' ids do not: the same in two domains is one user.
    """
    if len(domains) == 1:
        (only,) = domains.values()
        return only.raw.items, only.raw.interactions, only.raw.impressions
    items, interactions = [], []
    for domain, filtered in domains.items():
        raw = filtered.raw
        if raw.impressions is not None:
            raise DataError(
                "a click log cannot be merged with other domains", "give each click log a config of its own"
            )
        items.append(raw.items.assign(item_id=f"{domain}-" + raw.items["item_id"], domain=domain))
        interactions.append(
            raw.interactions.assign(
                user_id=("" if shared_users else f"{domain}-") + raw.interactions["user_id"],
                item_id=f"{domain}-" + raw.interactions["item_id"],
            )
        )
    return pd.concat(items), pd.concat(interactions), None


def _numbered(items: pd.DataFrame, interactions: pd.DataFrame, impressions: pd.DataFrame | None) -> RecDataset:
    """Ids replaced by numbers, interactions sorted; the manifest holds what can be counted of the result."""
    items = _without_empty_columns(items)
    numbers = pd.Index(items["item_id"])
    clickers = interactions["user_id"].iloc[:0] if impressions is None else impressions["user_id"]
    user, user_ids = pd.factorize(pd.concat([interactions["user_id"], clickers]))
    user, clicker = np.split(user.astype(np.int32), [len(interactions)])

    order = np.argsort(user, kind="stable")
    if "timestamp" in interactions:
        order = np.lexsort((interactions["timestamp"], user))
    item = numbers.get_indexer(interactions["item_id"]).astype(np.int32)
    described = _without_empty_columns(interactions.drop(columns=["user_id", "item_id"]))
    numbered = pd.concat(
        [pd.DataFrame({"user": user, "item": item}), described.reset_index(drop=True)], axis="columns"
    ).iloc[order]
    if impressions is not None:
        impressions = impressions.drop(columns="user_id").assign(user=clicker)
        for column in ("history", "candidates", "clicks"):
            impressions[column] = _numbered_lists(impressions[column], numbers)

    offsets = store.user_offsets(user, len(user_ids))
    return RecDataset(
        items=items.reset_index(drop=True),
        interactions=numbered.reset_index(drop=True),
        user_ids=np.asarray(user_ids, dtype=object),
        offsets=offsets,
        manifest={
            "users": len(user_ids),
            "items": len(items),
            "interactions": len(interactions),
            "impressions": 0 if impressions is None else len(impressions),
            "items_without_title": _without_text(items, ["title"]),
            "items_without_text": _without_text(items, TEXT_COLUMNS),
            **_ends(numbered, offsets),
        },
        impressions=impressions,
    )


def _numbered_lists(lists: pd.Series, numbers: pd.Index) -> pd.Series:
    """Each list of ids as an array of numbers."""
    length = [len(ids) for ids in lists]
    flat = numbers.get_indexer(pd.Index(list(chain.from_iterable(lists)))).astype(np.int32)
    return pd.Series(np.split(flat, np.cumsum(length)[:-1]), index=lists.index)


def _without_empty_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """A column that is missing everywhere is one the source does not have."""
    return frame.dropna(axis="columns", how="all") if len(frame) else frame


def _without_text(items: pd.DataFrame, columns: list[str]) -> int:
    """How many items have nothing in all of these columns."""
    texts = items.reindex(columns=columns).fillna("")
    return int((texts.apply(lambda column: column.str.strip()) == "").all(axis="columns").sum())


def _ends(interactions: pd.DataFrame, offsets: IntArray) -> dict[str, Any]:
    """The first and the last time; and users whose last two interactions have the same, and users without times."""
    last = offsets[1:][np.diff(offsets) >= 2] - 1
    if "timestamp" not in interactions:
        return {"users_tied_at_end": 0, "users_without_times": len(last)}
    time = interactions["timestamp"].to_numpy()
    return {
        "times": [float(np.nanmin(time)), float(np.nanmax(time))],
        "users_tied_at_end": int((time[last] == time[last - 1]).sum()),
        "users_without_times": int(np.isnan(time[last]).sum()),
    }


def _split_sizes(dataset: RecDataset) -> dict[str, Any]:
    """How many interactions each part has, or impressions; and what else `prepare` tells of the rule.

    Of a temporal split, when validation and test begin; of one by domain, how many users test is about; of P5's, how
    many users have their last interaction in train, which `leave_one_out` asks about.
    """
    split = divide(dataset)
    if split.impression_part is not None:
        return _sizes_of_log(split)
    counted = np.bincount(split.part, minlength=4)
    names = {"train": TRAIN, "valid": VALID, "test": TEST, "unused": UNUSED}
    sizes: dict[str, Any] = {name: int(counted[part]) for name, part in names.items()}
    if "cuts" in dataset.manifest["split"]:
        time = dataset.interactions["timestamp"].to_numpy()
        sizes["begins"] = [cut_at(time, cut) for cut in dataset.manifest["split"]["cuts"]]
    if split.home is not None:
        sizes["test_users"] = len(np.unique(dataset.interactions["user"].to_numpy()[split.part == TEST]))
    if "part" in dataset.interactions:
        sizes["last_trained"] = int((split.part[dataset.offsets[1:] - 1] == TRAIN).sum())
    return sizes


def _sizes_of_log(split: Split) -> dict[str, Any]:
    """How many impressions each part of a click log has; of how many users, with how many items shown and clicks, and
    how many without a history or without anything to rank."""
    sizes: dict[str, Any] = {}
    for name, code in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        part = split.impressions(code)
        sizes[name] = len(part)
        counted = {
            "users": len(np.unique(part.user)),
            "shown": part.n_shown.sum(),
            "clicks": part.n_clicks.sum(),
            "empty_history": (part.history_length == 0).sum(),
            "unrankable": (~part.rankable).sum(),
        }
        for what, n in counted.items():
            sizes.setdefault(what, {})[name] = int(n)
    return sizes


def _step(domain: str, step: str, users: int, items: int, interactions: int) -> dict[str, Any]:
    return {"domain": domain, "step": step, "users": users, "items": items, "interactions": interactions}


def _in_words(step: dict[str, Any]) -> str:
    return f"{step['step']}: {step['users']:,} users, {step['items']:,} items, {step['interactions']:,} interactions"
