"""PPO for one LoRA policy, and the supervised warm start (notebook 02)."""

from emorl_lite.training.penalised_reward import PenalisedReward, logarithm
from emorl_lite.training.policy import AdapterPolicy
from emorl_lite.training.ppo import (
    PPOTrainer,
    explained_variance,
    gae,
    kl_k3,
    kl_per_token,
    leave_one_out,
    less_the_mean,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from emorl_lite.training.rollout import Rollout, collect, ratio_limit, token_logprobs
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
    "kl_k3",
    "kl_per_token",
    "leave_one_out",
    "less_the_mean",
    "logarithm",
    "masked_mean",
    "policy_loss",
    "ratio_limit",
    "stop_reason",
    "token_logprobs",
    "token_rewards",
    "value_loss",
    "warm_start",
    "whiten",
]
