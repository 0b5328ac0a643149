"""Plain language: words without information stay rare, and variables are not named by them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".yaml", ".sh", ".html")
VAGUE = re.compile(r"\b(?:found|asked|told|tells|beside|stands|given|anew)\b")
LIMIT = 30  # occurrences in llm4rec_cli, conf and scripts together; lower it when there are fewer, never raise it
VAGUE_NAMES = {"found", "told", "asked", "of"}


def test_vague_words_are_rare():
    files = [file for part in ("llm4rec_cli", "conf", "scripts") for file in (ROOT / part).rglob("*")]
    counts = {
        file.relative_to(ROOT).as_posix(): len(VAGUE.findall(file.read_text(encoding="utf-8")))
        for file in files
        if file.suffix in SUFFIXES
    }
    total = sum(counts.values())
    most = sorted(counts, key=lambda file: -counts[file])[:10]
    assert total <= LIMIT, f"use precise words; most are in {', '.join(most)}"


def variables(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the name and line of each variable that a file assigns, iterates over or takes as an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def vague_variables(folder: Path) -> Iterator[str]:
    """Yield `file:line: name` for each vaguely named variable of a folder."""
    for file in sorted(folder.rglob("*.py")):
        for name, line in variables(ast.parse(file.read_text(encoding="utf-8"))):
            if name.lstrip("_") in VAGUE_NAMES:
                yield f"{file.relative_to(folder).as_posix()}:{line}: {name}"


def test_no_variable_has_a_vague_name():
    assert [*vague_variables(ROOT / "llm4rec_cli")] == []


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "found: int = 1",
        "a, (told, b) = c",
        "for of in rows: pass",
        "[of for of in rows]",
        "{k: v for k, (v, *asked) in rows}",
        "def f(a, *, found=None): pass",
        "lambda asked: asked",
        "if (found := g()): pass",
        "with open(f) as told: pass",
        "try: pass\nexcept OSError as told: pass",
        "self.asked = 1",
    ],
)
def test_each_kind_of_variable_is_seen(code):
    assert {name for name, _ in variables(ast.parse(code))} & VAGUE_NAMES


def test_functions_and_uses_of_a_name_are_not_variables():
    assert not list(variables(ast.parse("print(found, x.told)\ndef asked(): return of")))
