import gzip
import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llm4rec_cli.config.schema import Control, DatasetConfig, SplitRule, TextRecipe
from llm4rec_cli.data.prepare import k_core, prepare
from llm4rec_cli.data.split import TRAIN
from llm4rec_cli.data.texts import item_texts
from llm4rec_cli.errors import DataError, UsageError

from .sources import FIXTURES, config

REVIEWS = {"reviews": "reviews.json", "metadata": "meta.json", "explanations": "explanations.json"}
AMAZON = config("shop", "amazon", "amazon", REVIEWS)
S3REC = {"sequences": "sequential_data.txt", "id_map": "datamaps.json", "metadata": "meta.json"}
CLICKS = {f"{part}_{kind}": f"{part}/{kind}.tsv" for part in ("train", "dev") for kind in ("behaviors", "news")}
MIND = config("news", "mind", "mind", CLICKS, user_core=0, item_core=0, split=SplitRule.mind)


def written(folder: Path, rows: list[tuple[str, str, float]], **settings) -> DatasetConfig:
    """A dataset of these (user, item, time) rows, as a RecBole file."""
    folder.mkdir(exist_ok=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    (folder / "log.inter").write_text("\n".join(lines))
    return config("log", "recbole", folder, {"interactions": "log.inter"}, **settings)


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=80),
    user_core=st.integers(0, 4),
    item_core=st.integers(0, 4),
)
def test_k_core_equals_dropping_one_by_one(rows, user_core, item_core):
    left = list(enumerate(rows))
    while True:
        users, items = Counter(u for _, (u, _) in left), Counter(i for _, (_, i) in left)
        doomed = [row for row in left if users[row[1][0]] < user_core or items[row[1][1]] < item_core]
        if not doomed:
            break
        left.remove(doomed[0])
    user, item = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    assert k_core(user, item, user_core, item_core).tolist() == [position for position, _ in left]


def test_interactions_are_sorted_by_user_and_time_with_ties_in_file_order_and_no_gap_in_the_numbers(tmp_path):
    rows = [("b", "z", 5), ("a", "z", 9), ("b", "x", 1), ("a", "y", 2), ("a", "x", 2), ("a", "w", 2)]
    dataset = prepare(written(tmp_path / "raw", rows), tmp_path)
    assert dataset.user_ids.tolist() == ["b", "a"]  # by first appearance
    assert dataset.items["item_id"].tolist() == ["w", "x", "y", "z"]  # in the reader's order
    assert dataset.offsets.tolist() == [0, 2, 6]
    assert dataset.interactions["user"].tolist() == [0, 0, 1, 1, 1, 1]
    assert dataset.items["item_id"].iloc[dataset.sequence].tolist() == ["x", "z", "y", "x", "w", "z"]
    assert dataset.interactions.dtypes[["user", "item"]].tolist() == [np.int32, np.int32]
    rows = [(u, i, 1) for u in "ab" for i in "xz"] + [("a", "y", 1)]
    dataset = prepare(written(tmp_path / "gap", rows, item_core=2), tmp_path)
    assert dataset.items["item_id"].tolist() == ["x", "z"]
    assert dataset.sequence.tolist() == [0, 1, 0, 1]


def test_the_manifest_counts_what_was_read_and_dropped(tmp_path):
    manifest = prepare(replace(AMAZON, user_core=2), tmp_path).manifest
    assert manifest["read"] == {"shop": {"read": 7, "exact duplicates": 1, "items without metadata": 1}}
    assert manifest["counts"] == [
        {"domain": "shop", "step": "read", "users": 3, "items": 2, "interactions": 5},
        {"domain": "shop", "step": "items known", "users": 3, "items": 2, "interactions": 5},
        {"domain": "shop", "step": "2/1-core", "users": 2, "items": 2, "interactions": 4},
    ]
    assert [file["role"] for file in manifest["files"]] == ["reviews", "metadata", "explanations"]
    assert manifest["split"] == {"rule": "leave_one_out", "seed": 0, "train": 4, "valid": 0, "test": 0, "unused": 0}
    assert not manifest["synthetic"]
    assert str(FIXTURES) not in json.dumps(manifest)


