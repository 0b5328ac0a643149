"""Online Retail: invoices of a British web shop, 2010 and 2011 (UCI; Kaggle carrie1/ecommerce-data), one CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import malformed, parse_number, rows, wrong_field_count
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 1
ROLES: FileRoles = ((frozenset({"invoices"}), frozenset()),)

_COLUMNS = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
_DATE = "%m/%d/%Y %H:%M"


def read(files: dict[str, Path]) -> RawData:
    """Read invoice lines in file order as UniSRec does: the user is an invoice, the item a StockCode.

    `rating` is the Quantity. It is negative in cancellations (invoices C…), which are kept. `timestamp` is in seconds,
    with the file's local time taken as UTC; the lines of an invoice usually share one. Lines without a Description are
    dropped. The first Description of an item is its `title`, and in lower case with a full stop its `text`.

    Lines that equal an earlier line in invoice, item, quantity and time are dropped. The paper does not say so, but its
    code does: process_or.py keeps a set of these four.

    Lines that are not UTF-8 are read as Latin-1, so Kaggle's file and a UTF-8 copy of it give the same data.

    Raises:
        DataError: a wrong header, or a malformed line.
    """
    invoices = _invoices(files["invoices"])
    counts = {"read": len(invoices)}
    invoices = invoices[invoices["description"] != ""]
    counts["no Description"] = counts["read"] - len(invoices)
    items = invoices[["item_id", "description"]].drop_duplicates("item_id").sort_values("item_id", ignore_index=True)
    title = items.pop("description").str.strip()
    interactions = invoices.drop(columns="description").drop_duplicates(ignore_index=True)
    counts["exact duplicates"] = len(invoices) - len(interactions)
    return RawData(
        items.assign(title=title, text=title.str.lower() + "."), interactions, counts, item_order="sorted ids"
    )


def _invoices(path: Path) -> pd.DataFrame:
    """Return `user_id`, `item_id`, `description`, `rating` and `timestamp` of every line."""
    numbered_rows = rows(path, ",", quoted=True, fallback="latin-1")
    line, header = next(numbered_rows)
    if header != _COLUMNS:
        raise malformed(path, line, f"expected the header {','.join(_COLUMNS)}, got {','.join(header)}")
    lines, records = [], []
    for line, fields in numbered_rows:
        if len(fields) != len(_COLUMNS):
            raise wrong_field_count(path, line, fields, _COLUMNS)
        invoice, item, description, quantity, date, *_ = fields
        if not invoice or not item:
            raise malformed(path, line, f"{'StockCode' if invoice else 'InvoiceNo'} is empty")
        rating = parse_number(quantity)
        if rating is None:
            raise malformed(path, line, f"Quantity is not a number: '{quantity}'")
        lines.append(line)
        records.append((invoice, item, description, rating, date))
    if not records:
        raise DataError(f"{path.name}: no rows after the header", f"fix or replace the file: {path}")
    frame = pd.DataFrame(records, columns=["user_id", "item_id", "description", "rating", "date"])
    dates = frame.pop("date")
    times = pd.to_datetime(dates, format=_DATE, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise malformed(path, lines[row], f"InvoiceDate is not month/day/year hour:minute: '{dates[row]}'")
    return frame.assign(timestamp=(times - pd.Timestamp(0)) / pd.Timedelta(seconds=1))
