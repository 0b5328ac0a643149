"""Turn raw files into a filtered dataset with numbered users and items, cached by its fingerprint."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from llm4rec_cli import __version__
from llm4rec_cli.config.schema import DatasetConfig, SplitRule, TextRecipe
from llm4rec_cli.data import demo, download, rawfiles, readers, statistics, store
from llm4rec_cli.data.lists import LIST_COLUMNS, numbered_lists
from llm4rec_cli.data.recdataset import IntArray, RawData, RecDataset
from llm4rec_cli.data.reviews import with_own_texts
from llm4rec_cli.data.split import p5_reviews
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError, did_you_mean, problems_raised_by, raise_first
from llm4rec_cli.files import fill_once, remembered_sha256
from llm4rec_cli.progress import step

FORMAT = 1  # raised when this module turns the same raw data into a different dataset

RawFiles = dict[str, dict[str, Path]]  # domain -> role -> path
Counts = list[dict[str, Any]]  # users, items and interactions after each step


def prepare(config: DatasetConfig, cache: Path) -> RecDataset:
    """Return the dataset that a config describes, from the cache if it was prepared before.

    Each domain is filtered on its own: interactions of unknown items are dropped, then users and items with too few
    interactions until none is left. Users are numbered by first appearance, items in the reader's order. Interactions
    are sorted by (user, time, position in the file), those without a time last. `dataset.control` is not used here, and
    of `dataset.text` only whether it needs empty fields.

    Raises:
        DataError: a raw file is missing or malformed, the filters leave nothing, or the data cannot be split.
        UsageError: as `problems`.
    """
    raise_first(problems(config))
    raw_files = _raw_files(config, cache)
    provenance = _provenance(config, raw_files, cache)
    folder = store.dataset_folder(cache, config.name, provenance["fingerprint"])

    def fill(aside: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="texts", dir=aside) as scratch:
            store.save(*_build(config, raw_files, provenance, Path(scratch)), aside)

    fill_once(folder, fill)
    return store.load(folder, notes=cache / store.NOTES)


def problems(config: DatasetConfig) -> Iterator[Llm4RecError]:
    """Yield the problems with a dataset's settings that can be seen without its raw files."""
    if not config.domains:
        yield UsageError(f"dataset '{config.name}' has no domains, so no raw files", "domains: {NAME: {ROLE: FILE}}")
        return
    if config.generator and config.raw_dir:
        yield UsageError(
            f"dataset '{config.name}' is generated and does not read dataset.raw_dir",
            "choose the dataset that reads these files: llm4rec list datasets",
        )
    if config.generator:
        yield from demo.problems_of_variant(config.generator)
    if config.encoding not in rawfiles.ENCODINGS:
        yield UsageError(
            f"dataset.encoding={config.encoding} is not read", did_you_mean(config.encoding, rawfiles.ENCODINGS)
        )
    reader_names = [config.reader]  # even if no domain uses it: its version is part of the provenance
    reader_names += [domain["reader"] for domain in config.domains.values() if domain.get("reader")]
    unknown_readers = [problem for name in reader_names for problem in problems_raised_by(partial(readers.load, name))]
    yield from unknown_readers
    if unknown_readers:
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
                    "use FILE or FOLDER/FILE, relative to that folder, and set the folder with dataset.raw_dir=PATH",
                )
    with_columns = next(filter(readers.mappable_columns, used), config.reader)
    yield from readers.column_problems(with_columns, config.columns)
    yield from download.problems(config.download)
    if not (len(config.cuts) == 2 and 0 < config.cuts[0] < config.cuts[1] < 1):
        yield UsageError(
            f"dataset.cuts={list(config.cuts)} must be two increasing fractions in (0, 1)", "dataset.cuts=[0.8,0.9]"
        )
    if config.split == SplitRule.transfer:
        yield from _transfer_problems(config)


