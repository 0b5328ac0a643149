"""running_mean passes the conformance suite: one test for each property of a model with its capabilities."""

from llm4rec_cli.conformance import *  # noqa: F403

MODELS = ["running_mean"]
