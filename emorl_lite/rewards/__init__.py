"""Rewards, the models behind them, and what examines them (notebook 01)."""

from emorl_lite.rewards.build import RewardBuilder
from emorl_lite.rewards.metrics import Coherence, Specificity, diversity_2, evaluation_metrics
from emorl_lite.rewards.objectives import Brevity, Fluency, Guarded, RewardSet, finished, perplexity, perplexity_of_both, repetition_guard
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.probes import equal_form, handed_on, shortcut_pays, shortcut_replies
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.rewards.second_judge import SecondJudge, WordFluency
from emorl_lite.rewards.small_world_judge import CONTENT, DAMAGE, CrossEncoder, labelled, pad, read_pairs, shortcut, train_classifier
from emorl_lite.rewards.text_gate import gate
from emorl_lite.rewards.text_judge import TextClassifier, train_text_classifier

__all__ = [
    "CONTENT",
    "DAMAGE",
    "REWARDS",
    "Brevity",
    "Coherence",
    "CrossEncoder",
    "Fluency",
    "Guarded",
    "Pair",
    "RewardBuilder",
    "RewardSet",
    "SecondJudge",
    "Specificity",
    "TextClassifier",
    "WordFluency",
    "diversity_2",
    "equal_form",
    "evaluation_metrics",
    "finished",
    "gate",
    "handed_on",
    "labelled",
    "pad",
    "perplexity",
    "perplexity_of_both",
    "read_pairs",
    "repetition_guard",
    "shortcut",
    "shortcut_pays",
    "shortcut_replies",
    "train_classifier",
    "train_text_classifier",
]
