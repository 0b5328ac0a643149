"""`llm4rec human export|score|judge`: people judge what runs wrote, blind; their sheets become numbers.

llm4rec human export retrieval/demo/explanation/seed0 p5/demo/explanation/seed0 --out judged
llm4rec human export p5/…/review_summary/seed0-ab chatgptrec/…/review_summary/seed0-cd --out judged --scale rank
llm4rec human score judged ann.csv ben.csv cem.csv
llm4rec human score judged *.csv --json | jq .criteria.clarity
llm4rec human judge judged llm=openai llm.model=NAME

`export` draws examples that finished runs of a writing task share, and puts their texts, with the users' own as one
more, under letters that are shuffled for each example. Give raters sheet.html alone, a page that works offline in any
browser and saves what was filled as CSV; or sheet.csv, to be filled in a spreadsheet. key.json says which letter is
whose: keep it from them. `score` reads the filled sheets, one a rater, named by its file, and tells for each criterion
and system the mean rank, the share of first places and the mean score, and how far the raters agree; it writes the
same to human.json beside the key. Three raters and fifty examples are the least that says anything.

`judge` has a chat model fill a sheet, which says so. Such sheets are scored by themselves, to judge.json: what they
tell is marked, is no person's word, and settles no claim.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.errors import DataError, RunError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from llm4rec_cli.evaluation.human import FloatArray
    from llm4rec_cli.reporting.sheets import Example, Filled

TABLE = "sheet.csv"
RESULT, OF_JUDGES = "human.json", "judge.json"
REFERENCE = "reference"  # the system that is the users themselves
MOST_TEXTS = 9  # an example: nobody keeps more apart, and a digit is a key
# What runs must have been asked alike, besides the same data; in the words of metrics.json.
ASKED = ("task", "split", "protocol")
OF_RUN = ("model", "seed", "config_hash", "labels")  # what the key tells of a run, in the same words
EXAMPLE = ["user_id", "target", "reference"]  # what tells examples apart
NUMBERS = ("mean_rank", "first", "mean_score")  # of a system
CSV_COLUMNS = (
    *("criterion", "system"),
    *(f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")),
    *("n", "raters", "examples", "alpha", "judged_by"),
)

JUDGE_EXAMPLES = """\
examples:
  llm4rec human judge judged llm=openai llm.model=gpt-4o-mini-2024-07-18 llm.budget_tokens=200_000
  llm4rec human judge judged llm.dry_run=true                what would be asked, and what it would cost
  llm4rec human score judged judged/judge-*.csv
"""

Run = tuple[Path, dict[str, Any]]  # its folder and metrics.json
Judged = Mapping[str, Mapping[str, float]]  # example -> label -> score or rank


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec human", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    export = verbs.add_parser("export", help="draw examples, write blind sheets and their key")
    export.set_defaults(run=_export)
    export.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, or an end of its path")
    export.add_argument("--out", required=True, metavar="FOLDER", help="where the sheets and their key are written")
    export.add_argument("--examples", type=_at_least(1), default=50, metavar="N", help="how many (default: 50)")
    export.add_argument("--seed", type=_at_least(0), default=0, help="of the draw and of the labels (default: 0)")
    export.add_argument(
        "--criteria",
        default="clarity,reasonableness",
        help="comma-separated names (default: clarity,reasonableness)",
    )
    export.add_argument("--scale", choices=("score", "rank"), default="score", help="1 to 5 (default), or ranks")
    export.add_argument("--no-reference", action="store_true", help="without the users' own texts")
    export.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    export.add_argument("--cache", help="the cache folder, where the dataset lies (default: the user's)")
    score = verbs.add_parser("score", help="read filled sheets, tell how systems came out and how raters agree")
    score.set_defaults(run=_score)
    score.add_argument("folder", metavar="FOLDER", help="what export wrote")
    score.add_argument("sheets", nargs="+", metavar="SHEET", help="filled sheets, one a rater, named by its file")
    form = score.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="comma-separated values")
    judge = verbs.add_parser(
        "judge",
        help="have a chat model fill a sheet, marked as such",
        usage="llm4rec human judge FOLDER [overrides]",
        epilog=JUDGE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    judge.set_defaults(run=_judge)
    judge.add_argument("folder", metavar="FOLDER", help="what export wrote")
    judge.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="llm=…, llm.…=…, seed=N, paths.cache=PATH")
    options = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], None] = options.run
    run(options)
    return 0


def _at_least(least: int) -> Callable[[str], int]:
    """The argparse type of whole numbers from `least` on."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {least} on")
        return int(text)

    return whole


