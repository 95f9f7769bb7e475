"""PPO for LoRA policies in one readable file, in the manner of cleanrl: pure functions first, then the trainer.

One switch, `PPOConfig.estimator`, turns it into the estimator of the EMORL paper's code: k samples a prompt, a leave-one-out baseline, no
critic. Sources: PPO, arXiv 1707.06347; GAE, arXiv 1506.02438; KL in the reward, arXiv 1909.08593; RLOO, arXiv 2402.14740.
Shapes: N replies, T reply tokens; masks are 1 up to and including the first EOS.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import Table, check_writable
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.types import Reward
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.rollout import Rollout, collect, folded, score, token_logprobs, trim
from emorl_lite.training.run_folder import ResumableRun, random_states
from emorl_lite.training.stopping import stop_reason

COLUMNS = ["step", "episodes", "samples", "reward", "objective", "kl", "entropy", "approx_kl", "clipfrac", "policy_loss", "value_loss"]
COLUMNS += ["explained_variance", "length", "finished", "first_ratio", "validation", "seconds"]

CPU_ROWS = 16
"""Rows in one forward pass of the update on a CPU: enough to be efficient, few enough for rows of similar length."""


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the positions where mask is 1; 0 if there is none. Any shape."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale x to mean 0 and variance 1 over the mask; 0 elsewhere."""
    centred = (x - masked_mean(x, mask)) * mask
    return centred * torch.rsqrt(masked_mean(centred**2, mask) + 1e-8)


def kl_per_token(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """log pi(a|s) - log pi_ref(a|s) of the sampled tokens, [N, T]: summed over a reply, an unbiased estimate of KL(pi || pi_ref)."""
    return (logp - ref_logp) * mask


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, [N, T] each (arXiv 1506.02438, eq. 16).

    A_t = sum_l (gamma lam)^l delta_{t+l} with delta_t = r_t + gamma V_{t+1} - V_t; V is 0 after a reply's last token. Returns are A + V.
    """
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] * mask[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        advantages[:, t] = running
    return advantages, advantages + values * mask


def leave_one_out(scores: Tensor, k: int) -> Tensor:
    """Each score minus the mean of the other k - 1 of its prompt, [N]; the k samples of a prompt are adjacent (arXiv 2402.14740, eq. 7)."""
    groups = scores.view(-1, k)
    others = (groups.sum(1, keepdim=True) - groups) / (k - 1)
    return (groups - others).view(-1)


def policy_loss(logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> Tensor:
    """PPO's clipped surrogate, negated, mean over tokens (arXiv 1707.06347, eq. 7). All inputs [N, T]."""
    ratio = ((logp - old_logp) * mask).exp()
    return masked_mean(torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)), mask)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error, or that of the value clipped to within `clip` of the old one if larger; mean over tokens. Inputs [N, T]."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.max((values - returns) ** 2, (clipped - returns) ** 2), mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the mask; NaN where the returns do not vary."""
    kept = mask.bool()
    variance = returns[kept].var(correction=0)
    return float(1 - (returns - values)[kept].var(correction=0) / variance) if variance > 1e-12 else math.nan


