"""What a weight vector is worth: the mean scores of its replies on fixed prompts, with nothing decoded or scored twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.scores import as_scores
from emorl_lite.base.texts import check_pairs, check_texts
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import folded
from emorl_lite.lm.model import LanguageModel
from emorl_lite.search.kept_scores import KeptScores
from emorl_lite.search.score_table import Weights

Score = Callable[[list[str], list[str]], Mapping[str, Tensor] | Mapping[str, ArrayLike]]
"""(prompts, replies) of n texts each -> scores [n] of every objective, as a reward may return them: `RewardSet.scores`."""


class ReplyScores:
    """Scores of replies, each distinct (prompt, reply) scored once. `kept`: those of an interrupted search, which grow with these."""

    def __init__(self, score: Score, kept: KeptScores | None = None):
        self.score, self.kept = score, kept
        self.names: list[str] = []
        self.scored = 0
        self._cache: dict[tuple[str, str], np.ndarray] = {}

    def __call__(self, prompts: Sequence[str], replies: Sequence[str]) -> np.ndarray:
        """Scores [n, K], K the objectives in the order of `names`. Raises UserError unless each gives one finite number a reply."""
        pairs = list(zip(*check_pairs(prompts, replies, "scores"), strict=True))
        self._look_up(pairs)
        unscored = [pair for pair in dict.fromkeys(pairs) if pair not in self._cache]
        if unscored:
            replies_to_score = [reply for _, reply in unscored]
            scores = self.score([prompt for prompt, _ in unscored], list(replies_to_score))
            if not isinstance(scores, Mapping):
                raise UserError(f"scores: expected those of every objective by its name, got {type(scores).__name__}")
            self.names = list(scores)
            columns = [as_scores(values, replies_to_score, name) for name, values in scores.items()]
            table = torch.stack([column.double() for column in columns], 1).numpy()
            self._cache.update(zip(unscored, table, strict=True))
            self.scored += len(unscored)
            if self.kept is not None:
                self.kept.add(unscored, [dict(zip(self.names, line, strict=True)) for line in table.tolist()])
        return np.stack([self._cache[pair] for pair in pairs]) if pairs else np.empty((0, len(self.names)))

    def _look_up(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Take what an interrupted search has scored."""
        if self.kept is None:
            return
        for pair in pairs:
            if pair not in self._cache and (scores := self.kept.get(*pair)) is not None:
                self.names = self.names or list(scores)
                self._cache[pair] = np.array([scores[name] for name in self.names])


class TreeEvaluation:
    """Evaluates weights for a search by a prefix tree: a level's points are decoded together, and known prefixes are not read again."""

    def __init__(self, tree: PrefixTree, score: Score | ReplyScores):
        self.tree, self.scores = tree, score if isinstance(score, ReplyScores) else ReplyScores(score)
        self._means: dict[Weights, dict[str, float]] = {}

    def prepare(self, points: Sequence[Weights]) -> None:
        """Decode and score these weights."""
        leaves = self.tree.leaves(points)
        distinct, inverse = np.unique(leaves, return_inverse=True)
        prompts = [self.tree.prompts[i] for i in self.tree.prompt_of(distinct)]
        replies = self.tree.texts(distinct)
        self.tree.lm.tell_endless(replies)
        means = self.scores(prompts, replies)[inverse.reshape(leaves.shape)].mean(0)  # [W, K]
        for point, line in zip(points, means, strict=True):
            self._means[tuple(point)] = dict(zip(self.scores.names, line.tolist(), strict=True))

    def __call__(self, weights: Weights) -> dict[str, float]:
        """Mean score of every objective."""
        if tuple(weights) not in self._means:
            self.prepare([tuple(weights)])
        return self._means[tuple(weights)]


class AverageEvaluation:
    """Evaluates weights for a search by averaging the adapters' parameters, one merged model at a time.

    No prefix tree helps here: a merged model's logits are not linear in the weights, so every weight vector is decoded on its own, and
    the size of the weights matters, not their direction alone.
    """

    def __init__(self, lm: LanguageModel, adapters: Sequence[str], prompts: Sequence[str], score: Score | ReplyScores):
        self.lm, self.adapters, self.prompts = lm, list(adapters), check_texts(prompts, "prompt")
        self.scores = score if isinstance(score, ReplyScores) else ReplyScores(score)

    def replies(self, weights: Weights) -> list[str]:
        """Greedy replies of the model whose parameters are averaged with these weights."""
        average_parameters(self.lm, self.adapters, weights, name="average", how="exact")
        self.lm.use("average")
        with folded(self.lm):
            return self.lm.reply(self.prompts)

    def __call__(self, weights: Weights) -> dict[str, float]:
        """Mean score of every objective."""
        replies = self.replies(weights)
        self.lm.tell_endless(replies)
        means = self.scores(self.prompts, replies).mean(0)
        return dict(zip(self.scores.names, means.tolist(), strict=True))