# --- export


def _export(options: argparse.Namespace) -> None:
    from llm4rec_cli.evaluation.human import FEWEST_EXAMPLES, Scale
    from llm4rec_cli.files import write_json, write_text
    from llm4rec_cli.reporting.sheets import KEY, PAGE, as_csv, as_page, blinded, drawn
    from llm4rec_cli.runs.catalog import runs_named

    out = Path(options.out).expanduser()
    if (out / KEY).exists():
        raise UsageError(f"{out} holds sheets already, and raters may be filling them", "--out another folder")
    criteria = _criteria(options.criteria)
    runs = runs_named(options.runs, Path(options.outputs).expanduser())
    _refuse_other_questions(runs)
    systems = _names(runs)
    written = [*systems, *([] if options.no_reference else [REFERENCE])]
    if not 2 <= len(written) <= MOST_TEXTS:
        raise UsageError(
            f"{len(written)} texts an example cannot be judged beside one another", f"between 2 and {MOST_TEXTS}"
        )
    (_, asked), *_ = runs
    shared = _shared(runs)
    chosen, n_alike = drawn(_examples(shared, written, asked, options.cache), options.examples, options.seed)
    sheet, whose = blinded(chosen, asked["protocol"], Scale(options.scale), criteria, options.seed)
    write_text(out / TABLE, as_csv(sheet))
    write_text(out / PAGE, as_page(sheet))
    key = {
        "schema": 1,
        "sheet": sheet.name,
        **{name: asked[name] for name in ("dataset", "dataset_fingerprint", *ASKED)},
        "seed": options.seed,
        "scale": options.scale,
        "criteria": criteria,
        "runs": [
            {"system": system, "run": str(folder), **{name: metrics[name] for name in OF_RUN}}
            for system, (folder, metrics) in zip(systems, runs, strict=True)
        ],
        "systems": written,
        "examples": whose,
    }
    write_json(out / KEY, key)
    print(f"{len(chosen):,} of {len(shared):,} examples that these runs share; all texts alike in {n_alike:,} of them")
    if len(chosen) < FEWEST_EXAMPLES:
        print(f"fewer than {FEWEST_EXAMPLES} examples: what comes of them will settle nothing")
    print(f"for raters: {out / PAGE}, or {out / TABLE}; not for raters: {out / KEY}")
    print(f"then: llm4rec human score {out} ann.csv ben.csv …")


def _criteria(typed: str) -> list[str]:
    """The criteria that were typed.

    Raises:
        UsageError: one is no plain word, comes twice, or is called as another column.
    """
    from llm4rec_cli.reporting.sheets import COLUMNS as SHOWN
    from llm4rec_cli.reporting.sheets import JUDGE

    criteria, taken = typed.split(","), (*SHOWN, JUDGE)
    for i, name in enumerate(criteria):
        if not re.fullmatch(r"[\w-]+", name) or name in taken or name in criteria[:i]:
            raise UsageError(
                f"'{name}' cannot be a criterion", f"different words, commas between, and none of {', '.join(taken)}"
            )
    return criteria


def _refuse_other_questions(runs: Sequence[Run]) -> None:
    """Raises UsageError, naming all that differs, if these runs did not write, or not about the same."""
    from llm4rec_cli.config.schema import Written

    (first, asked), *others = runs
    writing = [written.value for written in Written]
    for folder, metrics in runs:
        if metrics["protocol"] not in writing:
            raise UsageError(
                f"{folder} wrote nothing: its task is {metrics['task']}", "task=explanation or review_summary"
            )
    if len({folder.resolve() for folder, _ in runs}) < len(runs):
        raise UsageError("one run is named twice", "name each run once")
    for folder, metrics in others:
        differ = [f"{key} is {asked[key]} and {metrics[key]}" for key in ASKED if asked[key] != metrics[key]]
        if asked["dataset_fingerprint"] != metrics["dataset_fingerprint"]:
            data = [f"{m['dataset']} {m['dataset_fingerprint'][:12]}" for m in (asked, metrics)]
            differ.insert(0, f"the data is {' and '.join(data)}")
        if differ:
            problem = f"{first} and {folder} were not asked the same: {'; '.join(differ)}"
            raise UsageError(problem, "name runs that were asked the same")