def test_ties_at_the_end_and_missing_times_are_counted(tmp_path):
    rows = [("tied", "x", 1), ("tied", "y", 2), ("tied", "z", 2), ("clear", "x", 1), ("clear", "y", 2), ("one", "x", 1)]
    manifest = prepare(written(tmp_path / "raw", rows), tmp_path).manifest
    assert (manifest["users_tied_at_end"], manifest["users_without_times"]) == (1, 0)
    assert manifest["repeated"] == 0
    again = prepare(written(tmp_path / "again", [*rows, ("clear", "x", 1), ("tied", "y", 3)]), tmp_path).manifest
    assert again["repeated"] == 1
    manifest = prepare(config("untimed", "s3rec", "s3rec", S3REC), tmp_path).manifest
    assert (manifest["users_tied_at_end"], manifest["users_without_times"]) == (0, 2)
    assert manifest["items_without_title"] == manifest["items_without_text"] == 2
    untimed = written(tmp_path / "untimed", [])
    (tmp_path / "untimed/log.inter").write_text("user_id:token\titem_id:token\na\tx\nb\ty\nb\tx\n")
    assert prepare(untimed, tmp_path).manifest["users_without_times"] == 2


def test_empty_fields_are_kept_for_the_text_that_needs_them_alone(tmp_path):
    files = {"reviews": "reviews.json", "metadata": "meta.json"}
    plain = config("tools", "amazon", "amazon2018", files, user_core=0, item_core=0)
    recipes = (plain.text, TextRecipe.title, TextRecipe.unisrec_verbatim)
    datasets = [prepare(replace(plain, text=recipe), tmp_path) for recipe in recipes]
    assert datasets[0].fingerprint == datasets[1].fingerprint != datasets[2].fingerprint
    assert datasets[0].items["categories"].isna().tolist() == [False, True]
    assert datasets[2].items["categories"].tolist() == ["Tools Clamps & Vises Clamps & Vises", ""]
    assert item_texts(datasets[2], TextRecipe.unisrec_verbatim)[1] == "Glue. . . "


def test_a_fingerprint_is_of_nothing_but_what_is_listed_here_and_the_second_time_comes_from_the_cache(
    tmp_path, monkeypatch
):
    first = prepare(AMAZON, tmp_path)
    monkeypatch.setattr("llm4rec_cli.data.readers.amazon.read", None)
    second = prepare(AMAZON, tmp_path)
    pd.testing.assert_frame_equal(first.interactions, second.interactions)
    pd.testing.assert_frame_equal(first.items, second.items)
    assert first.manifest == second.manifest
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [f"shop-{first.fingerprint[:16]}"]
    # What else goes in moves the address of every run that there is.
    manifest = first.manifest
    files = [{key: file[key] for key in ("domain", "role", "sha256")} for file in manifest["files"]]
    hashed = {key: manifest[key] for key in ("format", "reader", "generator", "cores")}
    hashed |= {"split": {"rule": "leave_one_out", "seed": 0}, "files": files}
    assert hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest() == manifest["fingerprint"]


def test_a_fingerprint_changes_with_the_prepared_data_the_reader_and_each_byte_and_with_nothing_else(
    tmp_path, monkeypatch
):
    plain = prepare(AMAZON, tmp_path).fingerprint
    for change in ({"user_core": 2}, {"item_core": 2}, {"seed": 1}):
        assert prepare(replace(AMAZON, **change), tmp_path).fingerprint != plain
    for change in ({"control": Control.shuffle_text}, {"text": TextRecipe.title}):  # after preparing
        assert prepare(replace(AMAZON, **change), tmp_path).fingerprint == plain
    rows = [("a", "x", 1), ("a", "y", 2)]
    first = prepare(written(tmp_path / "raw", rows), tmp_path).fingerprint
    assert prepare(written(tmp_path / "raw", [*rows, ("a", "x", 3)]), tmp_path).fingerprint != first
    assert prepare(written(tmp_path / "there", rows), tmp_path).fingerprint == first
    monkeypatch.setattr("llm4rec_cli.data.readers.recbole.VERSION", 99)
    assert prepare(written(tmp_path / "raw", rows), tmp_path).fingerprint != first


def test_a_missing_file_is_named_with_its_source_and_place_and_another_name_can_be_given(tmp_path):
    config = replace(AMAZON, raw_dir=None, get="It is on the moon.")
    with pytest.raises(DataError, match=r"needs reviews\.json") as error:
        prepare(config, tmp_path)
    assert "on the moon" in error.value.remedy
    assert str(tmp_path / "raw" / "shop") in error.value.remedy
    config = replace(AMAZON, raw_dir=str(tmp_path), licence="Free.")
    with pytest.raises(DataError) as error:
        prepare(config, tmp_path)
    assert error.value.remedy.endswith("a file of another name: dataset.domains.shop.reviews=NAME. Licence: Free.")


