"""Reward classifiers of the small world: cross-encoders that read a client statement and a reply together.

The body starts from the frozen language model. Beside its hidden states the head reads, for every reply token, how much more likely the
client's statement makes it: log p(token | client, ...) - log p(token | ...). A from-scratch classifier learns the form of a good reply
but does not compare it with the client; this one does, which notebook 01 shows.
"""

from __future__ import annotations

import copy
import json
import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emorl_lite.errors import UserError
from emorl_lite.models import LanguageModel
from emorl_lite.presets import RewardConfig
from emorl_lite.small_world import Client, Grammar, Reply, damaged, sentence_case

LOG_RATIO_LIMIT = 8.0  # one wildly unlikely token should not drown the others


@dataclass(frozen=True)
class Labelled:
    """One classifier example: texts, the two labels in [0, 1], and the kind of reply for analysis."""

    prompt: str
    reply: str
    reflection: float
    empathy: float
    kind: str


class CrossEncoder(nn.Module):
    """Score in [0, 1] of a (prompt, reply) pair.

    Args:
        lm: frozen decoder-only language model; its body is copied and trained, itself stays as it is.
        support: also read each reply token's log-probability ratio with and without the client (needed for reflection).
    """

    def __init__(self, lm: LanguageModel, support: bool):
        super().__init__()
        if lm.seq2seq:
            raise UserError(f"{lm.config.path}: the small-world classifiers need a decoder-only language model")
        self.support = support
        self.body = copy.deepcopy(lm.base.base_model).requires_grad_(True)
        width = lm.width
        extra = 2 if support else 0
        self.token = nn.Sequential(nn.Linear(width + extra, width), nn.GELU())
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1))
        self._lm = [lm]  # in a list: not a submodule, not saved

    def forward(self, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
        """Logits [N]."""
        lm = self._lm[0]
        batch = lm.encode(prompts)
        ids, mask = lm.encode_replies(replies)
        T = ids.shape[1]
        attention = torch.cat([batch.mask, mask], 1)
        hidden = self.body(
            input_ids=torch.cat([batch.ids, ids], 1),
            attention_mask=attention,
            position_ids=(attention.cumsum(1) - 1).clamp(min=0),
        ).last_hidden_state[:, -T:]
        if self.support:
            with torch.no_grad(), lm.without_adapters():
                given = lm.logprobs(batch, ids, mask)
                alone = lm.logprobs(lm.encode([""] * len(prompts)), ids, mask)
            ratio = (given - alone).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT) / 4
            hidden = torch.cat([hidden, ratio[..., None], given.clamp(min=-LOG_RATIO_LIMIT)[..., None] / 4], -1)
        token = self.token(hidden)
        keep = mask[..., None].bool()
        mean = (token * keep).sum(1) / keep.sum(1).clamp(min=1)
        high = token.masked_fill(~keep, -1e4).amax(1)
        low = token.masked_fill(~keep, 1e4).amin(1)
        return self.head(torch.cat([mean, high, low], -1)).squeeze(-1)

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 128) -> Tensor:
        """Scores [N] in [0, 1]."""
        self.eval()
        order = sorted(range(len(replies)), key=lambda i: len(prompts[i]) + len(replies[i]))
        out = torch.zeros(len(replies))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            out[rows] = torch.sigmoid(self([prompts[i] for i in rows], [replies[i] for i in rows])).float().cpu()
        return out

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "classifier.safetensors")
        (folder / "classifier.json").write_text(json.dumps({"support": self.support}), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, lm: LanguageModel) -> CrossEncoder:
        if not (folder / "classifier.safetensors").is_file():
            raise UserError(f"{folder}: no trained classifier here")
        model = cls(lm, **json.loads((folder / "classifier.json").read_text(encoding="utf-8")))
        try:
            model.load_state_dict(load_file(folder / "classifier.safetensors"))
        except RuntimeError as error:
            raise UserError(f"{folder}: this classifier was trained on another base model than {lm.config.path}") from error
        return model.to(lm.device).eval()


# -- training data

CONTENT = {"full": 20, "two": 17, "one": 14, "generic": 7, "advice": 7, "question": 7, "wrong": 18, "flawed": 18}
DAMAGE = {"shuffled": 4, "looped": 4, "copied": 4, "padded": 4, "asked": 5, "doubled": 4}


def labelled(grammar: Grammar, n: int, split: str, seed: int = 0) -> list[Labelled]:
    """n examples of one split, balanced over content and warmth, about a quarter of them made to close a shortcut."""
    rng = random.Random(f"labelled-{split}-{seed}")
    clients = grammar.clients(-(-n // 4), split, seed + 1)
    out = []
    for i in range(n):
        client = clients[i // 4]
        content = rng.choices(list(CONTENT), list(CONTENT.values()))[0]
        reply = grammar.reply(rng, client, content, rng.choice(["cold", "none", "warm1", "warm2"]))
        how = rng.choices([None, *DAMAGE], [100 - sum(DAMAGE.values()), *DAMAGE.values()])[0]
        if how:
            reply = shortcut(grammar, client, reply, how, rng)
        out.append(Labelled(client.text, reply.text, reply.reflection, reply.empathy, reply.content))
    return out


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
    examples: Sequence[Labelled],
    objective: str,
    config: RewardConfig,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[CrossEncoder, float]:
    """Train one cross-encoder with a soft binary cross-entropy on the labels. Returns (classifier, seconds)."""
    steps = config.classifier_steps if objective == "reflection" else config.empathy_steps
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = CrossEncoder(lm, support=objective == "reflection").to(lm.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.classifier_lr, weight_decay=0.01, betas=(0.9, 0.98))
    labels = torch.tensor([getattr(e, objective) for e in examples], device=lm.device)
    start = time.perf_counter()
    model.train()
    queue: list[list[int]] = []
    for step in range(steps):
        if not queue:
            queue = _similar_lengths(examples, config.classifier_batch, rng)
        rows = queue.pop()
        warm = min(1.0, (step + 1) / 30)
        for group in optimizer.param_groups:
            group["lr"] = config.classifier_lr * warm * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))
        logits = model([examples[i].prompt for i in rows], [examples[i].reply for i in rows])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if on_step:
            on_step(step + 1, float(loss.detach()))
    return model.eval(), time.perf_counter() - start


def _similar_lengths(examples: Sequence[Labelled], size: int, rng: random.Random) -> list[list[int]]:
    """Batches of examples of similar length, in random order: less padding."""
    order = list(range(len(examples)))
    rng.shuffle(order)
    groups = []
    for start in range(0, len(order), size * 20):
        part = sorted(order[start : start + size * 20], key=lambda i: len(examples[i].prompt) + len(examples[i].reply))
        groups += [part[i : i + size] for i in range(0, len(part) - size + 1, size)] or [part]
    rng.shuffle(groups)
    return groups