def _names(runs: Sequence[Run]) -> list[str]:
    """What each system is called: as tables call its model, and by its folder where that is not enough."""
    from llm4rec_cli.reporting.runs import shown_as

    models = [shown_as(metrics) for _, metrics in runs]
    longer = [f"{model} {folder.name}" for model, (folder, _) in zip(models, runs, strict=True)]
    whole = [str(folder) for folder, _ in runs]
    return next(names for names in (models, longer, whole) if len({*names, REFERENCE}) == len(names) + 1)


def _shared(runs: Sequence[Run]) -> pd.DataFrame:
    """The examples that all runs hold: user_id, target, reference, and the text of run i in column i.

    Raises:
        RunError: a run holds no texts.
        UsageError: there is no such example.
    """
    import pandas as pd

    found = None
    for i, (folder, _) in enumerate(runs):
        file = folder / "predictions.parquet"
        if not file.exists():
            raise RunError(f"{folder} holds no texts: predictions.parquet is not there", "run it again: force=true")
        texts = pd.read_parquet(file)[[*EXAMPLE, "prediction"]].rename(columns={"prediction": str(i)})
        texts["time"] = texts.groupby(EXAMPLE).cumcount()  # one user may be asked about one item again
        found = texts if found is None else found.merge(texts, on=[*EXAMPLE, "time"])
    assert found is not None
    if found.empty:
        raise UsageError("these runs share no example", "give them the same task.max_examples and dataset.seed")
    return found


def _examples(
    shared: pd.DataFrame, systems: Sequence[str], asked: Mapping[str, Any], cache: str | None
) -> list[Example]:
    """The shared examples with what they show; the last system may be the users themselves."""
    from llm4rec_cli.reporting.sheets import Example, plain

    columns = {name: "reference" if name == REFERENCE else str(i) for i, name in enumerate(systems)}
    context = _context(asked, cache)
    on = [name for name in EXAMPLE if name in context]
    rows = shared.merge(context.drop_duplicates(on, keep="last"), on=on, how="left").to_dict("records")
    return [
        Example(
            item=plain(row["item"]),
            stars=row["stars"],
            review=row["review"] and plain(row["review"]),
            texts={name: plain(row[column]) for name, column in columns.items()},
        )
        for row in rows
    ]


def _context(asked: Mapping[str, Any], cache: str | None) -> pd.DataFrame:
    """What may be shown of the part's interactions beside user_id and target: item, stars, and the review where the
    text is a heading of it. An explanation is a sentence of the review, which would give it away.

    Raises:
        DataError: the dataset is not in the cache.
    """
    import pandas as pd

    from llm4rec_cli.config.schema import SplitName, Written
    from llm4rec_cli.data import store
    from llm4rec_cli.data.split import split_dataset
    from llm4rec_cli.runs.catalog import cache_folder

    folder = store.dataset_folder(cache_folder(cache), asked["dataset"], asked["dataset_fingerprint"])
    if not folder.exists():
        raise DataError(
            f"the dataset of these runs is not in the cache: {folder}",
            f"llm4rec prepare dataset={asked['dataset']}, or --cache PATH",
        )
    dataset = store.load(folder)
    rows = dataset.interactions.iloc[split_dataset(dataset).examples(SplitName[asked["split"]]).row]
    items = dataset.items.iloc[rows["item"]]
    none = pd.Series("", index=rows.index)
    told = pd.DataFrame(
        {
            "user_id": dataset.user_ids[rows["user"]],
            "target": items["item_id"].to_numpy(),
            "item": items.get("title", items["item_id"]).fillna(items["item_id"]).to_numpy(),
            "stars": rows["rating"].map("{:g}".format, na_action="ignore").fillna("") if "rating" in rows else none,
            "review": rows["review_text"].fillna("") if asked["protocol"] == Written.review_title.value else none,
        }
    )
    if asked["protocol"] in rows:  # it tells apart the reviews of one who wrote several of one item
        told["reference"] = rows[asked["protocol"]].fillna("")
    return told


# --- score


