"""Progress of long steps, under a clock that the test sets."""

import gzip
import io
import logging

import pytest
from rich.console import Console

from llm4rec_cli import progress
from llm4rec_cli.data import rawfiles
from llm4rec_cli.files import sha256


@pytest.fixture
def clock(monkeypatch):
    """A clock with attributes `now` and `pace`, the seconds that pass with every look at it."""

    class Clock:
        now, pace = 0.0, 0.0

        def __call__(self):
            self.now += self.pace
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "clock", clock)
    return clock


@pytest.fixture
def lines(caplog):
    """lines(): the progress logged so far."""
    caplog.set_level(logging.INFO, "llm4rec_cli.progress")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "llm4rec_cli.progress"]


def test_what_a_library_misses_that_nobody_asked_for_is_not_told(caplog):
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load CPU gemm_4bit_forward")
    logging.getLogger("another_library").warning("Weights are missing")
    assert [record.getMessage() for record in caplog.records] == ["Weights are missing"]


def test_without_a_terminal_there_is_one_line_a_minute_with_time_left(clock, lines):
    for _ in progress.track(range(30), "ranking"):
        clock.now += 10
    assert lines() == [
        "ranking: 6 of 30, 1 min 0 s, 4 min 0 s left",
        "ranking: 12 of 30, 2 min 0 s, 3 min 0 s left",
        "ranking: 18 of 30, 3 min 0 s, 2 min 0 s left",
        "ranking: 24 of 30, 4 min 0 s, 1 min 0 s left",
        "ranking: 30 of 30, 5 min 0 s",
    ]


def test_a_step_of_less_than_a_minute_logs_nothing(clock, lines):
    for _ in progress.track(range(50), "ranking"):
        clock.now += 1
    assert lines() == []


def test_a_note_is_only_computed_when_it_is_shown(clock, lines):
    calls = []
    with progress.step("training", 4000) as step:
        for _ in range(100):
            clock.now += 1
            step.advance(note=lambda: calls.append(1) or "loss 0.1234")
    assert lines() == ["training: 60 of 4,000, 1 min 0 s, 1 h 5 min left, loss 0.1234"]
    assert len(calls) == 1


def test_what_was_done_before_does_not_count_for_the_time_left(clock, lines):
    with progress.step("training", 1000, done=900) as step:
        clock.now += 60
        step.update(950)
    assert lines() == ["training: 950 of 1,000, 1 min 0 s, 1 min 0 s left"]


def test_a_step_of_unknown_length_has_no_time_left_until_its_length_is_known(clock, lines):
    with progress.step("file.gz", in_bytes=True) as step:
        clock.now += 60
        step.update(3_000_000)
        clock.now += 60
        step.update(6_000_000, 9_000_000)
    assert lines() == ["file.gz: 3.0 MB, 1 min 0 s", "file.gz: 6.0 of 9.0 MB, 2 min 0 s, 1 min 0 s left"]


def test_on_a_terminal_nested_steps_are_bars_and_nothing_is_logged(clock, lines, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=True, width=80))
    monkeypatch.setattr(progress, "_bars", progress._new_bars())
    shown = []
    for _ in progress.track(range(2), "training"):
        for _ in progress.track(range(2), "ranking"):
            clock.now += 100
            shown.append({task.description: task.fields["facts"] for task in progress._bars.tasks})
    assert shown == [
        {"training": "", "ranking": ""},
        {"training": "", "ranking": "1 of 2, 1 min 40 s, 1 min 40 s left"},
        {"training": "1 of 2, 3 min 20 s, 3 min 20 s left", "ranking": ""},
        {"training": "1 of 2, 3 min 20 s, 3 min 20 s left", "ranking": "1 of 2, 1 min 40 s, 1 min 40 s left"},
    ]
    assert "training" in screen.getvalue()
    assert lines() == []
    assert progress._bars.tasks == []


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_reading_and_hashing_a_raw_file_report_bytes(clock, lines, tmp_path, compress):
    path = tmp_path / "ratings.csv"
    path.write_bytes(compress(b"".join(b"%d,%d\n" % (i, i * i % 977) for i in range(200_000))))
    size = path.stat().st_size / 1e6
    clock.pace = 100
    assert sum(1 for _ in rawfiles.lines(path)) == 200_000
    sha256(path)
    assert any(line.startswith(f"reading ratings.csv: {size:.1f} of {size:.1f} MB") for line in lines())
    assert any(line.startswith(f"hashing ratings.csv: {size:.1f} of {size:.1f} MB") for line in lines())
