"""Claims to test with handmade runs."""

import yaml

from llm4rec_studies.claims.spec import parse_claims

CLAIM = """
id: text
words: Text is better than numbers.
source: a paper
family: papers
tests:
  - task: sequential
    a: {model: sasrec}
    b: {model: unisrec}
    metric: mrr
    rule: superior
    margin: 5%
    experiments: [unisrec/scientific]
    untestable: {substitute-encoder: it is about another encoder, llm=smollm2: it is about a larger model}
    commands: [llm4rec train model=unisrec]
"""


def claim(**changes):
    """Return the claim above with these attributes of its test changed; None removes one."""
    content = yaml.safe_load(CLAIM)
    test = content["tests"][0] | changes
    content["tests"] = [{key: value for key, value in test.items() if value is not None}]
    (parsed,) = parse_claims(yaml.safe_dump([content]))
    return parsed


def claim_about_one(**changes):
    """Return a claim about a metric of one model."""
    defaults = {"b": {"model": "chatgptrec"}, "metric": "listed/hallucinated", "rule": "above", "threshold": 0.05}
    return claim(**{"a": None, "margin": 0, **defaults, **changes})


def claim_about_texts():
    """Return a claim that people's ranks decide."""
    return claim(a=None, b={"model": "chatgptrec"}, task="explanation", metric="rouge1", rule="preferred", margin=0)
