"""What commands print of finished runs, in tests/golden/outputs: refactoring must not change it.

Long outputs are kept as one line for each table or row: the hash of its text and how it begins. If a change must move
some, rewrite the files in a commit that says which sentence was wrong, and why:

    GOLDEN=write python -m pytest tests/results/test_pinned.py tests/studies/test_pinned.py -n 0
"""

import hashlib
import re

import pytest

from tests.results.pinned_runs import write_all
from tests.support.golden import FOLDER, WRITES

RECORDED = FOLDER.parents[1] / "docs/recorded"
WHOLE = 40_000  # characters of an output that is kept as it is
# Times, sizes on disk and folders, which differ from one checkout or machine to the next.
PASSING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d[\d.,]* (?:bytes|kB|MB)")
PICTURE = re.compile(r"<svg.*?</svg>", re.DOTALL)  # what matplotlib draws is its own affair


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pinned") / "outputs"
    write_all(folder)
    return folder


def shortened(text):
    """Return a text as it is kept."""
    if len(text) <= WHOLE:
        return text
    blocks = text.split("\n\n") if text.count("\n\n") > 10 else text.splitlines()
    kept = [
        f"{hashlib.sha256(block.encode()).hexdigest()[:12]} {block.strip().partition(chr(10))[0][:100].rstrip()}"
        for block in blocks
    ]
    return "".join(f"{line}\n" for line in kept)


def hold(name, text):
    """Assert that a text equals the pinned one, or rewrite that under GOLDEN=write."""
    file = FOLDER / "outputs" / f"{name}.txt"
    kept = shortened(PASSING.sub("…", PICTURE.sub("<svg>", text)))
    if WRITES:
        file.write_text(kept)
    assert kept == file.read_text()


def hold_of_runs(name, typed, outputs, llm4rec, folder):
    """Hold what a command prints of the runs in `outputs`, called in an empty folder."""
    (folder / "outputs").symlink_to(outputs)  # lines are wrapped by their length
    answer = llm4rec(*typed.split())
    page = (folder / "page.html").read_text() if "--html" in typed else ""
    hold(name, f"{answer.code}\n{answer.out}{answer.err}{page}".replace(str(outputs), "OUTPUTS"))


def hold_of_records(name, typed, llm4rec, folder):
    (folder / "recorded").symlink_to(RECORDED)
    answer = llm4rec(*typed.split(), "--outputs", "recorded")
    hold(name, f"{answer.code}\n{answer.out}{answer.err}")
