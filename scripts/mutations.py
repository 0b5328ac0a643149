"""Mutations of the package, drawn from a seed over all of its rooms, and which of them the tests catch.

    python scripts/mutations.py choose COPY        copy the checkout, and put about 100 mutations into the copy, all off
    python scripts/mutations.py reach COPY         run the copy's tests once: which tests reach which mutation
    python scripts/mutations.py run COPY           switch each on, and run the tests that reach it, for at most a minute

To compare two suites on the same mutations, choose once, copy COPY, and replace its tests/.
A mutation changes an expression or drops a call within a function: a comparison, an operator, a number, a truth value,
a condition. Messages, logs, `raise` and `assert` are left alone, and so is what is evaluated at import.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("llm4rec_cli", "llm4rec_studies", "llm4rec_zoo")
COMPARISONS: dict[type[ast.cmpop], str] = {
    **{ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="},
    **{ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"},
}
OPERATORS: dict[type[ast.operator], str] = {
    **{ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*"},
    **{ast.BitAnd: "|", ast.BitOr: "&"},
}
LOGS = {"log", "logger", "console", "print", "warnings"}
SWITCH = '''"""Which mutation is on: MUTANT. With MUTANT_REACH, a folder, note which test reaches which mutation."""

import os

SEEN = set()


def mutant_on(number):
    folder, test = os.environ.get("MUTANT_REACH"), os.environ.get("PYTEST_CURRENT_TEST", "")
    if folder and (number, test) not in SEEN:
        SEEN.add((number, test))
        with open(f"{folder}/{os.getpid()}", "a") as file:
            file.write(f"{number}\\t{test}\\n")
    return os.environ.get("MUTANT") == str(number)
'''
SECONDS = 60


@dataclass(frozen=True)
class Mutation:
    """An expression of a file, its position in bytes, and what replaces it."""

    room: str
    file: str
    line: int
    begin: int
    end: int
    old: str
    new: str
    kind: str


def replacements(node: ast.AST, text: str) -> Iterator[tuple[ast.expr, str, str]]:
    """Yield what may be replaced at this node: the expression, its replacement, and the kind of mutation."""

    def source(part: ast.expr) -> str:
        return ast.get_source_segment(text, part) or ""

    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        sides = source(node.left), source(node.comparators[0])
        yield node, f" {COMPARISONS[type(node.ops[0])]} ".join(sides), "comparison"
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not (is_text(node.left) or is_text(node.right)):
        yield node, f"({source(node.left)}) {OPERATORS[type(node.op)]} ({source(node.right)})", "operator"
    elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
        operator = " or " if isinstance(node.op, ast.And) else " and "
        yield node, operator.join(f"({source(value)})" for value in node.values), "and, or"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node, f"({source(node.operand)})", "not, minus"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, str(not node.value), "truth value"
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield node, repr(node.value + 1), "number"
    elif isinstance(node, ast.IfExp):
        yield node, f"({source(node.body)}) if not ({source(node.test)}) else ({source(node.orelse)})", "condition"
    if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Compare):
        yield node.test, f"not ({source(node.test)})", "condition"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not is_log(node.value):
        yield node.value, "None", "call dropped"


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_log(call: ast.Call) -> bool:
    root: ast.expr = call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in LOGS


def mutations_of(file: Path, room: str) -> list[Mutation]:
    """Return every mutation of a file."""
    text = file.read_text()
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []

    def visit(node: ast.AST, in_function: bool) -> None:
        if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert) or (isinstance(node, ast.Call) and is_log(node)):
            return
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            for statement in node.body if isinstance(node.body, list) else [node.body]:
                visit(statement, True)
            return
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                visit(node.value, in_function)
            return
        for part, new, kind in replacements(node, text) if in_function else ():
            old = ast.get_source_segment(text, part) or ""
            unsafe = any(isinstance(inner, ast.NamedExpr | ast.Yield | ast.YieldFrom) for inner in ast.walk(part))
            if not unsafe and "#" not in old and part.end_lineno and part.end_col_offset is not None:
                span = starts[part.lineno - 1] + part.col_offset, starts[part.end_lineno - 1] + part.end_col_offset
                found.append(Mutation(room, str(file.relative_to(ROOT)), part.lineno, *span, old, new, kind))
        for child in ast.iter_child_nodes(node):
            visit(child, in_function and not isinstance(node, ast.ClassDef))

    visit(ast.parse(text), False)
    return found


def overlap(a: Mutation, b: Mutation) -> bool:
    return a.file == b.file and a.begin < b.end and b.begin < a.end


def choose(copy: Path, number: int, seed: int) -> None:
    """Copy the checkout, and switch `number` mutations into the copy, in proportion to the lines of each room."""
    draw = random.Random(seed)
    by_room: dict[str, list[Mutation]] = defaultdict(list)
    lines: Counter[str] = Counter()
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        package, *parts = file.relative_to(ROOT).parts
        room = f"{package}/{parts[0]}" if len(parts) > 1 else package
        if "plugin_template" not in parts:
            lines[room] += len(file.read_text().splitlines())
            by_room[room] += mutations_of(file, room)
    chosen = []
    for room in sorted(by_room):
        quota = max(2, round(number * lines[room] / lines.total()))
        draw.shuffle(by_room[room])
        apart: list[Mutation] = []
        for mutation in by_room[room]:
            if len(apart) < quota and not any(overlap(mutation, other) for other in apart):
                apart.append(mutation)
        chosen += apart
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", "outputs", "__pycache__", ".*_cache"))
    (copy / PACKAGES[0] / "mutant_switch.py").write_text(SWITCH)
    for name in sorted({mutation.file for mutation in chosen}):
        content = (copy / name).read_bytes()
        own = [(i, mutation) for i, mutation in enumerate(chosen) if mutation.file == name]
        for i, mutation in sorted(own, key=lambda numbered: -numbered[1].begin):
            switched = f"(({mutation.new}) if mutant_on({i}) else ({mutation.old}))".encode()
            content = content[: mutation.begin] + switched + content[mutation.end :]
        text = content.decode()
        head = [n for n in ast.parse(text).body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        at = head[-1].end_lineno if head else 1
        rows = text.splitlines(keepends=True)
        (copy / name).write_text(
            "".join([*rows[:at], f"from {PACKAGES[0]}.mutant_switch import mutant_on\n", *rows[at:]])
        )
    (copy / "mutations.json").write_text(json.dumps([asdict(mutation) for mutation in chosen], indent=1))


def environment(copy: Path, **more: str) -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", **more}


def reach(copy: Path) -> None:
    """Run all tests of the copy with no mutation on; note what each reaches and how long it takes."""
    (copy / "reach").mkdir(exist_ok=True)
    options = ["-n", "2", "--dist", "loadfile", "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
    command = [sys.executable, "-m", "pytest", *options, "--junitxml=durations.xml"]
    subprocess.run(command, cwd=copy, env=environment(copy, MUTANT_REACH=str(copy / "reach")), check=False)


def run(copy: Path) -> None:
    """Write results.json: of each mutation whether a test caught it, which one, and how many reach it."""
    mutations = json.loads((copy / "mutations.json").read_text())
    seconds: dict[str, float] = {}
    failing = set()
    for case in ET.parse(copy / "durations.xml").iter("testcase"):
        test = f"{case.get('file')}::{case.get('name')}"
        seconds[test] = float(case.get("time") or 0)
        if any(case.find(outcome) is not None for outcome in ("failure", "error", "skipped")):
            failing.add(test)
    reached: dict[int, set[str]] = defaultdict(set)
    for file in (copy / "reach").iterdir():
        for line in file.read_text().splitlines():
            number, test = line.split("\t", 1)
            reached[int(number)].add(re.sub(r" \((setup|call|teardown)\)$", "", test))
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    os.environ.update(environment(copy))
    for module in ("torch", "transformers", "pandas", "hypothesis", "hydra", "sklearn"):  # once for all mutations
        importlib.import_module(module)
    results = []
    for i, mutation in enumerate(mutations):
        files: dict[str, list[str]] = defaultdict(list)
        # Tests of the conformance suite have no seconds: their results name the file that defines them.
        for test in sorted(reached[i] - failing - {""}, key=lambda test: seconds.get(test, 0.0)):
            files[test.partition("::")[0]].append(test)
        cost = {file: sum(seconds.get(test, 0.0) for test in tests) for file, tests in files.items()}
        order = sorted(files, key=lambda file: (distance(file, mutation), cost[file]))
        outcome, by = caught(copy, i, [files[file] for file in order]) if files else ("not reached", "")
        results.append({**mutation, "outcome": outcome, "by": by, "tests": sum(map(len, files.values()))})
        print(i, mutation["room"], mutation["file"], mutation["line"], outcome, by, flush=True)
        (copy / "results.json").write_text(json.dumps(results, indent=1))


def distance(file: str, mutation: dict[str, str]) -> int:
    """Return how far a test file is from the mutated one: 0 where it mirrors it."""
    mutated, tests = Path(mutation["file"]), Path(file)
    if tests.stem == f"test_{mutated.stem}":
        return 0
    if mutated.stem in tests.stem or mutated.parent.name in tests.stem:
        return 1
    return 2 if f"/{mutation['room']}/" in file else 3


def caught(copy: Path, number: int, files: list[list[str]]) -> tuple[str, str]:
    """Return whether these tests catch a mutation, file by file in a process forked for it, and which one does."""
    log = copy / "mutation.log"
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if stream == 1 else os.O_APPEND)), stream)
        os.environ["MUTANT"] = str(number)
        for tests in files:
            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=line", "-rfE"]
            if code := int(pytest.main([*options, *tests])):
                sys.stdout.flush()
                os._exit(code)
        os._exit(0)
    begun = time.monotonic()
    while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
        time.sleep(0.1)
        if time.monotonic() - begun > SECONDS:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return f"not caught in {SECONDS} s", ""
    first = re.search(r"^(?:FAILED|ERROR):? (\S+)", log.read_text(errors="replace"), re.MULTILINE)
    return ("caught", first.group(1) if first else "") if ended[1] else ("missed", "")


def main() -> int:
    parser = argparse.ArgumentParser("scripts/mutations.py", description=__doc__.partition("\n")[0])
    parser.add_argument("step", choices=["choose", "reach", "run"])
    parser.add_argument("copy", type=Path, help="folder of the copy")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=85)
    options = parser.parse_args()
    copy = options.copy.resolve()
    if options.step == "choose":
        choose(copy, options.number, options.seed)
    elif options.step == "reach":
        reach(copy)
    else:
        run(copy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
