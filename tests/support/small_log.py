"""A tiny click log in MIND's format, for `dataset=mind-small-5k dataset.raw_dir=FOLDER`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llm4rec_cli.files import write_text

KINDS = ("lamp", "chair", "mirror", "table", "rug")
N_NEWS = 40


def small_log(folder: Path, n_train: int = 60, n_dev: int = 60) -> Path:
    """Write impressions of 2 to 6 news, at least one clicked and one not, some without a history; return the folder."""
    rng = np.random.default_rng(7)
    news = [f"N{i}\tnews\thome\t{KINDS[i % 5]} of make {i}'s\tan abstract\turl\t[]\t[]\n" for i in range(N_NEWS)]
    for part, day, n in (("train", 11, n_train), ("dev", 15, n_dev)):
        lines = []
        for number in range(n):
            shown = rng.choice(N_NEWS, rng.integers(2, 7), replace=False)
            clicked = rng.permutation([1, 0, *(rng.random(len(shown) - 2) < 0.2)]).astype(int)
            history = " ".join(f"N{i}" for i in rng.integers(0, N_NEWS, 0 if number % 9 == 0 else rng.integers(1, 8)))
            shown_column = " ".join(map("N{}-{}".format, shown, clicked))
            time = f"11/{day}/2019 8:{number:02d}:00 AM"
            lines.append(f"{number}\tU{number % 20}\t{time}\t{history}\t{shown_column}\n")
        write_text(folder / part / "behaviors.tsv", "".join(lines))
        write_text(folder / part / "news.tsv", "".join(news))
    return folder