@pytest.mark.parametrize(
    ("named", "there", "end"),
    [("sequential_data.txt", "sequential.txt", ""), ("sequential.txt", "sequential_data.txt", ".gz")],
)
def test_a_file_may_lie_there_unpacked_and_a_sequence_file_is_found_by_either_usual_name(tmp_path, there, end, named):
    config = replace(AMAZON, domains={"shop": {"reviews": "reviews.json.gz"}})
    assert prepare(config, tmp_path).manifest["files"][0]["name"] == "reviews.json"
    content = b"1 1 2 3\n2 2 3 1\n"
    (tmp_path / f"{there}{end}").write_bytes(gzip.compress(content) if end else content)
    config = replace(AMAZON, reader="s3rec", domains={"shop": {"sequences": named}}, raw_dir=str(tmp_path))
    assert prepare(config, tmp_path).manifest["files"][0]["name"] == f"{there}{end}"


def test_several_domains_are_filtered_apart_and_merged(tmp_path):
    shop = AMAZON.domains["shop"]
    merged = prepare(replace(AMAZON, domains={"one": shop, "two": shop}, user_core=2), tmp_path)
    assert merged.user_ids.tolist() == ["one-U1", "one-U2", "two-U1", "two-U2"]
    assert merged.items["item_id"].tolist() == ["one-B1", "one-B2", "two-B1", "two-B2"]
    assert merged.items["domain"].tolist() == ["one", "one", "two", "two"]
    assert merged.sequence.tolist() == [0, 1, 1, 0, 2, 3, 3, 2]
    assert merged.offsets.tolist() == [0, 2, 4, 6, 8]


MIXED = DatasetConfig(
    name="mixed",
    reader="s3rec",
    domains={
        "shop": {role: f"s3rec/{file}" for role, file in S3REC.items()},
        "films": {"reader": "recbole", "interactions": "recbole/tiny.inter", "items": "recbole/tiny.item"},
    },
    raw_dir=str(FIXTURES),
    user_core=1,
    item_core=1,
)


def test_domains_of_two_formats_keep_each_its_own_order(tmp_path):
    dataset = prepare(MIXED, tmp_path)
    sequences = {
        user: dataset.items["item_id"].iloc[dataset.sequence[start:end]].str.partition("-")[2].tolist()
        for user, start, end in zip(dataset.user_ids, dataset.offsets[:-1], dataset.offsets[1:], strict=True)
    }
    assert sequences == {
        "shop-anna": ["A", "B", "C"],  # no times: as in the file
        "shop-bert": ["C", "A", "J"],
        "films-anna": ["12", "13", "11"],  # by time, which is not the file's order, with its ties
        "films-bert": ["12"],
    }
    assert dataset.interactions["timestamp"].fillna(-1).tolist() == [-1] * 6 + [10, 10, 20, 10]
    assert dataset.items["domain"].value_counts(sort=False).to_dict() == {"shop": 4, "films": 3}
    assert dataset.manifest["users_without_times"] == 2
    assert dataset.manifest["times"] == [10, 20]


@pytest.mark.parametrize("names", [("timed", "untimed"), ("untimed", "timed")])
def test_merged_domains_with_and_without_times_are_sorted_as_each_alone(names, tmp_path):
    generator = np.random.default_rng(0)
    domains = {}
    for name in names:
        user, item, time = generator.integers([[7], [9], [5]], size=(3, 600))
        frame = pd.DataFrame({"user_id": user, "item_id": item, "timestamp": time})
        frame.drop(columns=["timestamp"] if name == "untimed" else []).to_csv(tmp_path / f"{name}.csv", index=False)
        domains[name] = {"interactions": f"{name}.csv"}
    config = replace(MIXED, reader="table", domains=domains, raw_dir=str(tmp_path))
    merged = prepare(config, tmp_path)
    alone = [prepare(replace(config, domains={name: domains[name]}), tmp_path) for name in names]
    assert merged.sequence.tolist() == [*alone[0].sequence, *(alone[1].sequence + alone[0].n_items)]
    assert np.diff(merged.offsets).tolist() == [*np.diff(alone[0].offsets), *np.diff(alone[1].offsets)]


