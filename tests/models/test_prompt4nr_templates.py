"""Templates as data: the shipped ones are the paper's; what is wrong with others is told before anything is trained."""

import json
from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.config import TemplateConfig
from tests.driver import python
from tests.models.prompt4nr_data import TEMPLATES, config, log
from tests.models.tiny_bert import CONTEXT, tiny_bert

# Per type: Relevance, Emotion, Action, Utility; in BERT's vocabulary, which is minilm's. Discrete and continuous ones
# as the reference (6) measured them; of the hybrid ones it has two more than the code's templates count.
OVERHEAD = {"discrete": (5, 13, 16, 13), "continuous": (12, 12, 14, 12), "hybrid": (22, 17, 18, 21)}
ANSWERS = {  # negative and positive
    "relevance": (15142, 3141),
    "emotion": (11771, 5875),
    "action": (2053, 2748),
    "utility": (2919, 2204),
}
VIRTUAL = {"discrete": 0, "continuous": 9, "hybrid": 6}
EPOCHS = {"discrete_action": 3, "continuous_utility": 3, "hybrid_action": 5}  # run.sh; of all others 4
GOOD = TemplateConfig("mine", "{user} {sep} {candidate} is {mask}", "good", "bad", 4)


@pytest.fixture(scope="module")
def minilm():
    return templates.tokenizer(templates.folder("minilm"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def with_template(**changes):
    return replace(config(), prompts=replace(GOOD, **changes))


def told(settings):
    return [fault.problem for fault in templates.faults(settings)]


def test_there_are_three_types_of_four_views():
    assert sorted(TEMPLATES) == sorted(f"{kind}_{view}" for kind in OVERHEAD for view in ANSWERS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_shipped_template_has_the_published_overhead_answers_and_virtual_tokens(name, minilm):
    kind, _, view = name.partition("_")
    found = templates.pieces(config(name).prompts, minilm)
    assert found.overhead == OVERHEAD[kind][list(ANSWERS).index(view)]
    assert found.answers == ANSWERS[view]
    assert found.blank == 103
    assert len(found.new) == 1 + VIRTUAL[kind]
    assert config(name).prompts.epochs == EPOCHS.get(name, 4)


@pytest.mark.parametrize("name", TEMPLATES)
def test_shipped_templates_are_sound_and_named_as_their_files(name):
    assert told(config(name)) == []
    assert config(name).prompts.name == name
    raise_first(templates.problems_of_backbone(config(name)))


def test_the_layouts_of_two_continuous_templates_are_one(minilm):
    relevance, utility = (config(f"continuous_{view}").prompts for view in ("relevance", "utility"))
    assert relevance.text == utility.text
    assert relevance.positive != utility.positive


def test_new_tokens_are_numbered_behind_the_vocabulary_in_order(minilm):
    found = templates.pieces(replace(GOOD, text="{Q:2} {user} {mask} {A} {candidate}"), minilm)
    assert found.new == ("[NSEP]", "[Q1]", "[Q2]", "[A1]")
    assert found.parts == ([101], [30_523, 30_524], "user", "mask", [30_525], "candidate", [102])
    assert found.overhead == 6


def test_braces_of_the_text_are_doubled(minilm):
    found = templates.pieces(replace(GOOD, text="{{ {user} }} {candidate} {mask}"), minilm)
    assert minilm.decode([token for part in found.parts if not isinstance(part, str) for token in part]) == "{ }"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"text": "{user} is {mask}"}, "has {candidate} 0 times"),
        ({"text": "{candidate} is {mask}"}, "has {user} 0 times"),
        ({"text": "{user} {candidate}"}, "has {mask} 0 times"),
        ({"text": "{user} {candidate} {mask} {mask}"}, "has {mask} 2 times"),
        ({"text": "{user} {candidate} {mask} [MASK]"}, "has [MASK] among its words"),
        ({"text": "{user} [SEP] {candidate} {mask}"}, "has [SEP] among its words"),
        ({"text": "{user} {candidate} {mask} {usr}"}, "has a field {usr}, which means nothing"),
        ({"text": "{user} {candidate} {mask} {p:0}"}, "has a field {p}, which means nothing"),
        ({"text": "{user} {candidate} {mask} {}"}, "has a field {}, which means nothing"),
        ({"text": "{user} {candidate} {mask} {P:0}"}, "has 0 virtual tokens P"),
        ({"text": "{user} {candidate} {mask} {P:-3}"}, "has -3 virtual tokens P"),
        ({"text": "{user} {candidate} {mask} {P:101}"}, "has 101 virtual tokens P"),
        ({"text": "{P:3} {user} {candidate} {mask} {P:3}"}, "names two groups of virtual tokens alike"),
        ({"text": "{user {candidate} {mask}"}, "cannot be read"),
        ({"text": "{user} {candidate} {mask} {P:many}"}, "cannot be read"),
        ({"positive": "bad"}, "has one answer word for both answers"),
        ({"positive": "True", "negative": "no"}, "answer word 'True' of template 'mine': YAML"),
        ({"positive": "antidisestablishmentarian"}, "'antidisestablishmentarian' of template 'mine' is not one token"),
        ({"negative": "not good"}, "answer word 'not good' of template 'mine' is not one token"),
        ({"negative": "☃☃"}, "is not one token of the backbone: [UNK]"),
        ({"negative": ""}, "answer word '' of template 'mine' is not one token"),
    ],
)
def test_a_fault_of_a_template_is_told(changes, problem):
    (found,) = told(with_template(**changes))
    assert problem in found


