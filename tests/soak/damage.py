"""Damage a file at random: a command then gives one clear error, or a whole result, and changes no other run."""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import llm4rec_cli
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from tests.soak.bench import COMMANDS, ROOT, TINY, Bench, Ended

LIMIT = 60  # seconds until a command counts as hanging
BAD = ROOT / "tests/data/bad"
CACHE = "paths.cache=cache"
FLOOR = ("model=popularity", "task.floors=[]", CACHE)
TRAINED = ("train", *TINY, "task.floors=[popularity]", CACHE)
WRONG: list[Any] = [None, True, -1, 1e999, 10**400, "", "\0", "\ud800", "a" * 5000, [], {}, [[]], {"a": {}}, "../.."]
SHARES = {"raw": 0.35, "configs": 0.2, "runs": 0.35, "cache": 0.1}  # of the trials
Rng = np.random.Generator


@dataclass(frozen=True)
class Target:
    """Patterns of the files to damage in a copy of `start`, and the commands, one of which then reads them."""

    name: str
    start: Path
    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


# --- what is done to a file


def flipped(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 9))) if data else ():
        changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def inserted(*pieces: bytes) -> Callable[[bytes, Rng], bytes]:
    def insert(data: bytes, rng: Rng) -> bytes:
        place = int(rng.integers(0, len(data) + 1))
        return data[:place] + pieces[int(rng.integers(len(pieces)))] + data[place:]

    return insert


def with_fields_swapped(data: bytes, rng: Rng) -> bytes:
    """Swap two fields of one line, or of all lines."""
    lines = data.split(b"\n")
    separator = max((b"\t", b"::", b",", b"|", b" "), key=data.count)
    first, second = rng.integers(0, max(1, lines[0].count(separator) + 1), 2)
    for i in [int(rng.integers(len(lines)))] if rng.random() < 0.5 else range(len(lines)):
        fields = lines[i].split(separator)
        if max(first, second) < len(fields):
            fields[first], fields[second] = fields[second], fields[first]
            lines[i] = separator.join(fields)
    return b"\n".join(lines)


def with_wrong_type(data: bytes, rng: Rng) -> bytes:
    """Replace a value of a JSON document, or of one of its lines, by one of another type; otherwise one of a line."""
    text = data.decode(errors="replace")
    lines, wrong = text.splitlines() or [""], WRONG[int(rng.integers(len(WRONG)))]
    place = int(rng.integers(len(lines)))
    is_document = text.startswith(("{", "[")) and len(lines) > 1 and not lines[1].startswith("{")
    try:
        value = json.loads(text if is_document else lines[place])
        holders = [value]
        for holder in holders:
            inside = holder.values() if isinstance(holder, dict) else holder
            holders += [item for item in inside if isinstance(item, dict | list) and item]
        holder = holders[int(rng.integers(len(holders)))]
        keys = [*holder] if isinstance(holder, dict) else [*range(len(holder))]
        holder[keys[int(rng.integers(len(keys)))]] = wrong
        changed = json.dumps(value)
    except (ValueError, TypeError, IndexError, AttributeError):
        is_document = False
        changed = re.sub(r"([:,=] *)[^,:{}\[\]]*", lambda m: m[1] + json.dumps(wrong), lines[place], count=1)
    return (changed if is_document else "\n".join([*lines[:place], changed, *lines[place + 1 :]])).encode()


DAMAGES: dict[str, Callable[[bytes, Rng], bytes]] = {
    "truncated": lambda data, rng: data[: int(rng.integers(0, max(1, len(data))))],
    "flipped bits": flipped,
    "a part again": lambda data, rng: data + data[int(rng.integers(0, max(1, len(data)))) :],
    "fields swapped": with_fields_swapped,
    "wrong type": with_wrong_type,
    "NUL bytes": inserted(b"\0", b"\0" * 4096),
    "invalid UTF-8": inserted(b"\xff", b"\xc3", b"\xed\xa0\x80"),
    "control characters": inserted(b"\r", b"\x1b[2J", "\u202e".encode(), b"\x0c", "\u2028".encode()),
    "empty": lambda data, rng: b"",
    "other bytes": lambda data, rng: rng.bytes(max(1, len(data))),
}


def damage(path: Path, rng: Rng) -> str:
    """Damage a file; return what was done."""
    kind = str(rng.choice([*DAMAGES, "deleted", "a folder"]))
    data = path.read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind != "deleted":
        path.write_bytes(DAMAGES[kind](data, rng))
    return kind


