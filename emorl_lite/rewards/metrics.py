"""The paper's evaluation metrics (EMORL, arXiv 2505.02579): coherence, specificity, diversity-2 and edit rate. No preset trains on them.

Specificity and diversity-2 can be objectives too (`REWARDS`); for a policy trained on one of them it is no independent measure any more.

Each is a function of N prompts and N replies with a Tensor [N] in [0, 1]. Words are compared in lower case and without punctuation, so
the mark of an unfinished reply counts for nothing in the text metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.texts import check_pairs, check_texts
from emorl_lite.lm.model import UNFINISHED, LanguageModel

Metric = Callable[[list[str], list[str]], Tensor]
"""metric(prompts, replies) -> scores [N]."""


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes belong to them, other punctuation is dropped."""
    return re.findall(r"[\w']+", text.lower())


def diversity_2(prompts: list[str], replies: list[str]) -> Tensor:
    """Distinct bigrams / words of each reply, [N]; 0 for fewer than two words. Raises UserError if the lists differ in length."""
    prompts, replies = check_pairs(prompts, replies, "diversity_2")
    scores = []
    for reply in map(words, replies):
        bigrams = set(pairwise(reply))
        scores.append(len(bigrams) / max(1, len(reply)))
    return torch.tensor(scores)


def edit_rate(prompts: list[str], replies: list[str]) -> Tensor:
    """Word edits that turn prompt into reply / words of the longer one, [N]: 0 for a copy, 1 where nothing is kept."""
    prompts, replies = check_pairs(prompts, replies, "edit_rate")
    scores = []
    for a, b in zip(map(words, prompts), map(words, replies), strict=True):
        scores.append(edit_distance(a, b) / max(1, len(a), len(b)))
    return torch.tensor(scores)


def edit_distance(a: list[str], b: list[str]) -> int:
    """Levenshtein distance between two lists of words: the fewest insertions, deletions and substitutions."""
    row = list(range(len(b) + 1))  # row[j] is the distance between the part of `a` read so far and b[:j]
    for i, word in enumerate(a, 1):
        previous, row = row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (word != other)))
    return row[-1]


@dataclass
class Coherence:
    """Does the reply answer THIS client? The posterior of the true client among itself and k others, under the frozen language model.

    p(reply | client) / sum_j p(reply | client_j) with equal priors, over the true client and the next k distinct clients of the list
    (cyclic). In [0, 1]; a reply that fits everyone scores chance = 1 / (k + 1). A score depends on the other clients in the list, so
    compare policies on the same list. The paper's own scorer (a BERT pair classifier) had a randomly initialised head in the public
    code, which makes its figures noise; this metric is defined anew and not comparable with them.
    """

    lm: LanguageModel
    k: int = 3

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N]. Raises UserError for fewer than k + 1 distinct prompts."""
        prompts, replies = check_pairs(prompts, replies, "coherence")
        if not prompts:
            return torch.zeros(0)
        clients = list(dict.fromkeys(prompts))
        if len(clients) <= self.k:
            raise UserError(f"coherence: {len(clients)} distinct prompts, at least {self.k + 1} are needed")
        index = {client: i for i, client in enumerate(clients)}
        candidates = [clients[(index[prompt] + j) % len(clients)] for prompt in prompts for j in range(self.k + 1)]
        with _frozen(self.lm):
            logp, _ = self.lm.score_texts(candidates, [reply for reply in replies for _ in range(self.k + 1)])
        return logp.sum(1).view(len(prompts), self.k + 1).softmax(1)[:, 0].cpu()


@dataclass
class Specificity:
    """Is the reply about what the client said? Cosine of the mean-pooled last hidden states of prompt and reply, negatives cut to 0.

    The frozen base model reads each text on its own (an encoder-decoder's encoder). The paper takes BERT's [CLS] states. Mean-pooled
    states of any two texts have a high cosine, so compare values; do not read one alone. An empty text scores 0.
    """

    lm: LanguageModel
    batch_size: int = 64

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N]."""
        prompts, replies = check_pairs(prompts, replies, "specificity")
        if not prompts:
            return torch.zeros(0)
        with _frozen(self.lm):
            return torch.cosine_similarity(self.embed(prompts), self.embed(replies)).clamp(0, 1)

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """Mean of the last hidden states over a text's own tokens (no template, no EOS), [N, d]; zeros for an empty text."""
        # an unfinished reply is read as if it had ended: an encoder sees the EOS from everywhere
        texts, pooled = [text.removesuffix(UNFINISHED) for text in check_texts(texts, "text")], []
        read = sorted(dict.fromkeys(texts), key=len)  # each text once, beside others of its length
        for start in range(0, len(read), self.batch_size):
            ids, mask = self.lm.encode_replies(read[start : start + self.batch_size])
            ids, mask = ids[:, : self.lm.context], mask[:, : self.lm.context]
            if self.lm.seq2seq:
                states = self.lm.base.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
            else:
                options = {"output_hidden_states": True, "use_cache": False, "logits_to_keep": 1}
                states = self.lm.base(input_ids=ids, attention_mask=mask, **options).hidden_states[-1]
            token_mask = (mask * (ids != self.lm.end_ids[0]))[..., None]
            pooled.append((states.float() * token_mask).sum(1) / token_mask.sum(1).clamp(min=1))
        place = {text: row for row, text in enumerate(read)}
        return torch.cat(pooled)[[place[text] for text in texts]].cpu()


def evaluation_metrics(lm: LanguageModel) -> dict[str, Metric]:
    """The four metrics by name; `lm` is read without its adapters."""
    return {"coherence": Coherence(lm), "specificity": Specificity(lm), "diversity_2": diversity_2, "edit_rate": edit_rate}


@contextmanager
def _frozen(lm: LanguageModel) -> Iterator[None]:
    """The base model in evaluation mode: a metric must not change with the adapters or with dropout."""
    training = lm.model.training
    lm.model.eval()
    try:
        with lm.without_adapters():
            yield
    finally:
        lm.model.train(training)
