"""Load published weights, and refuse what transformers would fill in with random numbers."""

from __future__ import annotations

import logging
from typing import Any

from transformers.utils import logging as transformers_logging

from llm4rec_cli.errors import UsageError, listed

log = logging.getLogger(__name__)
SHOWN = 3  # names in a message


def load_pretrained(model_class: Any, folder: str, may_be_random: tuple[str, ...] = (), **options: Any) -> Any:
    """Return a model with all of its weights from a folder. Legacy names (`LayerNorm.gamma`) are mapped.

    Args:
        may_be_random: prefixes of weights that may be missing: unused ones, or a head that training makes.
        options: of `from_pretrained`.

    Raises:
        UsageError: other weights are missing, or have another shape than the config says.
    """
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its report of missing and unused weights fills a page; ours is a line
    try:
        model, info = model_class.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **options)
    except RuntimeError as error:  # other shapes, without ignore_mismatched_sizes
        raise UsageError(f"{folder}: {str(error).splitlines()[0]}", "give weights that fit its config.json") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(info["missing_keys"])
    wrong = [name for name in missing if not name.startswith(may_be_random)] if may_be_random else missing
    if wrong:
        raise UsageError(
            f"{folder} lacks {len(wrong)} of the weights of {model_class.__name__}: {listed(wrong, SHOWN)}",
            "name a folder or hub id with weights of this architecture",
        )
    if missing:
        log.info(
            "%s: %d weights are random, as they are not in the folder: %s", folder, len(missing), listed(missing, SHOWN)
        )
    return model
