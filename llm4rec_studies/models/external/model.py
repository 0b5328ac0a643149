"""Scores of another system, read from a file."""

from __future__ import annotations

import logging

import numpy as np

from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.ranked_lists import RankedLists

log = logging.getLogger(__name__)


def build(context: Context) -> RankedLists:
    config = context.config
    lists = config.lists(context.split.dataset)
    lengths = np.diff(lists.matrix.indptr)
    lengths = lengths[lengths > 0]
    log.info(
        "%s: lists of %s users, %d to %d items long", *(config.alias, f"{len(lengths):,}", lengths.min(), lengths.max())
    )
    return RankedLists(lists.matrix, context.split.dataset.user_ids, config.max_missing, lists.left_out)
