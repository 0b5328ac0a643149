"""`prepare`: from raw files to a dataset, and what it holds."""

import gzip
import json

import pytest

from tests.support.driver import read

PREPARE = ("prepare", "dataset=amazon2014-musical-instruments")


@pytest.fixture
def tiny_raw(tmp_path):
    """A folder of raw files in Amazon's format: 6 users with 5 of 6 items each, and one user with a single review."""
    folder = tmp_path / "raw files (1)=~x"
    folder.mkdir()
    reviews = [
        {"reviewerID": f"u{u}", "asin": f"i{(u + n) % 6}", "overall": 5.0, "unixReviewTime": 1_400_000_000 + n}
        for u in range(6)
        for n in range(5)
    ] + [{"reviewerID": "once", "asin": "i0", "overall": 1.0, "unixReviewTime": 1_400_000_000}]
    name = "reviews_Musical_Instruments_5.json.gz"
    with gzip.open(folder / name, "wt") as file:
        file.writelines(json.dumps(review) + "\n" for review in reviews)
    return folder


def prepared(answer):
    """The dataset folder that the command named."""
    return answer.cwd / answer.out.split("dataset folder: ")[1].splitlines()[0]


def test_raw_files_from_a_folder_of_any_name_become_a_dataset(llm4rec, tiny_raw):
    answer = llm4rec(*PREPARE, f"dataset.raw_dir={tiny_raw}")
    assert answer.code == 0, answer.err
    manifest = read(prepared(answer) / "manifest.json")
    assert [manifest[key] for key in ("users", "items", "interactions")] == [6, 6, 30]
    assert "31" in answer.out.partition("5/5-core")[0], "the counts before each filter are shown"


def test_where_raw_files_lie_is_no_part_of_the_dataset(llm4rec, tiny_raw, tmp_path):
    own = (*PREPARE, "paths.cache=kept")
    first = llm4rec(*own, f"dataset.raw_dir={tiny_raw.name}")
    moved = tiny_raw.rename(tiny_raw.with_name("moved"))
    assert prepared(llm4rec(*own, f"dataset.raw_dir={moved}")) == prepared(first)
    assert prepared(first).parent == tmp_path / "kept/datasets"


def test_a_difference_from_the_papers_statistics_is_said(llm4rec, tiny_raw, tmp_path):
    own = tmp_path / "conf/dataset/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        "defaults: [amazon2014-musical-instruments, _self_]\nname: mine\n"
        "paper: {users: 6, items: 7, interactions: 30, source: a paper of theirs}\n"
    )
    answer = llm4rec("prepare", "dataset=mine", f"dataset.raw_dir={tiny_raw}")
    assert answer.code == 0, answer.err
    assert "items: 6 here, 7 in the paper (-1)" in answer.out


def test_training_on_data_without_text_is_refused_for_a_model_that_needs_it(llm4rec, tiny_raw):
    answer = llm4rec("train", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}")
    assert answer.code == 1
    assert "needs item text" in answer.err


# Names of the raw files, and overrides, of the datasets in S3-Rec's format.
S3REC = {
    "amazon2014-toys": ("sequential.txt", "meta_Toys_and_Games.json.gz", ()),
    "yelp": ("sequential_data.txt", "names.json", ("+dataset.domains.yelp.businesses=names.json",)),
}


@pytest.mark.parametrize("name", S3REC)
def test_sequences_in_s3_rec_s_format_become_a_dataset_with_titles(llm4rec, tmp_path, name):
    """The id map has only id2user and id2item, as the public copies of Toys and Sports."""
    sequences, described, overrides = S3REC[name]
    (raw := tmp_path / "raw").mkdir()
    lines = [f"{u} {' '.join(str((u + n) % 6 + 1) for n in range(5))}\n" for u in range(1, 7)]
    (raw / sequences).write_text("".join(lines))
    numbers = [str(n) for n in range(1, 7)]
    id_map = {"id2user": {n: f"user {n}" for n in numbers}, "id2item": {n: f"item {n}" for n in numbers}}
    (raw / "datamaps.json").write_text(json.dumps(id_map))
    items = [{"asin": f"item {n}", "business_id": f"item {n}", "title": "T", "name": "T"} for n in numbers]
    (raw / described).write_text("\n".join(map(json.dumps, items)))
    answer = llm4rec("prepare", f"dataset={name}", f"dataset.raw_dir={raw}", *overrides)
    assert answer.code == 0, answer.err
    manifest = read(prepared(answer) / "manifest.json")
    assert [manifest[key] for key in ("users", "items", "interactions", "items_without_title")] == [6, 6, 30, 0]
    assert "results are not comparable with the paper's" in answer.out
    assert "no interaction has a time: file order is taken as time order" in answer.out
