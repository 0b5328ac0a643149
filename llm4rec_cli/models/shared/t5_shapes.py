"""Shapes of T5s with random weights, by the name of their backbone. Free of torch, as config classes read it."""

from __future__ import annotations

from typing import NamedTuple


class T5Shape(NamedTuple):
    layers: int
    width: int
    heads: int
    head_size: int
    inner_size: int


# `small` and `base` are the shapes of t5-small and t5-base; `wide` has one layer a side and t5-small's width.
T5_SHAPES = {
    "tiny": T5Shape(2, 128, 4, 32, 512),
    "wide": T5Shape(1, 512, 8, 64, 512),
    "mini": T5Shape(4, 256, 4, 64, 1024),
    "small": T5Shape(6, 512, 8, 64, 2048),
    "base": T5Shape(12, 768, 12, 64, 3072),
}
