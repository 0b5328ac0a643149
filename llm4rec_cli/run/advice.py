"""Which mask and size of a model suit the data, said once they are loaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from llm4rec_cli.config.folders import options
from llm4rec_cli.config.overrides import MASK
from llm4rec_cli.data.statistics import FEW_REPEATS, FEW_USERS, advice_on_mask, repeats_in_words
from llm4rec_cli.run.job import Job, with_override

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split

log = logging.getLogger(__name__)


def advised(job: Job, split: Split) -> Job:
    """Return the job with `task.mask_history=auto` as the data suggest it. Say where real data suggest another mask or
    size than the defaults."""
    typed, n_users = job.typed_keys, split.dataset.n_users
    is_real = not split.dataset.manifest["synthetic"]
    has_size = job.trains and f"{job.model.name}-small" in options("size")
    if is_real and has_size and n_users < FEW_USERS and not {"trainer", "trainer.batch_size", "experiment"} & typed:
        log.info("an epoch has few steps, as there are %s users: trainer=small is for such data", f"{n_users:,}")
    if not job.task.ranks_catalogue or split.impression_assignment is not None:
        return job
    repeated = split.repeated()
    masks = repeated < FEW_REPEATS
    if job.task.mask_history is None:
        log.info("%s=auto is %s: %s", MASK, str(masks).lower(), repeats_in_words(repeated))
        return with_override(job, f"{MASK}={str(masks).lower()}")
    if is_real and masks and not job.task.mask_history and not {MASK, "experiment"} & typed:
        log.info("%s; %s", repeats_in_words(repeated), advice_on_mask(repeated))
    return job
