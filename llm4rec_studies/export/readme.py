"""README.md of an exported split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm4rec_cli.config.overrides import command_line, key_typed
from llm4rec_cli.config.schema import Question, SplitRule
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.statistics import remarks
from llm4rec_cli.run.job import Job

HISTORY = 50  # items of a history in RecBole's sequential files: its default of MAX_ITEM_LIST_LENGTH
READ_PARQUET = 'import pandas as pd\n\ntrain = pd.read_parquet("parquet/train.parquet")'
RECBOLE = {  # the name of its dataset -> Python that loads it, run in the folder
    "pairs": """\
from recbole.quick_start import run_recbole

run_recbole("BPR", "{name}-pairs", config_dict={{
    "data_path": "recbole", "benchmark_filename": ["train", "valid", "test"],
    "load_col": {{"inter": ["user_id", "item_id"]}},
}}, saved=False)""",
    "sequential": """\
from recbole.quick_start import run_recbole

run_recbole("SASRec", "{name}-sequential", config_dict={{
    "data_path": "recbole", "benchmark_filename": ["train", "valid", "test"],
    "load_col": {{"inter": ["user_id", "item_id_list", "item_id"]}}, "alias_of_item_id": ["item_id_list"],
    "train_neg_sample_args": None,
}}, saved=False)""",
}
RECBOLE_NOTES = (
    "RecBole leaves training and validation items out of the rankings of `pairs`: compare its numbers with "
    "`task.mask_history=true`. A training row of `sequential` is a prefix of a user's training interactions, cut to "
    f"the last {HISTORY} items, which is RecBole's own augmentation; examples without a history are left out. RecBole "
    "1.2.1 cannot load its own checkpoints with torch 2.6 and later, hence `saved=False`."
)
ORDER_OF_LOG = "Impressions are in the order of the log; histories are oldest first."
ORDER = (
    "Rows are sorted by user and then by time, oldest first. `order` counts a user's interactions from 0 over all "
    "parts, also where times are equal or missing: it is the order of histories here."
)


def readme(job: Job, split: Split, facts: Mapping[str, Any]) -> str:
    """Return what is in the folder, how libraries load it, and how lists come back.

    Args:
        facts: of the data and the split, by name.
    """
    is_log = split.impression_assignment is not None
    typed = [override for override in facts["overrides"] if key_typed(override) != "dataset"]
    needs_files = ["dataset.raw_dir=PATH"] if job.config.dataset.raw_dir else []
    question = [f"dataset={facts['dataset']}", *typed, *needs_files]
    parts = [
        f"# {facts['dataset']}, as llm4rec splits it",
        f"Written by `{command_line('export data', question)}`.",
        "\n".join(f"- {fact}" for fact in _facts(job, split, facts)),
    ]
    if "no redistribution" in facts["licence"]:
        parts.append("**The licence forbids redistribution: do not publish or pass on this folder.**")
    parts += ["## Order", ORDER_OF_LOG if is_log else ORDER]
    if "parquet" in facts["formats"]:
        lines = "\n".join(f"- {line}" for line in _tables(facts, is_log))
        parts += ["## Tables", "In `parquet/`. Ids are text.", lines, _python(READ_PARQUET)]
    if "recbole" in facts["formats"]:
        parts += ["## RecBole", "Run these lines in this folder."]
        parts += [_python(code.format(name=facts["dataset"])) for code in RECBOLE.values()]
        parts.append(RECBOLE_NOTES)
    parts.append("## Bring lists back")
    if is_log:
        parts.append(
            "`llm4rec score` evaluates rankings of users, not of impressions, so not yet lists for these data."
        )
    else:
        parts += [
            "For each user of `test`, write the items best first with columns `user_id,item_id` (at least 50 of them), "
            "or scores with `user_id,item_id,score`. With the lists in lists.csv:",
            f"```bash\n{command_line('score lists.csv', question)}\n```",
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _facts(job: Job, split: Split, facts: Mapping[str, Any]) -> list[str]:
    counts, is_log = facts["counts"], split.impression_assignment is not None
    rule = f"`{facts['split_rule']}`"
    if facts["split_rule"] == SplitRule.p5_reviews.value and job.task.question == Question.rank:
        rule = f"`leave_one_out`, as for all rankings under {rule}"
    unit = "impressions" if is_log else "interactions"
    if is_log:
        candidates, mask = "the items shown in the impression, in the table `shown`", "does not apply"
    else:
        mask = "items of the history are excluded" if facts["mask_history"] else "items of the history may be ranked"
        candidates = f"{facts['protocol']}: the items in the table `candidates`, the target first"
        if facts["protocol"] == "full":
            candidates = f"the whole catalogue ({counts['items']:,} items)"
    return [
        f"Data: {facts['dataset']}. {job.config.dataset.get}".rstrip(),
        f"Licence of the data, which are in this folder: {facts['licence'] or 'not stated'}",
        f"Split: {rule}, by dataset.seed={facts['dataset_seed']}: {counts['train']:,} training "
        f"{unit}, {counts['valid']:,} validation and {counts['test']:,} test examples of {counts['users']:,} users and "
        f"{counts['items']:,} items",
        f"Task: `{facts['task']}`. Candidates: {candidates}. Mask: {mask}",
        f"Fingerprint of the data: `{facts['fingerprint']}`",
        *(f"{remark[0].upper()}{remark[1:]}" for remark in remarks(split.dataset.manifest, None)),
    ]


def _tables(facts: Mapping[str, Any], is_log: bool) -> list[str]:
    content = "`shown`: the items of each impression and which were clicked"
    if not is_log:
        content = "`candidates`: the items to rank for each example, the target first"
        if facts["protocol"] == "full":
            content = "no `candidates`: all items are ranked"
    return [
        f"`train`, `validation`, `test`: one row per {'impression' if is_log else 'interaction'}",
        "`histories`: what precedes each example, oldest first; `example` is a row of its part, from 0",
        content,
        "`users`, `items`: numbers and raw ids; items with their texts",
    ]
