"""Choices among ChatGPTRec's settings."""

from enum import Enum


class AnswerMethod(Enum):
    """How an answer is obtained from the chat model."""

    auto = "auto"  # pmi for rankings where the chat model returns likelihoods; otherwise generate
    generate = "generate"  # parse a generated text (paper)
    constrained = "constrained"  # as generate, but only candidates' titles, each once, and 1 to 5 stars are possible
    likelihood = "likelihood"  # the log-likelihood of each possible answer
    pmi = "pmi"  # that minus the log-likelihood without the user's history
