"""When a training run stops: at its last episode, by the paper's rule, or because its KL runs away."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from emorl_lite.base.presets import PPOConfig

KL_STEPS = 3
"""Steps whose mean KL is compared with `kl_stop`."""


def converged(validation_means: Sequence[float], patience: int, tolerance: float) -> bool:
    """The paper's rule: std / mean of the last `patience` validation means is below `tolerance`. False while there are fewer."""
    last = torch.tensor(validation_means[-patience:], dtype=torch.float64)
    return len(last) >= patience and bool(last.mean() > 0) and bool(last.std(correction=0) / last.mean() < tolerance)


def stop_reason(config: PPOConfig, episodes: int, validation_means: Sequence[float], last_kls: Sequence[float]) -> str:
    """Why to stop now: "converged", "kl", "episodes", or "" to go on."""
    if config.early_stop and converged(validation_means, config.patience, config.tolerance):
        return "converged"
    if config.kl_stop and len(last_kls) == KL_STEPS and sum(last_kls) / KL_STEPS > config.kl_stop:
        return "kl"
    return "episodes" if episodes >= config.episodes else ""
