"""PPO for one LoRA policy, and the supervised warm start (notebook 02)."""

from emorl_lite.training.penalised_reward import PenalisedReward
from emorl_lite.training.policy import AdapterPolicy
from emorl_lite.training.ppo import (
    PPOTrainer,
    explained_variance,
    gae,
    kl_per_token,
    leave_one_out,
    masked_mean,
    policy_loss,
    value_loss,
    whiten,
)
from emorl_lite.training.rollout import Rollout, collect, token_logprobs
from emorl_lite.training.stopping import converged, stop_reason
from emorl_lite.training.warm_start import warm_start

__all__ = [
    "AdapterPolicy",
    "PPOTrainer",
    "PenalisedReward",
    "Rollout",
    "collect",
    "converged",
    "explained_variance",
    "gae",
    "kl_per_token",
    "leave_one_out",
    "masked_mean",
    "policy_loss",
    "stop_reason",
    "token_logprobs",
    "value_loss",
    "warm_start",
    "whiten",
]