class PPOTrainer(ResumableRun):
    """Train one adapter on one reward.

    `watch` are other rewards that are only logged, as columns named by their keys. `folder` receives log.csv, samples.csv, checkpoint/, the
    final adapter and done.json; without it nothing is written. The adapter is made (seeded) if the model lacks it. The policy runs without
    dropout, so that the ratio before the first update is 1. Results depend on `seed`, not on torch's global random state.
    Raises UserError for options that make no sense, an empty prompt list, a prompt too long, or a folder that cannot be written.
    """

    def __init__(
        self,
        lm: LanguageModel,
        adapter: str,
        reward: Reward,
        prompts: Sequence[str],
        config: PPOConfig,
        *,
        folder: Path | str | None = None,
        validation_prompts: Sequence[str] = (),
        watch: Mapping[str, Reward] | None = None,
        seed: int = 0,
        progress: bool = True,
    ):
        super().__init__()
        config.check(bool(len(validation_prompts)))
        self.lm, self.adapter, self.reward, self.config, self.seed, self.progress = lm, adapter, reward, config, seed, progress
        self.watch = dict(watch or {})
        if taken := [key for key in self.watch if key in COLUMNS]:
            raise UserError(f"watched reward {taken[0]!r}: the log already has a column of this name")
        self.prompts, self.validation_prompts = list(prompts), list(validation_prompts)
        self.encoded = lm.encode(self.prompts)
        self.encoded_validation = lm.encode(self.validation_prompts) if self.validation_prompts else None
        self.folder = Path(folder) if folder is not None else None
        if self.folder is not None:
            check_writable(self.folder)
        if adapter not in lm.adapters:
            self.make_adapter()
        lm.use(adapter)
        self.extra = self.make_extra().to(lm.device)
        self.parameters = [*(p for p in lm.model.parameters() if p.requires_grad), *self.extra.parameters()]
        self.value_head = nn.Linear(lm.width, self.values_per_state, device=lm.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        groups = [{"params": self.parameters, "lr": config.lr}, {"params": list(self.value_head.parameters()), "lr": config.value_lr}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=lm.device.type in ("cpu", "cuda"))
        self.random = random_states(lm.device, seed)
        self.last_samples: list[dict[str, Any]] = []
        self.log = Table(self.folder and self.folder / "log.csv", [*COLUMNS, *self.watch, *self.more_columns])
        self.samples_table = Table(self.folder and self.folder / "samples.csv", ["step", "prompt", "reply", "score"])

    # -- what another kind of policy changes (see methods/)

    values_per_state = 1
    """Outputs of the value head."""
    more_columns: Sequence[str] = ()
    """Further columns of the log."""

    def more(self) -> dict[str, float]:
        """Their values after a step."""
        return {}

    def make_adapter(self) -> None:
        """Add the adapter to be trained."""
        self.lm.add_adapter(self.adapter, self.seed)

    def make_extra(self) -> nn.Module:
        """Trained parameters beside the adapter: none."""
        return nn.Module()

    def rollout(self, rows: Tensor, k: int) -> Rollout:
        """Sample k replies to each of these training prompts."""
        return collect(self.lm, self.encoded[rows], k, self.config.temperature, self.config.minibatch_size)

    def scores(self, prompts: list[str], replies: list[str]) -> Tensor:
        """The reward [N] of a rollout's replies."""
        return score(self.reward, prompts, replies)

    def kl_coef(self) -> float | Tensor:
        """Weight of the KL penalty, one for all replies or one a reply [N, 1]."""
        return self.config.kl_coef

    def values(self, features: Tensor, rows: Tensor) -> Tensor:
        """The critic's values [n, T] at features [n, T, d] of these rows of the rollout."""
        return self.value_head(features).squeeze(-1)

    def policy_logits(self, rollout: Rollout, rows: Tensor, T: int) -> Tensor:
        """The policy's logits [n, T, V] for the first T tokens of these rows of the rollout, with gradients."""
        return self.lm.forward_reply(trim(rollout.prompts[rows]), rollout.tokens[rows, :T], rollout.mask[rows, :T])[0]

    def decoding(self) -> AbstractContextManager[None]:
        """Around greedy decoding: one adapter for all rows is folded into the weights."""
        return folded(self.lm)

    def after_step(self) -> None:
        """Called at the end of every step, with the trainer's own randomness."""

    # -- what several processes change (see parallel_ppo)

    world = 1
    """Processes that train this adapter together."""

    def share(self, rows: list[int]) -> list[int]:
        """The prompts of a step that this process answers."""
        return rows

    def average_gradients(self) -> None:
        """Called before every optimizer step."""

    # -- one step

    def step(self) -> dict[str, float]:
        """One rollout and its update. Returns the row of the log; `validation` is NaN unless it is a validation step's turn."""
        started = time.perf_counter()
        self.lm.use(self.adapter)
        self.lm.model.eval()
        config, k = self.config, self.config.k if self.config.estimator == "rloo" else 1
        left = max(0.0, 1 - self.episodes / config.episodes) if config.anneal_lr else 1.0
        for group, rate in zip(self.optimizer.param_groups, (config.lr, config.value_lr), strict=True):
            group["lr"] = rate * left
        with self.own_randomness():
            drawn = self._next_prompts(min(config.batch_size, max(1, config.episodes - self.episodes)))
            rows = self.share(drawn)
            prompts = [self.prompts[row] for row in rows for _ in range(k)]
            rollout = self.rollout(torch.tensor(rows), k)
            scores = self.scores(prompts, rollout.texts)
            watched = {
                key: float((scores if other is self.reward else score(other, prompts, rollout.texts, key)).mean())
                for key, other in self.watch.items()
            }
            if not self.steps:
                self.value_head.bias.data.fill_(float(scores.mean()))  # the critic starts at the mean, not far below it
            updated = self._update(rollout, scores.to(rollout.mask.device), k)
        self.steps += 1
        self.episodes += len(drawn)
        self.samples += len(rollout) * self.world
        self.last_samples = [
            {"step": self.steps, "prompt": prompts[i], "reply": rollout.texts[i], "score": float(scores[i])}
            for i in range(min(config.log_samples, len(rollout)))
        ]
        kl_per_reply = kl_per_token(rollout.logp, rollout.ref_logp, rollout.mask).sum(1)
        kl = float(kl_per_reply.mean())
        self.last_kls = [*self.last_kls, kl][-3:]
        ended = (rollout.tokens == self.lm.tokenizer.eos_token_id) & rollout.mask.bool()
        row = {
            "step": self.steps,
            "episodes": self.episodes,
            "samples": self.samples,
            "reward": float(scores.mean()),
            "objective": float(scores.mean() - (self.kl_coef() * kl_per_reply[:, None]).mean()),
            "kl": kl,
            "entropy": float(masked_mean(rollout.entropy, rollout.mask)),
            **updated,
            "length": float(rollout.mask.sum(1).mean()),
            "finished": float(ended.any(1).float().mean()),
            "validation": math.nan,
            **watched,
            **self.more(),
        }
        if self.validation_prompts and config.validate_every and self.steps % config.validate_every == 0:
            row["validation"] = self.validate()
            self.validation_means.append(row["validation"])
        with self.own_randomness():
            self.after_step()
        self.seconds += time.perf_counter() - started
        return row | {"seconds": round(self.seconds, 3)}

    @torch.no_grad()
    def validate(self) -> float:
        """Mean reward of greedy replies to the validation prompts."""
        return float(score(self.reward, self.validation_prompts, self.validation_replies()).mean())

    def validation_replies(self) -> list[str]:
        """Greedy replies to the validation prompts."""
        assert self.encoded_validation is not None
        texts: list[str] = []
        with self.decoding():
            for rows in torch.arange(len(self.validation_prompts)).split(64):
                texts += self.lm.decode(self.lm.generate(trim(self.encoded_validation[rows])))
        return texts

    def _advantages(self, rollout: Rollout, scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """(advantages, returns, values) [N, T] of a rollout: the score comes at a reply's last token, the KL penalty at every token."""
        config, mask = self.config, rollout.mask
        penalty = self.kl_coef() * kl_per_token(rollout.logp, rollout.ref_logp, mask)
        if config.estimator == "rloo":
            nothing = torch.zeros_like(mask)
            return leave_one_out(scores - penalty.sum(1), k)[:, None] * mask, nothing, nothing
        rewards = -penalty
        rewards[torch.arange(len(rewards), device=mask.device), mask.sum(1).long() - 1] += scores
        with torch.no_grad():
            values = self.values(rollout.features, torch.arange(len(rollout), device=mask.device)) * mask
        advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
        return whiten(advantages, mask), returns, values

    def _update(self, rollout: Rollout, scores: Tensor, k: int) -> dict[str, float]:
        """Gradient steps on a rollout; scores [N]. Returns the update's columns of the log: means over the optimizer steps."""
        config, rloo = self.config, self.config.estimator == "rloo"
        advantages, returns, old_values = self._advantages(rollout, scores, k)
        # the paper's estimator has no ratio to correct for older samples: one optimizer step a rollout
        epochs, group_size = (1, len(rollout)) if rloo else (config.epochs, config.minibatch_size * config.gradient_accumulation)
        sums = dict.fromkeys(("approx_kl", "clipfrac", "policy_loss", "value_loss"), 0.0)
        updates, first_ratio = 0, 0.0
        for _ in range(epochs):
            for group in torch.randperm(len(rollout)).to(scores.device).split(group_size):
                self.optimizer.zero_grad()
                group_tokens = rollout.mask[group].sum()
                for rows in self._chunks(group, rollout.mask):
                    T = int(rollout.mask[rows].sum(1).max())
                    mask, tokens, old_logp, advantage = (x[rows, :T] for x in (rollout.mask, rollout.tokens, rollout.logp, advantages))
                    logits = self.policy_logits(rollout, rows, T)
                    logp = token_logprobs(logits, tokens, config.temperature) * mask
                    if rloo:
                        share = len(rows) / len(group)
                        pg, vf = -(advantage * logp).sum(1).mean(), torch.zeros((), device=logp.device)
                    else:
                        share = float(mask.sum() / group_tokens)  # chunks weigh as one batch of their tokens
                        pg = policy_loss(logp, old_logp, advantage, mask, config.clip)
                        values = self.values(rollout.features[rows, :T], rows)
                        vf = value_loss(values, old_values[rows, :T], returns[rows, :T], mask, config.value_clip)
                    (share * (pg + config.vf_coef * vf)).backward()
                    with torch.no_grad():
                        log_ratio = logp - old_logp
                        away = (log_ratio.exp() - 1).abs() * mask
                        if not updates:
                            first_ratio = max(first_ratio, float(away.max()))
                        sums["approx_kl"] += share * float(masked_mean(log_ratio.exp() - 1 - log_ratio, mask))
                        sums["clipfrac"] += share * float(masked_mean((away > config.clip).float(), mask))
                        sums["policy_loss"] += share * float(pg)
                        sums["value_loss"] += share * float(vf)
                self.average_gradients()
                nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
                nn.utils.clip_grad_norm_(self.value_head.parameters(), config.max_grad_norm)
                self.optimizer.step()
                updates += 1
        self.optimizer.zero_grad()
        critic = {"value_loss": math.nan} if rloo else {}
        fit = math.nan if rloo else explained_variance(old_values, returns, rollout.mask)
        return {name: x / updates for name, x in sums.items()} | critic | {"explained_variance": fit, "first_ratio": first_ratio}

    def _chunks(self, group: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Cut the rows of one optimizer step into forward passes; sorting by length saves padding, and the gradient is the group's."""
        size = self.config.minibatch_size if group.device.type == "cuda" else min(self.config.minibatch_size, CPU_ROWS)
        return group[mask[group].sum(1).argsort()].split(size)

    def _next_prompts(self, n: int) -> list[int]:
        """The next n prompts of an endless series of shuffled passes over the data."""
        while len(self.order) < n:
            self.order += torch.randperm(len(self.prompts)).tolist()
        rows, self.order = self.order[:n], self.order[n:]
        return rows

    # -- a whole run

    def train(self, resume: bool = True) -> pd.DataFrame:
        """Train to the end and return the log, one row a step.

        With a folder, continue from its checkpoint (`resume`), or load the adapter and return the log at once if the run is done; a resumed
        run ends with the same weights and log as an uninterrupted one. `resume=False` starts the folder again. Raises UserError if the
        folder's run had other options, or if the reward gives anything but one finite score a reply; the last checkpoint then stays.
        """
        if self.restore(resume):
            return self.log.frame()
        if not self.steps and self.config.checkpoint_every:
            self.save_checkpoint()  # the adapter's first weights: a run killed early starts from the same
        # plain text on standard output: a notebook keeps it as text, without widget state
        look: dict[str, Any] = {"desc": self.adapter, "unit": "ep", "file": sys.stdout, "mininterval": 1, "disable": not self.progress}
        with tqdm(total=self.config.episodes, initial=self.episodes, **look) as bar:
            while not (reason := stop_reason(self.config, self.episodes, self.validation_means, self.last_kls)):
                row = self.step()
                self.log.append([row])
                self.samples_table.append(self.last_samples)
                bar.set_postfix(reward=f"{row['reward']:.3f}", kl=f"{row['kl']:.2f}")
                bar.update(self.episodes - bar.n)
                if self.config.checkpoint_every and self.steps % self.config.checkpoint_every == 0:
                    self.save_checkpoint()
        self.finish(reason)
        return self.log.frame()
