"""Online Retail, a British web shop's invoices of 2010 and 2011 (UCI; Kaggle carrie1/ecommerce-data): one CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import malformed, number, rows
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 1
FORMS: Forms = ((frozenset({"invoices"}), frozenset()),)

_COLUMNS = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
_DATE = "%m/%d/%Y %H:%M"


def read(files: dict[str, Path]) -> RawData:
    """The lines of the invoices in file order, as UniSRec reads them: an invoice is the user, a StockCode the item.

    `rating` is the Quantity, below zero in cancellations (invoices C…), which stay. `timestamp` is in seconds, the
    file's wall clock taken as UTC; the lines of an invoice share one as a rule. Lines without a Description are
    dropped. The first Description of an item is its `title`, and in lower case with a full stop its `text`.

    A line that equals an earlier one in invoice, item, quantity and time is dropped. The paper does not say so, but its
    code does it: process_or.py keeps a set of these four.

    Text is UTF-8, or, line by line where it is not, Latin-1: so Kaggle's file, and a copy of it in UTF-8, read alike.

    Raises:
        DataError: another header, or a malformed line.
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
    """`user_id`, `item_id`, `description`, `rating` and `timestamp` of every line."""
    read = rows(path, ",", quoted=True, fallback="latin-1")
    line, header = next(read)
    if header != _COLUMNS:
        raise malformed(path, line, f"expected the header {','.join(_COLUMNS)}, found {','.join(header)}")
    lines, taken = [], []
    for line, fields in read:
        if len(fields) != len(_COLUMNS):
            raise malformed(path, line, f"{len(fields)} fields, expected {len(_COLUMNS)} ({', '.join(_COLUMNS)})")
        invoice, item, description, quantity, date, *_ = fields
        if not invoice or not item:
            raise malformed(path, line, f"{'StockCode' if invoice else 'InvoiceNo'} is missing")
        rating = number(quantity)
        if rating is None:
            raise malformed(path, line, f"Quantity is not a number: '{quantity}'")
        lines.append(line)
        taken.append((invoice, item, description, rating, date))
    if not taken:
        raise DataError(f"{path.name}: no row besides the header", f"mend the file, or fetch it again: {path}")
    frame = pd.DataFrame(taken, columns=["user_id", "item_id", "description", "rating", "date"])
    dates = frame.pop("date")
    times = pd.to_datetime(dates, format=_DATE, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise malformed(path, lines[row], f"InvoiceDate is not month/day/year hour:minute: '{dates[row]}'")
    return frame.assign(timestamp=(times - pd.Timestamp(0)) / pd.Timedelta(seconds=1))
