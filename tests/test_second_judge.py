"""Judges that nothing is trained on: words instead of a network, on the small world and on a few made pairs."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import StudyConfig, get_preset
from emorl_lite.data.small_world import grammar
from emorl_lite.experiment import report
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.rewards.objectives import Guarded, RewardSet
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.second_judge import JUDGED_TWICE, SecondJudge, WordFluency
from emorl_lite.rewards.small_world_judge import labelled
from emorl_lite.rewards.text_gate import area


@pytest.fixture(scope="module")
def pairs():
    return labelled(grammar(), 900, "train", seed=1)


@pytest.fixture(scope="module")
def held_out():
    return labelled(grammar(), 300, "test")


@pytest.fixture(scope="module")
def judges(pairs):
    return {objective: SecondJudge(pairs, objective) for objective in ("reflection", "empathy")}


@pytest.mark.parametrize("objective", ["reflection", "empathy"])
def test_words_tell_good_replies_of_clients_never_seen(judges, held_out, objective):
    """Chance is .5; far below what was reached with every seed tried."""
    scores = judges[objective].scores([p.prompt for p in held_out], [p.reply for p in held_out])
    good = torch.tensor([getattr(p, objective) >= 0.7 for p in held_out])
    assert scores.shape == (300,) and (scores >= 0).all() and (scores <= 1).all()
    assert area(scores[good].tolist(), scores[~good].tolist()) > 0.75


def test_the_client_is_read(judges, held_out):
    full = [p for p in held_out if p.kind == "full"]
    own = judges["reflection"].scores([p.prompt for p in full], [p.reply for p in full])
    other = judges["reflection"].scores([p.prompt for p in full[1:] + full[:1]], [p.reply for p in full])
    assert own.mean() > other.mean()


def test_scores_do_not_depend_on_the_batch_or_the_mark(judges, held_out):
    prompts, replies = [p.prompt for p in held_out[:4]], [p.reply for p in held_out[:4]]
    together = judges["reflection"].scores(prompts, replies)
    alone = torch.cat([judges["reflection"].scores([p], [r]) for p, r in zip(prompts, replies, strict=True)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.equal(judges["reflection"].scores(prompts, [r + UNFINISHED for r in replies]), together)
    assert judges["empathy"].scores([], []).shape == (0,)
    assert judges["empathy"].scores(["zyx"], [""]).shape == (1,), "words never seen, and none at all"


def test_the_same_pairs_give_the_same_judge(pairs, judges):
    again = SecondJudge(pairs, "empathy")
    texts = ["I feel sad."] * 2, ["I am here with you.", "Okay."]
    assert torch.equal(again.scores(*texts), judges["empathy"].scores(*texts))


def test_a_label_between_counts_for_both_sides():
    def pairs_of(label):
        made = [Pair(f"i am {i}", "you are so", "made", empathy=label) for i in range(6)]
        return made + [Pair(f"i am {i}", f"what {word}", "made", empathy=value) for i in range(6) for word, value in (("x", 1), ("y", 0))]

    low, high = (SecondJudge(pairs_of(label), "empathy").scores(["i am 1"], ["you are so"]) for label in (0.2, 0.8))
    assert low < 0.5 < high


def test_pairs_that_teach_nothing_are_told():
    with pytest.raises(UserError, match="labels of reflection"):
        SecondJudge([Pair("a", "b", "made", empathy=1.0)], "reflection")
    with pytest.raises(UserError, match="all labels are 1"):
        SecondJudge([Pair("a", "b", "made", empathy=1.0)] * 3, "empathy")
    with pytest.raises(UserError, match="2 human replies"):
        WordFluency(["a", "b", "a"])


def test_fluency_is_a_place_among_human_replies():
    told = [f"you feel {feeling} about your {thing} ." for feeling in ("sad", "bad", "mad", "glad") for thing in ("work", "home", "boss")]
    judge = WordFluency(told)
    p = judge.log_probability
    assert p("You feel sad about your home.") > p("home your about sad feel you") > p("zyx zyx")
    assert judge.scores([""] * 13, [*told, "zyx"]).tolist() == pytest.approx([(judge.human < p(text)).mean() for text in [*told, "zyx"]])
    assert p("you feel sad about your home") == p("You feel sad about your home." + UNFINISHED)


def test_probabilities_of_the_words_after_two_sum_to_one():
    """Of all words that were counted, and of one that was not; after words that were met and that were not."""
    judge = WordFluency(f"a b {word}" for word in "cdefghijklmno")
    known = [gram[0] for gram in judge.counts[0]]
    for before in (("a", "b"), ("zyx", "b"), ("zyx", "zyx")):
        assert sum(judge.probability((*before, word)) for word in [*known, "zyx"]) == pytest.approx(1)


# -- where they are asked


def test_an_experiment_has_a_second_judge_an_objective(tmp_path):
    tiny = get_preset("tiny")
    small = replace(tiny, rewards=replace(tiny.rewards, classifier_examples=300), data=replace(tiny.data, train_prompts=60))
    lab = Experiment(replace(small, objectives=("empathy", "fluency", "brevity")), root=tmp_path, progress=False)
    assert list(lab.second_judges) == ["empathy_second", "fluency_second"] and set(JUDGED_TWICE) <= set(tiny.objectives)
    assert lab.second_judges is lab.second_judges and not list(tmp_path.iterdir()), "fitted once, kept nowhere"
    prompts = ["I feel sad."] * 2
    scores = lab.second_judges["empathy_second"](prompts, ["I am here with you.", "I am here with you." + UNFINISHED])
    assert scores[0] > scores[1] == 0, "guarded as the rewards are"


def test_the_table_of_an_evaluation_has_their_columns():
    rewards = RewardSet({"a": lambda prompts, replies: torch.ones(len(replies))})
    others = {"a_second": Guarded(lambda prompts, replies: torch.full((len(replies),), 0.25), "a_second")}
    row = report.score(rewards, 0, "base", ["x"], ["y"], others)
    assert row["a"] == row["mean"] == 1 and row["a_second"] == 0.25
    assert "a_second" not in pd.DataFrame([report.score(rewards, 0, "base", ["x"], ["y"])])
    assert not StudyConfig().second_judges