# --- targets


def raw_files(bench: Bench) -> Iterator[Target]:
    for dataset in sorted(path.name for path in (BAD / "good").iterdir()):
        start = bench.work / f"raw {dataset}"
        shutil.copytree(BAD / "conf", start / "conf")
        shutil.copytree(BAD / "good" / dataset, start / "raw")
        raw = (f"dataset={dataset}", "dataset.raw_dir=raw")
        commands = (("prepare", *raw, CACHE), ("train", *raw, *FLOOR), ("inspect", "data", *raw, CACHE))
        yield Target(f"raw {dataset}", start, ("raw/**/*",), commands)


def configs(bench: Bench) -> Iterator[Target]:
    start = bench.fresh("configs")
    for source, own in (("prompt4nr/hybrid_action", "prompt4nr/mine"), ("chatgptrec/default", "chatgptrec/mine")):
        (start / f"conf/prompt/{own}.yaml").parent.mkdir(parents=True)
        shutil.copy(ROOT / f"conf/prompt/{source}.yaml", start / f"conf/prompt/{own}.yaml")
    (start / "conf/search").mkdir()
    shutil.copy(ROOT / "conf/search/sasrec.yaml", start / "conf/search/sasrec.yaml")
    prepare(bench, start, COMMANDS["tune"])
    shutil.rmtree(start / "outputs")
    commands = (
        *(("validate", name) for name in ("dataset/shop", "prompt/prompt4nr/mine", "experiment/mine/tuned")),
        *(("list", *kind) for kind in ((), ("datasets",), ("prompts",), ("experiments",), ("papers",))),
        ("prepare", "dataset=shop", CACHE),
        ("train", "dataset=shop", *FLOOR),
        ("train", "+experiment=mine/tuned", "--cfg", "job"),
        ("reproduce", "mine/tiny", "--small", "--dry-run", CACHE),
        ("train", "model=prompt4nr", "dataset=demo_news", "prompt=prompt4nr/mine", "--cfg", "job"),
        (*COMMANDS["asking"], "prompt=chatgptrec/mine", "llm.dry_run=true"),
        (*COMMANDS["tune"][:-4], "--trials", "1"),
    )
    yield Target("configs", start, ("conf/**/*",), commands)


def runs(bench: Bench) -> Iterator[Target]:
    folder = bench.fresh("runs")
    asked = [COMMANDS[name] for name in ("asking", "reproduce", "tune")]
    prepare(bench, folder, (*TRAINED, "seed=0,1", "-m"), *asked, ("train", "dataset=demo_news", *FLOOR))
    results = {
        path.parent: json.loads(path.read_text()) for path in sorted(folder.glob("outputs/*/*/*/*/metrics.json"))
    }
    (variant,) = {r["variant"] for r in results.values() if (r["model"], r["seed"]) == ("sasrec", 1)}
    pair = [str(run.relative_to(folder)) for run, result in results.items() if result["variant"] == variant]
    floor = next(run for run, r in results.items() if r["model"] == "popularity" and r["n_examples"] == 100)
    on_cache: list[tuple[str, ...]] = [
        ("eval", f"run={pair[0]}", "split=valid", CACHE),
        ("recommend", f"run={pair[0]}", "--user", "A00895B2MGIGH", CACHE),
        (*TRAINED, "seed=0"),
        ("ensemble", f"run=[{','.join(pair)}]", CACHE),
        *asked,
    ]
    reports = ((), ("--csv",), ("--html", "page.html"), ("--costs",), ("--slices",), ("--papers",))
    commands: list[tuple[str, ...]] = [
        *(("report", *more) for more in reports),
        *(("list", kind) for kind in ("runs", "papers")),
        ("list", "cache", "--cache", "cache"),
        ("compare", *pair),
        ("compare", *pair, "--json"),
        ("compare", pair[0], str(floor.relative_to(folder))),
        ("inspect", "result", pair[0]),
    ]
    yield Target("runs", folder, ("outputs/**/*",), tuple(commands + on_cache))
    cached = ("*.sqlite", "cache/datasets/*/*", "cache/raw/*/*", "cache/*.json")
    yield Target("cache", folder, cached, tuple(on_cache))


def prepare(bench: Bench, folder: Path, *commands: tuple[str, ...]) -> None:
    for command in commands:
        ended = bench.run(folder, command)
        assert not ended.code, ended.err