def test_a_domain_s_own_reader_is_in_the_manifest_and_other_datasets_keep_their_fingerprint(tmp_path, monkeypatch):
    plain, mixed = prepare(AMAZON, tmp_path).manifest, prepare(MIXED, tmp_path).manifest
    assert "readers" not in plain
    assert mixed["reader"] == {"name": "s3rec", "version": 2}
    assert mixed["readers"] == {"films": {"name": "recbole", "version": 1}}
    assert [(file["domain"], file["role"], file["name"]) for file in mixed["files"]][3:] == [
        ("films", "interactions", "tiny.inter"),
        ("films", "items", "tiny.item"),
    ]
    monkeypatch.setattr("llm4rec_cli.data.readers.recbole.VERSION", 99)
    assert prepare(AMAZON, tmp_path).fingerprint == plain["fingerprint"]
    assert prepare(MIXED, tmp_path).fingerprint != mixed["fingerprint"]


def test_a_column_map_goes_to_the_domains_whose_reader_takes_one(tmp_path):
    (tmp_path / "log.csv").write_text("uid,item_id\nu,a\nu,b\n")
    shutil.copy(FIXTURES / "recbole/tiny.inter", tmp_path)
    config = replace(
        MIXED,
        reader="recbole",
        domains={"films": {"interactions": "tiny.inter"}, "log": {"reader": "table", "interactions": "log.csv"}},
        raw_dir=str(tmp_path),
        columns={"user_id": "uid"},
    )
    assert prepare(config, tmp_path).user_ids.tolist() == ["films-anna", "films-bert", "log-u"]
    with pytest.raises(UsageError, match="does not take"):
        prepare(replace(config, reader="s3rec", domains={"log": {"sequences": "log.csv"}}), tmp_path)


def test_files_outside_the_folder_of_raw_files_and_cuts_that_are_not_rising_shares_are_refused(tmp_path):
    config = written(tmp_path / "raw", [("u", "i", 1.0)], split=SplitRule.temporal)
    for name in ("../log.inter", "a/../../log.inter", "/log.inter"):
        with pytest.raises(UsageError, match="outside its folder"):
            prepare(replace(config, domains={"log": {"interactions": name}}), tmp_path)
    for cuts in ([0.9, 0.8], [0.8], [0.0, 0.5], [0.5, 1.0]):
        with pytest.raises(UsageError, match="two increasing fractions"):
            prepare(replace(config, cuts=cuts), tmp_path)


def test_a_click_log_keeps_its_impressions_and_the_manifest_describes_its_parts(tmp_path):
    dataset = prepare(MIND, tmp_path)
    assert dataset.user_ids.tolist() == ["U1", "U2"]
    assert dataset.impressions is not None
    assert dataset.impressions["user"].tolist() == [0, 1, 1]
    assert [list(row) for row in dataset.impressions["history"]] == [[1, 1], [], [0]]
    assert [list(row) for row in dataset.impressions["candidates"]] == [[0, 1], [1, 0], [2, 1]]
    assert dataset.manifest["impressions"] == 3
    assert len(dataset.interactions) == 0
    split = dataset.manifest["split"]
    assert (split["train"], split["valid"], split["test"]) == (1, 1, 1)
    assert (sum(split["clicks"].values()), sum(split["shown"].values())) == (4, 6)
    assert (split["users"]["test"], split["clicks"]["test"], split["shown"]["test"]) == (1, 1, 2)
    assert (split["empty_history"]["test"], sum(split["empty_history"].values())) == (0, 1)
    assert (split["unrankable"]["test"], sum(split["unrankable"].values())) == (0, 1)  # with two clicks of two


@pytest.mark.parametrize("variant", ["demo_transfer", "demo_news"])
def test_generated_data_is_written_once_and_marked_synthetic(variant, tmp_path):
    shipped = Path(__file__).parents[2] / "conf" / "dataset" / f"{variant}.yaml"
    values = OmegaConf.load(shipped)
    del values["defaults"]
    config = OmegaConf.merge(OmegaConf.structured(DatasetConfig), values)
    dataset = prepare(config, tmp_path)  # type: ignore[arg-type]
    assert dataset.manifest["synthetic"]
    assert dataset.manifest["users_without_times"] == 0
    (raw,) = (tmp_path / "raw").iterdir()
    before = raw.stat().st_mtime_ns
    prepare(config, tmp_path)  # type: ignore[arg-type]
    assert raw.stat().st_mtime_ns == before


