"""EMORL's aggregation (arXiv 2505.02579): one forward pass of N adapters, their last hidden states mixed before the shared LM head.

The model keeps its own generate(): for the time of a call its inputs are repeated N times and its head mixes N rows into one, so that
greedy decoding, sampling and beam search see an ordinary model with batch size B.
Shapes: B prompts, N adapters, T reply tokens, V words, d width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OF_PROBABILITIES, Mix
from emorl_lite.base.ranges import check_batch
from emorl_lite.base.texts import check_texts
from emorl_lite.base.weights import check_weights
from emorl_lite.lm.examination import adapted_layers, check_equal, check_mixable, decoded, given, once, probe_prompts, probing
from emorl_lite.lm.forward import adapters_in_rows, check_adapters, half_products
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.sampling import Drawn, draw_replies
from emorl_lite.lm.swapping import swapped_forward
from emorl_lite.lm.trunk import repeated_above, trunk_depth

Head = Callable[[Tensor], Tensor]


def mix_hidden(head: Head, hidden: Tensor, w: Tensor) -> Tensor:
    """head(sum_i w_i h_i): the paper's aggregation. hidden [B, N, T, d] and w [B, N] give logits [B, T, V]."""
    return head(_weighted_sum(w, hidden))


def mix_logits(head: Head, hidden: Tensor, w: Tensor) -> Tensor:
    """sum_i w_i head(h_i): multi-objective decoding (MOD). Equal to `mix_hidden`, because the head is linear (and has no bias)."""
    return _weighted_sum(w, head(hidden))


def mix_probabilities(head: Head, hidden: Tensor, w: Tensor) -> Tensor:
    """log sum_i w_i softmax(head(h_i)), with w divided by its sum: log-probabilities [B, T, V] of the mixture distribution."""
    log_share, logp = _shares_and_log_probabilities(head, hidden, w)
    return (log_share + logp).logsumexp(1)


def mix_harmonic(head: Head, hidden: Tensor, w: Tensor) -> Tensor:
    """log of 1 / sum_i w_i / softmax(head(h_i)), made to sum to one over the words: log-probabilities [B, T, V].

    The weighted harmonic mean of the probabilities, MOD's closed form for a forward-KL regulariser (arXiv 2406.18853), with w divided by
    its sum. A word that one adapter finds impossible becomes impossible, however little its weight.
    """
    log_share, logp = _shares_and_log_probabilities(head, hidden, w)
    of_each = (log_share - logp).masked_fill(log_share.isneginf(), -math.inf)  # weight 0 leaves an adapter out, also what it rules out
    return (-of_each.logsumexp(1)).log_softmax(-1)


