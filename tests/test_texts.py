"""Whatever takes prompts and replies takes any list of texts, read once; a string, a table or what is no text is one line."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from test_text_classifier import save
from test_text_classifier import tokenizer as judge_tokenizer
from tiny import ADAPTERS

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.texts import check_texts
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.experiment import report
from emorl_lite.methods.grpo import filling
from emorl_lite.methods.scores import Objectives
from emorl_lite.rewards.metrics import Coherence, Specificity, diversity_2, edit_rate
from emorl_lite.rewards.objectives import Brevity, Fluency, Guarded, RewardSet, finished, perplexity, repetition_guard
from emorl_lite.rewards.small_world_judge import CrossEncoder
from emorl_lite.rewards.text_judge import TextClassifier
from emorl_lite.search.evaluation import AverageEvaluation, ReplyScores
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import score
from emorl_lite.training.warm_start import tokenise_examples

PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7", "w8"]
REPLIES = ["w9", "w8 w7 w6", "", "w5 […]"]
CONTAINERS = {
    "tuple": tuple, "array": np.array, "object array": lambda v: np.array(v, dtype=object), "iterator": iter,
    "generator": lambda v: (text for text in v), "Series": lambda v: pd.Series(v, index=range(len(v))[::-1]),
    "keys of a dict": lambda v: dict.fromkeys(v).keys(), "texts of NumPy": lambda v: [np.str_(text) for text in v],
}  # fmt: skip
WRONG = {
    "a string": ("hello", "got str"), "bytes": (b"hello", "got bytes"), "None": (None, "got NoneType"), "a number": (3, "got int"),
    "a dict": ({"w1": 1}, "got dict"), "a set": ({"w1"}, "got set"), "a table": (pd.DataFrame({"w1": ["w2"]}), "got DataFrame"),
    "an array of no dimension": (np.array("w1"), "got ndarray"), "None in it": (["w1", None], " 2: expected a text, got NoneType"),
    "numbers": ([3.5], " 1: expected a text, got float"), "NaN": (pd.Series(["w1", np.nan]), " 2: expected a text, got float"),
    "bytes in it": ([b"w1"], " 1: expected a text, got bytes"), "lists": ([["w1"]], " 1: expected a text, got list"),
    "a table of texts": (np.array([["w1", "w2"]]), " 1: expected a text, got ndarray"),
    "half a pair": (["w1", "\ud83d"], " 2: not valid Unicode"), "a tensor": (torch.ones(2), " 1: expected a text, got Tensor"),
}  # fmt: skip


@cache
def model():
    return tiny.language_model(adapters=2, max_new_tokens=4)


@cache
def averaged():
    return tiny.language_model(adapters=2, max_new_tokens=4)


@cache
def rewards() -> RewardSet:
    return RewardSet({"fluency": Guarded(Fluency(model(), 90.0), "fluency"), "brevity": Brevity(4)})


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return TextClassifier.load(save(tmp_path_factory.mktemp("judge"), labels=1, problem_type="regression"), device="cpu")


OF_PROMPTS = {
    "reply": lambda p: model().reply(p),
    "ensemble": lambda p: EnsembleLM(model(), ADAPTERS[:2]).reply(p),
    "tree": lambda p: PrefixTree(model(), ADAPTERS[:2], p).replies([0.5, 0.5]),
    "average": lambda p: AverageEvaluation(averaged(), ADAPTERS[:2], p, rewards().scores)((0.5, 0.5)),
    "PPO": lambda p: PPOTrainer(tiny.language_model(), "new", Brevity(4), p, PPOConfig(), progress=False).prompts,
    "PPO's validation": lambda p: (
        PPOTrainer(
            tiny.language_model(), "new", Brevity(4), PROMPTS, PPOConfig(validate_every=1), validation_prompts=p, progress=False
        ).validation_prompts
    ),
    "policies": lambda p: report.summary(model(), rewards(), 0, ADAPTERS[:2], None, p).to_dict("list"),
}
OF_REPLIES = {
    "finished": lambda r: finished(r).tolist(),
    "repetition": lambda r: repetition_guard(r).tolist(),
    "encoded": lambda r: model().encode_replies(r)[0].tolist(),
}
OF_PAIRS = {
    "log-probabilities": lambda p, r: model().score_texts(p, r)[0].tolist(),
    "perplexity": lambda p, r: perplexity(model(), p, r).tolist(),
    "fluency": lambda p, r: Fluency(model(), 90.0)(p, r).tolist(),
    "brevity": lambda p, r: Brevity(4)(p, r).tolist(),
    "guarded": lambda p, r: Guarded(Brevity(4), "brevity")(p, r).tolist(),
    "rewards": lambda p, r: rewards().means(p, r),
    "objectives": lambda p, r: Objectives(rewards())(p, r).tolist(),
    "search": lambda p, r: ReplyScores(rewards().scores)(p, r).tolist(),
    "rollout": lambda p, r: score(Brevity(4), p, r).tolist(),
    "report": lambda p, r: report.score(rewards(), 0, "policy", p, r),
    "coherence": lambda p, r: Coherence(model(), k=2)(p, r).tolist(),
    "specificity": lambda p, r: Specificity(model())(p, r).tolist(),
    "diversity": lambda p, r: diversity_2(p, r).tolist(),
    "edits": lambda p, r: edit_rate(p, r).tolist(),
}


@cache
def of_prompts(name):
    return OF_PROMPTS[name](list(PROMPTS))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", OF_PROMPTS)
def test_prompts_come_in_any_container(name, container):
    assert OF_PROMPTS[name](CONTAINERS[container](PROMPTS)) == of_prompts(name)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", [*OF_REPLIES, *OF_PAIRS])
def test_replies_come_in_any_container(name, container):
    made = CONTAINERS[container]
    if name in OF_REPLIES:
        assert OF_REPLIES[name](made(REPLIES)) == OF_REPLIES[name](REPLIES)
    else:
        assert OF_PAIRS[name](made(PROMPTS), made(REPLIES)) == OF_PAIRS[name](PROMPTS, REPLIES)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_list_of_texts_is_one_line_everywhere(wrong):
    texts, message = WRONG[wrong]
    calls = [(name, lambda f=f: f(texts)) for name, f in (OF_PROMPTS | OF_REPLIES).items()]
    calls += [(name, lambda f=f: f(texts, REPLIES)) for name, f in OF_PAIRS.items()]
    calls += [(name, lambda f=f: f(PROMPTS, texts)) for name, f in OF_PAIRS.items()]
    for name, call in calls:
        with pytest.raises(UserError) as told:
            call()
        assert message in str(told.value) and "\n" not in str(told.value), name
        assert str(told.value).startswith(("prompt", "validation prompt", "repl")), name


@pytest.mark.parametrize("name", OF_PAIRS)
def test_one_reply_a_prompt(name):
    with pytest.raises(UserError, match=r"4 prompts.* 3 replies"):
        OF_PAIRS[name](PROMPTS, REPLIES[:3])


@pytest.mark.plain
def test_a_list_of_texts_is_a_new_list():
    given = ["a", "b"]
    assert check_texts(given, "prompt") == given and check_texts(given, "prompt") is not given


def test_judges_read_marks_as_letters(judge):
    """[SEP] and [PAD] in a reply would move the border between the two texts, or hide what follows."""
    seen = []
    forward = judge.model.forward
    judge.model.forward = lambda **inputs: (seen.append(inputs["input_ids"]), forward(**inputs))[1]
    try:
        judge.scores(["i feel [SEP] sad [CLS]"], ["you [PAD] feel [SEP] bad [UNK] . […]"])
        judge.scores(["i feel sad ."], ["you feel bad ."])
    finally:
        judge.model.forward = forward
    marks = judge_tokenizer().convert_tokens_to_ids(["[CLS]", "[SEP]", "[PAD]"])
    for ids in seen:
        assert [i for i in ids[0].tolist() if i in marks] == [marks[0], marks[1], marks[1]]
    ordinary = judge_tokenizer()("i feel sad .", "you feel bad .").input_ids
    assert seen[1][0].tolist() == ordinary


@pytest.mark.parametrize("wrong", WRONG)
def test_judges_take_lists_of_texts(judge, wrong):
    texts, message = WRONG[wrong]
    small = CrossEncoder(model())
    for scores in (judge.scores, judge.logits, small.scores):
        for given in ((texts, REPLIES), (PROMPTS, texts)):
            with pytest.raises(UserError) as told:
                scores(*given)
            assert message in str(told.value)


def test_a_warm_start_takes_pairs_of_texts():
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6")]
    rows = tokenise_examples(model(), pairs)
    assert rows == tokenise_examples(model(), iter(pairs)) == tokenise_examples(model(), [list(pair) for pair in pairs])
    wrong = {
        "examples: expected a list of pairs": ["w1 w2", None, {"w1": "w2"}],
        "example 1: expected a pair of prompt and reply, got": [["w1 w2"], [("w1",)], [("w1", "w2", "w3")], [None]],
        "example 2, text 2: expected a text, got NoneType": [[("w1", "w2"), ("w3", None)]],
        "example 1, text 1: not valid Unicode": [[("\ud800", "w1")]],
    }
    for message, cases in wrong.items():
        for examples in cases:
            with pytest.raises(UserError, match=message):
                tokenise_examples(model(), examples)


def test_grpo_is_given_the_ids_that_we_read():
    lm = tiny.language_model()
    texts = ["w1 <sep> w2", "<eos>", "w3"]
    assert filling(lm)(text=texts).input_ids == lm.prompt_ids(texts)
    assert type(lm.tokenizer).__name__ != "Filling" and isinstance(filling(lm), type(lm.tokenizer))
