"""P5's prompts: the paper's structure, problems with prompts, which ones a task can use, and how they are chosen."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.schema import Candidates, Index, Question, TaskConfig
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.errors import DataError, UsageError, raise_first
from llm4rec_cli.files import write_text
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.prompts import Answer, Field
from llm4rec_cli.models.p5.settings import EvaluationPrompts, PromptConfig, PromptFamily
from llm4rec_cli.results.settings import Settings
from llm4rec_cli.run import source as sources
from tests.support.driver import compose, job_of

AMAZON = ["p5/rating", "p5/sequential", "p5/direct", "p5/explanation", "p5/review_summary"]
YELP = ["p5/rating", "p5/sequential", "p5/direct", "p5/yelp_explanation", "p5/yelp_review"]
FILES = [name for name in composing.options("prompt") if name.startswith("p5/")]
OURS = "straightforward"  # OpenP5's task: none of the paper's prompts

TABLES = yaml.safe_load((Path(__file__).parent / "tables/p5_prompts.yaml").read_text())
STRUCTURE, TRANSFER = TABLES["structure"], TABLES["transfer"]  # name -> fields of the source, and target


YELP_STRUCTURE = {  # Amazon's without those that use a headline, renumbered; reviews are only used for stars
    **{f"Y3-{i}": STRUCTURE[f"3-{n}"] for i, n in enumerate((1, 3, 4, 6, 7, 8, 9, 10, 11, 12), start=1)},
    "Y4-1": ("user review", "{star}"),
    "Y4-2": ("user review", "{star}"),
    "Y4-3": ("user_name review", "{star}"),
}


def config_of(*files, **settings):
    """P5's settings with these prompt files, or the default ones."""
    return replace(composed(files), **settings)


@cache
def composed(files):
    chosen = [hydra_override(f"prompt=[{','.join(files)}]")] if files else []
    return OmegaConf.to_object(compose("model=p5", *chosen).model)


def shipped(*files):
    return {name: prompts.parse(name, prompt) for name, prompt in config_of(*files).prompts.items() if name != OURS}


def prompt(source, target="{star}", family=PromptFamily.rating, trained=True):
    return PromptConfig(family, source, target, trained)


def problems(by_name, **settings):
    """The problems with these prompts, those of the evaluation prompts aside."""
    config = config_of(ask=EvaluationPrompts(*"?????"), **({"prompts": by_name} | settings))
    return [
        f"{error.problem} | {error.remedy}" for error in prompts.problems(config) if "unknown prompt" not in str(error)
    ]


@pytest.fixture
def dataset():
    """Two users with three ratings each; items have titles, and one a brand."""
    dataset = tiny_dataset([[0, 1, 2], [1, 2, 0]])
    dataset.items["title"] = ["pen", "ink", "pad"]
    dataset.items["brand"] = [None, "Quill", None]
    dataset.items["price"] = None
    dataset.interactions["rating"] = 4.0
    dataset.interactions["review_text"] = ""
    return dataset


# --- shipped prompts


@pytest.mark.parametrize(
    ("files", "structure", "unseen"),
    [
        (AMAZON, STRUCTURE, {"1-10", "2-13", "3-12", "4-4", "5-8"}),
        (["p5/transfer"], TRANSFER, set(TRANSFER)),
        (YELP[3:], YELP_STRUCTURE, {"Y3-10", "Y4-3"}),
    ],
    ids=["amazon", "transfer", "yelp"],
)
def test_fields_targets_and_unseen_prompts_are_those_of_the_paper(files, structure, unseen):
    actual = {p.name: ({f.value for f in p.fields}, p.answer.value) for p in shipped(*files).values()}
    assert actual == {name: (set(fields.split()), target) for name, (fields, target) in structure.items()}
    assert {name for name, prompt in config_of(*files).prompts.items() if not prompt.trained} - {OURS} == unseen


def test_shipped_prompts_have_no_problems_and_a_file_has_one_family():
    config = config_of(*FILES)
    assert list(prompts.problems(config)) == []
    assert list(prompts.problems_of_lengths(config, "all", item_length=3, user_length=3)) == []
    for name in FILES:
        families = {p.family for p in shipped(name).values()}
        of_transfer = {PromptFamily.rating, PromptFamily.explanation}
        assert len(families) == 1 or (name == "p5/transfer" and families == of_transfer)
    parsed = prompts.parse(OURS, config_of().prompts[OURS])
    assert (parsed.family, parsed.fields, parsed.ranks_catalogue) == (PromptFamily.direct, (Field.user,), True)


