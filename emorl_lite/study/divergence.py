"""How far a policy has gone from the base model: KL(policy || base) of its own sampled replies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.lm.forward import half_products
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.sampling import Drawn, draw_replies
from emorl_lite.methods.base import Method, Policy, Setting
from emorl_lite.training.randomness import random_states, set_random_states


@torch.no_grad()
def sampled_replies(
    method: Method, prompts: Sequence[str], setting: Setting = None, seed: int = 0, batch_size: int = 96, scale: float = 1.0, each: int = 1
) -> tuple[list[str], Tensor]:
    """(`each` replies sampled at temperature 1 for each of B prompts, KL(policy || base) along them [B * each], in nats).

    KL of a reply is the sum over its tokens t of sum_v pi(v | y_<t) [log pi(v | y_<t) - log pi_base(v | y_<t)]: exact over the words v,
    sampled over replies only. The base reads the prompt alone, whatever the policy reads. One prompt's replies stand together. `scale`: the
    share of the adapters' change that is kept (`Method.shrunk`); `batch_size`: replies at once. torch's random state is left as it was.
    """
    setting = method.checked(setting)
    lm, texts, divergences = method.bench.lm, [], []
    state, step = random_states(lm.device), max(1, batch_size // each)
    try:
        for start in range(0, len(prompts), step):
            batch = list(prompts[start : start + step])
            inputs, plain = method.encode(batch, setting), lm.encode([prompt for prompt in batch for _ in range(each)])
            with method.policy(setting) as policy, method.shrunk(scale):
                torch.manual_seed(seed + start * each)  # inside: what merges adapters draws numbers too, and all shall have the same
                drawn = drawn_from(policy, lm, inputs, each)
            with lm.without_adapters():
                base = lm.forward_tokens(plain, drawn.tokens, drawn.mask)[0].float().log_softmax(-1)
            terms = torch.where(drawn.logp.isinf(), 0.0, drawn.logp.exp() * (drawn.logp - base)).sum(-1)
            along = torch.zeros(drawn.mask.shape, device=terms.device).masked_scatter(drawn.mask.bool(), terms)
            divergences.append(along.sum(1).cpu())
            texts += lm.decode(drawn.tokens)
    finally:
        set_random_states(state, lm.device)
    return texts, torch.cat(divergences)


def drawn_from(policy: Policy, lm: LanguageModel, inputs: Encoded, each: int) -> Drawn:
    """Replies of a policy, with its log-probabilities of all words.

    A model or an ensemble tells them while it draws. What has an encoder, or is steered row by row, is decoded and then read once more.
    """
    if not lm.seq2seq and isinstance(policy, EnsembleLM):
        return policy.draw(inputs, each)
    if not lm.seq2seq and isinstance(policy, LanguageModel):
        with half_products(lm):
            return draw_replies(lm, inputs, each)
    tokens = policy.generate(inputs, do_sample=True, num_return_sequences=each)
    mask = lm.reply_mask(tokens)
    tokens = tokens.masked_fill(mask == 0, lm.tokenizer.pad_token_id)
    repeated = inputs[torch.arange(len(inputs), device=tokens.device).repeat_interleave(each)]
    return Drawn(tokens, mask, policy.forward_reply(repeated, tokens, mask)[0][mask.bool()].float().log_softmax(-1))


def shrunk_replies(method: Method, prompts: Sequence[str], setting: Setting = None, scale: float = 1.0) -> list[str]:
    """Greedy replies with this share of the adapters' change."""
    with method.policy(method.checked(setting)) as policy, method.shrunk(scale):
        return policy.reply(prompts)
