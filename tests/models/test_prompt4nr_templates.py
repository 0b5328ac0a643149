"""Templates: the shipped ones are the paper's; problems with others are reported before training."""

import json
from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from llm4rec_cli.config.deviations import in_words
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.config import Attention
from llm4rec_cli.models.prompt4nr.templates import TemplateConfig
from llm4rec_cli.text.backbone import backbone_folder, load_tokenizer
from tests.models.prompt4nr_data import TEMPLATES, config, log
from tests.models.tiny_bert import CONTEXT, tiny_bert
from tests.support.driver import python

# Per type: Relevance, Emotion, Action, Utility; in BERT's vocabulary, which minilm shares. Discrete and continuous ones
# as measured by the reference (6), whose counts for the hybrid ones are two higher than those of the code's templates.
OVERHEAD = {"discrete": (5, 13, 16, 13), "continuous": (12, 12, 14, 12), "hybrid": (22, 17, 18, 21)}
ANSWERS = {  # negative and positive
    "relevance": (15142, 3141),
    "emotion": (11771, 5875),
    "action": (2053, 2748),
    "utility": (2919, 2204),
}
VIRTUAL = {"discrete": 0, "continuous": 9, "hybrid": 6}
EPOCHS = {"discrete_action": 3, "continuous_utility": 3, "hybrid_action": 5}  # run.sh; 4 for all others
GOOD = TemplateConfig("mine", "{user} {sep} {candidate} is {mask}", "good", "bad", 4)


@pytest.fixture(scope="module")
def minilm():
    return load_tokenizer(backbone_folder("minilm"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def with_template(**changes):
    return replace(config(), prompts=replace(GOOD, **changes))


def of_backbone(settings, **changes):
    """Raise the first problem of a backbone."""
    raise_first(replace(settings, **changes).problems_of_backbone())


def problems(settings):
    return [error.problem for error in settings.problems(None)]


def test_there_are_three_types_of_four_views():
    assert sorted(TEMPLATES) == sorted(f"{kind}_{view}" for kind in OVERHEAD for view in ANSWERS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_shipped_template_has_the_published_overhead_answers_and_virtual_tokens(name, minilm):
    kind, _, view = name.partition("_")
    template = templates.tokenize_template(config(name).prompts, minilm)
    assert template.overhead == OVERHEAD[kind][list(ANSWERS).index(view)]
    assert template.answers == ANSWERS[view]
    assert template.mask_token == 103
    assert len(template.new_tokens) == 1 + VIRTUAL[kind]
    assert config(name).prompts.epochs == EPOCHS.get(name, 4)
    assert config(name).prompts.name == name


@pytest.mark.parametrize("name", TEMPLATES)
def test_shipped_templates_have_no_problems_with_either_attention(name):
    assert problems(config(name)) == problems(replace(config(name), attention=Attention.shared)) == []
    of_backbone(config(name))


@pytest.mark.parametrize("text", ["{mask} for {user}: {candidate}", "{candidate} for {user}: {mask}"])
def test_a_mask_that_would_not_see_the_candidate_is_refused(text):
    template = with_template(text=text)
    assert problems(template) == []
    (problem,) = problems(replace(template, attention=Attention.shared))
    assert "on the history's side" in problem


def test_ids_of_new_tokens_follow_the_vocabulary(minilm):
    template = templates.tokenize_template(replace(GOOD, text="{Q:2} {user} {mask} {A} {candidate}"), minilm)
    assert template.new_tokens == ("[NSEP]", "[Q1]", "[Q2]", "[A1]")
    assert template.parts == ([101], [30_523, 30_524], "user", "mask", [30_525], "candidate", [102])
    assert template.overhead == 6


def test_literal_braces_are_doubled(minilm):
    template = templates.tokenize_template(replace(GOOD, text="{{ {user} }} {candidate} {mask}"), minilm)
    assert minilm.decode([token for part in template.parts if not isinstance(part, str) for token in part]) == "{ }"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"text": "{user} is {mask}"}, "has {candidate} 0 times"),
        ({"text": "{candidate} is {mask}"}, "has {user} 0 times"),
        ({"text": "{user} {candidate}"}, "has {mask} 0 times"),
        ({"text": "{user} {candidate} {mask} {mask}"}, "has {mask} 2 times"),
        ({"text": "{user} {candidate} {mask} [MASK]"}, "has [MASK] in its text"),
        ({"text": "{user} [SEP] {candidate} {mask}"}, "has [SEP] in its text"),
        ({"text": "{user} {candidate} {mask} {usr}"}, "has an unknown field {usr}"),
        ({"text": "{user} {candidate} {mask} {p:0}"}, "has an unknown field {p}"),
        ({"text": "{user} {candidate} {mask} {}"}, "has an unknown field {}"),
        ({"text": "{user} {candidate} {mask} {P:0}"}, "has 0 virtual tokens P"),
        ({"text": "{user} {candidate} {mask} {P:-3}"}, "has -3 virtual tokens P"),
        ({"text": "{user} {candidate} {mask} {P:101}"}, "has 101 virtual tokens P"),
        ({"text": "{P:3} {user} {candidate} {mask} {P:3}"}, "gives two groups of virtual tokens the same name"),
        ({"text": "{user {candidate} {mask}"}, "cannot be read"),
        ({"text": "{user} {candidate} {mask} {P:many}"}, "cannot be read"),
        ({"positive": "bad"}, "has the same answer word for both answers"),
        ({"positive": "Bad"}, "'bad' and 'Bad' are the same token"),
        ({"positive": "True", "negative": "no"}, "answer word 'True' of template 'mine': YAML"),
        ({"positive": "antidisestablishmentarian"}, "'antidisestablishmentarian' of template 'mine' is not one token"),
        ({"negative": "not good"}, "answer word 'not good' of template 'mine' is not one token"),
        ({"negative": "☃☃"}, "is not one token of the backbone: [UNK]"),
        ({"negative": ""}, "answer word '' of template 'mine' is not one token"),
    ],
)
def test_a_problem_of_a_template_is_reported(changes, problem):
    (message,) = problems(with_template(**changes))
    assert problem in message