# --- parsing


def test_the_fields_of_a_prompt_are_parsed_and_those_of_the_predicted_review_oracle_inputs():
    parsed = prompts.parse("x", prompt("{user} rates {item} ."))
    assert parsed.segments == (Field.user, " rates ", Field.item, " .")
    assert parsed.answer is Answer.star
    parsed = shipped(*AMAZON, "p5/transfer")
    assert parsed["1-1"].columns == {"rating"}
    assert parsed["2-4"].columns == set()  # a user without a name has an id
    assert parsed["3-7"].columns == {"feature", "rating", "explanation"}
    assert parsed["4-1"].columns == {"review_text", "review_title"}
    assert parsed["Z-1"].columns == {"title", "brand", "price", "rating"}
    tasks = {"1-6": "rating", "1-4": "rating", "2-3": "sequential", "5-1": "direct", "3-8": "explanation"}
    assert {name: parsed[name].task.value for name in (*tasks, "4-1")} == tasks | {"4-1": "review_summary"}
    assert parsed["4-2"].task is PromptFamily.rating  # the paper's review preference
    assert parsed["1-3"].task is None
    # the end, 5 words, 5 items of 3 tokens with a comma after each but the last, 100 likewise, a user of 2 + 4 tokens
    parsed = prompts.parse(
        "x", prompt("{user} : {history} now one of : {candidates}", "{target}", PromptFamily.sequential)
    )
    assert parsed.min_length(item_length=3, user_length=4, n_candidates=100) == 1 + 5 + (5 * 4 - 1) + (100 * 4 - 1) + 6
    oracle = {
        p.name: " ".join(sorted(f.value for f in p.oracle_input)) for p in shipped(*AMAZON, "p5/transfer").values()
    }
    assert {name: fields for name, fields in oracle.items() if fields} == TABLES["oracle"]


# --- problems


def test_each_problem_of_a_prompt_is_reported_with_a_remedy():
    unlike = []
    for source, target, family, problem, remedy in TABLES["wrong"]:
        messages = problems({"mine": prompt(source, target, PromptFamily[family])})
        if len(messages) != 1 or not re.match(
            rf"prompt 'mine'.*{re.escape(problem)}.* \| .*{re.escape(remedy)}", messages[0]
        ):
            unlike.append((problem, messages))
    assert unlike == []
    several = {"a": prompt("{usr} {itm}", "{stars}"), "b": prompt("{user} {item}", "{star}"), "c": prompt("nothing")}
    assert [message.split("'")[1] for message in problems(several)] == ["a", "a", "a", "c"]
    (message,) = problems({"a": prompt("Stars of {item} ?"), "b": prompt("stars of  {item} ?", "{like}")})
    assert message.startswith("prompt 'b' has the same wording as 'a'")
    long = {"a": prompt("{user} : {candidates}", "{target}", PromptFamily.sequential)}
    assert problems(long, max_source=204) == []  # a user, a colon, 100 items with 99 commas, the end
    (message,) = problems(long, max_source=203)
    assert "model.max_source=204 or more" in message


def test_a_task_without_a_prompt_to_train_on_and_averaged_beams_are_refused():
    config = config_of("p5/sequential", "p5/transfer")
    assert list(prompts.problems(config)) == []
    config = replace(config, ask=replace(config.ask, rating="Z-2"))
    raise_first(prompts.problems_of_task(config, TaskConfig(name="sequential", question=Question.rank)))
    with pytest.raises(UsageError, match="no prompt of family rating can be trained"):
        raise_first(prompts.problems_of_task(config, TaskConfig(name="rating", question=Question.rate)))
    config = config_of(beams=20)
    config = replace(config, ask=replace(config.ask, sequential="2-4+2-5", direct="2-4+2-5"))
    (error,) = prompts.problems_of_task(config, TaskConfig(name="sequential", question=Question.rank))
    assert "cannot be averaged" in error.problem and "model.ask.sequential=2-4" in error.remedy
    listed = TaskConfig(name="direct", question=Question.rank, candidates=Candidates.uniform)
    assert not list(prompts.problems_of_task(config, listed)), "candidates are scored exactly"


