"""The shipped configs on the real files: the papers' statistics, and the released split."""

from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config.schema import DatasetConfig, SplitName, TextRecipe
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import TEST, leave_one_out, split_dataset
from llm4rec_cli.data.statistics import remarks
from llm4rec_cli.data.texts import item_texts

from .sources import real

pytestmark = pytest.mark.real_data


def prepared(name: str, folder: str, cache: Path) -> tuple[RecDataset, DatasetConfig]:
    values = OmegaConf.load(Path(__file__).parents[2] / "conf" / "dataset" / f"{name}.yaml")
    del values["defaults"]
    values["raw_dir"] = str(real(folder))
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DatasetConfig), values))
    assert isinstance(config, DatasetConfig)
    return prepare(config, cache), config


@pytest.mark.parametrize(
    "name, folder",
    [
        ("amazon2014-beauty", "amazon2014-beauty"),
        ("amazon2018-scientific", "unisrec-scientific"),
        ("ml-100k", "ml-100k"),
    ],
)
def test_statistics_equal_the_papers(name, folder, tmp_path):
    dataset, config = prepared(name, folder, tmp_path)
    assert remarks(dataset.manifest, config.paper)[0].startswith("the statistics equal the paper's")
    assert all(item_texts(dataset, TextRecipe.unisrec))


def test_mind_sample_has_its_impressions_and_is_divided_as_its_lines_say(tmp_path):
    dataset, _ = prepared("mind-small", "mind-small-5k", tmp_path)
    assert dataset.impressions is not None
    assert dataset.impressions["part"].value_counts().to_dict() == {"train": 4032, "dev": 968}
    assert dataset.n_items == 51282
    assert (dataset.impressions["history"].map(len) == 0).sum() == 107
    # Lists, labels and clicks as they stand in the raw files; none of its impressions lists an item twice.
    split = split_dataset(dataset)
    sizes = dataset.manifest["split"]
    assert [sizes[part] for part in ("train", "valid", "test")] == [3830, 202, 968]
    assert sum(sizes["unrankable"].values()) == 0
    lines = [line.rstrip("\n").split("\t") for line in (real("mind-small-5k") / "dev/behaviors.tsv").open()]
    test = split.impressions(TEST)
    shown, offsets = test.shown()
    item_ids = dataset.items["item_id"].to_numpy()
    pairs = [f"{item}-{int(click)}" for item, click in zip(item_ids[shown], test.clicked(), strict=True)]
    assert [pairs[start:end] for start, end in pairwise(offsets)] == [line[4].split() for line in lines]
    flat, ends = test.histories()
    assert [item_ids[flat[start:end]].tolist() for start, end in pairwise(ends)] == [line[3].split() for line in lines]
    assert test.id.tolist() == [line[0] for line in lines]


def test_leave_one_out_of_scientific_is_the_released_split(tmp_path):
    dataset, _ = prepared("amazon2018-scientific", "unisrec-scientific", tmp_path)
    split = leave_one_out(dataset)
    for part in SplitName:
        examples = split.examples(part)
        flat, offsets = examples.histories(last=50)
        ours = [
            f"{user}\t{' '.join(map(str, flat[start:end]))}\t{target}"
            for user, (start, end), target in zip(examples.user, pairwise(offsets), examples.target, strict=True)
        ]
        released = (real("unisrec-scientific") / f"Scientific.{part.value}.inter").read_text().splitlines()[1:]
        assert ours == released
    flat, offsets = split.train_sequences()
    ours = sorted(
        f"{user}\t{' '.join(map(str, flat[max(start, end - 50) : end]))}\t{flat[end]}"
        for user, (start, stop) in enumerate(pairwise(offsets))
        for end in range(start + 1, stop)
    )
    released = (real("unisrec-scientific") / "Scientific.train.inter").read_text().splitlines()[1:]
    assert ours == sorted(released)
