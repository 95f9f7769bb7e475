"""Mix the adapters' hidden states after an inner layer instead of the last one: what lies between averaged parameters and EMORL.

Shapes: B prompts, N adapters, T tokens, d width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.lm.averaging import exact_factors
from emorl_lite.lm.examination import decoded
from emorl_lite.lm.forward import lora_layers
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.swapping import swapped_forward

BLOCKS = ("layers", "h", "block", "blocks")
NORMS = ("norm", "ln_f", "norm_f", "final_layer_norm", "final_layernorm", "layer_norm")
"""What architectures call a decoder's blocks, and its final norm. Whether the right ones were found is seen by the probe."""


def blocks(lm: LanguageModel) -> tuple[Sequence[nn.Module], nn.Module]:
    """(the decoder's L blocks, its final norm). Raises UserError for a model whose parts have other names."""
    decoder = lm.base.get_decoder()
    layers, norm = (
        next((module for name in names if isinstance(module := getattr(decoder, name, None), nn.Module)), None) for names in (BLOCKS, NORMS)
    )
    if layers is None or norm is None:
        raise UserError(f"{lm.config.path}: a layer ensemble does not find this model's {'blocks' if layers is None else 'final norm'}")
    return layers, norm  # type: ignore[return-value]


class LayerEnsemble(EnsembleLM):
    """The first `layer` blocks run once per adapter, their outputs are mixed, and the rest runs once with averaged parameters.

    Residual streams are mixed by w / sum(w); above, a matrix changes by sum_i w_i s_i B_i A_i. So layer = 0 is `average_parameters(how=
    "exact")`, and layer = L mixes the last residual stream before the final norm, which EMORL mixes after. Decoder-only models (an
    encoder's state would have to be chosen too). One weight vector for all prompts of a call.

    Raises UserError for a layer that the model does not have, and for encoder-decoder models.
    """

    one_trunk = False  # it mixes at a layer of its own

    def __init__(self, lm: LanguageModel, adapters: Sequence[str], layer: int, weights: Sequence[float] | None = None):
        if lm.seq2seq:
            raise UserError("layer ensemble: for decoder-only models, this is an encoder-decoder")
        count = len(blocks(lm)[0])
        if not 0 <= layer <= count:
            raise UserError(f"layer {layer}: the model has {count}, choose 0 to {count}")
        self.layer = layer
        super().__init__(lm, adapters, weights)

    def _question(self) -> Hashable:
        return self.layer

    def _decoded(self, inputs: Encoded, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy tokens and logits, a row at a time, since a call has one weight vector."""
        rows = []
        for row, w in enumerate(weights):
            with self._mixing(self._rows_of_weights(w, 1)):
                rows.append(decoded(self.lm, inputs[row : row + 1]))
        return torch.cat([tokens for tokens, _ in rows]), torch.cat([logits for _, logits in rows])

    @contextmanager
    def _mixing(self, w: Tensor, hidden_states: list[Tensor] | None = None) -> Iterator[None]:
        if (w != w[0]).any():
            raise UserError("weights: a layer ensemble takes one weight vector for all prompts")
        shares = w[0] / w[0].sum()
        layers, norm = blocks(self.lm)
        with super()._mixing(shares.expand(len(w), -1), hidden_states), ExitStack() as swaps:
            first_averaged = norm if self.layer == len(layers) else layers[self.layer]
            swaps.enter_context(swapped_forward(first_averaged, self._mix_before(first_averaged, shares)))
            upper = {module for block in layers[self.layer :] for module in block.modules()}
            for layer in lora_layers(self.lm):
                if layer in upper:
                    swaps.enter_context(swapped_forward(layer, self._averaged(layer, shares)))
            yield

    def _mix_before(self, module: Any, shares: Tensor) -> Callable[..., Any]:
        """The module on mixed inputs: all N rows of an example get their mean."""
        plain, N = module.forward, len(self.adapters)

        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            rows = hidden.unflatten(0, (-1, N))
            mean = (shares.to(rows.device)[:, None, None] * rows).sum(1).to(hidden.dtype)
            return plain(mean.repeat_interleave(N, 0), *args, **kwargs)

        return forward

    def _averaged(self, layer: Any, shares: Tensor) -> Callable[..., Tensor]:
        """One layer with averaged parameters."""
        with torch.no_grad():
            A, B = exact_factors(layer, self.adapters, shares.tolist())
        if A is None or B is None:  # a layer that no adapter changes
            return layer.base_layer.forward  # type: ignore[no-any-return]

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            out: Tensor = layer.base_layer(x, *args, **kwargs)
            return out + linear(linear(x.to(A.dtype), A), B).to(out.dtype)

        return forward