def _score(options: argparse.Namespace) -> None:
    from llm4rec_cli.files import write_json
    from llm4rec_cli.reporting.sheets import key_of
    from llm4rec_cli.reporting.tables import comma_separated

    folder = Path(options.folder).expanduser()
    key = key_of(folder)
    sheets = _filled(options.sheets, key)
    written = folder / (OF_JUDGES if sheets[0].judge else RESULT)
    result = _result(key, sheets)
    write_json(written, result)
    if options.json:
        print(json.dumps(result, indent=2))
    elif options.csv:
        sys.stdout.write(comma_separated(CSV_COLUMNS, _csv_rows(result)))
    else:
        _print_tables(result, written)


def _filled(names: Sequence[str], key: Mapping[str, Any]) -> list[Filled]:
    """The filled sheets of these files.

    Raises:
        UsageError: there is no such file, or two are of one name; or people filled some, and a chat model others.
        DataError: one is not filled as it should be.
    """
    from llm4rec_cli.evaluation.human import Scale
    from llm4rec_cli.reporting.sheets import filled

    paths = {}
    for path in (Path(name).expanduser() for name in names):
        if not path.is_file():
            raise UsageError(f"no file {path}", "llm4rec human score FOLDER SHEET.csv …")
        if path.stem in paths:
            raise UsageError(f"two sheets are of the rater '{path.stem}'", "name each file by its rater, each once")
        paths[path.stem] = path
    found = [filled(path, key["examples"], Scale(key["scale"]), key["criteria"]) for path in paths.values()]
    judges = [sheet.rater for sheet in found if sheet.judge]
    if 0 < len(judges) < len(found):
        raise UsageError(
            f"a chat model filled {', '.join(judges)}, and people the others: their mean would be neither's word",
            "score the sheets of people, and those of chat models by themselves",
        )
    return found


def _result(key: Mapping[str, Any], sheets: Sequence[Filled]) -> dict[str, Any]:
    """What human.json holds; or, of sheets that chat models filled, judge.json."""
    return {
        "schema": 1,
        **{name: key[name] for name in ("sheet", "dataset", "dataset_fingerprint", *ASKED, "seed", "scale", "runs")},
        "labels": ["llm-judge"] if sheets[0].judge else [],
        "synthetic": any("synthetic" in run["labels"] for run in key["runs"]),
        "examples": len(key["examples"]),
        "raters": [
            {"rater": sheet.rater, "unfilled": sheet.unfilled, **({"judge": sheet.judge} if sheet.judge else {})}
            for sheet in sheets
        ],
        "criteria": {name: _of_criterion(key, name, sheets) for name in key["criteria"]},
    }


def _of_criterion(key: Mapping[str, Any], criterion: str, sheets: Sequence[Filled]) -> dict[str, Any]:
    """How the systems came out on one criterion, of how many raters and examples, and how far the raters agree."""
    import numpy as np

    from llm4rec_cli.data.streams import stream
    from llm4rec_cli.evaluation.human import (
        FEWEST_EXAMPLES,
        FEWEST_RATERS,
        Scale,
        krippendorff_alpha,
        standings,
    )

    by_rater = [sheet.values[criterion] for sheet in sheets]
    ratings = _by_system(key, by_rater)
    judged = ~np.isnan(ratings[:, :, 0])
    raters, examples = (int(judged.any(axis=axis).sum()) for axis in (1, 0))
    found = {}
    if judged.any():
        of_each = standings(ratings, Scale(key["scale"]), stream(key["seed"], "human: bootstrap"))
        found = dict(zip(key["systems"], map(dataclasses.asdict, of_each), strict=True))
    return {
        "raters": raters,
        "examples": examples,
        "enough": raters >= FEWEST_RATERS and examples >= FEWEST_EXAMPLES and not sheets[0].judge,
        "judgements": int(judged.sum()),
        "alpha": krippendorff_alpha(_by_text(key, by_rater)),
        "systems": found,
    }


def _by_system(key: Mapping[str, Any], by_rater: Sequence[Judged]) -> FloatArray:
    """(raters, examples, systems) what each rater gave each system's text; NaN where they left the example out."""
    import numpy as np

    whose = {
        example: {system: label for label, systems in labels.items() for system in systems}
        for example, labels in key["examples"].items()
    }
    return np.array(
        [
            [[values.get(e, {}).get(whose[e][system], np.nan) for system in key["systems"]] for e in whose]
            for values in by_rater
        ]
    )


