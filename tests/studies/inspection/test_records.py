"""An audit of recorded results."""

from llm4rec_studies.inspection.audit import audit
from tests.results.test_records import folder

__all__ = ["folder"]


def test_a_stronger_floor_without_ranks_refuses_the_word_beats(folder):
    audited = audit("sasrec/shop/sequential/seed0-ab", folder)
    (check,) = (check for check in audited.checks if check.condition == "no stronger floor")
    assert not check.passed and "next_id/shop/sequential/seed0-ab has 0.9000, above 0.1000" in check.reason
