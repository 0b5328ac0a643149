"""`prepare`: from raw files to a dataset, and what it holds."""

import gzip
import json

import pytest

from tests.support.driver import read


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
    answer = llm4rec("prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}")
    assert answer.code == 0, answer.err
    manifest = read(prepared(answer) / "manifest.json")
    assert [manifest[key] for key in ("users", "items", "interactions")] == [6, 6, 30]


def test_a_raw_folder_is_found_from_the_working_directory(llm4rec, tiny_raw):
    answer = llm4rec("prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw.name}")
    assert answer.code == 0, answer.err


def test_where_raw_files_lie_is_no_part_of_the_dataset(llm4rec, tiny_raw):
    first = llm4rec("prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}")
    moved = tiny_raw.rename(tiny_raw.with_name("moved"))
    second = llm4rec("prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={moved}")
    assert prepared(first) == prepared(second)


def test_paths_cache_is_where_datasets_are_kept(llm4rec, tiny_raw, tmp_path):
    answer = llm4rec(
        "prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}", "paths.cache=kept"
    )
    assert prepared(answer).parent == tmp_path / "kept/datasets"


def test_the_counts_after_each_filter_are_shown(llm4rec, tiny_raw):
    answer = llm4rec("prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}")
    assert "5/5-core" in answer.out
    assert "31" in answer.out
    assert "30" in answer.out


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


def test_generated_data_is_said_to_be_synthetic(llm4rec):
    assert "synthetic" in llm4rec("prepare", "dataset=demo").out


def test_filters_that_leave_nothing_are_an_error_with_the_counts(llm4rec, tiny_raw):
    answer = llm4rec(
        "prepare", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}", "dataset.user_core=9"
    )
    first, second = answer.err.splitlines()
    assert answer.code == 1
    assert "9/5-core" in first
    assert "user_core" in second


def test_a_missing_file_is_named_with_where_to_get_it(llm4rec, tmp_path):
    answer = llm4rec("prepare", "dataset=amazon2018-scientific", f"dataset.raw_dir={tmp_path}")
    first, second = answer.err.splitlines()
    assert answer.code == 1
    assert "Scientific.train.inter" in first
    assert "https://" in second


def test_training_on_data_without_text_is_refused_for_a_model_that_needs_it(llm4rec, tiny_raw):
    answer = llm4rec("train", "dataset=amazon2014-musical-instruments", f"dataset.raw_dir={tiny_raw}")
    assert answer.code == 1
    assert "needs item text" in answer.err