def test_only_chosen_prompts_that_can_be_trained_are_trained_with(dataset):
    config = config_of(train_prompts=["1-1", "2-3"])
    assert prompts.training_prompts(config, PromptFamily.rating, dataset) == ["1-1"]
    assert list(prompts.problems(config)) == []
    with pytest.raises(UsageError, match="no prompt of family direct can be trained") as raised:
        raise_first(prompts.problems_of_task(config, TaskConfig(name="direct", question=Question.rank)))
    assert raised.value.remedy == "add one to model.train_prompts"
    for name, problem in (("1-11", "'1-11' does not exist"), ("1-10", "'1-10' is held out from training")):
        (error,) = prompts.problems(config_of(train_prompts=["2-3", name]))
        assert problem in error.problem and "did you mean '1-1'?" in error.remedy


def test_an_evaluation_prompt_that_does_not_answer_the_task_is_reported():
    def problems_of(files, **ask):
        config = config_of(*files)
        return [*prompts.problems(replace(config, ask=replace(config.ask, **ask)))]

    for task, name, problem, remedy in TABLES["evaluation"]:
        (error,) = problems_of([], **{task: name})
        assert problem in error.problem and remedy in error.remedy, name
    assert problems_of([], direct="2-5+straightforward", sequential=OURS) == []  # any item, for both rankings
    assert problems_of([], rating="4-4") == []  # stars from a review
    assert problems_of(["p5/sequential"]) == []  # no prompts of other tasks
    assert problems_of(YELP, explanation="Y3-10") == []  # renumbered prompts


# --- prompts and a dataset


def test_prompts_that_the_dataset_cannot_fill_are_left_out_with_the_reason(dataset):
    config = config_of(*AMAZON, "p5/transfer")
    usable = prompts.usable(config.prompts, dataset)
    assert {name for name in usable if name[0] in "1Z"} == {name for name in STRUCTURE if name[0] == "1"}
    assert {name for name in usable if name[0] in "34"} == set()
    lines = prompts.describe_unusable(config.prompts, dataset)
    assert "the dataset has no price: prompts left out: Z-1, Z-2, Z-3, Z-4" in lines  # an empty column counts as none
    assert "the dataset has no review_text or review_title: prompts left out: 4-1, 4-3" in lines
    assert len(config.prompts) == len(usable) + sum(len(line.split(", ")) for line in lines)
    first, second = config_of("p5/direct", "p5/rating"), config_of("p5/rating", "p5/direct")
    assert list(prompts.usable(first.prompts, dataset)) == list(prompts.usable(second.prompts, dataset))


def test_a_family_is_trained_with_what_is_usable_and_not_held_out(dataset):
    config = config_of()
    del dataset.items["title"]
    assert prompts.training_prompts(config, PromptFamily.rating, dataset) == ["1-1", "1-3", "1-4", "1-6"]
    with pytest.raises(DataError, match="no prompt of family explanation can be trained") as raised:
        prompts.training_prompts(config, PromptFamily.explanation, dataset)
    assert "the dataset has no explanation: prompts left out" in raised.value.remedy


def test_a_task_is_evaluated_with_a_prompt_that_the_dataset_can_fill(dataset):
    config = config_of()
    assert [p.name for p in prompts.evaluation_prompts(config, PromptFamily.rating, dataset)] == ["1-1"]
    del dataset.items["title"]
    with pytest.raises(DataError, match="prompt '1-10' needs title, which the dataset does not have") as raised:
        prompts.evaluation_prompts(
            replace(config, ask=replace(config.ask, rating="1-10")), PromptFamily.rating, dataset
        )
    assert raised.value.remedy == "set model.ask.rating to one of 1-1, 1-4, 1-6"


def test_candidates_and_the_names_of_items_must_fit(dataset):
    def check(config, n_items=12_101, name="direct", negatives=99):
        candidates = Candidates.uniform if name == "direct" else Candidates.full
        task = TaskConfig(name=name, question=Question.rank, candidates=candidates, negatives=negatives)
        items = pd.DataFrame({"item_id": range(n_items), "title": "pen"})
        raise_first(prompts.problems_with_dataset(config, task, replace(dataset, items=items)))

    config = config_of(index=Index.sequential, digits=1, max_source=512)
    check(config, n_items=999)
    with pytest.raises(UsageError, match="prompt '2-7' needs about"):
        check(config)
    check(replace(config, digits=3))
    with pytest.raises(UsageError, match="prompt '5-5' needs about 20"):
        check(replace(config, ask=replace(config.ask, direct="5-5")), n_items=3, negatives=999)
    config = config_of(index=Index.sequential, digits=1, max_source=1024, max_target=6)
    check(config, name="sequential")
    with pytest.raises(UsageError, match="up to 5 tokens plus an end token, more than"):
        check(replace(config, max_target=5), name="sequential")


