"""Several judges of one kind, of different random starts, as one: what they disagree about is what a policy would find first.

A classifier of a few thousand pairs is sure of some replies by chance. The mean of several's logits ranks replies better than any of them
alone (deep ensembles, Lakshminarayanan et al. 2017; against a policy that finds a reward model's mistakes, Coste et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.texts import check_pairs
from emorl_lite.rewards.classifier_store import need, read_classifier, save_classifier
from emorl_lite.rewards.text_judge import TextClassifier


class Committee:
    """score(prompts, replies) -> [N] in [0, 1]: the sigmoid of its members' mean logit and an offset.

    An offset c judges at odds e^c times those of the training pairs, of which few are good (Saerens, Latinne and Decaestecker 2002): the
    order of replies stays, and .5 is elsewhere. Raises UserError for no member, a finished classifier (nothing of it was trained here), or
    members of different shapes.
    """

    def __init__(self, members: Sequence[TextClassifier], offset: float = 0.0):
        self.members, self.offset = list(members), offset
        if not self.members or any(member.head is None for member in self.members):
            raise UserError("committee: needs one or more classifiers that were trained here")
        if any(member.shape() != self.members[0].shape() for member in self.members):
            raise UserError("committee: its members have different encoders or shapes")

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 32) -> Tensor:
        """Scores [N] in [0, 1], on the CPU."""
        prompts, replies = check_pairs(prompts, replies, "committee")
        logits = torch.stack([member.all_logits(prompts, replies, batch_size) for member in self.members])
        return torch.sigmoid(logits.mean(0) + self.offset)

    def made_of(self) -> dict[str, Any]:
        """What tells this committee from another."""
        return {"members": [member.made_of() for member in self.members], "offset": self.offset}

    def save(self, folder: Path, losses: pd.DataFrame | None = None, **facts: Any) -> None:
        """Write what was trained, in float16, and which encoder it belongs to. An offset is trained by nobody, and is not kept."""
        tensors = {f"member{i}.{name}": x for i, member in enumerate(self.members) for name, x in member.state().items()}
        save_classifier(folder, tensors, self.members[0].shape() | {"members": len(self.members)} | facts, losses)

    @classmethod
    def restore(cls, folder: Path, device: str = "auto", offset: float = 0.0, **options: Any) -> Committee:
        """Read what `save` wrote, to judge with this offset. Raises UserError as `TextClassifier.restore` does."""
        facts, tensors = read_classifier(folder, options)
        need(facts, {"members": int}, folder)
        parts = [
            {name.removeprefix(start): x for name, x in tensors.items() if name.startswith(start)}
            for start in (f"member{i}." for i in range(facts["members"]))
        ]
        if not parts or sum(map(len, parts)) != len(tensors):
            raise UserError(f"{folder}: does not hold the tensors of {facts['members']} classifiers")
        return cls([TextClassifier.of_state(facts, part, folder, device) for part in parts], offset)
