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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_identity
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.types import Reward, reward_name
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.objective import Objective
from emorl_lite.training.policy import AdapterPolicy, own_adapter
from emorl_lite.training.randomness import OwnRandomness
from emorl_lite.training.rollout import Rollout, score, token_logprobs
from emorl_lite.training.run_folder import (
    ADDED_OFF,
    COUNTERS,
    OF_STUDY,
    RunFolder,
    digest_of,
    load_optimizer_tensors,
    optimizer_tensors,
)
from emorl_lite.training.stopping import KL_STEPS, stop_reason
from emorl_lite.training.team import Team

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
    baseline = (groups.sum(1, keepdim=True) - groups) / (k - 1)
    return (groups - baseline).view(-1)


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
    valid = mask.bool()
    variance = returns[valid].var(correction=0)
    return float(1 - (returns - values)[valid].var(correction=0) / variance) if variance > 1e-12 else math.nan


class PPOTrainer:
    """Train one adapter on one reward.

    `reward` may be an `Objective`, whose reward weights change while the policy trains. `watch` are other rewards that are only logged, as
    columns named by their keys. `folder` receives log.csv, samples.csv, checkpoint/, the final adapter and done.json; without it nothing is
    written. The adapter is made (seeded) if the model lacks it; one that is there must come from this folder, unless `start_from_loaded`
    says to train on from it. The policy runs without dropout, so that the ratio before the first update is 1. Results depend on `seed`,
    not on torch's global random state. `policy` and `team` are for other kinds of policies (methods/) and several processes (parallel).
    Raises UserError for options that make no sense, an empty prompt list, a prompt too long, a folder that cannot be written, or an
    adapter of another run.
    """

    def __init__(
        self,
        lm: LanguageModel,
        adapter: str,
        reward: Reward | Objective,
        prompts: Sequence[str],
        config: PPOConfig,
        *,
        folder: Path | str | None = None,
        validation_prompts: Sequence[str] = (),
        watch: Mapping[str, Reward] | None = None,
        seed: int = 0,
        progress: bool = True,
        policy: AdapterPolicy | None = None,
        team: Team | None = None,
        start_from_loaded: bool = False,
    ):
        config.check(bool(len(validation_prompts)))
        self.lm, self.adapter, self.config, self.seed = lm, adapter, config, seed
        self.objective = reward if isinstance(reward, Objective) else Objective(reward, config.kl_coef)
        self.policy, self.team, self.watch = policy or AdapterPolicy(lm, adapter), team or Team(), dict(watch or {})
        self.team.check(config)
        if taken := [key for key in self.watch if key in COLUMNS]:
            raise UserError(f"watched reward {taken[0]!r}: the log already has a column of this name")
        self.prompts, self.validation_prompts = list(prompts), list(validation_prompts)
        self.encoded = lm.encode(self.prompts)
        self.encoded_validation = lm.encode(self.validation_prompts) if self.validation_prompts else None
        self.progress = progress and self.team.leads
        self.run = RunFolder(folder if self.team.leads else None, [*COLUMNS, *self.watch, *self.objective.columns])
        self.started_from = own_adapter(self.policy, folder, seed, start_from_loaded)
        lm.use(adapter)
        self.extra = self.policy.extra(seed).to(lm.device)
        self.parameters = [*(p for p in lm.model.parameters() if p.requires_grad), *self.extra.parameters()]
        self.value_head = nn.Linear(lm.width, self.policy.values_per_state, device=lm.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        groups = [{"params": self.parameters, "lr": config.lr}, {"params": list(self.value_head.parameters()), "lr": config.value_lr}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=lm.device.type in ("cpu", "cuda"))
        self.random = OwnRandomness(lm.device, self.team.seed(seed))
        self.steps = self.episodes = self.samples = 0
        self.seconds = 0.0
        self.order: list[int] = []  # prompts still to come in this pass over the data
        self.validation_means: list[float] = []
        self.last_kls: list[float] = []
        self.last_samples: list[dict[str, Any]] = []
        with self.random:
            self.objective.start()

    # -- the algorithm

    def train(self, resume: bool = True) -> pd.DataFrame:
        """Train to the end and return the log, one row a step.

        With a folder, continue from its checkpoint (`resume`), or load the adapter and return the log at once if the run is done; a resumed
        run ends with the same weights and log as an uninterrupted one. `resume=False` starts the folder again. Raises UserError if the
        folder's run had other options, or if the reward gives anything but one finite score a reply; the last checkpoint then stays.
        """
        if not self.restore(resume):
            if not self.steps and self.config.checkpoint_every:
                self.save_checkpoint()  # the adapter's first weights: a run killed early starts from the same
            # plain text on standard output: a notebook keeps it as text, without widget state
            tqdm_options: dict[str, Any] = {
                "desc": self.adapter,
                "unit": "ep",
                "file": sys.stdout,
                "mininterval": 1,
                "disable": not self.progress,
            }
            with tqdm(total=self.config.episodes, initial=self.episodes, **tqdm_options) as bar:
                while not (reason := stop_reason(self.config, self.episodes, self.validation_means, self.last_kls)):
                    row = self.step()
                    self.run.append(row, self.last_samples)
                    bar.set_postfix(reward=f"{row['reward']:.3f}", kl=f"{row['kl']:.2f}")
                    bar.update(self.episodes - bar.n)
                    if self.config.checkpoint_every and self.steps % self.config.checkpoint_every == 0:
                        self.save_checkpoint()
            self.finish(reason)
        log: pd.DataFrame = self.team.same(self.run.log.frame())
        return log

    def step(self) -> dict[str, float]:
        """One rollout and its update. Returns the row of the log; `validation` is NaN unless it is a validation step's turn."""
        started = time.perf_counter()
        self.lm.use(self.adapter)
        self.lm.model.eval()
        self._set_learning_rates()
        config, k = self.config, self.config.k if self.config.estimator == "rloo" else 1
        with self.random:
            prompt_rows = self.team.same(self._next_prompts(min(config.batch_size, max(1, config.episodes - self.episodes))))
            rows = self.team.share(prompt_rows)
            rollout = self.policy.rollout([self.prompts[row] for row in rows], self.encoded[torch.tensor(rows)], k, config)
            prompts = [self.prompts[row] for row in rows for _ in range(k)]
            scores = self.objective.scores(prompts, rollout.texts)
            watched = {key: self._watched(key, prompts, rollout.texts, scores) for key in self.watch}
            if not self.steps:
                self.value_head.bias.data.fill_(float(scores.mean()))  # the critic starts at the mean, not far below it
                self.team.copy(self.value_head.parameters())
            updated = self._update(rollout, scores.to(rollout.mask.device), k)
        self.steps += 1
        self.episodes += len(prompt_rows)
        self.samples += len(rollout) * self.team.size
        self.last_samples = [
            {"step": self.steps, "prompt": prompts[i], "reply": rollout.texts[i], "score": float(scores[i])}
            for i in range(min(config.log_samples, len(rollout)))
        ]
        counted = {"step": self.steps, "episodes": self.episodes, "samples": self.samples, "validation": math.nan}
        row = counted | self._measured(rollout, scores) | updated | watched | self.objective.row()
        if self.validation_prompts and config.validate_every and self.steps % config.validate_every == 0:
            row["validation"] = self.validate()
            self.validation_means.append(row["validation"])
        with self.random:
            self.objective.adapt()
        self.seconds += time.perf_counter() - started
        row = self.team.mean(row | {"seconds": round(self.seconds, 3)})
        # rounding may differ between processes, and all must stop together
        row["validation"], self.validation_means = self.team.same((row["validation"], self.validation_means))
        self.last_kls = [*self.last_kls, row["kl"]][-KL_STEPS:]
        return row

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
                for rows in self._passes(group, rollout.mask):
                    share, loss, metrics = self._loss(rollout, advantages, returns, old_values, rows, group)
                    (share * loss).backward()
                    for name in sums:
                        sums[name] += share * metrics[name]
                    if not updates:
                        first_ratio = max(first_ratio, metrics["ratio"])
                self.team.average_gradients([*self.parameters, *self.value_head.parameters()])
                nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
                nn.utils.clip_grad_norm_(self.value_head.parameters(), config.max_grad_norm)
                self.optimizer.step()
                updates += 1
        self.optimizer.zero_grad()
        critic = {"value_loss": math.nan} if rloo else {}
        fit = math.nan if rloo else explained_variance(old_values, returns, rollout.mask)
        return {name: x / updates for name, x in sums.items()} | critic | {"explained_variance": fit, "first_ratio": first_ratio}

    def _advantages(self, rollout: Rollout, scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """(advantages, returns, values) [N, T] of a rollout: the score comes at a reply's last token, the KL penalty at every token."""
        config, mask = self.config, rollout.mask
        penalty = self.objective.kl_coef() * kl_per_token(rollout.logp, rollout.ref_logp, mask)
        if config.estimator == "rloo":
            nothing = torch.zeros_like(mask)
            return leave_one_out(scores - penalty.sum(1), k)[:, None] * mask, nothing, nothing
        rewards = -penalty
        rewards[torch.arange(len(rewards), device=mask.device), mask.sum(1).long() - 1] += scores
        with torch.no_grad():
            values = self.policy.values(self.value_head, rollout.features, torch.arange(len(rollout), device=mask.device)) * mask
        advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
        return whiten(advantages, mask), returns, values

    def _loss(
        self, rollout: Rollout, advantages: Tensor, returns: Tensor, old_values: Tensor, rows: Tensor, group: Tensor
    ) -> tuple[float, Tensor, dict[str, float]]:
        """(share, loss, measured) of one forward pass: `rows` of an optimizer step's `group`, in which they weigh `share`."""
        config = self.config
        T = int(rollout.mask[rows].sum(1).max())
        mask, tokens, old_logp, advantage = (x[rows, :T] for x in (rollout.mask, rollout.tokens, rollout.logp, advantages))
        logp = token_logprobs(self.policy.logits(rollout, rows, T), tokens, config.temperature) * mask
        if config.estimator == "rloo":
            share = len(rows) / len(group)
            pg_loss, vf_loss = -(advantage * logp).sum(1).mean(), torch.zeros((), device=logp.device)
        else:
            share = float(mask.sum() / rollout.mask[group].sum())  # passes weigh as one batch of their tokens
            pg_loss = policy_loss(logp, old_logp, advantage, mask, config.clip)
            values = self.policy.values(self.value_head, rollout.features[rows, :T], rows)
            vf_loss = value_loss(values, old_values[rows, :T], returns[rows, :T], mask, config.value_clip)
        with torch.no_grad():
            log_ratio = logp - old_logp
            deviation = (log_ratio.exp() - 1).abs() * mask
            measured = {
                "ratio": float(deviation.max()),
                "approx_kl": float(masked_mean(log_ratio.exp() - 1 - log_ratio, mask)),
                "clipfrac": float(masked_mean((deviation > config.clip).float(), mask)),
                "policy_loss": float(pg_loss),
                "value_loss": float(vf_loss),
            }
        return share, pg_loss + config.vf_coef * vf_loss, measured

    def _measured(self, rollout: Rollout, scores: Tensor) -> dict[str, float]:
        """Columns of the log about a rollout [N, T]. KL is measured here as it is, whatever the penalty makes of it."""
        kl = kl_per_token(rollout.logp, rollout.ref_logp, rollout.mask).sum(1)
        ended = (rollout.tokens == self.lm.tokenizer.eos_token_id) & rollout.mask.bool()
        return {
            "reward": float(scores.mean()),
            "objective": float(scores.mean() - (self.objective.kl_coef() * kl[:, None]).mean()),
            "kl": float(kl.mean()),
            "entropy": float(masked_mean(rollout.entropy, rollout.mask)),
            "length": float(rollout.mask.sum(1).mean()),
            "finished": float(ended.any(1).float().mean()),
        }

    @torch.no_grad()
    def validate(self) -> float:
        """Mean reward of greedy replies to the validation prompts."""
        assert self.encoded_validation is not None
        return self.objective.validate(self.validation_prompts, self.policy.greedy(self.validation_prompts, self.encoded_validation))

    def _watched(self, key: str, prompts: list[str], replies: list[str], scores: Tensor) -> float:
        """Mean of a watched reward; if it is the trained one itself, its scores are there."""
        is_objective = self.watch[key] is self.objective.reward
        return float((scores if is_objective else score(self.watch[key], prompts, replies, key)).mean())

    def _set_learning_rates(self) -> None:
        remaining = max(0.0, 1 - self.episodes / self.config.episodes) if self.config.anneal_lr else 1.0
        for group, rate in zip(self.optimizer.param_groups, (self.config.lr, self.config.value_lr), strict=True):
            group["lr"] = rate * remaining

    def _passes(self, group: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Cut the rows of one optimizer step into forward passes; sorting by length saves padding, and the gradient is the group's."""
        size = self.config.minibatch_size if group.device.type == "cuda" else min(self.config.minibatch_size, CPU_ROWS)
        return group[mask[group].sum(1).argsort()].split(size)

    def _next_prompts(self, n: int) -> list[int]:
        """The next n prompts of an endless series of shuffled passes over the data."""
        while len(self.order) < n:
            self.order += torch.randperm(len(self.prompts)).tolist()
        rows, self.order = self.order[:n], self.order[n:]
        return rows

    # -- the run on disk

    def identity(self) -> dict[str, Any]:
        """What makes a run this run: a checkpoint continues only under the same."""
        shape = {f"model.{key}": getattr(self.lm.config, key) for key in ("template", "max_new_tokens", "lora_r", "lora_alpha")}
        run: dict[str, Any] = {"adapter": self.adapter.removeprefix(OF_STUDY), "reward": reward_name(self.objective.reward)}
        run |= {"watch": list(self.watch), "seed": self.seed}
        texts = {"prompts": digest_of(self.prompts), "validation_prompts": digest_of(self.validation_prompts)}
        ppo = {f"ppo.{key}": value for key, value in asdict(self.config).items() if value or key not in ADDED_OFF}
        return {**run, **ppo, **shape, **texts, **self.policy.identity(), **self.team.identity(), **self.started_from}

    def save_checkpoint(self) -> None:
        """Write the run's state: adapter, value head, optimizer moments and random states as tensors, the rest as JSON in the header."""
        if self.run.path is None:
            return
        parts = {
            "adapter": get_peft_model_state_dict(self.lm.model, adapter_name=self.adapter),
            "value_head": self.value_head.state_dict(),
            "extra": self.extra.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "random": self.random.states,
        }
        self.run.save(parts, self._counters() | self.objective.state() | {"identity": self.identity(), "base": self.lm.base_probe()})

    def restore(self, resume: bool = True) -> bool:
        """Bring the trainer, and every process of its team, to where its folder's run stands; True if that run is done."""
        if not resume and self.steps:
            raise UserError("train(resume=False): this trainer has trained already; make a new one, on a fresh adapter")
        finished = self._read(resume) if self.run.path is not None else False
        if not finished:
            self.run.rewind(self.steps)
        state = self.team.same({"finished": finished, "moments": optimizer_tensors(self.optimizer), **self._counters()})
        if not self.team.leads:
            self.random = OwnRandomness(self.lm.device, self.team.seed(self.seed) + 7919 * int(state["steps"]))
            load_optimizer_tensors(self.optimizer, state["moments"])
            self._set_counters(state)
        self.team.copy([*self.parameters, *self.value_head.parameters()])
        return bool(state["finished"])

    def _read(self, resume: bool) -> bool:
        """What the folder holds: a finished run (True), a checkpoint, or nothing yet."""
        if not resume:
            self.run.clear()
        if record := self.run.finished():
            watched = {"watch": record["identity"].get("watch")}  # only logged: another list gives the same adapter
            check_identity(self.run.done, record["identity"], self.identity() | watched)
            if self.episodes != record["episodes"]:  # else it was trained by this very object
                self.lm.load_adapter(self.run.done.parent, self.adapter)
                self.extra.load_state_dict(self.run.extra())
                self._set_counters({name: record[name] for name in ("steps", "episodes", "samples", "seconds")})
            return True
        if (checkpoint := self.run.load()) is not None:
            parts, state = checkpoint
            check_identity(self.run.checkpoint, state["identity"], self.identity())
            if state["base"] != self.lm.base_probe():
                base = self.lm.config.path
                raise UserError(f"{self.run.checkpoint}: made with another base model than {base}; use another folder, or resume=False")
            set_peft_model_state_dict(self.lm.model, parts["adapter"], adapter_name=self.adapter)
            self.value_head.load_state_dict(parts["value_head"])
            self.extra.load_state_dict(parts["extra"])
            load_optimizer_tensors(self.optimizer, parts["optimizer"])
            self.random.states = parts["random"]
            self._set_counters(state)
            self.objective.load_state(state)
        return False

    def finish(self, reason: str) -> None:
        """Write the final adapter and done.json, and let the checkpoint go."""
        if self.run.path is None:
            return
        self.lm.round_adapter(self.adapter)
        self.lm.save_adapter(self.adapter, self.run.path)
        counted = {"seconds": round(self.seconds, 3), "steps": self.steps, "episodes": self.episodes, "samples": self.samples}
        self.run.finish(self.extra.state_dict(), counted | {"stopped": reason, "identity": self.identity()})

    def _counters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in COUNTERS}

    def _set_counters(self, state: Mapping[str, Any]) -> None:
        for name in COUNTERS:
            setattr(self, name, state.get(name, getattr(self, name)))
