"""Rollouts: sample replies from the policy, score them, and measure what the update needs. Shapes: N replies, T reply tokens, d width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor

from emorl_lite.errors import UserError
from emorl_lite.models import LanguageModel, Prompts
from emorl_lite.types import Reward


@dataclass
class Rollout:
    """N sampled replies. Tensors are float32 [N, T] unless noted; everything is 0 where `mask` is."""

    prompts: Prompts
    tokens: Tensor
    """Reply tokens, int64, padded after the first EOS."""
    mask: Tensor
    """1 up to and including the first EOS."""
    texts: list[str]
    logp: Tensor
    """log pi(token) when sampled, at the sampling temperature."""
    ref_logp: Tensor
    """The same under the base model without adapters."""
    entropy: Tensor
    """Entropy of the policy at each position, in nats."""
    features: Tensor
    """Layer-normed last hidden states the values are read from, [N, T, d]."""

    def __len__(self) -> int:
        return len(self.tokens)


@contextmanager
def folded(lm: LanguageModel) -> Iterator[None]:
    """Fold the active adapter into the base weights for the length of the block: W + scale B A replaces W, and LoRA's own branch rests.

    The base tensors themselves are put back afterwards, so nothing drifts. Gradients make no sense inside.
    """
    originals: list[tuple[Any, Tensor]] = []
    with torch.no_grad(), lm.without_adapters():
        try:
            for module in lm.model.modules():
                if isinstance(module, LoraLayer):
                    layer: Any = module
                    weight = layer.get_base_layer().weight
                    originals.append((weight, weight.data))
                    for name in layer.active_adapters:
                        weight.data = weight.data + layer.get_delta_weight(name).to(weight.dtype)
            yield
        finally:
            for weight, data in reversed(originals):
                weight.data = data


def trim(prompts: Prompts) -> Prompts:
    """Drop the columns in which every row is padding."""
    used = prompts.mask.any(0)
    return Prompts(prompts.ids[:, used], prompts.mask[:, used])


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) at the given tokens; logits [N, T, V], tokens [N, T] -> [N, T]."""
    flat = logits.float().flatten(0, 1) / temperature
    return -F.cross_entropy(flat, tokens.flatten(), reduction="none").view(tokens.shape)


def entropies(logits: Tensor, temperature: float) -> Tensor:
    """Entropy in nats of softmax(logits / temperature), [N, T]."""
    logp = torch.log_softmax(logits.float() / temperature, -1)
    return -(logp.exp() * logp).sum(-1)


def value_features(hidden: Tensor) -> Tensor:
    """What the value head reads: hidden states, detached (the critic must not move the policy) and layer-normed (their scale varies)."""
    return F.layer_norm(hidden.detach().float(), hidden.shape[-1:])


@torch.no_grad()
def collect(lm: LanguageModel, prompts: Prompts, k: int, temperature: float, batch_size: int) -> Rollout:
    """Sample k replies for each of B prompts from the active adapter: N = B k rows, the k replies of a prompt adjacent.

    Forward passes take `batch_size` rows at a time, rows of similar length together.
    """
    prompts = trim(prompts)
    options = {"temperature": temperature} if temperature != 1.0 else {}
    with folded(lm):
        tokens = lm.generate(prompts, do_sample=True, num_return_sequences=k, **options)
    mask = lm.reply_mask(tokens)
    tokens = tokens.masked_fill(mask == 0, lm.tokenizer.pad_token_id)
    repeated = prompts[torch.arange(len(prompts), device=tokens.device).repeat_interleave(k)]
    N, T = tokens.shape
    logp, ref_logp, entropy = (torch.zeros(N, T, device=tokens.device) for _ in range(3))
    features = torch.zeros(N, T, lm.width, device=tokens.device)
    for rows in mask.sum(1).argsort().split(batch_size):
        t = int(mask[rows].sum(1).max())
        batch, y, m = trim(repeated[rows]), tokens[rows, :t], mask[rows, :t]
        logits, hidden = lm.forward_reply(batch, y, m, hidden=True)
        assert hidden is not None
        logp[rows, :t] = token_logprobs(logits, y, temperature) * m
        entropy[rows, :t] = entropies(logits, temperature) * m
        features[rows, :t] = value_features(hidden) * m[..., None]
        with lm.without_adapters():
            logits, _ = lm.forward_reply(batch, y, m)
        ref_logp[rows, :t] = token_logprobs(logits, y, temperature) * m
    return Rollout(repeated, tokens, mask.float(), lm.decode(tokens), logp, ref_logp, entropy, features)


def reward_name(reward: Reward) -> str:
    """How messages call a reward: its `name`, else its function or class name."""
    return str(getattr(reward, "name", None) or getattr(reward, "__name__", None) or type(reward).__name__)


def score(reward: Reward, prompts: Sequence[str], replies: Sequence[str], name: str | None = None) -> Tensor:
    """Scores [N] as float32 on the CPU. Raises UserError, naming the reward and the row, unless there is one finite number a reply."""
    name = name or reward_name(reward)
    scores = reward(list(prompts), list(replies))
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(f"reward {name!r}: expected a float tensor of {len(replies)} scores, got {kind}")
    if scores.shape != (len(replies),):
        raise UserError(f"reward {name!r}: expected {len(replies)} scores, one a reply, got shape {tuple(scores.shape)}")
    scores = scores.detach().float().cpu()
    bad = (~scores.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise UserError(f"reward {name!r}, row {bad[0] + 1}: score {scores[bad[0]].item()} of reply {replies[bad[0]]!r} is not finite")
    return scores
