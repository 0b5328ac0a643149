"""The demo's shops and click log at a fifth of their size: what a command costs in tests is mostly data.

tests/data/test_demo.py looks at the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from llm4rec_cli.data import demo
from llm4rec_cli.data.demo import news, shop

PARTS = 5
REAL = dict(shop.SHOPS), shop.POPULATION, news.READERS


def _smaller(whole: shop.Shop) -> shop.Shop:
    customers = range(whole.customers.start // PARTS, whole.customers.stop // PARTS)
    return replace(whole, customers=customers, items=whole.items // PARTS)


SMALL = (
    {variant: tuple(map(_smaller, shops)) for variant, shops in shop.SHOPS.items()},
    shop.POPULATION // PARTS,
    news.READERS // (2 * PARTS),
)


@contextmanager
def sized(sizes: tuple[dict[str, tuple[shop.Shop, ...]], int, int]) -> Iterator[None]:
    """While the block lasts, the demo is generated at these sizes: REAL or SMALL."""
    shops, population, readers = sizes
    with pytest.MonkeyPatch.context() as patch:
        for module in (demo, shop):
            patch.setattr(module, "SHOPS", shops)
        patch.setattr(shop, "POPULATION", population)
        patch.setattr(news, "READERS", readers)
        yield