# --- trials


def problem(ended: Ended) -> str:
    """Return what is wrong with the end of a command; empty where it is a result, or one clear error."""
    errors = re.findall(r"^error: .+", ended.err, re.M)
    if ended.code not in (0, 1, 2):
        return f"exit code {ended.code}: {ended.err[-300:]}"
    if "Traceback" in ended.out + ended.err or "bug in llm4rec" in ended.err:
        return "\n".join(ended.err.splitlines()[-3:])
    if ended.code and not re.search("try: |failed: ", ended.err + ended.out):
        return f"no remedy: {ended.err[-300:]}{ended.out[-300:]}"
    if ended.code and len(errors) > 1:
        return f"{len(errors)} errors: {errors}"
    return f"an error of {len(errors[0])} characters: {errors[0][:200]}" if errors and len(errors[0]) > 1500 else ""


def trial(bench: Bench, target: Target, rng: Rng) -> tuple[str, str]:
    """Damage one file of a target and run a command; return what was done and the problems."""
    folder = bench.fresh("trial", target.start)
    files = sorted({path for pattern in target.files for path in folder.glob(pattern) if path.is_file()})
    path = files[int(rng.integers(len(files)))]
    kind = damage(path, rng)
    command = target.commands[int(rng.integers(len(target.commands)))]
    before = _bytes(folder)
    ended = bench.run(folder, command, limit=LIMIT)
    after = _bytes(folder)
    run = path.relative_to(folder).parts[:5]
    others = [name for name in before if Path(name).parts[:5] != run and command[0] != "reproduce"]
    lost = [name for name in others if not _is_whole(name, before[name], after.get(name))]
    parts = [name for name in after if name.endswith((".part", ".lock")) and name not in before]
    problems = [problem(ended), lost and f"changed: {', '.join(lost[:5])}", parts and f"left: {', '.join(parts)}"]
    return f"{kind}: {path.relative_to(folder)}: {' '.join(command)}", " | ".join(filter(None, problems))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _is_whole(name: str, before: bytes, after: bytes | None) -> bool:
    """Return whether a file, other than those damaged, has what it had: the rest of a run is written once, and these
    change as runs are compared with new ones."""
    path = Path(name)
    if path.parts[0] not in ("outputs", "raw", "conf") or path.name in ("run.log", "status.json", "journal.jsonl"):
        return path.parts[0] == "cache" or after is not None
    if path.name == "metrics.json" and after is not None:
        return bool(json.loads(after)["metrics"] == json.loads(before)["metrics"])
    return after == before


def warm(bench: Bench, target: Target) -> None:
    """Compose the configs of a target's commands in this process: those forked later need not."""
    with contextlib.chdir(bench.fresh("trial", target.start)):
        for name, *overrides in target.commands:
            command = commands().get(name)
            if command and command.takes_overrides and not any(word.startswith(("-", "run=")) for word in overrides):
                compose([hydra_override(typed.replace("{url}", bench.url)) for typed in overrides])


def soak(bench: Bench, trials: range, seed: int, names: list[str]) -> int:
    """Run trials over all kinds of files, or the named ones; return the number of failed trials."""
    kinds = {"raw": raw_files, "configs": configs, "runs": runs}
    named = {name: share for name, share in SHARES.items() if name in names or not {*names} & {*SHARES}}
    for module in pkgutil.walk_packages(llm4rec_cli.__path__, "llm4rec_cli."):
        if ".commands" in module.name or ".data" in module.name:
            importlib.import_module(module.name)
    targets = [target for name, made in kinds.items() if name in named for target in made(bench)]
    for target in targets:
        warm(bench, target)
    done, failed = Counter[str](), Counter[str]()
    for i in trials:
        rng = np.random.default_rng([seed, i])
        kind = str(rng.choice([*named], p=np.array([*named.values()]) / sum(named.values())))
        of_kind = [target for target in targets if target.name.split()[0] == kind]
        target = of_kind[int(rng.integers(len(of_kind)))]
        what, problems = trial(bench, target, rng)
        done[target.name] += 1
        failed[target.name] += bool(problems)
        if problems or i % 100 == 0:
            print(f"damage {i}: {target.name}: {what}: {problems or 'fine'}", flush=True)
    for name, n in sorted(done.items()):
        print(f"damage: {name:<22} {n - failed[name]:>4} of {n} fine")
    return failed.total()
