"""The memory of a process. Several processes are in training/test_processes.py."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from llm4rec_cli import processes

FREED_AND_NEEDED_AGAIN = """
import resource, torch
from llm4rec_cli import processes
if {kept}:
    processes.keep_freed_memory()
torch.empty(8 * 2**20).fill_(1)  # 32 MiB of fp32
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(8 * 2**20).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_the_memory_of_a_freed_block_is_reused() -> None:
    faults = {}
    for kept in (False, True):
        code = FREED_AND_NEEDED_AGAIN.format(kept=kept)
        faults[kept] = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert faults[True] < 20 <= faults[False]  # a new block has at least one new page


def test_means_leave_out_what_has_no_terms() -> None:
    assert processes.means({"loss": (3.0, 2), "none": (0.0, 0)}) == {"loss": 1.5}