def test_a_temporal_split_has_its_own_fingerprint_and_reports_its_cuts(tmp_path):
    rows = [(f"u{i % 5}", f"i{i % 7}", float(i)) for i in range(50)]
    config = written(tmp_path / "raw", rows, split=SplitRule.temporal)
    by_time = prepare(config, tmp_path)
    counts = {"train": 40, "valid": 5, "test": 5, "unused": 0}
    rule = {"rule": "temporal", "seed": 0, "cuts": [0.8, 0.9], "begins": [40.0, 45.0]}
    assert by_time.manifest["split"] == rule | counts
    fingerprints = {by_time.fingerprint}
    fingerprints.add(prepare(replace(config, cuts=[0.7, 0.9]), tmp_path).fingerprint)
    fingerprints.add(prepare(replace(config, split=SplitRule.leave_one_out), tmp_path).fingerprint)
    assert len(fingerprints) == 3


# ---- users that domains share, and the splits that a paper asks for


SHARED = replace(MIXED, shared_users=True)


def test_with_shared_users_the_same_raw_id_in_two_domains_is_one_user_with_interactions_in_order_of_time(tmp_path):
    dataset = prepare(SHARED, tmp_path)
    assert dataset.user_ids.tolist() == ["anna", "bert"]
    assert dataset.manifest["users_of_several_domains"] == 2
    items = dataset.items["item_id"].iloc[dataset.sequence].tolist()
    assert np.split(items, dataset.offsets[1:-1])[0].tolist() == [
        *("films-12", "films-13", "films-11"),
        *("shop-A", "shop-B", "shop-C"),  # those without a time come last
    ]
    for name, rows in {"one": "u,a,1\nu,b,4\n", "two": "u,a,2\nv,c,0\nu,c,3\n"}.items():
        (tmp_path / f"{name}.csv").write_text("user_id,item_id,timestamp\n" + rows)
    domains = {name: {"interactions": f"{name}.csv"} for name in ("one", "two")}
    dataset = prepare(replace(SHARED, reader="table", domains=domains, raw_dir=str(tmp_path)), tmp_path)
    assert dataset.items["item_id"].iloc[dataset.sequence].tolist() == ["one-a", "two-a", "two-c", "one-b", "two-c"]
    assert dataset.manifest["users_of_several_domains"] == 1


def test_shared_users_and_the_test_domain_are_in_the_manifest_only_if_used(tmp_path):
    manifest = prepare(MIXED, tmp_path).manifest
    assert "shared_users" not in manifest
    assert prepare(replace(MIXED, test_domain="films"), tmp_path).fingerprint == manifest["fingerprint"]
    fingerprints = {manifest["fingerprint"], prepare(SHARED, tmp_path).fingerprint}
    for domain in MIXED.domains:
        fingerprints.add(prepare(replace(SHARED, split=SplitRule.transfer, test_domain=domain), tmp_path).fingerprint)
    assert len(fingerprints) == 4
    dataset = prepare(replace(SHARED, split=SplitRule.transfer, test_domain="films"), tmp_path)
    counts = {"train": 4, "valid": 2, "test": 4, "unused": 0, "test_users": 2}
    rule = {"rule": "transfer", "seed": 0, "test_domain": "films", "ranked": "test_domain"}
    assert dataset.manifest["split"] == rule | counts


def test_p5_s_random_split_is_drawn_once_and_kept(tmp_path):
    rows = [(f"u{i % 5}", f"i{i % 7}", float(i)) for i in range(100)]
    config = written(tmp_path / "raw", rows, split=SplitRule.p5_reviews)
    dataset = prepare(config, tmp_path)
    last_trained = int((dataset.interactions["part"].iloc[dataset.offsets[1:] - 1] == TRAIN).sum())
    parts = {"train": 80, "valid": 10, "test": 10, "unused": 0}
    assert dataset.manifest["split"] == {"rule": "p5_reviews", "seed": 0, **parts, "last_trained": last_trained}
    assert prepare(config, tmp_path).interactions["part"].equals(dataset.interactions["part"])
    other = prepare(replace(config, seed=1), tmp_path)
    assert not other.interactions["part"].equals(dataset.interactions["part"])
    assert "part" not in prepare(replace(config, split=SplitRule.leave_one_out), tmp_path).interactions
