"""README.md of an exported split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm4rec_cli.config.overrides import command_line, key_typed
from llm4rec_cli.config.schema import Question, SplitRule
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.statistics import remarks
from llm4rec_cli.run.job import Job
from llm4rec_studies.export.formats import LIBRARIES, TABLES

READING = {
    "parquet": 'import pandas as pd\n\ntrain = pd.read_parquet("parquet/train.parquet")',
    "csv": 'import pandas as pd\n\ntrain = pd.read_csv("csv/train.csv", dtype={"user_id": str, "item_id": str})',
}


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
    parts += ["## Order and times", _order(facts, is_log)]
    if tables := [name for name in TABLES if name in facts["formats"]]:
        folders = " and ".join(f"`{name}/`" for name in tables)
        lines = "\n".join(f"- {line}" for line in _tables(facts, is_log))
        parts += [
            "## Tables",
            f"In {folders}. Ids are text.",
            lines,
            _python(f"import pandas as pd\n\n{READING[tables[-1]]}"),
        ]
    if libraries := [name for name in LIBRARIES if name in facts["formats"]]:
        parts += ["## Libraries", "Run these lines in this folder."]
        for name in libraries:
            library = LIBRARIES[name]
            parts += [f"### {name}", _python(library.usage.format(name=facts["dataset"])), library.note]
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


def _order(facts: Mapping[str, Any], is_log: bool) -> str:
    if is_log:
        return "Impressions are in the order of the log; histories are oldest first."
    order = (
        "Rows are sorted by user and then by time, oldest first. `order` counts a user's interactions from 0 over all "
        "parts, also where times are equal or missing: it is the order of histories here."
    )
    for_libraries = (
        "Files for libraries that sort by time add a microsecond to each further interaction of a user at one time."
        if facts["has_times"]
        else "Not all interactions have times, so files for libraries have the place in the history as seconds since "
        "1970."
    )
    return f"{order}\n\n{for_libraries}"


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
