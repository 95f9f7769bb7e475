"""What PPO trains: a policy that answers prompts, and whose answers can be differentiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.presets import PPOConfig
from emorl_lite.lm.adapters import check_unmerged, examine_loaded, examine_neighbours
from emorl_lite.lm.forward import folded, one_product, sampled_from
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.training.rollout import Rollout, collect, sample_tokens, trim

ROWS_READ = 16
"""Replies that are read at a time where no gradient is asked for, if the minibatch is smaller..."""
LOGITS_READ = 2**22
"""...and if their logits, [replies, tokens, words], are no more numbers than this: 16 MB in float32, which memory is kept for."""
PROMPTS_AT_ONCE = 64
"""Prompts answered at a time in a validation."""


class AdapterPolicy:
    """One LoRA adapter, the same for every prompt. Shapes: n rows of a rollout, T reply tokens, V words, d width."""

    values_per_state = 1
    """Outputs of the value head."""
    same_for_all_rows = True
    """Whether the adapter is the same for every row, so that replies can be read as one."""

    def __init__(self, lm: LanguageModel, adapter: str, rank: int | None = None):
        self.lm, self.adapter, self.rank = lm, adapter, rank

    def identity(self) -> dict[str, Any]:
        """What of the policy makes a run this run."""
        return {}

    def make(self, seed: int) -> None:
        """Add the adapter to the model. It starts as the identity."""
        self.lm.add_adapter(self.adapter, seed, rank=self.rank)

    def extra(self, seed: int) -> nn.Module:
        """Trained parameters beside the adapter: none."""
        return nn.Module()

    def rollout(self, prompts: Sequence[str], inputs: Encoded, k: int, config: PPOConfig) -> Rollout:
        """Sample k replies to each of these training prompts."""
        return collect(self.lm, inputs, k, config.temperature, rows_read(self.lm, config.minibatch_size))

    def logits(self, rollout: Rollout, rows: Tensor, T: int) -> Tensor:
        """Logits, with gradients, of all words at each token of these replies, none longer than T: [tokens, V], the first reply's first."""
        inputs, tokens, mask = trim(rollout.inputs[rows]), rollout.tokens[rows, :T], rollout.mask[rows, :T]
        trunk = None if rollout.trunk is None else rollout.trunk[rows]
        return self.lm.forward_tokens(inputs, tokens, mask, packed=self.same_for_all_rows, trunk=trunk)[0]

    def updating(self) -> AbstractContextManager[None]:
        """Around the gradient steps on a rollout: the adapter and the weights beside it as one product, where rows are alike."""
        return one_product(self.lm) if self.same_for_all_rows else nullcontext()

    def values(self, head: nn.Module, features: Tensor, rows: Tensor) -> Tensor:
        """The critic's values [n, T] at features [n, T, d] of these rows of the rollout."""
        values: Tensor = head(features)
        return values.squeeze(-1)

    def greedy(self, prompts: Sequence[str], inputs: Encoded) -> list[str]:
        """Greedy replies; the adapter is folded into the weights meanwhile."""
        with folded(self.lm):
            return decode_in_parts(self.lm, inputs)

    def sampled(self, prompts: Sequence[str], inputs: Encoded, k: int, temperature: float) -> list[str]:
        """k sampled replies to each prompt, those of a prompt adjacent."""
        texts: list[str] = []
        with sampled_from(self.lm):
            for rows in torch.arange(len(inputs)).split(PROMPTS_AT_ONCE):
                texts += self.lm.decode(sample_tokens(self.lm, trim(inputs[rows]), k, temperature)[0])
        return texts


def rows_read(lm: LanguageModel, minibatch_size: int) -> int:
    """How many replies of full length are read at a time without gradients: the minibatch, or more where their logits are few."""
    words = int(lm.head.weight.shape[0])  # type: ignore[index, union-attr, arg-type]
    return max(minibatch_size, min(ROWS_READ, LOGITS_READ // (lm.config.max_new_tokens * words)))


def decode_in_parts(lm: LanguageModel, inputs: Encoded, **options: Any) -> list[str]:
    """Replies of a model as it stands, greedy unless the options to generate() say otherwise, some prompts at a time."""
    texts: list[str] = []
    for rows in torch.arange(len(inputs)).split(PROMPTS_AT_ONCE):
        texts += lm.decode(lm.generate(trim(inputs[rows]), **options))
    return texts


@dataclass(frozen=True)
class Ownership:
    """What a run found in the model under its adapter's name."""

    left_behind: bool = False
    """An earlier trainer of the same folder left it: it is the run's own, in whatever state."""
    started_from: str = ""
    """Digest of the adapter that the run trains on from; empty for a run that starts at the base."""


def own_adapter(policy: AdapterPolicy, folder: Path | None, seed: int, start_from_loaded: bool, recorded: Mapping[str, Any]) -> Ownership:
    """See to it that the adapter in the model is the run's own: made now, or left by an earlier trainer of the same folder.

    Two owners of one name would train on from each other's weights. `recorded`: the identity of the run that the folder holds.
    Nothing in the model is changed but by adding a missing adapter. Raises UserError for an adapter of another run, and for a model whose
    base is not the base: replies are kept near to it.
    """
    lm, name, own = policy.lm, policy.adapter, str(folder.resolve()) if folder is not None else None
    is_own = own is not None and lm.origin.get(name) == own
    check_unmerged(lm.model)
    examine_neighbours(lm.model, [name])
    if start_from_loaded:
        if name not in lm.adapters:
            raise UserError(f"adapter {name!r} is not loaded, so there is nothing to start from: load_adapter() comes first")
        examine_loaded(lm.model, [name])  # rollouts fold it into the weights, which is exact for plain LoRA alone
        if is_own and recorded.get("started_from"):
            return Ownership(left_behind=True, started_from=str(recorded["started_from"]))
        if is_own:
            raise UserError(f"adapter {name!r} has been trained already by a run that cannot go on: load the one to start from again")
        lm.origin[name] = own
        tensors = [x.detach().float().cpu().numpy().tobytes() for key, x in lm.model.named_parameters() if f".{name}." in key]
        return Ownership(started_from=digest(b"".join(tensors)))
    if name not in lm.adapters:
        policy.make(seed)
        lm.origin[name] = own
        return Ownership()
    if not is_own:
        whose = lm.origin.get(name) or "made in this process"
        raise UserError(
            f"adapter {name!r} is in the model already ({whose}) and is not {f'the run of {own}' if own else 'of this run'}: "
            f"remove_adapter({name!r}) first, train under another name, or from its weights with start_from_loaded=True"
        )
    return Ownership(left_behind=True)


def make_anew(policy: AdapterPolicy, seed: int) -> None:
    """Put a fresh adapter in the place of one that an earlier trainer of the same folder left."""
    origin = policy.lm.origin.get(policy.adapter)
    policy.lm.remove_adapter(policy.adapter)
    policy.make(seed)
    policy.lm.origin[policy.adapter] = origin