def _transfer_problems(config: DatasetConfig) -> Iterator[UsageError]:
    if len(config.domains) == 1:
        yield UsageError(
            f"dataset.split=transfer tests on one of several domains, but dataset '{config.name}' has only one",
            "dataset=demo_transfer, or a dataset of your own with several domains",
        )
    if config.test_domain is None:
        yield UsageError(
            "dataset.split=transfer needs dataset.test_domain, the domain to test on",
            f"dataset.test_domain=NAME, one of {', '.join(config.domains)}",
        )
    elif config.test_domain not in config.domains:
        yield UsageError(
            f"dataset.test_domain={config.test_domain} is not a domain of dataset '{config.name}'",
            did_you_mean(config.test_domain, config.domains),
        )
    if not config.shared_users:
        yield UsageError(
            "dataset.split=transfer tests users of several domains, but dataset.shared_users=false keeps them apart",
            "dataset.shared_users=true",
        )


def k_core(user: IntArray, item: IntArray, user_core: int, item_core: int) -> IntArray:
    """Return (m,) sorted positions of the interactions that remain after users and items with too few are dropped
    repeatedly.

    Args:
        user, item: (n,) numbers from 0.
    """
    left = np.arange(len(user))
    with step(f"{user_core}/{item_core}-core, passes") as progress:
        while True:
            before = len(left)
            left = left[np.bincount(user[left])[user[left]] >= user_core]
            left = left[np.bincount(item[left])[item[left]] >= item_core]
            if len(left) == before:
                return left
            progress.advance(note=f"{len(left):,} interactions left")


def _raw_files(config: DatasetConfig, cache: Path) -> RawFiles:
    """Return the paths of the raw files, generating or downloading them first if needed. They may be gzipped."""
    folder, domains = _folder(config, cache), _names(config)
    if config.generator:
        fill_once(folder, lambda aside: demo.generate(str(config.generator), config.seed, aside))
    missing = missing_files(config, cache)
    to_fetch = [] if config.raw_dir else download.downloadable(config.download)  # a user's own folder is not written to
    if by_hand := [name for name in missing if name not in to_fetch]:
        raise _missing(folder, by_hand, config)
    if missing:
        download.fetch(missing, config.download, folder, config.get)
    return {
        name: {role: cast(Path, _existing(folder, file)) for role, file in files.items()}
        for name, files in domains.items()
    }


def missing_files(config: DatasetConfig, cache: Path) -> list[str]:
    """Return the raw files that are not on this machine, by name; nothing is downloaded or generated."""
    folder = _folder(config, cache)
    if config.generator and not folder.exists():
        return []
    return [name for name in _raw_names(config) if _existing(folder, name) is None]


def files_by_hand(config: DatasetConfig) -> list[str]:
    """Return the raw files that are neither generated nor downloaded, by name."""
    if config.generator:
        return []
    return [name for name in _raw_names(config) if name not in download.downloadable(config.download)]


def _raw_names(config: DatasetConfig) -> list[str]:
    return list(dict.fromkeys(file for files in _names(config).values() for file in files.values()))


def _folder(config: DatasetConfig, cache: Path) -> Path:
    if config.generator:
        return cache / "raw" / f"{config.generator}-seed{config.seed}-v{demo.VERSION}"
    return Path(config.raw_dir or cache / "raw" / config.name)


def _names(config: DatasetConfig) -> dict[str, dict[str, str]]:
    """Return domain -> role -> name of the raw file."""
    return {name: readers.reader_and_files(domain, config.reader)[1] for name, domain in config.domains.items()}


def _existing(folder: Path, name: str) -> Path | None:
    """Return the path of a raw file by its name or another usual one, with or without .gz; None if it is missing."""
    plain = folder / name.removesuffix(".gz")
    names = [name, readers.USUAL_NAMES.get(plain.name, plain.name)]
    paths = [plain.with_name(Path(same).name.removesuffix(".gz") + end) for same in names for end in ("", ".gz")]
    return next((path for path in [folder / name, *paths] if path.is_file()), None)


