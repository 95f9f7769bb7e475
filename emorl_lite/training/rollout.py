"""Rollouts: sample replies from the policy, score them, and measure what the update needs. Shapes: N replies, T reply tokens, d width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.scores import scores_of
from emorl_lite.base.types import Reward
from emorl_lite.lm.adapters import examine_loaded
from emorl_lite.lm.examination import PROBE_REPLY, adapted_layers, check_equal, examine, given, once, probe_prompts, probing
from emorl_lite.lm.forward import folded, lora_layers, one_product, sampled_from
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.sampling import Open, in_reply_order, pick, token_by_token
from emorl_lite.lm.trunk import Trunk, trunk_depth
from emorl_lite.training.randomness import OwnRandomness


@dataclass
class Rollout:
    """N sampled replies. Tensors are float32 [N, T] unless noted; everything is 0 where `mask` is."""

    inputs: Encoded
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
    trunk: Trunk | None = None
    """What the layers below the adapter made of each text, where there are any: the update reads those above alone."""

    def __len__(self) -> int:
        return len(self.tokens)


class RowPolicy(Protocol):
    """A policy that differs from row to row of a rollout: it must be told which rows the next forward passes hold."""

    def use(self, rows: Tensor | None) -> None:
        """Rows of the rollout in the order of the batch; None: all of them."""


def trim(inputs: Encoded) -> Encoded:
    """Drop the columns in which every row is padding."""
    columns = inputs.mask.any(0)
    return Encoded(inputs.ids[:, columns], inputs.mask[:, columns])


def by_length(inputs: Encoded, mask: Tensor) -> Tensor:
    """Rows in the order of their tokens, prompt and reply: texts of similar length are read together."""
    return (inputs.mask.sum(1) + mask.sum(1)).argsort()


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits.float() if temperature == 1.0 else logits.float() / temperature


def all_logprobs(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) of all words, [.., V] -> [.., V]."""
    return torch.log_softmax(_tempered(logits, temperature), -1)


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) at the given tokens; logits [.., V], tokens [..] -> [..]."""
    flat = _tempered(logits, temperature).flatten(0, -2)
    return -F.cross_entropy(flat, tokens.flatten(), reduction="none").view(tokens.shape)


def value_features(hidden: Tensor) -> Tensor:
    """What the value head reads: hidden states, detached (the critic must not move the policy) and layer-normed (their scale varies)."""
    return F.layer_norm(hidden.detach().float(), hidden.shape[-1:])


@dataclass
class Measured:
    """What the policy itself says of N replies, [N, T] each (features [N, T, d]); see `Rollout`."""

    logp: Tensor
    entropy: Tensor
    features: Tensor
    trunk: Trunk | None = None

    @classmethod
    def empty(cls, N: int, T: int, lm: LanguageModel) -> Measured:
        logp, entropy = torch.zeros(N, T, device=lm.device), torch.zeros(N, T, device=lm.device)
        return cls(logp, entropy, torch.zeros(N, T, lm.width, device=lm.device))

    def write(self, at: Any, logp: Tensor, p: Tensor, hidden: Tensor, tokens: Tensor) -> None:
        """Fill in n positions from all words' log-probabilities and probabilities [n, V], last hidden states [n, d] and tokens [n]."""
        self.logp[at] = logp.gather(-1, tokens[:, None]).squeeze(-1)
        self.entropy[at] = -(p * logp).sum(-1)
        self.features[at] = value_features(hidden)


