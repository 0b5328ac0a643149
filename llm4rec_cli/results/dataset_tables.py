"""Tables of a prepared dataset: its raw files, its filters, and its statistics compared with the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm4rec_cli.config.schema import PaperStatistics
from llm4rec_cli.data.statistics import PART_COLUMNS, comparison, parts
from llm4rec_cli.results.tables import Content

SHOWN_HASH = 16  # hexadecimal digits


def source_table(manifest: Mapping[str, Any]) -> Content:
    rows = [
        [file["domain"], file["role"], file["name"], f"{file['bytes']:,}", file["sha256"][:SHOWN_HASH]]
        for file in manifest["files"]
    ]
    return Content(f"{manifest['name']}: raw files", ["domain", "role", "file", "bytes", "sha256"], rows)


def statistics_tables(manifest: Mapping[str, Any], paper: PaperStatistics | None) -> list[Content]:
    """Return the table of filters (of a click log, which is not filtered, the table of its parts), then statistics."""
    name = manifest["name"]
    if manifest["impressions"]:
        first = Content(f"{name}: parts", PART_COLUMNS, parts(manifest))
    else:
        steps = [
            [s["domain"], s["step"], f"{s['users']:,}", f"{s['items']:,}", f"{s['interactions']:,}"]
            for s in manifest["counts"]
        ]
        first = Content(f"{name}: filters", ["domain", "step", "users", "items", "interactions"], steps)
    counts = comparison(manifest, paper)
    columns = {"statistic": [c.statistic for c in counts], "ours": [f"{c.ours:,}" for c in counts]}
    if paper is not None:
        columns["paper"] = ["–" if c.paper is None else f"{c.paper:,}" for c in counts]
    return [first, Content.of_columns(f"{name}: statistics", columns)]
