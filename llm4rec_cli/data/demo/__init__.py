"""Demo data: raw files of small invented worlds, in the official formats, so that the ordinary readers read them.

    demo            a shop: tastes show in item text, in sequences and in ratings
    demo_pretrain   two other shops whose customers have the same kinds of taste; some buy at both
    demo_null       the shop without tastes, its item texts permuted: what helps on demo must not help here
    demo_news       a click log in MIND's format

Variant and seed determine every byte of a file. Metrics on these data are labelled `synthetic`: they show that a
method runs and detects the signal that was put there, nothing else.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from llm4rec_cli.data.demo.news import generate_news
from llm4rec_cli.data.demo.shop import SHOPS, generate_shop
from llm4rec_cli.errors import UsageError, did_you_mean, raise_first

VERSION = 1  # raised whenever a file's bytes change
VARIANTS = (*SHOPS, "demo_news")


def problems_of_variant(variant: str) -> Iterator[UsageError]:
    if variant not in VARIANTS:
        yield UsageError(f"unknown demo dataset '{variant}'", did_you_mean(variant, VARIANTS))


def generate(variant: str, seed: int, folder: Path) -> None:
    """Write a variant's raw files to a folder; variants of one seed share their population."""
    raise_first(problems_of_variant(variant))
    folder.mkdir(parents=True, exist_ok=True)
    for shop in SHOPS.get(variant, ()):
        for role, rows in generate_shop(shop, seed)._asdict().items():
            with (
                (folder / f"{role}_{shop.name}.json.gz").open("wb") as raw,
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as file,
            ):
                file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
    if variant == "demo_news":
        for split, tables in generate_news(seed).items():
            (folder / split).mkdir(exist_ok=True)
            for name, rows in tables._asdict().items():
                lines = "".join("\t".join(row) + "\n" for row in rows)
                (folder / split / f"{name}.tsv").write_bytes(lines.encode())
