"""How far a policy has gone from the base model: KL(policy || base) of its own sampled replies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emorl_lite.methods.base import Method, Setting
from emorl_lite.training.randomness import random_states, set_random_states


@torch.no_grad()
def sampled_replies(
    method: Method, prompts: Sequence[str], setting: Setting = None, seed: int = 0, batch_size: int = 96, scale: float = 1.0
) -> tuple[list[str], Tensor]:
    """(a reply sampled at temperature 1 for each of B prompts, KL(policy || base) along it [B], in nats).

    KL of a reply is the sum over its tokens t of sum_v pi(v | y_<t) [log pi(v | y_<t) - log pi_base(v | y_<t)]: exact over the words v,
    sampled over replies only. The base reads the prompt alone, whatever the policy reads. `scale`: the share of the adapters' change that
    is kept (`Method.shrunk`). torch's random state is left as it was.
    """
    setting = method.checked(setting)
    lm, texts, divergences = method.bench.lm, [], []
    state = random_states(lm.device)
    try:
        for start in range(0, len(prompts), batch_size):
            batch = list(prompts[start : start + batch_size])
            inputs, plain = method.encode(batch, setting), lm.encode(batch)
            with method.policy(setting) as policy, method.shrunk(scale):
                torch.manual_seed(seed + start)  # inside: what merges adapters draws numbers too, and all methods shall have the same
                tokens = policy.generate(inputs, do_sample=True)
                mask = lm.reply_mask(tokens)
                tokens = tokens.masked_fill(mask == 0, lm.tokenizer.pad_token_id)
                logp = policy.forward_reply(inputs, tokens, mask)[0].float().log_softmax(-1)
            with lm.without_adapters():
                base = lm.forward_reply(plain, tokens, mask)[0].float().log_softmax(-1)
            terms = torch.where(logp.isinf(), 0.0, logp.exp() * (logp - base))
            divergences.append((terms.sum(-1) * mask).sum(1).cpu())
            texts += lm.decode(tokens)
    finally:
        set_random_states(state, lm.device)
    return texts, torch.cat(divergences)


def shrunk_replies(method: Method, prompts: Sequence[str], setting: Setting = None, scale: float = 1.0) -> list[str]:
    """Greedy replies with this share of the adapters' change."""
    with method.policy(method.checked(setting)) as policy, method.shrunk(scale):
        return policy.reply(prompts)