def test_all_faults_are_told_at_once():
    found = told(with_template(text="{candidate} {P:0}", positive="not good", negative="not bad"))
    assert len(found) == 5


def test_answer_words_are_those_of_the_backbone_that_is_at_hand(tiny, tmp_path):
    settings = with_template(positive="splendid")
    assert told(settings) == []
    assert "'splendid' of template 'mine' is not one token" in told(replace(settings, backbone=str(tiny)))[0]
    assert told(replace(settings, backbone="bert-base-uncased")) == []  # not here: told when it is fetched
    assert told(replace(settings, backbone=str(tmp_path))) == []  # no tokenizer in it


def test_training_virtual_tokens_alone_needs_some():
    assert "trains virtual tokens" in told(replace(config("discrete_action"), prompt_only=True))[0]
    assert told(replace(config("hybrid_action"), prompt_only=True)) == []


@pytest.mark.slow
def test_templates_are_linted_without_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['validate', 'prompt/prompt4nr']) == 0; "
        "assert 'tokenizers' in sys.modules; assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- what does not fit the backbone or the data


@pytest.fixture
def altered(tmp_path):
    """altered(**changes): a backbone whose config.json says otherwise."""

    def alter(**changes):
        folder = tiny_bert(tmp_path / "altered")
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return str(folder)

    return alter


def test_a_backbone_that_is_no_bert_is_refused(altered):
    with pytest.raises(UsageError, match="is a roberta, and model 'prompt4nr' asks a BERT"):
        raise_first(templates.problems_of_backbone(replace(config(), backbone=altered(model_type="roberta"))))


def test_more_tokens_than_the_backbone_has_positions_for_are_refused(tiny):
    raise_first(templates.problems_of_backbone(replace(config(), backbone=str(tiny), max_length=CONTEXT)))
    with pytest.raises(UsageError, match=f"max_length={CONTEXT + 1}, and .* takes {CONTEXT}"):
        raise_first(templates.problems_of_backbone(replace(config(), backbone=str(tiny), max_length=CONTEXT + 1)))


def test_embeddings_that_are_not_one_a_token_are_refused(altered):
    with pytest.raises(UsageError, match="has 1,000 embeddings for"):
        raise_first(templates.problems_of_backbone(replace(config(), backbone=altered(vocab_size=1000))))


def test_an_answer_word_that_the_backbone_lacks_is_refused(tiny):
    with pytest.raises(UsageError, match="answer word 'splendid'"):
        raise_first(templates.problems_of_backbone(replace(with_template(positive="splendid"), backbone=str(tiny))))


def test_a_template_that_leaves_no_room_for_a_history_is_refused():
    long = {"text": "{P:60} {user} {Q:60} {candidate} {mask}"}
    with pytest.raises(UsageError, match="leave no room"):
        raise_first(templates.problems_of_backbone(replace(with_template(**long), max_length=128)))
    raise_first(templates.problems_of_backbone(with_template(**long)))


@pytest.mark.parametrize("titles", [None, ["", " ", None]])
def test_data_without_titles_is_refused(titles):
    found = log().dataset
    items = found.items.drop(columns="title").head(3)
    bare = RecDataset(items if titles is None else items.assign(title=titles), *list(vars(found).values())[1:])
    with pytest.raises(DataError, match="reads titles, and dataset 'tiny' has none"):
        raise_first(config().problems_of_data(None, bare))
    raise_first(config().problems_of_data(None, found))


@pytest.mark.parametrize(
    ("head", "labels"), [(True, ["substitute-encoder"]), (False, ["substitute-encoder", "untrained-head"])]
)
def test_a_backbone_without_a_head_is_marked(tmp_path, head, labels):
    settings = replace(config(), backbone=str(tiny_bert(tmp_path, head)))
    assert templates.has_head(settings.backbone) == head
    assert settings.labels("direct") == labels
    assert any("the head that fills the blank is new" in said for said in settings.deviations()) != head


def test_a_tokenizer_cuts_and_pads_nothing(tiny):
    saved = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    saved.enable_truncation(3)
    saved.enable_padding(length=20)
    saved.save(str(tiny / "tokenizer.json"))
    words = "the user is a user of the news"
    assert len(templates.tokenizer(tiny).encode(words, add_special_tokens=False).ids) == 8
