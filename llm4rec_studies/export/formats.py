"""What other libraries read: file names, columns and layout of interactions, and how each loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HISTORY = 50  # items of a history in RecBole's sequential files: its default of MAX_ITEM_LIST_LENGTH
CHECKPOINTS = "RecBole 1.2.1 cannot load its own checkpoints with torch 2.6 and later, hence `saved=False`."


@dataclass(frozen=True)
class Format:
    """A library's form of interactions.

    Attributes:
        file: its path, with {name} of the dataset and {part}, which is train, valid or test; Parquet, CSV, or tabs.
        columns: the library's name of a column -> ours: user_id, item_id, rating, time, date, history.
        header: whether a text file begins with the names.
        plain_ids: whether the library splits ids at white space.
        usage: Python that loads the files, run in the export's folder, with {name}.
        note: what else to know of the library.
    """

    file: str
    columns: Mapping[str, str]
    usage: str
    header: bool = True
    plain_ids: bool = False
    note: str = ""


LIBRARIES: Mapping[str, Format] = {
    "recbole": Format(
        "recbole/{name}-pairs/{name}-pairs.{part}.inter",  # RecBole reads a file of its own for the name ml-100k
        {"user_id:token": "user_id", "item_id:token": "item_id", "rating:float": "rating", "timestamp:float": "time"},
        """\
from recbole.quick_start import run_recbole

run_recbole("BPR", "{name}-pairs", config_dict={{
    "data_path": "recbole", "benchmark_filename": ["train", "valid", "test"],
    "load_col": {{"inter": ["user_id", "item_id"]}},
}}, saved=False)""",
        plain_ids=True,
        note="RecBole leaves training and validation items out of these rankings: compare its numbers with "
        f"`task.mask_history=true`. {CHECKPOINTS}",
    ),
    "recbole-sequential": Format(
        "recbole/{name}-sequential/{name}-sequential.{part}.inter",
        {"user_id:token": "user_id", "item_id_list:token_seq": "history", "item_id:token": "item_id"},
        """\
from recbole.quick_start import run_recbole

run_recbole("SASRec", "{name}-sequential", config_dict={{
    "data_path": "recbole", "benchmark_filename": ["train", "valid", "test"],
    "load_col": {{"inter": ["user_id", "item_id_list", "item_id"]}}, "alias_of_item_id": ["item_id_list"],
    "train_neg_sample_args": None,
}}, saved=False)""",
        plain_ids=True,
        note=f"Each training row is a prefix of a user's training interactions, cut to the last {HISTORY} items, which "
        f"is RecBole's own augmentation. Examples without a history are left out. {CHECKPOINTS}",
    ),
    "rectools": Format(
        "rectools/{part}.csv",
        {"user_id": "user_id", "item_id": "item_id", "weight": "rating", "datetime": "date"},
        """\
import pandas as pd
from rectools.dataset import Dataset

train = pd.read_csv("rectools/train.csv", dtype={{"user_id": str, "item_id": str}}, parse_dates=["datetime"])
dataset = Dataset.construct(train)""",
    ),
    "cornac": Format(
        "cornac/{part}.tsv",
        {"user": "user_id", "item": "item_id", "rating": "rating", "time": "time"},
        """\
from cornac.data import Reader
from cornac.eval_methods import BaseMethod

train, valid, test = (Reader().read(f"cornac/{{part}}.tsv", fmt="UIR") for part in ("train", "valid", "test"))
method = BaseMethod.from_splits(train_data=train, test_data=test, val_data=valid, fmt="UIR", exclude_unknowns=False)""",
        header=False,
        plain_ids=True,
        note='The fourth column is the time in seconds: `fmt="UIRT"` reads it. cornac leaves training and validation '
        "items out of rankings: compare its numbers with `task.mask_history=true`.",
    ),
    "lenskit": Format(
        "lenskit/{part}.parquet",
        {"user_id": "user_id", "item_id": "item_id", "rating": "rating", "timestamp": "date"},
        """\
import pandas as pd
from lenskit.data import from_interactions_df

train = pd.read_parquet("lenskit/train.parquet").drop_duplicates(["user_id", "item_id"], keep="last")
dataset = from_interactions_df(train)""",
        note="It takes no repeated interactions: the last one counts. Its top-N pipelines leave training items out: "
        "score their lists with `task.mask_history=true`.",
    ),
}
TABLES = ("csv", "parquet")  # every table of the split, for any program
FORMATS = (*TABLES, *LIBRARIES)