def test_a_prompt_that_cannot_rank_the_catalogue_is_refused_for_it():
    for name, candidates, ask, problem in (
        ("sequential", Candidates.full, {}, None),
        ("sequential", Candidates.full, {"sequential": "2-7"}, "2-7 ranks listed candidates"),
        ("sequential", Candidates.uniform, {"sequential": "2-7"}, None),
        ("direct", Candidates.full, {"direct": "5-1"}, "5-1 ranks listed candidates"),
        ("direct", Candidates.full, {"direct": OURS}, None),
        ("direct", Candidates.uniform, {"direct": "5-1"}, None),
        ("directly", Candidates.uniform, {}, "P5 has no prompts for task 'directly'"),
    ):
        config = config_of()
        config = replace(config, ask=replace(config.ask, **ask))
        task = TaskConfig(name=name, question=Question.rank, candidates=candidates)
        found = [error.problem for error in prompts.problems_of_task(config, task)]
        assert len(found) == (problem is not None) and (problem or "") in "".join(found), (name, ask)


# --- choosing prompts


def test_the_prompt_override_chooses_files_of_one_model():
    assert hydra_override("prompt=[p5/rating],[p5/transfer]") == "prompt/p5@model.prompts=[rating],[transfer]"
    chosen = config_of("p5/rating", "p5/transfer").prompts
    assert list(chosen)[:2] == ["1-1", "1-2"]
    assert set(chosen) == {name for name in {**STRUCTURE, **TRANSFER} if name[0] in "1Z"}
    for typed in ("prompt=[rating]", "prompt=[p5/rating,sequential]", "prompt=[p5/rating,other/one]"):
        with pytest.raises(UsageError, match="does not name prompts of one model"):
            hydra_override(typed)
    with pytest.raises(UsageError, match="written in YAML"):
        hydra_override("model.prompts.1-1.source=x")


def test_a_users_own_prompts_are_composed_with_the_shipped_ones(llm4rec, tmp_path):
    own = '# Mine.\nmine-1: {family: rating, source: "And {user} ?", target: "{star}"}\n'
    write_text(tmp_path / "conf/prompt/p5/mine.yaml", own)
    answer = llm4rec("train", "model=p5", "prompt=[p5/rating,p5/mine]", "--cfg", "job")
    assert answer.code == 0, answer.err
    assert "And {user} ?" in answer.out and "1-10:" in answer.out


def test_a_run_matches_only_the_prompts_that_it_was_trained_with():
    key = "prompt/p5@model.prompts"
    typed = (["model=p5"], ["model=p5", "seed=1"], ["model=p5", hydra_override("prompt=[p5/rating]")])
    stored, same, other = (Settings.of(job_of(*overrides).config) for overrides in typed)
    assert [sources._matches(key, config, {}, stored, {}) for config in (same, other)] == [True, False]


def test_explanations_to_be_extracted_from_reviews_count_as_available(dataset):
    reviewed = replace(
        dataset, interactions=dataset.interactions.drop(columns=["explanation", "feature"], errors="ignore")
    )
    reviewed.interactions["review_text"] = "a text"
    config = config_of()
    (prompt,) = prompts.evaluation_prompts(config, PromptFamily.explanation, reviewed)
    assert prompt.name == config.ask.explanation
    bare = replace(reviewed, interactions=reviewed.interactions.drop(columns="review_text"))
    with pytest.raises(DataError, match="needs explanation"):
        prompts.evaluation_prompts(config, PromptFamily.explanation, bare)


def test_explanations_can_be_trained_with_the_prompts_that_show_a_feature():
    def trained_with(*overrides: str) -> list[str]:
        config = job_of("model=p5", *overrides).model
        of_family = [name for name, prompt in config.prompts.items() if prompt.family is PromptFamily.explanation]
        return prompts.trained(config, of_family)

    assert trained_with("model.explained=by_feature") == ["3-7", "3-9", "3-10", "3-11"]
    assert trained_with("model.explained=by_all") == [f"3-{number}" for number in range(1, 12)]
    without = "model.train_prompts=[1-1,3-1,3-2]"
    assert trained_with("model.explained=by_feature", without) == ["3-1", "3-2"], "none of them shows a feature"
