"""Reward classifiers of the small world: cross-encoders that read a client statement and a reply together.

A frozen language model reads both; a small trained network judges from its hidden states and, for every word of the reply, how much more
likely the client's statement makes it: log p(word | client, ...) - log p(word | ...). A classifier trained from scratch learns the form of
a good reply but hardly compares it with the client. Since the language model stays as it is, one reading serves both classifiers and every
epoch. Shapes: N pairs, T reply tokens, d width of the language model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import SmallWorldRewards
from emorl_lite.base.texts import check_pairs
from emorl_lite.data.small_world import Client, Grammar, Reply, damaged, sentence_case
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.alone import alone
from emorl_lite.rewards.classifier_store import check_fits, need, read_classifier, save_classifier
from emorl_lite.rewards.pairs import Pair, fit

LOG_LIMIT = 8.0  # one wildly unlikely token should not drown the others


@torch.no_grad()
def read_pairs(lm: LanguageModel, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 128) -> list[Tensor]:
    """What the frozen model makes of each pair: one float16 tensor [T_i, 2 d + 2] a pair.

    For each reply token: the last and a middle hidden state, log p(token | client, ...), and log p(token | ...) without the client.
    """
    if lm.seq2seq:
        raise UserError(f"{lm.config.path}: the small-world classifiers need a decoder-only language model")
    prompts, replies = check_pairs(prompts, replies, "classifier")
    pair_features: list[Tensor] = [torch.empty(0)] * len(replies)
    order = sorted(range(len(replies)), key=lambda i: len(prompts[i]) + len(replies[i]))
    all_alone, _ = alone(lm, replies) if replies else (torch.empty(0), None)
    with lm.without_adapters():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = lm.encode([prompts[i] for i in rows])
            ids, mask = lm.encode_replies([replies[i] for i in rows])
            T = ids.shape[1]
            attention = torch.cat([batch.mask, mask], 1)
            states = lm.model(
                input_ids=torch.cat([batch.ids, ids], 1),
                attention_mask=attention,
                position_ids=(attention.cumsum(1) - 1).clamp(min=0),
                logits_to_keep=T + 1,
                output_hidden_states=True,
                use_cache=False,
            )
            logits, hidden = states.logits[:, :-1].float(), states.hidden_states
            logp_given = -nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
            logp_alone = all_alone[torch.tensor(rows), :T]
            middle = hidden[len(hidden) // 2]
            features = torch.cat([hidden[-1][:, -T:].float(), middle[:, -T:].float(), logp_given[..., None], logp_alone[..., None]], -1)
            features = features.half().cpu()
            for i, row, length in zip(rows, features, mask.sum(1).tolist(), strict=True):
                pair_features[i] = row[:length].clone()
    return pair_features


_LAST: dict[str, Any] = {"key": None, "read": []}


def _read_once(lm: LanguageModel, prompts: Sequence[str], replies: Sequence[str], batch_size: int) -> list[Tensor]:
    """`read_pairs`, or what it gave the last time if asked for the same again: two classifiers score the same replies in turn."""
    prompts, replies = check_pairs(prompts, replies, "classifier")
    key = (lm, tuple(prompts), tuple(replies))
    if _LAST["key"] != key:
        _LAST.update(key=key, read=read_pairs(lm, prompts, replies, batch_size))
    return _LAST["read"]


class CrossEncoder(nn.Module):
    """Score in [0, 1] of a (prompt, reply) pair: projection, one transformer layer over the reply's tokens, pooling, one logit.

    Args:
        lm: the frozen language model that reads the pair.
        support: give the network the log-probabilities with and without the client, beside the hidden states.
    """

    def __init__(self, lm: LanguageModel, support: bool = True, width: int = 96):
        super().__init__()
        self.support, self.width = support, width
        self.states = nn.Sequential(nn.LayerNorm(2 * lm.width), nn.Linear(2 * lm.width, width))
        self.words = nn.Linear(3, width, bias=False)
        self.mix = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1))
        self._lm = [lm]  # in a list: not a submodule, so neither trained nor saved

    def forward(self, read: Tensor, mask: Tensor) -> Tensor:
        """Logits [N] from what the language model read, [N, T, 2 d + 2], and its mask [N, T]."""
        hidden = self.states(read[..., :-2])
        if self.support:
            logp_given, logp_alone = read[..., -2], read[..., -1]
            ratio = (logp_given - logp_alone).clamp(-LOG_LIMIT, LOG_LIMIT)
            hidden = hidden + self.words(torch.stack([ratio, logp_given.clamp(min=-LOG_LIMIT), logp_alone.clamp(min=-LOG_LIMIT)], -1) / 4)
        token = nn.functional.gelu(self.mix(hidden, src_key_padding_mask=mask == 0))
        keep = mask[..., None].bool()
        mean = (token * keep).sum(1) / keep.sum(1).clamp(min=1)
        high = token.masked_fill(~keep, -1e4).amax(1)
        low = token.masked_fill(~keep, 1e4).amin(1)
        return self.head(torch.cat([mean, high, low], -1)).squeeze(-1)

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 128) -> Tensor:
        """Scores [N] in [0, 1], on the CPU."""
        return self.scores_of(_read_once(self._lm[0], prompts, replies, batch_size), batch_size)

    @torch.no_grad()
    def scores_of(self, read: Sequence[Tensor], batch_size: int = 128) -> Tensor:
        """Scores [N] of pairs already read."""
        self.eval()
        if not len(read):
            return torch.zeros(0)
        parts = [self(*pad(read[i : i + batch_size], self._lm[0].device)) for i in range(0, len(read), batch_size)]
        return torch.sigmoid(torch.cat(parts)).float().cpu()

    def save(self, folder: Path, **facts: Any) -> None:
        """Write classifier.safetensors, in float16, and classifier.json, with how it was trained."""
        own = {"support": self.support, "width": self.width, "base": self._lm[0].base_probe()}
        save_classifier(folder, self.state_dict(), {**own, **facts})

    @classmethod
    def load(cls, folder: Path, lm: LanguageModel, **options: Any) -> CrossEncoder:
        """Read a saved classifier. Raises UserError if there is none, if it is damaged, if it was trained with other `options`, or if it
        belongs to another language model."""
        facts, tensors = read_classifier(folder, options)
        need(facts, {"support": bool, "width": int, "base": dict}, folder)
        if not lm.same_base(facts["base"]):
            raise UserError(f"{folder}: this classifier was trained on another base model than {lm.config.path}")
        model = cls(lm, facts["support"], facts["width"])
        check_fits(model.state_dict(), tensors, folder)
        model.load_state_dict(tensors)
        return model.to(lm.device).eval()


def pad(read: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Readings of different lengths as one float32 tensor [N, T, 2 d + 2] and its mask [N, T]."""
    x = nn.utils.rnn.pad_sequence(list(read), batch_first=True).float()
    lengths = torch.tensor([len(r) for r in read])
    return x.to(device), (torch.arange(x.shape[1])[None] < lengths[:, None]).float().to(device)


