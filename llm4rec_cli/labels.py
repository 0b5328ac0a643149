"""The labels of results: the conditions under which numbers were obtained, and which uses of them each rules out."""

from __future__ import annotations

from dataclasses import dataclass

from llm4rec_cli.config.schema import Control

IMPORTED = "imported"
MAY_BE_MEMORISED = "may-be-memorised"
FLOOR_NOT_BEATEN = "floor-not-beaten"
NOT_ABOVE_POPULARITY = "not-above-popularity"
UNREAD_ANSWERS = "unread-answers"
SELECTED_UNMASKED, SELECTED_MASKED = "selected-unmasked", "selected-masked"
CONTROL = "control-"  # prefix


@dataclass(frozen=True)
class Label:
    """A label.

    Attributes:
        name: as in metrics.json.
        condition: what the label means.
        inherited: whether a training that starts from the labelled weights gets the label.
        unusual: whether training or evaluation are unusual. `llm4rec list runs` shows such labels.
        paper: whether the numbers may be compared with papers.
        beats: whether `inspect result` may allow the word "beats".
    """

    name: str
    condition: str
    inherited: bool = True
    unusual: bool = False
    paper: bool = True
    beats: bool = True


def _control(control: Control, destroyed: str) -> Label:
    """Return the label of a control; shuffled ties destroy an order that the data do not have."""
    beats = control is Control.shuffle_ties
    return Label(f"{CONTROL}{control.name}", f"{destroyed}, on purpose", unusual=True, paper=False, beats=beats)


LABELS = {
    label.name: label
    for label in (
        Label("synthetic", "generated data; settles no claim and is compared with no paper", paper=False, beats=False),
        Label(FLOOR_NOT_BEATEN, "some floor of the task is at least as good in `task.selection`", inherited=False),
        Label(
            NOT_ABOVE_POPULARITY,
            "a trained model that on validation is not measurably above `popularity`: training probably failed",
            inherited=False,
            unusual=True,
            beats=False,
        ),
        Label(
            "subset",
            "evaluated on a sample of the test examples, or on a part of a published dataset",
            inherited=False,
        ),
        Label(
            SELECTED_UNMASKED,
            "ranks with the history masked, and settings or the epoch were chosen on validation without the mask",
            inherited=False,
        ),
        Label(
            SELECTED_MASKED,
            "ranks without a mask, and settings or the epoch were chosen on validation with the history masked",
            inherited=False,
        ),
        Label("no-timestamps", "the data has no times, so the order of the file is taken as the order of events"),
        Label("leaky", "the split or the item numbers give test items away", unusual=True, beats=False),
        Label(
            "oracle_input",
            "the prompt contains something of the very review that it asks about",
            unusual=True,
        ),
        Label(
            IMPORTED,
            "weights that another program trained, or a training that started from such weights",
            unusual=True,
        ),
        Label("substitute-encoder", "another text encoder or backbone than the paper's"),
        Label("substitute-backbone", "a T5 from scratch instead of the published weights"),
        Label("substitute-llm", "another chat model than the paper's"),
        Label("untrained-head", "the head that fills a blank was initialised here, as the weights come without it"),
        Label(
            MAY_BE_MEMORISED,
            "a language model may have read these data in its training; `llm4rec inspect memorisation` measures it",
        ),
        Label(
            UNREAD_ANSWERS,
            "more than a tenth of a chat model's answers could not be read",
            inherited=False,
            unusual=True,
            beats=False,
        ),
        Label("llm-tokens", "item texts or features that a chat model wrote", paper=False),
        Label("extracted-explanations", "explanations extracted from reviews by a rule"),
        Label(
            "like-only",
            "the prompt answers like or dislike, so errors in stars mean nothing",
            unusual=True,
            paper=False,
        ),
        Label("paper-code-loss", "pre-trained with the published code's loss, bugs included"),
        Label("cold-items", "some items were held out of training", inherited=False, unusual=True, paper=False),
        Label("few-users", "trained on a share of the users", inherited=False, unusual=True, paper=False),
        Label(
            "few-impressions",
            "trained on a share of a click log's training impressions",
            inherited=False,
            unusual=True,
            paper=False,
        ),
        Label("temporal-split", "one cut in time for all users", unusual=True, paper=False),
        Label("transfer", "trained on other domains than the one evaluated", unusual=True, paper=False),
        Label("empty-history-skipped", "impressions without a history are left out", inherited=False),
        _control(Control.shuffle_text, "item texts permuted"),
        _control(Control.shuffle_tokens, "item tokens permuted"),
        _control(Control.shuffle_history, "the order within each history permuted"),
        _control(Control.shuffle_ties, "the order of a user's interactions at one time permuted"),
        _control(Control.swap_users, "somebody else's history at evaluation"),
        Label("external", "scores of another system, evaluated by `llm4rec score`"),
        Label("truncated-lists", "an external list leaves out items, which affects a metric"),
        Label("left-out-codes", "an external list of semantic ids repeats some, or has some of no item"),
        Label("beam-search", "items that beam search does not reach are misses", inherited=False),
        Label("missing-users", "an external list leaves out users"),
        Label("llm-judge", "in `judge.json`: a chat model filled the sheets"),
    )
}

NOT_INHERITED = frozenset(name for name, label in LABELS.items() if not label.inherited)
UNUSUAL = frozenset(name for name, label in LABELS.items() if label.unusual)
NO_PAPER = frozenset(name for name, label in LABELS.items() if not label.paper)
NO_BEATS = frozenset(name for name, label in LABELS.items() if not label.beats)
