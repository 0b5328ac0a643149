"""The tuned language model, compared with transformers' model that reads each question by itself."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import TEST
from llm4rec_cli.errors import UsageError
from llm4rec_zoo.models.tuned_lm import backbone
from tests.support.extras import needs
from tests.zoo.models.tuned_lm_data import TITLES, built, likes, log, log_probs, merged, plain, shop

pytestmark = pytest.mark.numeric

EXAMPLES = shop().examples(SplitName.test)
# fmt: off
NF4 = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0, 0.0795803, 0.1609302,
       0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]  # QLoRA, appendix E
# fmt: on


def histories(model):
    return [EXAMPLES[[i]].histories(model.config.titles)[0] for i in range(len(EXAMPLES))]


def test_the_checkpoint_holds_the_adapter_alone(causal):
    state = built(causal).state_dict()
    assert all("lora_" in name for name in state)
    assert len(state) == 2 * 2 * 2, "two layers, two modules, two factors"


def test_renormalised_scores_are_those_of_constrained_decoding(causal):
    model = built(causal)
    language_model, codes = merged(model, causal), model.questions.codes
    for history, scores in zip(histories(model), model.score(EXAMPLES), strict=True):
        question = model.questions.next(history).tokens
        for item, code in enumerate(codes):
            after = log_probs(language_model, question + code)[len(question) - 1 :]
            total = 0.0
            for place, token in enumerate(code):
                allowed = sorted({other[place] for other in codes if other[:place] == code[:place]})
                total += after[place, allowed].log_softmax(0)[allowed.index(token)].item()
            assert scores[item].item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("score", ["sum", "mean"])
def test_other_scores_are_those_of_whole_titles_over_the_vocabulary(causal, score):
    model = built(causal, f"model.score={score}")
    language_model = merged(model, causal)
    for history, scores in zip(histories(model), model.score(EXAMPLES), strict=True):
        question = model.questions.next(history).tokens
        for item, code in enumerate(model.questions.codes):
            after = log_probs(language_model, question + code)[len(question) - 1 : -1]
            total = after.gather(1, torch.tensor(code)[:, None]).sum().item()
            assert scores[item].item() == pytest.approx(total / (len(code) if score == "mean" else 1), abs=1e-3)


def test_a_grounded_score_is_the_distance_to_the_title_that_the_model_writes(causal):
    model = built(causal, "model.score=grounded", "model.title_tokens=6")
    tuned, untuned, before = merged(model, causal), plain(causal).model, list(model.questions.before)
    end = model.questions.tokens("\n")[-1]

    def vector(title):
        states = untuned(torch.tensor([before + model.questions.tokens(title)])).last_hidden_state[0]
        return states[len(before) :].mean(0)

    for history, scores in zip(histories(model), model.score(EXAMPLES), strict=True):
        question, written = model.questions.next(history).tokens, []
        while len(written) < 6 and end not in written:
            written.append(log_probs(tuned, question + written)[-1].argmax().item())
        title = vector(model.questions.title_of(written))
        expected = [-(vector(each) - title).norm().item() for each in model.questions.titles]
        assert scores.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert all(weight.requires_grad for name, weight in model.named_parameters() if "lora_" in name)


def test_duplicate_titles_tie_exactly_and_a_written_title_of_the_catalogue_is_ranked_first(causal, monkeypatch):
    for typed in ([], ["model.score=sum"], ["model.score=grounded"], ["model.answer=yes_no"]):
        candidates = np.tile([3, 0, 1], (len(EXAMPLES), 1))
        scores = built(causal, *typed).score(replace(EXAMPLES, candidates=candidates))
        assert TITLES[0] == TITLES[1]
        assert torch.equal(scores[:, 1], scores[:, 2])
        assert not torch.equal(scores[:, 0], scores[:, 1])
    model = built(causal, "model.score=grounded")
    assert model.questions.titles[4] == "Hair Brush"
    monkeypatch.setattr(model, "_written", lambda _: "Hair Brush")
    assert model.score(EXAMPLES).argmax(1).tolist() == [4] * len(EXAMPLES)


@pytest.mark.parametrize(
    ("typed", "answers"),
    [
        ([], ("1", "2")),
        ([], (" Yes, they would.", " No.")),
        (["prompt/tuned_lm@model.prompts=[discrete_emotion]"], (" interesting", " boring")),
    ],
)
def test_a_decision_is_the_log_odds_of_the_whole_answers(causal, typed, answers):
    model = built(causal, "dataset=demo_news", *typed, split=log())
    model.questions.yes, model.questions.no = map(model.questions.tokens, answers)
    language_model, shown = merged(model, causal), log().impressions(TEST)
    expected = []
    for row in model.questions.click(np.array([0, 3, 4]), np.array([5, 1, 0])):
        by_answer = []
        for answer in (model.questions.yes, model.questions.no):
            after = log_probs(language_model, [*row.tokens, *answer])[len(row.tokens) - 1 : -1]
            by_answer.append(after.gather(1, torch.tensor(answer)[:, None]).sum())
        expected.append(by_answer[0] - by_answer[1])
    assert_close(model.score_shown(shown), torch.stack(expected), rel=1e-4)


def test_a_like_is_the_same_decision_and_its_probability(causal):
    model, rows = built(causal, "task=like", rows=likes()), likes(TEST)
    language_model = merged(model, causal)
    yes, no = 7, 9
    model.questions.yes, model.questions.no = [yes], [no]
    answered = model.like(rows.examples)
    for row, score in zip(model.questions.likes(rows.examples), answered.score, strict=True):
        after = log_probs(language_model, row.tokens)[-1]
        assert score == pytest.approx((after[yes] - after[no]).item(), rel=1e-4)
    np.testing.assert_allclose(answered.probability, 1 / (1 + np.exp(-answered.score)), rtol=1e-5)
    one_by_one = [model.like(rows.examples[[i]]).score[0] for i in range(len(rows))]
    np.testing.assert_allclose(one_by_one, answered.score, rtol=1e-5)


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_the_loss_is_that_of_transformers_on_the_labelled_tokens(causal, loss_on):
    model = built(causal, f"model.loss_on={loss_on}", "model.titles=3")
    rows = model.training_rows()
    losses = []
    for number in rows.numbers:
        (answered,) = rows.source.answered(number, 0)
        tokens = answered.row.tokens
        after = log_probs(merged(model, causal), tokens)
        spans = [(1, len(tokens))] if loss_on == "all" else answered.answers
        losses += [-after[place - 1, tokens[place]].item() for begin, end in spans for place in range(begin, end)]
    batch = model(**rows.batch(0, list(range(len(rows)))))
    assert batch["loss"].item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert batch["n_terms"] == len(losses)


def test_the_head_ranks_all_items_by_the_state_after_the_history(causal):
    model = built(causal, "model.answer=item_head")
    states = merged(model, causal).model
    for history, scores in zip(histories(model), model.score(EXAMPLES), strict=True):
        last = states(torch.tensor([model.questions.next(history).tokens])).last_hidden_state[0, -1]
        assert_close(scores, model.head.weight @ last, rel=1e-5)
    assert {"head.weight"} < set(model.state_dict())


def test_the_untuned_model_is_not_trained_and_gradient_checkpointing_changes_no_gradient(causal):
    model = built(causal, "model.tuning=none", "model.score=sum")
    assert not model.config.traits.trainable
    assert type(model.config).traits.trainable
    assert not any(weight.requires_grad for weight in model.parameters())
    question = model.questions.next(histories(model)[0]).tokens
    code = model.questions.codes[3]
    after = log_probs(plain(causal), question + code)[len(question) - 1 : -1]
    expected = after.gather(1, torch.tensor(code)[:, None]).sum().item()
    assert model.score(EXAMPLES)[0, 3].item() == pytest.approx(expected, abs=1e-3)

    def gradients(*typed):
        model = built(causal, "model.lora.dropout=0", *typed).train()
        rows = model.training_rows()
        model(**rows.batch(0, list(range(len(rows)))))["loss"].backward()
        return [weight.grad for weight in model.parameters() if weight.requires_grad]

    assert_close(gradients("model.gradient_checkpointing=true"), gradients(), rel=1e-5)


def rounding_errors(weight, frozen):
    """Return the largest error of each element of a (out, in) weight: int8 by rows, NF4 by blocks of 64."""
    if frozen == "int8":
        return (weight.abs().amax(1, keepdim=True) / 127 / 2).expand_as(weight)
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    return ((blocks / scale).unsqueeze(2) - torch.tensor(NF4)).abs().amin(2).mul(scale).view_as(weight)


@pytest.fixture(scope="module")
def wide(causal, tmp_path_factory):
    """The folder of the tiny language model with widths that kernels for weights of few bits can divide by 64."""
    folder = tmp_path_factory.mktemp("wide") / "llm"
    shutil.copytree(causal, folder)
    config = AutoConfig.from_pretrained(causal, hidden_size=128, head_dim=32, intermediate_size=128)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@needs("bitsandbytes")
@pytest.mark.parametrize("frozen", ["int8", "nf4"])
def test_frozen_weights_of_few_bits_are_rounded_and_the_adapter_reloads_to_equal_scores(wide, frozen):
    typed = f"model.frozen_weights={frozen}", "model.lora.dropout=0"
    if frozen == "int8" and backbone.int8_overflows():  # tests/test_kernels.py selects such kernels
        with pytest.raises(UsageError, match="without VNNI"):
            built(wide, *typed)
        return
    for own, exact in zip(built(wide, *typed).lm.model.layers, plain(wide).model.layers, strict=True):
        weight = exact.self_attn.k_proj.weight.detach()
        assert weight.shape == (64, 128)
        stored = own.self_attn.k_proj(torch.eye(weight.shape[1])).t()
        assert (stored - weight).abs().max() > 1e-3 * weight.abs().max(), "nothing is rounded"
        error, allowed = (stored - weight).abs(), rounding_errors(weight, frozen)
        scales = {"int8": 5e-4, "nf4": 1e-2}[frozen]  # are rounded as well: to fp16, and to 8 bits
        assert (error <= allowed + scales * weight.abs().max()).all()
    model, fresh = built(wide, *typed).train(), built(wide, *typed, seed=1)
    rows = model.training_rows()
    model(**rows.batch(0, list(range(len(rows)))))["loss"].backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.parameters() if weight.requires_grad)
    expected = model.eval().score(EXAMPLES)
    assert not torch.allclose(fresh.score(EXAMPLES), expected)
    state = model.state_dict()
    assert all("lora_" in name for name in state)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.score(EXAMPLES), expected)


@needs("bitsandbytes")
def test_scores_of_four_bits_do_not_depend_on_whether_the_cpu_multiplies_in_bf16(causal, monkeypatch):
    """bitsandbytes asks the CPU; the answer is given here, and no instruction that the CPU may lack is executed."""
    scores = []
    for answer in (False, True):
        monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda answer=answer: answer)
        model = built(causal, "model.frozen_weights=nf4")
        layer = model.lm.model.layers[0].self_attn.k_proj
        before = layer.weight.detach().clone()
        scores.append(model.score(EXAMPLES))
        assert torch.equal(layer.weight, before)
        assert layer.weight.quant_state.dtype == torch.float32
    assert torch.equal(*scores)


def test_a_backbone_that_does_not_fit_is_refused(causal, monkeypatch):
    with pytest.raises(UsageError, match="may exceed the 512"):
        built(causal, "model.titles=300")
    with pytest.raises(UsageError, match="no such layers"):
        built(causal, "model.lora.modules=[c_attn]")
    monkeypatch.setattr(backbone, "SUPPORTED_MODELS", ("qwen2",))
    with pytest.raises(UsageError, match="is a llama"):
        built(causal)
