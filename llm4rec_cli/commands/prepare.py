"""`llm4rec prepare`: build a dataset from raw files and compare its statistics with the paper's.

llm4rec prepare dataset=demo
llm4rec prepare dataset=ml-100k                               downloads, or says what to put where
llm4rec prepare dataset=amazon2014-beauty dataset.raw_dir=PATH
"""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.overrides import command_line
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job


def run(composed: Composed) -> Outcome:
    """Prepare one dataset, unless it is cached, and print its statistics."""
    import numpy as np

    from llm4rec_cli.config.schema import SplitName
    from llm4rec_cli.data import store
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.split import split_dataset
    from llm4rec_cli.data.statistics import FEW_USERS, advice_on_mask, profile, remarks, repeats_in_words
    from llm4rec_cli.results.dataset_tables import statistics_tables
    from llm4rec_cli.results.tables import say, show

    job = Job.unchecked(composed, "prepare")
    settings = job.config.dataset
    dataset = prepare(settings, job.cache)
    folder = store.dataset_folder(job.cache, settings.name, dataset.fingerprint)
    if not processes.is_first():
        return Outcome("done", folder)
    show(*statistics_tables(dataset.manifest, settings.paper))
    say(*remarks(dataset.manifest, settings.paper))
    if dataset.impressions is None:
        split = split_dataset(dataset)
        say(*profile(dataset, len(np.unique(split.examples(SplitName.test).user))))
        repeated = split.repeated()
        say(f"{repeats_in_words(repeated)}: {advice_on_mask(repeated)}")
    if dataset.impressions is None and dataset.n_users < FEW_USERS:
        command = command_line("train", [*composed.typed, "trainer=small"])
        print(f"small data, for which smaller batches and models are better: {command}")
    print(f"dataset folder: {folder}")
    return Outcome("done", folder)