def _shares_and_log_probabilities(head: Head, hidden: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """(logarithms of the weights divided by their sum [B, N, 1, 1], the adapters' log-probabilities [B, N, T, V])."""
    log_share = (w / w.sum(1, keepdim=True)).log()[:, :, None, None]  # log 0 = -inf leaves an adapter out
    return log_share, head(hidden).log_softmax(-1, dtype=torch.promote_types(w.dtype, hidden.dtype))


MIX = {"hidden": mix_hidden, "logits": mix_logits, "probabilities": mix_probabilities, "harmonic": mix_harmonic}


def _weighted_sum(w: Tensor, x: Tensor) -> Tensor:
    """sum_i w_i x_i over the second dimension of x [B, N, T, ...], summed in float32 at least, then in x's own type."""
    return (w[:, :, None, None] * x).sum(1).to(x.dtype)


class EnsembleLM:
    """N LoRA adapters of one language model, decoded as one model whose next-token scores are a weighted mixture of theirs.

    All adapters read the same prefix, whatever is mixed:
    "hidden" (the paper) mixes last hidden states, "logits" mixes after the head (the same up to rounding), "probabilities" takes the mean
    of the distributions, "harmonic" their harmonic mean. Weights are non-negative and need not sum to one: under greedy decoding w and
    c·w give the same text; under sampling
    for mix "hidden" or "logits" their size acts as an inverse temperature. (A head with a bias adds it once: weights are then divided by
    their sum.) `signed` allows negative weights: with base and policy as the
    two members they extrapolate beyond the policy (DeRa).

    `lm` is borrowed only while a method runs, and can train or reply on its own in between; adapters are read anew at every call.

    Raises UserError for fewer than two adapters, a repeated, missing or unsuitable one, an unknown mix, or wrong weights.
    """

    one_trunk = True
    """Whether layers that no adapter changes run once for all adapters."""
    depth = 0
    """How many these are, as of the last call."""

    def __init__(
        self,
        lm: LanguageModel,
        adapters: Sequence[str],
        weights: Sequence[float] | Tensor | None = None,
        mix: Mix = "hidden",
        signed: bool = False,
    ):
        self.lm, self.adapters, self.mix = lm, check_texts(adapters, "adapter"), mix
        if len(self.adapters) < 2:
            raise UserError(f"an ensemble needs at least 2 adapters, got {len(self.adapters)}")
        if len(set(self.adapters)) < len(self.adapters):
            raise UserError(f"an ensemble needs different adapters, got {', '.join(self.adapters)}")
        if not isinstance(mix, str) or mix not in MIX:
            raise UserError(f"mix {mix!r}: choose {', '.join(MIX)} (parameters: average_parameters)")
        check_adapters(lm, self.adapters)
        self.head = check_mixable(lm, mix)
        n = len(self.adapters)
        if signed and mix in OF_PROBABILITIES:
            raise UserError(f"mix {mix!r}: a mixture of distributions has no negative weights")
        self.signed = signed
        self.weights = check_weights([1 / n] * n if weights is None else weights, n, signed)
        once(lm, (type(self).__name__, mix, self._question(), n, adapted_layers(lm)), self._examine)

    # -- replies

    def reply(
        self, prompts: Sequence[str], weights: Sequence[Any] | Tensor | None = None, batch_size: int = 64, **options: Any
    ) -> list[str]:
        """Reply texts; one a prompt, or `num_return_sequences`, those of one prompt in a row. Greedy by default.

        `weights`: [N], or one row a prompt [B, N]; the ensemble's own if None. `options` go to transformers' generate().
        """
        prompts = check_texts(prompts, "prompt")
        w = self._rows_of_weights(weights, len(prompts))
        texts: list[str] = []
        for i in range(0, len(prompts), check_batch(batch_size)):
            rows = slice(i, i + batch_size)
            texts += self.lm.decode(self.generate(self.lm.encode(prompts[rows]), w[rows], **options))
        return texts

    @torch.no_grad()
    def generate(self, inputs: Encoded, weights: Sequence[Any] | Tensor | None = None, **options: Any) -> Tensor:
        """Reply tokens [B * num_return_sequences, T], as `LanguageModel.generate`."""
        with self._mixing(self._rows_of_weights(weights, len(inputs))):
            return self.lm.generate(inputs, **options)

    @torch.no_grad()
    def draw(self, inputs: Encoded, k: int = 1) -> Drawn:
        """k sampled replies a prompt at the ensemble's weights, with its log-probabilities of all words (`draw_replies`).

        They are read as given replies are, under autocast where that is on. Raises UserError for weights that differ from prompt to prompt:
        a reply that has ended leaves the batch.
        """
        if self.weights.dim() > 1:
            raise UserError("draw: expected one vector of weights for all prompts")
        w = self._rows_of_weights(None, 1)
        with half_products(self.lm), self._mixing(w):
            return draw_replies(self.lm, inputs, k, self._reorder_cache)

    # -- logits of given replies

    @torch.no_grad()
    def forward_reply(
        self, inputs: Encoded, reply: Tensor, reply_mask: Tensor, weights: Sequence[Any] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mixed logits [B, T, V] that predict each token of `reply` [B, T], and the adapters' hidden states [B, N, T, d] they come from.

        The hidden states are those that enter the head (after the final norm and T5's scale), so for mix "hidden"
        head(sum_i w_i hidden[:, i]) = logits. For mix "probabilities" and "harmonic" the logits are
        log-probabilities.
        """
        hidden_states: list[Tensor] = []
        with self._mixing(self._rows_of_weights(weights, len(inputs)), hidden_states):
            logits, _ = self.lm.forward_reply(inputs, reply, reply_mask)
        return logits, hidden_states[0][:, :, -reply.shape[1] :]

    # -- the borrowed model

    def _examine(self) -> None:
        """Raise UserError, with a number, unless all weight on the first or last adapter gives its own logits: a short probe, decoded."""
        lm, ends = self.lm, (0, len(self.adapters) - 1)
        inputs, one_hot = probe_prompts(lm, 2), torch.eye(len(self.adapters))[list(ends)]
        with probing(lm, "run several adapters in one batch"):
            tokens, mixed = self._decoded(inputs, one_hot)
            alone = []
            for row, adapter in enumerate(ends):
                lm.use(self.adapters[adapter])
                alone.append(given(lm, inputs[row : row + 1], tokens[row : row + 1]))
        logits = torch.cat(alone).float()
        if self.mix in OF_PROBABILITIES:
            logits = logits.log_softmax(-1)
        check_equal(lm, mixed, logits, "all weight on one adapter does not give what it says on its own")

    def _question(self) -> Hashable:
        """What else than the kind of mixture the probe depends on."""
        return None

    def _decoded(self, inputs: Encoded, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy tokens and logits of the mixture with weights [B, N]."""
        with self._mixing(self._rows_of_weights(weights, len(inputs))):
            return decoded(self.lm, inputs)

    def _rows_of_weights(self, weights: Sequence[Any] | Tensor | None, B: int) -> Tensor:
        """Checked weights as [B, N]. What follows the head is looked at again: a setting of the model may have been changed."""
        self.head = check_mixable(self.lm, self.mix)
        w = self.weights if weights is None else check_weights(weights, len(self.adapters), self.signed)
        if self.head.bias:  # else the bias would be added sum_i w_i times
            w = w / w.sum(-1, keepdim=True)
        if w.dim() == 2 and len(w) != B:
            raise UserError(f"weights: {len(w)} rows for {B} prompts; give one row a prompt, or {len(self.adapters)} numbers for all")
        return w.expand(B, -1).to(self.lm.device)

    @contextmanager
    def _mixing(self, w: Tensor, hidden_states: list[Tensor] | None = None) -> Iterator[None]:
        """Inside, `lm`'s model takes batches of B rows and answers with the mixture's logits. Hidden states go to `hidden_states`."""
        base: Any = self.lm.base
        self.depth = depth = trunk_depth(base, self.adapters) if self.one_trunk else 0
        with ExitStack() as swaps:
            swaps.callback(self.lm.model.train, self.lm.model.training)
            self.lm.model.eval()
            swaps.enter_context(adapters_in_rows(self.lm, self.adapters))
            swaps.enter_context(swapped_forward(self.lm.head, self._mixing_head(w, hidden_states)))
            if self.lm.seq2seq:
                swaps.enter_context(swapped_forward(base.get_encoder(), self._repeating_encoder()))
            if depth:
                swaps.enter_context(repeated_above(base, depth, len(self.adapters)))
            else:
                swaps.enter_context(swapped_forward(base, self._repeating_forward()))
            base._reorder_cache = self._reorder_cache  # beam search calls it if there is one
            swaps.callback(delattr, base, "_reorder_cache")
            yield

    def _mixing_head(self, w: Tensor, hidden_states: list[Tensor] | None) -> Head:
        plain, mix, scale = self.lm.head.forward, MIX[self.mix], self.head.scale

        def head(hidden: Tensor) -> Tensor:
            return plain(hidden) if scale == 1.0 else plain(hidden) * scale

        def forward(rows: Tensor) -> Tensor:
            hidden = rows.unflatten(0, (-1, len(self.adapters)))  # [B * copies, N, T, d]
            if hidden_states is not None:
                hidden_states.append(hidden)
            copies = len(hidden) // len(w)  # beams or samples of one prompt, which stand together
            mixed = mix(head, hidden, w.repeat_interleave(copies, 0))
            return mixed if scale == 1.0 else mixed / scale  # the model's own forward multiplies by it again

        return forward

    def _repeating_forward(self) -> Callable[..., Any]:
        original, encoder = self.lm.base.forward, self.lm.base.get_encoder() if self.lm.seq2seq else None

        @functools.wraps(original)  # generate() reads the signature to learn what the model takes
        def forward(input_ids: Tensor | None = None, **inputs: Any) -> Any:
            if input_ids is not None:  # classifier-free guidance gives it by its place
                inputs["input_ids"] = input_ids
            if encoder is not None:
                encoded = inputs.get("encoder_outputs") or encoder(inputs["input_ids"], inputs.get("attention_mask"))
                # Between the calls it is [B, N, P, d], so that generate() can repeat examples.
                inputs |= {"input_ids": None, "encoder_outputs": BaseModelOutput(last_hidden_state=encoded[0].flatten(0, 1))}
            return original(**{key: self._repeated(value) if key in _PER_EXAMPLE else value for key, value in inputs.items()})

        return forward

    def _repeating_encoder(self) -> Callable[..., BaseModelOutput]:
        original = self.lm.base.get_encoder().forward

        @functools.wraps(original)
        def forward(input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
            outputs = original(input_ids=self._repeated(input_ids), attention_mask=self._repeated(attention_mask))
            return BaseModelOutput(last_hidden_state=outputs[0].unflatten(0, (-1, len(self.adapters))))

        return forward

    def _repeated(self, x: Tensor | None) -> Tensor | None:
        """[B, ...] -> [B * N, ...], the N copies of an example together."""
        return None if x is None else x.repeat_interleave(len(self.adapters), 0)

    def _reorder_cache(self, cache: Any, examples: Tensor) -> Any:
        """Beam search keeps these examples: move their rows in the trunk, and their blocks of N rows above."""
        n = len(self.adapters)
        blocks = (examples[:, None] * n + torch.arange(n, device=examples.device)).flatten()
        if not self.depth:
            cache.reorder_cache(blocks)
        else:
            for i, layer in enumerate(cache.layers):
                layer.reorder_cache(examples if i < self.depth else blocks)
        return cache


_PER_EXAMPLE = {"input_ids", "attention_mask", "position_ids", "token_type_ids", "decoder_input_ids", "decoder_attention_mask"}