def _missing(folder: Path, names: Sequence[str], config: DatasetConfig) -> DataError:
    path = folder / names[0]
    where = "a folder in" if path.is_dir() else "a broken link in" if path.is_symlink() else "not in"
    can_be_fetched = [name for name in names if name in download.downloadable(config.download)]
    if config.generator:
        remedy = f"delete {folder}: it is generated again"
    elif config.raw_dir and can_be_fetched:
        them, fetched = ("it", "it") if len(names) == 1 else ("them", ", ".join(can_be_fetched))
        remedy = f"put {them} there, or leave out dataset.raw_dir to download {fetched}. {config.get}"
    else:
        remedy = f"{config.get} Put the files into {folder}, or set their folder with dataset.raw_dir=PATH"
        keys = {file: f"{domain}.{role}" for domain, files in _names(config).items() for role, file in files.items()}
        remedy += f"; a file of another name: dataset.domains.{keys[names[0]]}=NAME"
    if config.licence:
        remedy = f"{remedy.strip().removesuffix('.')}. Licence: {config.licence}"
    which = f"which is {where}" if len(names) == 1 else "which are not in"
    return DataError(f"dataset '{config.name}' needs {', '.join(names)}, {which} {folder}", remedy.strip())


def _provenance(config: DatasetConfig, raw_files: RawFiles, cache: Path) -> dict[str, Any]:
    """Return everything that determines the dataset's contents, and its hash; file locations do not."""
    files = []
    for domain, roles in raw_files.items():
        for role, path in roles.items():
            size, digest = path.stat().st_size, remembered_sha256(path, cache / store.NOTES)
            files.append({"domain": domain, "role": role, "name": path.name, "bytes": size, "sha256": digest})
    generator = None
    if config.generator:
        generator = {"variant": config.generator, "version": demo.VERSION}
    settings: dict[str, Any] = {
        "format": FORMAT,
        "reader": _version(config.reader),
        "generator": generator,
        "cores": {"user": config.user_core, "item": config.item_core},
        "split": {"rule": config.split.value, "seed": config.seed},
    }
    if config.split == SplitRule.temporal:
        settings["split"]["cuts"] = list(config.cuts)
    if config.split == SplitRule.transfer:
        settings["split"] |= {"test_domain": config.test_domain, "ranked": "test_domain"}
    if config.shared_users:
        settings["shared_users"] = True
    if config.columns:
        settings["columns"] = dict(config.columns)
    if config.text is TextRecipe.unisrec_verbatim:
        settings["keep_empty"] = True
    for name in ("encoding", "category_separator", "min_rating", "drop_duplicates"):
        if (value := getattr(config, name)) != getattr(DatasetConfig, name):
            settings[name] = value
    if own_readers := {name: domain["reader"] for name, domain in config.domains.items() if "reader" in domain}:
        settings["readers"] = {name: _version(reader) for name, reader in own_readers.items()}
    hashed = settings | {"files": [{key: file[key] for key in ("domain", "role", "sha256")} for file in files]}
    fingerprint = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
    return {"name": config.name, "fingerprint": fingerprint, **settings, "files": files}


def _version(reader: str) -> dict[str, Any]:
    return {"name": reader, "version": readers.load(reader).VERSION}


def _build(
    config: DatasetConfig, raw_files: RawFiles, provenance: dict[str, Any], scratch: Path
) -> tuple[RecDataset, store.Texts | None]:
    """Return the dataset, and the texts of its interactions where a reader keeps them out of memory."""
    counts: Counts = []
    unknown: dict[str, Any] = {}
    domains = {
        name: _filtered(name, _read(name, files, config, scratch), config, counts, unknown)
        for name, files in raw_files.items()
    }
    merged = _merged(domains, config.shared_users)
    dataset, rows = _numbered(merged.items, merged.interactions, merged.impressions)
    dataset.manifest.update(
        provenance,
        synthetic=config.generator is not None,
        read={domain: raw.counts for domain, raw in domains.items()},
        counts=counts,
        unknown_items=unknown,
        item_order="; ".join(dict.fromkeys(raw.item_order for raw in domains.values())),
        created_with=__version__,
    )
    if config.shared_users:
        _, item_domain = dataset.domains
        by_user = pd.Series(item_domain[dataset.sequence]).groupby(dataset.interactions["user"].to_numpy())
        dataset.manifest["users_of_several_domains"] = int((by_user.nunique() > 1).sum())
    if config.split == SplitRule.p5_reviews and dataset.impressions is None:
        dataset.interactions["part"] = p5_reviews(dataset, config.seed)
    dataset.manifest["split"] = provenance["split"] | statistics.split_sizes(dataset)
    return dataset, None if merged.texts is None else store.Texts(merged.texts, rows)


