"""`llm4rec import-weights METHOD FILE`: make a run of the weights in a file that a method's published code wrote.

llm4rec import-weights unisrec UniSRec-FHCKM-300.pth
llm4rec import-weights unisrec FILE +experiment=unisrec/paper model.use_ids=false dataset.raw_dir=PATH
llm4rec import-weights p5 FILE dataset=amazon2014-sports-reviews
llm4rec import-weights prompt4nr FILE prompt=prompt4nr/hybrid_action

FILE is what torch.save wrote, of at most 4 GiB. Nothing that it contains is run: it is read with weights_only=True, and
RecBole's config becomes a placeholder. Names and shapes of all tensors must be those of the published code.

The overrides say which training the weights stand for; by default it is the paper's. No data is read. The run folder
holds the weights and no results: `llm4rec eval run=FOLDER` makes these, labelled `imported`, and a training may start
from the weights with `model.init_from=FOLDER`, for methods that have this setting.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config import walk
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import PublishedWeights
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.labels import IMPORTED

if TYPE_CHECKING:
    from llm4rec_cli.config.compose import Composed
    from llm4rec_cli.run.folder import Outcome


def methods() -> dict[str, PublishedWeights]:
    """Return the methods whose published weights can be imported."""
    return {name: weights for name in model_names() if (weights := config_class(name).traits.published)}


def main(argv: list[str]) -> int:
    """Compose the config of the training that the weights stand for, then `run`."""
    parser = command_parser("import-weights", __doc__, "llm4rec import-weights METHOD FILE [overrides]")
    parser.add_argument("method", choices=sorted(methods()), help="the method")
    parser.add_argument("file", metavar="FILE", help="a file that its published code wrote")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the training that the weights stand for")
    options = parser.parse_args(argv)
    typed = options.overrides
    if "model" in (keys := set(map(key_typed, typed))):
        raise UsageError(
            "the first argument must be a method", "llm4rec import-weights METHOD FILE [overrides], without model="
        )
    if "experiment" not in keys:
        typed = [f"+experiment={methods()[options.method].experiment}", *typed]

    from llm4rec_cli import launch

    return launch.run(commands()["import-weights"], typed, options)


def run(composed: Composed, options: argparse.Namespace) -> Outcome:
    """Read the file, and write the run folder of its weights unless it exists; print both.

    Raises:
        UsageError: the overrides are of another method, or published weights do not fit them.
        DataError: the file cannot be read safely, or does not hold the weights.
    """
    from llm4rec_cli.files import sha256
    from llm4rec_cli.models.base import published_mapping
    from llm4rec_cli.results.result import CHECKPOINTS, Imported, read_result
    from llm4rec_cli.results.results import IMPORT
    from llm4rec_cli.run import checkpoints, deviations, identity, stages
    from llm4rec_cli.run.folder import Outcome, locked, recorded
    from llm4rec_cli.run.job import Job
    from llm4rec_studies.imported import read_weights

    job = Job.resolve(composed, IMPORT)
    if job.model.name != options.method:
        raise UsageError(
            f"the experiment '{job.experiment}' belongs to {job.model.name}, not to {options.method}",
            f"+experiment={methods()[options.method].experiment}",
        )
    raise_first(published_mapping(job.model.name).problems(job.model))
    file, published = Path(options.file).expanduser(), methods()[options.method]
    if not file.is_file():
        raise DataError(f"{file} is not a file", "name the file that was downloaded")
    origin = Imported(file=file.name, sha256=sha256(file), code=published.code)
    content = f"{origin.sha256} by {published.code}"
    weights = {setting: digest for setting, (_, digest) in job.weights.items()}
    address = identity.address(job.config, job.settings, "", weights, trained=identity.ReadWeights(content, content))
    if read_result(address.folder) is not None and not job.config.force:
        print(f"imported before: {file.name}")
        outcome = Outcome("skipped", address.folder)
    else:
        imported = read_weights(file, job.model)
        n_weights = sum(weight.numel() for weight in imported.state.values())
        with locked(address.folder), recorded(address, job) as folder:
            checkpoints.write_imported(folder / CHECKPOINTS, imported.state)
            stages.result_of(
                job,
                address,
                None,
                imported=origin,
                labels=[IMPORTED, *job.model.labels(job.task.name)],
                deviations=deviations.imported_deviations(job.config, origin),
                n_parameters=n_weights,
            ).write()
        print(f"{imported.n_tensors} tensors, {n_weights:,} weights of {published.code}")
        if imported.left_out:
            print(f"left out: {', '.join(imported.left_out)}")
        outcome = Outcome("done", address.folder)
    print(f"run folder: {outcome.folder}")
    print(f"next: llm4rec eval run={outcome.folder} dataset=… task=…")
    for setting in walk.settings_with(job.model, "agrees_in"):
        print(f"      llm4rec train … model.{setting}={outcome.folder}")
    return outcome