# -- training data

CONTENT = {"full": 20, "two": 17, "one": 14, "generic": 7, "advice": 7, "question": 7, "wrong": 18, "flawed": 18}
DAMAGE = {"shuffled": 4, "looped": 4, "copied": 4, "padded": 4, "asked": 5, "doubled": 4}


def labelled(grammar: Grammar, n: int, split: str, seed: int = 0) -> list[Pair]:
    """n examples of one split, balanced over content and warmth, about a quarter of them made to close a shortcut."""
    rng = random.Random(f"labelled-{split}-{seed}")
    clients = grammar.clients(-(-n // 4), split, seed + 1)
    pairs = []
    for i in range(n):
        client = clients[i // 4]
        content = rng.choices(list(CONTENT), list(CONTENT.values()))[0]
        reply = grammar.reply(rng, client, content, rng.choice(["cold", "none", "warm1", "warm2"]))
        how = rng.choices([None, *DAMAGE], [100 - sum(DAMAGE.values()), *DAMAGE.values()])[0]
        if how:
            reply = shortcut(grammar, client, reply, how, rng)
        pairs.append(Pair(client.text, reply.text, reply.content, reply.reflection, reply.empathy))
    return pairs


def shortcut(grammar: Grammar, client: Client, reply: Reply, how: str, rng: random.Random) -> Reply:
    """A reply that a lazy classifier would misjudge: damaged, the client's words copied, long but empty, with a question mark, or one warm
    phrase said twice."""
    if how in ("shuffled", "looped"):
        return damaged(reply, how, rng)
    if how == "copied":
        return replace(reply, text=client.text, content=how, reflection=0.0, empathy=0.0, warmth="none")
    if how == "padded":  # as long as a full reflection, with nothing of the client in it
        lines = rng.sample(grammar.phrases["generic"], rng.choice([3, 4, 5]))
        return Reply(sentence_case(" ".join(lines)), how, "none", 0.0, 0.2)
    if how == "asked":  # a question mark changes neither label
        return replace(reply, text=re.sub(r"\.$", "?", reply.text))
    opener = rng.choice(grammar.phrases["openers"] + grammar.phrases["closers"])
    body = reply.text if reply.warmth == "none" else grammar.reply(rng, client, "generic", "none").text
    reflection = reply.reflection if reply.warmth == "none" else 0.0
    return Reply(sentence_case(f"{opener}. {body} {opener}."), "doubled", "warm1", reflection, 0.65)


# -- training


def train_classifier(
    lm: LanguageModel,
    read: Sequence[Tensor],
    labels: Sequence[float],
    config: SmallWorldRewards,
    support: bool = True,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[CrossEncoder, float]:
    """Train one cross-encoder on pairs already read, with a soft binary cross-entropy on their labels. Returns (classifier, seconds)."""
    torch.manual_seed(seed)
    model = CrossEncoder(lm, support).to(lm.device).train()
    seconds = fit(
        list(model.parameters()),
        lambda rows: model(*pad([read[i] for i in rows], lm.device)),
        labels,
        [len(r) for r in read],
        epochs=config.classifier_epochs,
        batch=config.classifier_batch,
        lr=config.classifier_lr,
        weight_decay=0.02,
        warm_up=50,
        floor=0.03,
        seed=seed,
        on_step=on_step,
    )
    return model.eval(), seconds