def _read(domain: str, files: dict[str, Path], config: DatasetConfig, scratch: Path) -> RawData:
    name, _ = readers.reader_and_files(config.domains[domain], config.reader)
    options: dict[str, Any] = {}
    if config.encoding != DatasetConfig.encoding:
        folder = scratch / f"{len(list(scratch.iterdir()))}"
        folder.mkdir()
        files = {role: rawfiles.in_utf8(path, config.encoding, folder) for role, path in files.items()}
    if readers.has_long_texts(name):
        folder = scratch / f"{len(list(scratch.iterdir()))}"  # of this domain
        folder.mkdir()
        options["scratch"] = folder
    if config.columns and readers.mappable_columns(name):
        options["columns"] = config.columns
    if config.text is TextRecipe.unisrec_verbatim and readers.keeps_empty(name):
        options["keep_empty"] = True
    raw: RawData = readers.load(name).read(files, **options)
    if config.category_separator and "categories" in raw.items:
        categories = raw.items["categories"].str.replace(config.category_separator, " ", regex=False)
        raw = replace(raw, items=raw.items.assign(categories=categories))
    return raw


def _filtered(domain: str, raw: RawData, config: DatasetConfig, counts: Counts, unknown: dict[str, Any]) -> RawData:
    """Drop interactions below `min_rating` and duplicates if so set, those of unknown items, then users and items
    outside the k-core; add what each step leaves to `counts`, and an example of an unknown item to `unknown`.

    Raises:
        DataError: nothing is left, or there are no ratings.
    """
    interactions = raw.interactions
    steps = [statistics.step(domain, "read", interactions["user_id"], len(raw.items))]
    if config.min_rating is not None:
        if "rating" not in interactions:
            raise DataError(
                f"dataset.min_rating={config.min_rating:g}: dataset '{config.name}' has no ratings",
                "leave it out, or map a column: dataset.columns.rating=COLUMN",
            )
        interactions = interactions[interactions["rating"] >= config.min_rating]
        rated = f"rated {config.min_rating:g} or more"
        steps.append(statistics.step(domain, rated, interactions["user_id"], len(raw.items)))
    if config.drop_duplicates:
        keys = [key for key in ("user_id", "item_id", "timestamp") if key in interactions]
        interactions = interactions.drop_duplicates(keys)
        steps.append(statistics.step(domain, "without duplicates", interactions["user_id"], len(raw.items)))
    user, _ = pd.factorize(interactions["user_id"])
    item = _numbers(interactions["item_id"], raw.items["item_id"])
    with_item = np.flatnonzero(item >= 0)
    if len(with_item) < len(item):
        unknown[domain] = statistics.unknown_items(interactions["item_id"], item < 0, raw.items["item_id"])
    if len(item) and not len(with_item) and raw.impressions is None:
        raise DataError(
            f"dataset '{config.name}', domain '{domain}': {statistics.unknown_in_words(unknown[domain])}",
            "write the ids alike in both files, or name the column of the item file: dataset.columns",
        )
    core = with_item[k_core(user[with_item], item[with_item], config.user_core, config.item_core)]
    core_items = np.bincount(item[core], minlength=len(raw.items)) >= config.item_core
    (_, rows), *dropped = raw.counts.items()
    core_step = f"{config.user_core}/{config.item_core}-core"
    steps += [
        statistics.step(domain, "items known", user[with_item], len(raw.items)),
        statistics.step(domain, core_step, user[core], int(core_items.sum())),
    ]
    counts += steps
    if len(core) == 0 and raw.impressions is None:
        raise DataError(
            f"dataset '{config.name}', domain '{domain}' is empty after the {core_step}: "
            + ", then ".join(map(statistics.step_in_words, steps))
            + "".join(f"; {n:,} of {rows:,} rows dropped before: {reason}" for reason, n in dropped if n),
            "lower dataset.user_core and dataset.item_core, or check that the raw files are complete",
        )
    return replace(raw, items=raw.items[core_items], interactions=interactions.iloc[core])


