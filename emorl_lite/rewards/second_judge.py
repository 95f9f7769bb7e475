"""Second judges: of another kind than those that policies are trained on, and never used in training.

A policy that wins its own judge's score may have found what that judge gets wrong. A judge that reads in another way makes other mistakes,
so what both say is more likely true. The first judges read with a neural encoder; these count words. For reflection and empathy: logistic
regression on the reply's words, on the words that client and reply share, and on how alike the two texts are. For fluency: how probable
three words in a row are in human replies. Training takes seconds and gives the same each time, so nothing is kept on disk. Shapes: N pairs,
F features.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.texts import check_pairs
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.rewards.metrics import words
from emorl_lite.rewards.pairs import Pair

JUDGED_TWICE = ("reflection", "empathy", "fluency")
"""Objectives that have a second judge; the others are counted, not judged."""
STRENGTH = 3.0
"""Of the logistic regression: the inverse of its L2 penalty."""
TOPICS = 100
"""Directions of the space in which texts are compared beyond equal words (latent semantic analysis)."""
SHARED = 10.0
"""Factor of the products of two texts' TF-IDF values, which are small."""


class PairWords:
    """What a linear model reads of a pair [N, F]: TF-IDF of the reply's words and pairs of words, of the words that both texts hold, and
    three numbers: how alike the texts are by their words and by their topics, and the share of the reply's words that the client used."""

    def __init__(self, pairs: Sequence[Pair]):
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        replies = list(dict.fromkeys(p.reply for p in pairs))
        texts = list(dict.fromkeys([p.prompt for p in pairs] + replies))
        options: dict[str, Any] = {"tokenizer": words, "token_pattern": None, "sublinear_tf": True, "min_df": 2}
        self.phrases = TfidfVectorizer(ngram_range=(1, 2), **options).fit(replies)
        self.words = TfidfVectorizer(**options).fit(texts)
        known = self.words.transform(texts)
        self.topics = TruncatedSVD(min(TOPICS, min(known.shape) - 1), random_state=0).fit(known)

    def __call__(self, prompts: Sequence[str], replies: Sequence[str]) -> Any:
        """Features, a sparse matrix [N, F]."""
        from scipy.sparse import csr_matrix, hstack
        from sklearn.preprocessing import normalize

        client, reply = self.words.transform(prompts), self.words.transform(replies)
        shared = client.multiply(reply)
        near = normalize(self.topics.transform(client)) * normalize(self.topics.transform(reply))
        sets = [(set(words(p)), words(r)) for p, r in zip(prompts, replies, strict=True)]
        used = [sum(word in heard for word in said) / max(1, len(said)) for heard, said in sets]
        alike = np.stack([np.asarray(shared.sum(1)).ravel(), near.sum(1), np.array(used)], 1)
        return hstack([self.phrases.transform(replies), SHARED * shared, csr_matrix(SHARED / 2 * alike)]).tocsr()


class SecondJudge:
    """scores(prompts, replies) -> [N] in [0, 1], by logistic regression on `PairWords`."""

    def __init__(self, pairs: Sequence[Pair], objective: str):
        """Fit pairs with labels in [0, 1] of an objective; a label of .4 counts .4 for and .6 against.

        Raises UserError for pairs without labels, or whose labels are all for, or all against.
        """
        from scipy.sparse import vstack
        from sklearn.linear_model import LogisticRegression

        labels = [getattr(p, objective) for p in pairs]
        if not pairs or any(label is None for label in labels):
            raise UserError(f"second judge: expected pairs with labels of {objective}")
        target = np.array(labels, dtype=float)
        if not 0 < target.mean() < 1:
            raise UserError(f"second judge of {objective}: all labels are {target[0]:g}, which leaves nothing to tell apart")
        self.features = PairWords(pairs)
        read = self.features([p.prompt for p in pairs], [p.reply for p in pairs])
        good, bad = np.flatnonzero(target > 0), np.flatnonzero(target < 1)
        told = np.concatenate([np.ones(len(good)), np.zeros(len(bad))])
        sure = np.concatenate([target[good], 1 - target[bad]])
        self.model = LogisticRegression(C=STRENGTH, max_iter=2000).fit(vstack([read[good], read[bad]]), told, sample_weight=sure)

    def scores(self, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
        """Scores [N]. The mark of an unfinished reply counts for nothing."""
        prompts, replies = check_pairs(prompts, replies, "second judge")
        if not replies:
            return torch.zeros(0)
        read = self.features(prompts, [reply.removesuffix(UNFINISHED) for reply in replies])
        return torch.from_numpy(self.model.predict_proba(read)[:, 1]).float()


class WordFluency:
    """scores(prompts, replies) -> [N] in [0, 1]: the share of human replies that are less fluent than this one.

    Fluency is the mean of log p(word | the two words before), the end included; p mixes the frequencies of three, two and single words in
    four fifths of the texts. The rest, which were not counted, are the human replies compared with.
    """

    LONGER = 0.5
    """Weight of what follows the longer context, where that was met, beside what follows the shorter one."""

    def __init__(self, texts: Iterable[str]):
        """Raises UserError for fewer than ten different texts."""
        distinct = list(dict.fromkeys(texts))
        if len(distinct) < 10:
            raise UserError(f"second judge of fluency: {len(distinct)} human replies, at least 10 are needed")
        self.counts: tuple[Counter[tuple[str, ...]], ...] = (Counter(), Counter(), Counter())
        self.contexts: tuple[Counter[tuple[str, ...]], ...] = (Counter(), Counter(), Counter())
        for i, text in enumerate(distinct):
            if i % 5:
                self._count(text)
        self.human = np.sort([self.log_probability(text) for text in distinct[::5]])

    @staticmethod
    def _grams(text: str) -> Iterable[tuple[str, str, str]]:
        """Every word, and the end, with the two words before it."""
        said = ["", "", *words(text.removesuffix(UNFINISHED)), "."]
        return zip(said, said[1:], said[2:], strict=False)

    def _count(self, text: str) -> None:
        for gram in self._grams(text):
            for n in range(3):
                self.counts[n][gram[2 - n :]] += 1
                self.contexts[n][gram[2 - n : 2]] += 1

    def probability(self, gram: tuple[str, str, str]) -> float:
        """p(word | the two words before) of (two words before, word). All words that were never counted share that of one more word."""
        p = (self.counts[0][gram[2:]] + 1) / (self.contexts[0][()] + len(self.counts[0]) + 1)
        for n in (1, 2):
            if met := self.contexts[n][gram[2 - n : 2]]:
                p = (1 - self.LONGER) * p + self.LONGER * self.counts[n][gram[2 - n :]] / met
        return p

    def log_probability(self, text: str) -> float:
        """Mean log-probability of a text's words and its end."""
        logs = [math.log(self.probability(gram)) for gram in self._grams(text)]
        return sum(logs) / len(logs)

    def scores(self, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
        """Scores [N]; the client is not read."""
        _, replies = check_pairs(prompts, replies, "second judge")
        found = [self.log_probability(reply) for reply in replies]
        return torch.from_numpy(np.searchsorted(self.human, found) / len(self.human)).float()
