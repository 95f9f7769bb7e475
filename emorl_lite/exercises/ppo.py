"""The exercises of notebook 02, PPO. Shapes: P prompt tokens, T reply tokens, N replies, V words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from emorl_lite.exercises.exercise import Case, Exercise


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(array, dtype=torch.float32)


def _mask_of(lengths: Sequence[int], T: int) -> Tensor:
    """1 in the first `lengths[i]` places of row i, [N, T]."""
    return (torch.arange(T) < torch.tensor(lengths)[:, None]).float()


# -- 1: the mask


def _reply_mask(tokens: list[int], end: int) -> list[int]:
    mask, going = [], 1
    for token in tokens:
        mask.append(going)
        going *= token != end
    return mask


def _same_mask(answer: list[object], expected: list[int]) -> bool:
    """True and False are ones and zeros, too. Raises ValueError if the answer is no row of that length."""
    if len(answer) != len(expected) or any(isinstance(x, list) for x in answer):
        raise ValueError("not the mask's shape")
    return all(isinstance(x, (bool, int, float)) for x in answer) and [float(x) for x in answer] == expected  # type: ignore[arg-type]


def _mask_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a reply that ends before the padding", ([7, 8, 2, 0, 0], 2))
    yield Case("a reply padded with its own end token", ([7, 8, 2, 2, 2], 2))
    yield Case("a reply that never ends", ([7, 8, 9, 5], 2))
    yield Case("a reply that is the end token alone", ([2, 0, 0], 2))
    yield Case("a reply that ends at its last place", ([7, 8, 2], 2))
    yield Case("tokens after the end that are no padding", ([7, 2, 9, 9], 2))
    for _ in range(14):
        T = int(random.integers(1, 9))
        yield Case("random tokens", (random.integers(1, 5, T).tolist(), 2))


# -- 2: log-probabilities of the reply's tokens


def _reply_logprobs(logits: Tensor, ids: Tensor, P: int) -> Tensor:
    return torch.log_softmax(logits[P - 1 : -1], -1).gather(-1, ids[P:, None]).squeeze(-1)


def _logprob_cases(random: np.random.Generator) -> Iterator[Case]:
    def text(P: int, T: int, V: int = 6, shift: float = 0.0) -> tuple[Tensor, Tensor, int]:
        return _tensor(2 * random.normal(size=(P + T, V)) + shift), torch.tensor(random.integers(0, V, P + T)), P

    yield Case("a reply of one token", text(3, 1))
    yield Case("a prompt of one token", text(1, 4))
    yield Case("large logits", text(3, 4, shift=200.0))
    for _ in range(17):
        yield Case("random logits", text(int(random.integers(1, 5)), int(random.integers(2, 6)), int(random.integers(3, 9))))


# -- 3: the reward of every token


def _token_rewards(score: float, logp: list[float], ref_logp: list[float], beta: float) -> list[float]:
    rewards = [-beta * (a - b) for a, b in zip(logp, ref_logp, strict=True)]
    rewards[-1] += score
    return rewards


def _token_reward_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("beta = 0", (0.7, [-1.0, -2.0, -0.5], [-2.0, -1.0, -0.1], 0.0))
    yield Case("a score of 0", (0.0, [-1.0, -2.0], [-2.0, -1.0], 0.5))
    yield Case("a reply of one token", (0.7, [-1.0], [-2.0], 0.5))
    yield Case("a token that the base finds likelier", (0.7, [-3.0, -1.0], [-1.0, -1.0], 0.5))
    yield Case("a policy that is the base", (0.4, [-1.0, -2.0], [-1.0, -2.0], 0.5))
    for _ in range(15):
        T = int(random.integers(1, 7))
        logp, ref_logp = (-random.uniform(0, 4, T)).round(2).tolist(), (-random.uniform(0, 4, T)).round(2).tolist()
        yield Case("a random reply", (float(random.uniform()), logp, ref_logp, float(random.choice([0.03, 0.1, 0.5]))))


# -- 4: estimators of the KL


def _kl_estimates(logp: Tensor, ref_logp: Tensor) -> Tensor:
    ahead = logp - ref_logp
    return torch.stack([ahead, (-ahead).exp() - 1 + ahead])


def _kl_cases(random: np.random.Generator) -> Iterator[Case]:
    likely = torch.tensor([-0.5, -0.2])
    yield Case("tokens that the policy finds likelier", (likely, likely - 1))
    yield Case("tokens that the base finds likelier", (likely - 1, likely))
    yield Case("a policy that is the base", (likely, likely.clone()))
    for _ in range(17):
        T = int(random.integers(1, 6))
        yield Case("random tokens", (_tensor(-random.uniform(0, 3, T)), _tensor(-random.uniform(0, 3, T))))


# -- 5: generalised advantage estimation


def _advantages(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    advantages, following, next_value = [0.0] * len(rewards), 0.0, 0.0
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * next_value - values[t]
        following = delta + gamma * lam * following
        advantages[t], next_value = following, values[t]
    return advantages


def _gae_cases(random: np.random.Generator) -> Iterator[Case]:
    rewards, values = [-0.1, 0.05, 0.8], [0.3, 0.5, 0.2]
    yield Case("a reply of one token", ([0.7], [0.2], 1.0, 0.95))
    yield Case("lambda = 0", (rewards, values, 1.0, 0.0))
    yield Case("lambda = 1", (rewards, values, 1.0, 1.0))
    yield Case("gamma below 1", (rewards, values, 0.9, 0.8))
    yield Case("a critic that says 0", (rewards, [0.0, 0.0, 0.0], 1.0, 0.95))
    yield Case("a reward at the last token alone", ([0.0, 0.0, 1.0], values, 1.0, 0.95))
    for _ in range(14):
        T = int(random.integers(2, 8))
        options = float(random.choice([1.0, 0.9])), float(random.choice([0.5, 0.95]))
        yield Case("a random reply", (random.normal(size=T).round(2).tolist(), random.uniform(0, 1, T).round(2).tolist(), *options))


# -- 7: whitening


def _whitened(x: Tensor, mask: Tensor) -> Tensor:
    valid = x[mask.bool()]
    return (x - valid.mean()) / (valid.var(correction=0) + 1e-8).sqrt() * mask


def _whiten_cases(random: np.random.Generator) -> Iterator[Case]:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]])
    yield Case("no padding", (x, torch.ones(2, 3)))
    yield Case("padding that holds numbers", (x, _mask_of([3, 1], 3)))
    yield Case("rows of different means", (x + torch.tensor([[0.0], [10.0]]), _mask_of([3, 2], 3)))
    yield Case("advantages that are all the same", (torch.full((2, 3), 0.5), _mask_of([3, 2], 3)))
    for _ in range(16):
        N, T = int(random.integers(2, 5)), int(random.integers(3, 7))
        lengths = [T, *random.integers(1, T + 1, N - 1).tolist()]
        yield Case("random advantages", (_tensor(random.normal(0.3, 2, (N, T))), _mask_of(lengths, T)))


# -- 8, 9: the clipped loss of one token, and its gradient


def _clipped_loss(ratio: float, advantage: float, epsilon: float) -> float:
    return -min(ratio * advantage, min(max(ratio, 1 - epsilon), 1 + epsilon) * advantage)


def _gradient(ratio: float, advantage: float, epsilon: float) -> float:
    gone_too_far = (advantage > 0 and ratio > 1 + epsilon) or (advantage < 0 and ratio < 1 - epsilon)
    return 0.0 if gone_too_far else -advantage * ratio


def _clip_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a good token that became likelier, beyond the range", (1.5, 1.0, 0.2))
    yield Case("a good token that became less likely, beyond the range", (0.5, 2.0, 0.2))
    yield Case("a bad token that became likelier, beyond the range", (1.5, -1.0, 0.2))
    yield Case("a bad token that became less likely, beyond the range", (0.5, -2.0, 0.2))
    yield Case("a ratio of 1", (1.0, 0.7, 0.2))
    yield Case("an advantage of 0", (1.5, 0.0, 0.2))
    yield Case("a ratio within the range", (1.1, -0.5, 0.2))
    for _ in range(13):
        yield Case("random tokens", (float(random.uniform(0.3, 1.9)), float(random.normal()), float(random.choice([0.1, 0.3]))))


# -- 10: three bugs in a loss


def _policy_loss(logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, epsilon: float) -> Tensor:
    ratio = (logp - old_logp).exp()
    losses = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - epsilon, 1 + epsilon))
    return (losses * mask).sum() / mask.sum()


def _loss_cases(random: np.random.Generator) -> Iterator[Case]:
    def rollout(N: int, T: int, lengths: list[int], moved: float = 0.3) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        old, mask = _tensor(-random.uniform(0.1, 3, (N, T))), _mask_of(lengths, T)
        new = old + _tensor(moved * random.normal(size=(N, T)))
        return new, old, _tensor(random.normal(size=(N, T))), mask, 0.2

    yield Case("replies without padding", rollout(2, 4, [4, 4]))
    yield Case("replies with padding", rollout(3, 5, [5, 2, 1]))
    yield Case("the first update, where every ratio is 1", rollout(2, 4, [4, 3], moved=0.0))
    yield Case("one token", rollout(1, 1, [1]))
    for _ in range(16):
        N, T = int(random.integers(2, 4)), int(random.integers(3, 6))
        yield Case("random replies", rollout(N, T, random.integers(1, T + 1, N).tolist()))


# -- 11: leave one out


def _leave_one_out(scores: list[float]) -> list[float]:
    k, total = len(scores), sum(scores)
    return [score - (total - score) / (k - 1) for score in scores]


def _leave_one_out_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("two replies", ([0.9, 0.1],))
    yield Case("replies that score the same", ([0.4, 0.4, 0.4],))
    yield Case("one reply that is better than the others", ([0.0, 0.0, 1.0],))
    yield Case("two replies with the same score among others", ([0.2, 0.2, 0.8, 0.5],))
    for _ in range(16):
        yield Case("random scores", (random.uniform(0, 1, int(random.integers(2, 7))).round(2).tolist(),))


EXERCISES: tuple[Exercise, ...] = (
    Exercise("02.1", _reply_mask, _mask_cases, "a list of T ones and zeros", equal=_same_mask),
    Exercise("02.2", _reply_logprobs, _logprob_cases, "one row of T numbers", tolerance=1e-3),
    Exercise("02.3", _token_rewards, _token_reward_cases, "a list of T numbers"),
    Exercise("02.4", _kl_estimates, _kl_cases, "a pair of rows of T numbers (k1, then k3)"),
    Exercise("02.5", _advantages, _gae_cases, "a list of T numbers"),
    Exercise("02.6", lambda: [1, 12], None, "a pair of whole numbers"),
    Exercise("02.7", _whitened, _whiten_cases, "a table of numbers, [N, T]", tolerance=1e-3),
    Exercise("02.8", _clipped_loss, _clip_cases, "a number"),
    Exercise("02.9", _gradient, _clip_cases, "a number"),
    Exercise("02.10", _policy_loss, _loss_cases, "a number"),
    Exercise("02.11", _leave_one_out, _leave_one_out_cases, "a list of k numbers"),
)
