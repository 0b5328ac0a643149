"""Properties that every model has, as tests of a package that offers models.

    from llm4rec_cli.conformance import *

    MODELS = ["running_mean"]

pytest runs each test for the models that have the capability it is about: that scores do not depend on the batch,
that neither targets nor test items are read, that saved weights restore the answers, and so on.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.suite", f"{__name__}.numeric")

from llm4rec_cli.conformance.suite import *  # noqa: E402, F403
