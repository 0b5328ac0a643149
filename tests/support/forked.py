"""Fast-starting processes, forked from a server that has only imported torch, transformers and llm4rec_cli.

These imports take six seconds per process while two tests run at a time.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from llm4rec_cli import cli

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["llm4rec_cli.run.fit", "llm4rec_cli.launch", "llm4rec_cli.commands.train"])
OUT, ERRORS = "process-{}.out", "process-{}.errors"


def llm4rec(*arguments: str) -> int:
    """Run `llm4rec <arguments>`: a target for `run` and `start`."""
    return cli.main(arguments)


def start(target: Callable[..., int | None], *arguments: object, cwd: Path, n: int = 1) -> list[ForkServerProcess]:
    """Start n processes that call target(*arguments) in `cwd`; for n > 1 as the ranks of one run, as torchrun does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    processes = []
    for rank in range(n):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in ranks.items() if n > 1}}
        processes.append(CONTEXT.Process(target=_call, args=(target, arguments, cwd, rank, environment), daemon=True))
        processes[-1].start()
    return processes


def run(target: Callable[..., int | None], *arguments: object, cwd: Path, n: int = 1) -> str:
    """Run n processes until they exit with 0, and return the first one's stdout."""
    processes = start(target, *arguments, cwd=cwd, n=n)
    for process in processes:
        process.join()
    errors = [(cwd / ERRORS.format(rank)).read_text() for rank in range(n)]
    assert [process.exitcode for process in processes] == [0] * n, "\n".join(errors)[-3000:]
    return (cwd / OUT.format(0)).read_text()


def _call(
    target: Callable[..., int | None], arguments: tuple[object, ...], cwd: Path, rank: int, environment: dict[str, str]
) -> None:
    gc.freeze()  # training collects garbage; skip the imported modules
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in ((1, OUT), (2, ERRORS)):
        os.dup2(os.open(name.format(rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    with _arithmetic():
        code = target(*arguments)
    sys.exit(code)


def _arithmetic() -> AbstractContextManager[None]:
    """Disturb the process as the test itself is; import what that takes only then."""
    if "PERTURB" not in os.environ:
        return nullcontext()
    return importlib.import_module("tests.support.perturb").perturbed()
