"""The demo data at a fifth of its size, since most of a command's time in tests goes into data.

tests/data/test_demo.py tests it at full size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from llm4rec_cli.data import demo
from llm4rec_cli.data.demo import news, shop

REDUCTION = 5
REAL = dict(shop.SHOPS), shop.POPULATION, news.READERS


def _smaller(full: shop.Shop) -> shop.Shop:
    customers = range(full.customers.start // REDUCTION, full.customers.stop // REDUCTION)
    return replace(full, customers=customers, items=full.items // REDUCTION)


SMALL = (
    {variant: tuple(map(_smaller, shops)) for variant, shops in shop.SHOPS.items()},
    shop.POPULATION // REDUCTION,
    news.READERS // (2 * REDUCTION),
)


@contextmanager
def sized(sizes: tuple[dict[str, tuple[shop.Shop, ...]], int, int]) -> Iterator[None]:
    """Generate the demo at these sizes, REAL or SMALL, within the block."""
    shops, population, readers = sizes
    with pytest.MonkeyPatch.context() as patch:
        for module in (demo, shop):
            patch.setattr(module, "SHOPS", shops)
        patch.setattr(shop, "POPULATION", population)
        patch.setattr(news, "READERS", readers)
        yield