def sample(
    lm: LanguageModel,
    inputs: Encoded,
    k: int,
    temperature: float,
    policy: RowPolicy | None = None,
    limit: int | None = None,
    depth: int = 0,
) -> tuple[Tensor, Measured]:
    """Sample k replies for each of B prompts from a decoder-only model: tokens [B k, T], padded after EOS, and what the model said of them.

    Of what it computes on the way the log-probabilities and hidden states are kept, those between its first `depth` layers and the others
    among them (`token_by_token`).
    """
    measured = Measured.empty(len(inputs) * k, limit or lm.config.max_new_tokens, lm)
    lower, rows = list[Tensor](), list[Tensor]()

    def choose(now: Open) -> Tensor:
        logp = all_logprobs(now.logits, temperature)
        p = logp.exp()
        next_tokens = pick(p, torch.rand(len(p), device=p.device))
        measured.write((now.rows, now.t), logp, p, now.hidden, next_tokens)
        if now.lower is not None:
            lower.append(now.lower)
            rows.append(now.rows)
        return next_tokens

    tokens, prompts = token_by_token(lm, inputs, k, choose, limit, depth, tell=None if policy is None else policy.use)
    T, trunk = tokens.shape[1], None
    if prompts.lower:
        read = (lm.reply_mask(tokens).sum(1) - 1).tolist()  # a reply's last token is not read
        states = in_reply_order(lower, rows).split(read) if lower else [prompts.lower[0][:0]] * len(read)
        trunk = Trunk(depth, [torch.cat([prompts.lower[row // k], said]) for row, said in enumerate(states)])
    return tokens, Measured(measured.logp[:, :T], measured.entropy[:, :T], measured.features[:, :T], trunk)


def sampling(k: int, temperature: float) -> dict[str, Any]:
    """Options to generate() for k samples a prompt at a temperature."""
    return {"do_sample": True, "num_return_sequences": k} | ({"temperature": temperature} if temperature != 1.0 else {})


@torch.no_grad()
def sample_tokens(
    lm: LanguageModel,
    inputs: Encoded,
    k: int,
    temperature: float,
    policy: RowPolicy | None = None,
    limit: int | None = None,
    depth: int = 0,
) -> tuple[Tensor, Measured | None]:
    """Sample k replies for each of B prompts: tokens [B k, T], and of a decoder-only model what it said of them (`sample`)."""
    if not lm.seq2seq:
        return sample(lm, inputs, k, temperature, policy, limit, depth)
    if policy is not None:
        policy.use(None)
    length = {"max_new_tokens": limit or lm.config.max_new_tokens}
    return lm.generate(inputs, **sampling(k, temperature), **length), None


@dataclass
class _Given:
    """Sampled replies [N, T], to be read again, some rows at a time."""

    lm: LanguageModel
    tokens: Tensor
    mask: Tensor
    packed: bool
    trunk: Trunk | None

    def read(self, prompts: Encoded, rows: Tensor, hidden: bool = False) -> tuple[Any, Tensor, Tensor, Tensor | None]:
        """(where they stand in [N, T], tokens [n], logits [n, V], hidden states [n, d]) of these rows' n tokens, one after the other."""
        T = int(self.mask[rows].sum(1).max())
        reply, mask = self.tokens[rows, :T], self.mask[rows, :T]
        row, t = mask.nonzero(as_tuple=True)
        trunk = None if self.trunk is None else self.trunk[rows]
        logits, states = self.lm.forward_tokens(trim(prompts[rows]), reply, mask, hidden, self.packed, trunk)
        return (rows[row], t), reply[row, t], logits, states


@torch.no_grad()
def collect(
    lm: LanguageModel,
    inputs: Encoded,
    k: int,
    temperature: float,
    batch_size: int,
    policy: RowPolicy | None = None,
    reference: Encoded | None = None,
    limit: int | None = None,
) -> Rollout:
    """Sample k replies for each of B prompts from the active adapter: N = B k rows, the k replies of a prompt adjacent.

    Forward passes take `batch_size` rows at a time, rows of similar length together. `policy`: an adapter that is another one for every
    row, and therefore cannot be folded. `reference`: the prompts that the base model reads, if they are not the policy's. `limit`: the most
    tokens of a reply; the configured number if None. Raises UserError for a model that does not read as it replies (`examine`).
    """
    examine(lm)
    inputs = trim(inputs)
    alike = policy is None and reference is None
    depth = trunk_depth(lm.base, lm.model.active_adapters) if alike and lm.adapters else 0
    with sampled_from(lm) if policy is None else nullcontext():
        tokens, measured = sample_tokens(lm, inputs, k, temperature, policy, limit, depth)
    mask = lm.reply_mask(tokens)
    tokens = tokens.masked_fill(mask == 0, lm.tokenizer.pad_token_id)
    copies = torch.arange(len(inputs), device=tokens.device).repeat_interleave(k)
    repeated, ref_prompts = inputs[copies], (inputs if reference is None else reference)[copies]
    # in half precision a folded weight is rounded, so that the policy's own numbers come from the unfolded adapter
    remeasure = measured is None or next(lm.base.parameters()).dtype != torch.float32
    if measured is None:
        measured = Measured.empty(len(tokens), tokens.shape[1], lm)
    ref_logp, trunk = torch.zeros_like(measured.logp), measured.trunk
    again = _Given(lm, tokens, mask, packed=policy is None, trunk=trunk)
    batches = by_length(repeated, mask).split(batch_size)
    # for the weights that it has in 16 bits, where products are made in them
    with one_product(lm) if policy is None and lm.mixed else nullcontext():
        for rows in batches if remeasure else ():
            if policy is not None:
                policy.use(rows)
            at, read, logits, hidden = again.read(repeated, rows, hidden=True)
            assert hidden is not None
            logp = all_logprobs(logits, temperature)
            measured.write(at, logp, logp.exp(), hidden, read)
        with lm.without_adapters():
            for rows in batches:
                at, read, logits, _ = again.read(ref_prompts, rows)
                ref_logp[at] = token_logprobs(logits, read, temperature)
    keep = mask.float()
    logp, entropy, features = measured.logp * keep, measured.entropy * keep, measured.features * keep[..., None]
    replies = lm.decode(tokens)
    if limit is None:
        lm.tell_endless(replies)
    return Rollout(repeated, tokens, keep, replies, logp, ref_logp * keep, entropy, features, trunk)


def score(reward: Reward, prompts: Sequence[str], replies: Sequence[str], name: str | None = None) -> Tensor:
    """Scores [N] as float32 on the CPU. Raises UserError, naming the reward and the row, unless there is one finite number a reply."""
    return scores_of(reward, prompts, replies, name).float()


ROUNDING = 0.01
"""How far a ratio of probabilities before any update may be from 1 in full precision. (Measured on tiny: at most 1.1e-5.)"""
HALF_ROUNDING = 1.0
"""The same where replies are sampled in one precision and read in another. (Measured on SmolLM2, bfloat16 autocast: at most .26.)"""


def ratio_limit(lm: LanguageModel) -> float:
    """The largest distance from 1 that rounding can explain in a ratio of probabilities of the same policy."""
    return HALF_ROUNDING if lm.mixed and lm.base.dtype != torch.float64 else ROUNDING


def examine_sampling(lm: LanguageModel, adapter: str) -> None:
    """Raise UserError, naming model and number, unless an adapter's rollouts would be what the adapter says: by one short probe.

    Folded into the weights it must read as it reads unfolded (Mamba's kernels use weights without asking the layer), and sampled tokens
    must have the probability that a plain pass gives them. Meanwhile B is random: a fresh adapter, B = 0, would show nothing.
    """
    examine(lm)
    examine_loaded(lm.model, [adapter])
    once(lm, ("samples", adapted_layers(lm)), lambda: _probe_sampling(lm, adapter))


def _probe_sampling(lm: LanguageModel, adapter: str) -> None:
    inputs = probe_prompts(lm)
    with probing(lm, "sample replies"), OwnRandomness(lm.device, 0), _random_adapter(lm, adapter):
        lm.use(adapter)
        rollout = collect(lm, inputs, 2, 1.0, 4, limit=PROBE_REPLY)
        with folded(lm):
            in_weights = given(lm, rollout.inputs, rollout.tokens)
        apart = given(lm, rollout.inputs, rollout.tokens)
        logp = token_logprobs(apart, rollout.tokens, 1.0) * rollout.mask
    check_equal(lm, in_weights, apart, "an adapter folded into its weights is not what the adapter is beside them")
    ratio = float((logp - rollout.logp).abs().max().exp())
    if not ratio - 1 <= ratio_limit(lm):
        raise UserError(
            f"{lm.config.path}: sampled tokens have another probability than a plain pass gives them (a ratio of {ratio:.3g}, expected 1)"
        )


@contextmanager
def _random_adapter(lm: LanguageModel, adapter: str) -> Iterator[None]:
    """Inside, an adapter changes every matrix W by random numbers, a tenth as large as W on the whole; afterwards it is what it was."""
    kept: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        try:
            for layer in lora_layers(lm):
                if adapter in layer.lora_A:
                    A, B = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                    kept.append((B, B.data))
                    B.data = torch.randn_like(B)
                    size = (A.norm() * B.norm() / len(A) ** 0.5 * layer.scaling[adapter]).clamp(min=1e-12)  # about |s B A|
                    B.data *= 0.1 * layer.get_base_layer().weight.norm() / size
            yield
        finally:
            for B, data in kept:
                B.data = data