def _merged(domains: dict[str, RawData], shared_users: bool) -> RawData:
    """Return the items, interactions, impressions and texts of all domains.

    With several domains, ids are prefixed by their domain, and items get a column `domain`. With `shared_users` the
    same user id in two domains is one user.
    """
    if len(domains) == 1:
        (single,) = domains.values()
        return single
    all_have_texts = all(raw.texts is not None for raw in domains.values())
    items, interactions, texts, n_texts = [], [], [], 0
    for domain, raw in domains.items():
        if raw.impressions is not None:
            raise DataError(
                "a click log cannot be merged with other domains", "give each click log its own dataset config"
            )
        if not all_have_texts:
            raw = with_own_texts(raw)
        items.append(raw.items.assign(item_id=f"{domain}-" + raw.items["item_id"], domain=domain))
        moved = raw.interactions.assign(
            user_id=("" if shared_users else f"{domain}-") + raw.interactions["user_id"].astype("str"),
            item_id=f"{domain}-" + raw.interactions["item_id"].astype("str"),
        )
        if raw.texts is not None:
            moved.index += n_texts
            n_texts += len(raw.texts)
            texts.append(raw.texts)
        interactions.append(moved)
    merged_texts = pa.concat_tables(texts, promote_options="default") if texts else None
    first = next(iter(domains.values()))
    return replace(first, items=pd.concat(items), interactions=pd.concat(interactions), texts=merged_texts)


def _numbered(
    items: pd.DataFrame, interactions: pd.DataFrame, impressions: pd.DataFrame | None
) -> tuple[RecDataset, IntArray]:
    """Replace ids by numbers and sort interactions. The manifest holds counts of the result.

    Returns:
        The dataset, and (n_interactions,) the index that each of its interactions had.
    """
    items = _without_empty_columns(items)
    impression_users = interactions["user_id"].iloc[:0] if impressions is None else impressions["user_id"]
    user, user_ids = pd.factorize(pd.concat([interactions["user_id"], impression_users]))
    user, impression_user = np.split(user.astype(np.int32), [len(interactions)])

    order = np.argsort(user, kind="stable")
    if "timestamp" in interactions:
        order = np.lexsort((interactions["timestamp"], user))
    item = _numbers(interactions["item_id"], items["item_id"]).astype(np.int32)
    other_columns = _without_empty_columns(interactions.drop(columns=["user_id", "item_id"]))
    numbered = pd.concat(
        [pd.DataFrame({"user": user, "item": item}), other_columns.reset_index(drop=True)], axis="columns"
    ).iloc[order]
    if impressions is not None:
        impressions = impressions.drop(columns="user_id").assign(user=impression_user)
        numbers = pd.Index(items["item_id"])
        for column in LIST_COLUMNS:
            impressions[column] = numbered_lists(impressions[column], numbers)

    offsets = store.user_offsets(user, len(user_ids))
    dataset = RecDataset(
        items=items.reset_index(drop=True),
        interactions=numbered.reset_index(drop=True),
        user_ids=np.asarray(user_ids, dtype=object),
        offsets=offsets,
        manifest=statistics.counts(items, numbered, impressions, offsets),
        impressions=impressions,
    )
    return dataset, interactions.index.to_numpy()[order]


def _numbers(ids: pd.Series, known: pd.Series) -> IntArray:
    """Return (n,) the place of each id among the known ones, -1 for others; each distinct id is looked up once."""
    codes, distinct = pd.factorize(ids)
    return pd.Index(known).get_indexer(distinct)[codes]


def _without_empty_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop columns without any value: the source does not have them."""
    return frame.dropna(axis="columns", how="all") if len(frame) else frame
