"""Train a RecBole model on an exported split, write its lists and its own metrics.

python lists_of_recbole.py EXPORT OUT MODEL [EPOCHS]
"""

import json
import sys
from pathlib import Path

import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_topk

K, LENGTH = 10, 100
SEQUENTIAL = {"SASRec", "GRU4Rec"}


def main(export: Path, out: Path, name: str, epochs: int) -> None:
    sequential = name in SEQUENTIAL
    (data,) = [p.name for p in (export / "recbole").iterdir() if p.name.endswith("-sequential") == sequential]
    columns = ["user_id", "item_id_list", "item_id"] if sequential else ["user_id", "item_id"]
    settings = {
        "data_path": str(export / "recbole"),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": columns},
        "alias_of_item_id": ["item_id_list"] if sequential else None,
        "train_neg_sample_args": None if sequential else {"distribution": "uniform", "sample_num": 1},
        "eval_args": {"order": "TO", "mode": {"valid": "full", "test": "full"}},
        "metrics": ["Hit", "NDCG"],
        "topk": [K],
        "valid_metric": f"NDCG@{K}",
        "metric_decimal_place": 10,
        "epochs": epochs,
        "stopping_step": 5,
        "seed": 0,
        "show_progress": False,
        "checkpoint_dir": str(out.parent / "checkpoints"),
    }
    config = Config(model=name, dataset=data, config_dict=settings)
    init_seed(0, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model(name)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    load, torch.load = torch.load, lambda *a, **k: load(*a, **{"weights_only": False, **k})  # its own checkpoint
    trainer.fit(train, valid, saved=True, show_progress=False)
    own = trainer.evaluate(test, load_best_model=True, show_progress=False)
    users = torch.unique(test.dataset.inter_feat[dataset.uid_field])
    scores, items = full_sort_topk(users.numpy(), model, test, k=LENGTH, device=config["device"])
    listed = dataset.id2token(dataset.iid_field, items.cpu().numpy())
    ids = dataset.id2token(dataset.uid_field, users.numpy())
    rows = pd.DataFrame(
        {"user_id": ids.repeat(LENGTH), "item_id": listed.ravel(), "score": scores.cpu().numpy().ravel()}
    )
    rows[rows["score"] > float("-inf")].to_csv(out.with_suffix(".csv"), index=False)
    out.with_suffix(".own.json").write_text(json.dumps({"hr@10": own[f"hit@{K}"], "ndcg@10": own[f"ndcg@{K}"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 50)