def _by_text(key: Mapping[str, Any], by_rater: Sequence[Judged]) -> FloatArray:
    """(raters, texts) the same a text: one that several systems wrote was judged once."""
    import numpy as np

    texts = [(example, label) for example, labels in key["examples"].items() for label in labels]
    return np.array([[values.get(e, {}).get(label, np.nan) for e, label in texts] for values in by_rater])


# --- judge


def _judge(options: argparse.Namespace) -> None:
    from llm4rec_cli import launch

    launch.run("judge", "a chat model fills a sheet", ["--sheets", options.folder, *options.overrides], verbose=False)


# --- how it is said


def _print_tables(result: Mapping[str, Any], written: Path) -> None:
    from llm4rec_cli.reporting.tables import console, table

    out = console()
    judges = _judges(result)
    scored = result["scale"] == "score"
    columns = [*("system", "mean rank", "95 %", "first", "95 %"), *(("mean score", "95 %") if scored else ()), "n"]
    for criterion, of in result["criteria"].items():
        rows = [
            [
                system,
                *_told(numbers["mean_rank"]),
                *_told(numbers["first"]),
                *(_told(numbers["mean_score"]) if scored else ()),
                str(of["judgements"]),
            ]
            for system, numbers in of["systems"].items()
        ]
        out.print(table(f"{criterion} · {result['dataset']} · {result['task']} · {result['split']}", columns, rows))
        out.print(f"{_worth(of, judges)}\n", soft_wrap=True)
    for note in [*_notes(result), f"written: {written}"]:
        out.print(note, soft_wrap=True)


def _judges(result: Mapping[str, Any]) -> list[str]:
    """The chat models that judged in the place of people; none where people did."""
    return [rater["judge"] for rater in result["raters"] if "judge" in rater]


def _told(estimate: Mapping[str, Any]) -> tuple[str, str]:
    """A mean and its interval."""
    low, high = estimate["interval"]
    return f"{estimate['mean']:.2f}", f"{low:.2f}–{high:.2f}"


def _worth(of: Mapping[str, Any], judges: Sequence[str]) -> str:
    """Of how many raters and examples a criterion's numbers are, how far the raters agree, and whether it is enough.

    Args:
        judges: the chat models that judged, in the place of people.
    """
    from llm4rec_cli.evaluation.human import FEWEST_EXAMPLES, FEWEST_RATERS

    counts = [(of["raters"], "chat model" if judges else "rater"), (of["examples"], "example")]
    counted = " and ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts)
    alpha = "cannot be told" if of["alpha"] is None else f"{of['alpha']:.2f}"
    why = f"it takes at least {FEWEST_RATERS} raters and {FEWEST_EXAMPLES} examples"
    if judges:
        why = f"judged by {', '.join(judges)} (llm-judge), and by no person"
    return (
        f"{counted}; Krippendorff's alpha (ordinal) {alpha}{'' if of['enough'] else f'; this settles nothing: {why}'}"
    )


def _notes(result: Mapping[str, Any]) -> list[str]:
    """What the numbers are, what was left out of them, and what to beware of."""
    said = [
        "mean rank: 1 is best, equal texts share the mean of their ranks; first: how often best, shared by equals",
        "alpha: 1 = the raters agree, 0 = as by chance; intervals are over examples and say nothing of other raters",
    ]
    unfilled = [
        f"{rater['rater']} {n:,} by {criterion}"
        for rater in result["raters"]
        for criterion, n in rater["unfilled"].items()
        if n
    ]
    if unfilled:
        said.append(f"examples not judged in full, and left out: {', '.join(unfilled)}")
    if result["synthetic"]:
        said.append("synthetic data: these numbers settle no claim")
    return said


def _csv_rows(result: Mapping[str, Any]) -> list[list[Any]]:
    """As CSV_COLUMNS."""
    return [
        [
            *(criterion, system),
            *(value for name in NUMBERS for value in _values(numbers[name])),
            *(of["judgements"], of["raters"], of["examples"], of["alpha"], " ".join(_judges(result)) or "people"),
        ]
        for criterion, of in result["criteria"].items()
        for system, numbers in of["systems"].items()
    ]


def _values(estimate: Mapping[str, Any] | None) -> list[Any]:
    """A mean and both ends of its interval; empty where there is none, as of scores where texts were ranked."""
    return [""] * 3 if estimate is None else [estimate["mean"], *estimate["interval"]]