def test_all_problems_are_reported_at_once():
    messages = problems(with_template(text="{candidate} {P:0}", positive="not good", negative="not bad"))
    assert len(messages) == 5


def test_answer_words_are_checked_where_the_backbone_is_present(tiny, tmp_path):
    settings = with_template(positive="splendid")
    assert problems(settings) == []
    assert "'splendid' of template 'mine' is not one token" in problems(replace(settings, backbone=str(tiny)))[0]
    assert problems(replace(settings, backbone="bert-base-uncased")) == []  # absent: checked when it is downloaded
    assert problems(replace(settings, backbone=str(tmp_path))) == []  # has no tokenizer


def test_prompt_only_needs_virtual_tokens():
    assert "trains virtual tokens" in problems(replace(config("discrete_action"), prompt_only=True))[0]
    assert problems(replace(config("hybrid_action"), prompt_only=True)) == []


@pytest.mark.slow
def test_templates_are_linted_without_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['validate', 'prompt/prompt4nr']) == 0; "
        "assert 'tokenizers' in sys.modules; assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def altered(tmp_path):
    """altered(**changes): a backbone with a changed config.json."""

    def alter(**changes):
        folder = tiny_bert(tmp_path / "altered")
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return str(folder)

    return alter


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "roberta"}, "is a roberta, and model 'prompt4nr' needs a BERT"),
        ({"vocab_size": 1000}, "has 1,000 embeddings for"),
    ],
)
def test_a_backbone_of_another_kind_or_size_is_refused(altered, changes, problem):
    with pytest.raises(UsageError, match=problem):
        of_backbone(config(), backbone=altered(**changes))


def test_more_tokens_than_the_backbone_has_positions_for_are_refused(tiny):
    of_backbone(config(), backbone=str(tiny), max_length=CONTEXT)
    with pytest.raises(UsageError, match=f"max_length={CONTEXT + 1} exceeds the {CONTEXT} tokens"):
        of_backbone(config(), backbone=str(tiny), max_length=CONTEXT + 1)


def test_an_answer_word_that_the_backbone_lacks_is_refused(tiny):
    with pytest.raises(UsageError, match="answer word 'splendid'"):
        of_backbone(with_template(positive="splendid"), backbone=str(tiny))


def test_a_template_that_leaves_no_room_for_a_history_is_refused():
    long = with_template(text="{P:60} {user} {Q:60} {candidate} {mask}")
    with pytest.raises(UsageError, match="leave no room"):
        of_backbone(long, max_length=128)
    of_backbone(long)


@pytest.mark.parametrize("titles", [None, ["", " ", None]])
def test_data_without_titles_is_refused(titles):
    dataset = log().dataset
    items = dataset.items.drop(columns="title").head(3)
    bare = RecDataset(items if titles is None else items.assign(title=titles), *list(vars(dataset).values())[1:])
    with pytest.raises(DataError, match="needs item titles, and dataset 'tiny' has none"):
        raise_first(config().problems_with_dataset(None, bare))
    raise_first(config().problems_with_dataset(None, dataset))


@pytest.mark.parametrize(
    ("head", "labels"), [(True, ["substitute-encoder"]), (False, ["substitute-encoder", "untrained-head"])]
)
def test_a_backbone_without_a_head_is_labelled(tmp_path, head, labels):
    settings = replace(config(), backbone=str(tiny_bert(tmp_path, head)))
    assert templates.has_head(settings.backbone) == head
    assert settings.labels("direct") == labels
    assert (
        any("the head that fills the blank is new" in deviation for deviation in in_words(settings, None, "direct"))
        != head
    )


def test_a_loaded_tokenizer_neither_truncates_nor_pads(tiny):
    saved = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    saved.enable_truncation(3)
    saved.enable_padding(length=20)
    saved.save(str(tiny / "tokenizer.json"))
    words = "the user is a user of the news"
    assert len(load_tokenizer(tiny).encode(words, add_special_tokens=False).ids) == 8
