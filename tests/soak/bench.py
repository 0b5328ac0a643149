"""Commands in forked processes, the folder they run in, and comparisons of what two of them left."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from llm4rec_cli import arithmetic, cli
from tests.cli.test_enrich import shop
from tests.llm.chat_server import chat_server, completed
from tests.models.tiny_bert import tiny_bert
from tests.studies.cli.test_reproduce import TABLE
from tests.support.driver import TINY
from tests.support.small_demo import SMALL, sized
from tests.support.small_log import small_log

ROOT = Path(__file__).parents[2]

PRELOADED = ("llm4rec_cli.run.fit", "llm4rec_cli.launch", "llm4rec_cli.commands.train", "optuna")
PRELOADED += ("sklearn.decomposition",)
TIMED = {"seconds", "peak_rss_mb", "pid", "training_seconds", "minutes", "created", "finished", "train_runtime"}
LIMIT = 300  # seconds until a command counts as hanging

FEW = ("task.max_examples=20", "task.floors=[]", "trainer.valid_examples=20", "paths.cache=cache")
UNISREC = ("model=unisrec", "model.hidden_size=16", "model.inner_size=16", "model.layers=1", "model.experts=2")
UNISREC += ("model.encoder={name:minilm,pooling:mean,max_length:16}", "trainer.epochs=2")
P5 = ("model=p5", "model.backbone=tiny", "dataset.train_users=0.02", "trainer.epochs=1")
P5 += ("model.samples.sequential_candidates=0", "model.samples.direct_candidates=0")
PROMPT4NR = ("model=prompt4nr", "dataset=mind-small-5k", "dataset.raw_dir=../log", "model.backbone=../bert")
PROMPT4NR += ("model.titles=3", "model.max_length=128", "trainer.epochs=2", "trainer.batch_size=20")
CHAT = ("model=chatgptrec", "llm=openai", "model.controls=0", "task=rating", "task.bootstrap=20")
COMMANDS: dict[str, tuple[str, ...]] = {
    "train sasrec": ("train", *TINY, *FEW, "trainer.epochs=3", "trainer.batch_size=256"),
    "train unisrec": ("train", *UNISREC, *FEW),
    "pre-training": ("train", *UNISREC, "task=pretrain", "dataset=demo_pretrain", "paths.cache=cache"),
    "P5": ("train", *P5, "task=all", *FEW),
    "Prompt4NR": ("train", *PROMPT4NR, *FEW),
    "tune": ("tune", *TINY, *FEW, "--trials", "3", "--save", "mine/tuned"),
    "asking": ("train", *CHAT, "llm.base_url={url}", "llm.store=answers.sqlite", *FEW),
    "enriching": ("enrich", "dataset=shop", "llm=openai", "llm.base_url={url}", "llm.store=answers.sqlite", FEW[-1]),
    "prepare": ("prepare", "dataset=demo_news", "paths.cache=cache"),
    "reproduce": ("reproduce", "mine/tiny", "--small", "--seeds", "0", "paths.cache=cache"),
    "report": ("report", "--html", "page.html"),
}
BEFORE = {"report": (("train", *TINY, "seed=0,1", "-m", FEW[-1]), COMMANDS["asking"])}  # what a command needs first


@dataclass(frozen=True)
class Ended:
    """Exit code (negative: the signal), output and duration of a command."""

    code: int
    out: str
    err: str
    seconds: float


class Bench:
    """A folder with what commands read; each trial runs in a copy of `start` next to it."""

    def __init__(self, work: Path, url: str) -> None:
        self.work, self.url = work, url
        small_log(work / "log")
        tiny_bert(work / "bert")
        self.start = work / "start"
        self.start.mkdir()
        shop(self.start)
        (self.start / "conf/paper/mine").mkdir(parents=True)
        (self.start / "conf/paper/mine/tiny.yaml").write_text(TABLE)

    def fresh(self, name: str, start: Path | None = None) -> Path:
        """Return a new copy of a folder, by default of `start`."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return Path(shutil.copytree(start or self.start, self.work / name, symlinks=True))

    def begin(self, folder: Path, arguments: tuple[str, ...], before: Callable[[], None] = lambda: None) -> int:
        """Start `llm4rec <arguments>` in a folder; return the process id. `before` is called in the new process."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        os.setsid()
        code = 70
        try:
            os.chdir(folder)
            for stream, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{folder}.{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            os.environ |= {"no_proxy": "127.0.0.1", "OPENAI_API_KEY": "sk-none", "XDG_CACHE_HOME": str(folder)}
            before()
            code = _main([argument.replace("{url}", self.url) for argument in arguments])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def end(self, folder: Path, pid: int, begun: float, limit: float = LIMIT) -> Ended:
        """Wait for a command; one that hangs is killed."""
        while not (status := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() - begun > limit:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        logs = [Path(f"{folder}.{pid}.{name}") for name in ("out", "err")]
        out, err = (log.read_text(errors="replace") if log.exists() else "" for log in logs)
        for log in logs:
            log.unlink(missing_ok=True)
        return Ended(os.waitstatus_to_exitcode(status[1]), out, err, time.monotonic() - begun)

    def run(
        self, folder: Path, arguments: tuple[str, ...], before: Callable[[], None] = lambda: None, limit: float = LIMIT
    ) -> Ended:
        begun = time.monotonic()
        return self.end(folder, self.begin(folder, arguments, before), begun, limit)


def _main(arguments: list[str]) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as stop:  # argparse
        return int(stop.code or 0)


@contextmanager
def bench(folder: str | None = None) -> Iterator[Bench]:
    """Yield a bench in a temporary folder, with a small demo and a chat model on loopback in a process of its own."""
    with ExitStack() as stack:
        stack.enter_context(sized(SMALL))
        stack.enter_context(patch.object(arithmetic, "probe", lambda *_: {"fp32": 1.0, "bf16": 1.0}))
        work = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        work.mkdir(parents=True, exist_ok=True)
        reader, writer = os.pipe()
        if not (server := os.fork()):
            with chat_server() as chat:
                chat.responses = lambda prompt: [completed(_reply(prompt))] * 1000
                os.write(writer, chat.url.encode())
                signal.pause()
        stack.callback(os.waitpid, server, 0)
        stack.callback(os.kill, server, signal.SIGKILL)
        url = os.read(reader, 1000).decode()
        for module in PRELOADED:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()
        yield Bench(work, url)


def _reply(prompt: str) -> str:
    """Return an answer that depends on the prompt alone: tags of an item, or a rating."""
    number = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16)
    if "key_words" in prompt:
        return json.dumps({"use": [f"use {number % 3}"], "audience": ["people"], "key_words": [f"word {number % 5}"]})
    return str(1 + number % 5)


def snapshot(folder: Path) -> dict[str, Any]:
    """Return the content of every file that a command leaves, by path, without what depends on time and process.

    The lock file of a killed process stays, and is free; so do the link of Optuna's lock for a minute, and SQLite's own
    files beside a database, until it is opened again. Notes of hashes have times and inodes.
    """
    ends = (".lock", ".rename", "-wal", "-shm")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(ends))
    files = (path for path in files if path.parent.name != "hashes")
    return {str(path.relative_to(folder)): _content(path, folder) for path in files}


def _content(path: Path, folder: Path) -> Any:
    if path.name in ("run.log", "journal.jsonl"):
        return None
    if path.suffix == ".sqlite":
        with sqlite3.connect(path) as database:
            rows = database.execute("SELECT key, answer FROM answers ORDER BY key").fetchall()
        return [(key, json.loads(answer).get("text")) for key, answer in rows]
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl", ".yaml", ".html", ".csv", ".txt"):
        text = content.decode(errors="replace").replace(str(folder), ".")
        if path.suffix == ".json":
            value = _timeless(json.loads(text))
            return _without_killed_trials(value) if path.name == "tuning.json" else value
        return re.sub(r"(\"?(?:seconds|minutes)\"?: ?)[\d.e-]+", r"\1", text)
    return hashlib.sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMED}
    return [*map(_timeless, value)] if isinstance(value, list) else value


def _without_killed_trials(search: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a search, in which a trial that was killed is made again and stays as failed."""
    trials = [trial for trial in search["trials"] if trial["error"] != "killed"]
    chosen = [trial["number"] for trial in trials].index(search["chosen"])
    return search | {"chosen": chosen, "trials": [trial | {"number": i} for i, trial in enumerate(trials)]}


def differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """Return the paths whose contents differ, and those in one folder only."""
    return sorted(path for path in expected.keys() | actual.keys() if expected.get(path, 0) != actual.get(path, 0))
