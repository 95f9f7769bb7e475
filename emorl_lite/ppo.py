"""PPO for LoRA policies in one readable file, in the manner of cleanrl: pure functions first, then the trainer.

One switch, `PPOConfig.estimator`, turns it into the estimator of the EMORL paper's code: k samples a prompt, a leave-one-out baseline, no
critic. Sources: PPO, arXiv 1707.06347; GAE, arXiv 1506.02438; KL in the reward, arXiv 1909.08593; RLOO, arXiv 2402.14740.
Shapes: N replies, T reply tokens; masks are 1 up to and including the first EOS.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from tqdm.auto import tqdm

from emorl_lite.checkpoint import (
    Table,
    check_identity,
    check_writable,
    load_state,
    random_states,
    save_state,
    set_random_states,
    write_atomically,
)
from emorl_lite.errors import UserError
from emorl_lite.models import LanguageModel
from emorl_lite.presets import PPOConfig
from emorl_lite.rollout import Rollout, collect, folded, reward_name, score, token_logprobs, trim
from emorl_lite.types import Reward

COLUMNS = ["step", "episodes", "samples", "reward", "objective", "kl", "entropy", "approx_kl", "clipfrac", "policy_loss", "value_loss"]
COLUMNS += ["explained_variance", "length", "finished", "first_ratio", "validation", "seconds"]


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


def converged(validation_means: Sequence[float], patience: int, tolerance: float) -> bool:
    """The paper's rule: std / mean of the last `patience` validation means is below `tolerance`. False while there are fewer."""
    last = torch.tensor(validation_means[-patience:], dtype=torch.float64)
    return len(last) >= patience and bool(last.mean() > 0) and bool(last.std(correction=0) / last.mean() < tolerance)


class PPOTrainer:
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
        check_config(config, bool(len(validation_prompts)))
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
            lm.add_adapter(adapter, seed)
        lm.use(adapter)
        self.parameters = [p for p in lm.model.parameters() if p.requires_grad]
        self.value_head = nn.Linear(lm.width, 1, device=lm.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        groups = [{"params": self.parameters, "lr": config.lr}, {"params": list(self.value_head.parameters()), "lr": config.value_lr}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=lm.device.type in ("cpu", "cuda"))
        self.random = {**random_states(lm.device), "cpu": torch.Generator().manual_seed(seed).get_state()}
        if lm.device.type == "cuda":
            self.random["cuda"] = torch.Generator(lm.device).manual_seed(seed).get_state()
        self.steps = self.episodes = self.samples = 0
        self.seconds = 0.0
        self.order: list[int] = []
        self.validation_means: list[float] = []
        self.last_samples: list[dict[str, Any]] = []
        self.log = Table(self.folder and self.folder / "log.csv", [*COLUMNS, *self.watch])
        self.samples_table = Table(self.folder and self.folder / "samples.csv", ["step", "prompt", "reply", "score"])

    # -- one step

    def step(self) -> dict[str, float]:
        """One rollout and its update. Returns the row of the log; `validation` is NaN unless it is a validation step's turn."""
        started = time.perf_counter()
        self.lm.use(self.adapter)
        self.lm.model.eval()
        config, k = self.config, self.config.k if self.config.estimator == "rloo" else 1
        with self._own_randomness():
            rows = self._next_prompts(min(config.batch_size, max(1, config.episodes - self.episodes)))
            prompts = [self.prompts[row] for row in rows for _ in range(k)]
            rollout = collect(self.lm, self.encoded[torch.tensor(rows)], k, config.temperature, config.minibatch_size)
            scores = score(self.reward, prompts, rollout.texts)
            watched = {
                key: float((scores if other is self.reward else score(other, prompts, rollout.texts, key)).mean())
                for key, other in self.watch.items()
            }
            if not self.steps:
                nn.init.constant_(self.value_head.bias, float(scores.mean()))  # the critic starts at the mean, not far below it
            updated = self._update(rollout, scores.to(rollout.mask.device), k)
        self.steps += 1
        self.episodes += len(rows)
        self.samples += len(rollout)
        self.last_samples = [
            {"step": self.steps, "prompt": prompts[i], "reply": rollout.texts[i], "score": float(scores[i])}
            for i in range(min(config.log_samples, len(rollout)))
        ]
        kl = float(kl_per_token(rollout.logp, rollout.ref_logp, rollout.mask).sum(1).mean())
        ended = (rollout.tokens == self.lm.tokenizer.eos_token_id) & rollout.mask.bool()
        row = {
            "step": self.steps,
            "episodes": self.episodes,
            "samples": self.samples,
            "reward": float(scores.mean()),
            "objective": float(scores.mean()) - config.kl_coef * kl,
            "kl": kl,
            "entropy": float(masked_mean(rollout.entropy, rollout.mask)),
            **updated,
            "length": float(rollout.mask.sum(1).mean()),
            "finished": float(ended.any(1).float().mean()),
            "validation": math.nan,
            **watched,
        }
        if self.validation_prompts and config.validate_every and self.steps % config.validate_every == 0:
            row["validation"] = self.validate()
            self.validation_means.append(row["validation"])
        self.seconds += time.perf_counter() - started
        return row | {"seconds": round(self.seconds, 3)}

    @torch.no_grad()
    def validate(self) -> float:
        """Mean reward of greedy replies to the validation prompts."""
        assert self.encoded_validation is not None
        texts: list[str] = []
        with folded(self.lm):
            for rows in torch.arange(len(self.validation_prompts)).split(64):
                texts += self.lm.decode(self.lm.generate(trim(self.encoded_validation[rows])))
        return float(score(self.reward, self.validation_prompts, texts).mean())

    def _update(self, rollout: Rollout, scores: Tensor, k: int) -> dict[str, float]:
        """Gradient steps on a rollout; scores [N]. Returns the update's columns of the log."""
        config, mask, rloo = self.config, rollout.mask, self.config.estimator == "rloo"
        kl = kl_per_token(rollout.logp, rollout.ref_logp, mask)
        with torch.no_grad():
            old_values = self.value_head(rollout.features).squeeze(-1) * mask
        if rloo:
            advantages = leave_one_out(scores - config.kl_coef * kl.sum(1), k)[:, None] * mask
            returns = torch.zeros_like(mask)
        else:
            rewards = -config.kl_coef * kl
            last = mask.sum(1).long() - 1
            rewards[torch.arange(len(rewards), device=mask.device), last] += scores
            advantages, returns = gae(rewards, old_values, mask, config.gamma, config.lam)
            advantages = whiten(advantages, mask)
        # the paper's estimator has no ratio to correct for older samples: one optimizer step a rollout
        group_size = len(rollout) if rloo else config.minibatch_size * config.gradient_accumulation
        stats: dict[str, list[float]] = {name: [] for name in ("approx_kl", "clipfrac", "policy_loss", "value_loss")}
        first_ratio = None
        for _ in range(1 if rloo else config.epochs):
            for group in torch.randperm(len(rollout)).to(mask.device).split(group_size):
                self.optimizer.zero_grad()
                for rows in group.split(config.minibatch_size):
                    m = mask[rows]
                    m = m[:, : int(m.sum(1).max())]
                    t = m.shape[1]
                    tokens, old_logp = rollout.tokens[rows, :t], rollout.logp[rows, :t]
                    logits, _ = self.lm.forward_reply(trim(rollout.prompts[rows]), tokens, m)
                    logp = token_logprobs(logits, tokens, config.temperature) * m
                    with torch.no_grad():
                        log_ratio = logp - old_logp
                        ratio = log_ratio.exp()
                        if first_ratio is None:
                            first_ratio = float(((ratio - 1).abs() * m).max())
                        stats["approx_kl"].append(float(masked_mean(ratio - 1 - log_ratio, m)))
                        stats["clipfrac"].append(float(masked_mean(((ratio - 1).abs() > config.clip).float(), m)))
                    if rloo:
                        pg = -(advantages[rows, :t] * logp).sum(1).mean()
                        vf = torch.zeros_like(pg)
                        share = len(rows) / len(group)
                    else:
                        pg = policy_loss(logp, old_logp, advantages[rows, :t], m, config.clip)
                        values = self.value_head(rollout.features[rows, :t]).squeeze(-1)
                        vf = value_loss(values, old_values[rows, :t], returns[rows, :t], m, config.value_clip)
                        share = float(m.sum() / mask[group].sum())  # accumulated minibatches weigh as one batch of their tokens
                    (share * (pg + config.vf_coef * vf)).backward()
                    stats["policy_loss"].append(float(pg.detach()))
                    stats["value_loss"].append(float(vf.detach()))
                nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
                if not rloo:
                    nn.utils.clip_grad_norm_(self.value_head.parameters(), config.max_grad_norm)
                self.optimizer.step()
        self.optimizer.zero_grad()
        means = {name: sum(x) / len(x) for name, x in stats.items()}
        critic = {"value_loss": math.nan} if rloo else {}
        fit = math.nan if rloo else explained_variance(old_values, returns, mask)
        return means | critic | {"explained_variance": fit, "first_ratio": first_ratio or 0.0}

    def _next_prompts(self, n: int) -> list[int]:
        """The next n prompts of an endless series of shuffled passes over the data."""
        while len(self.order) < n:
            self.order += torch.randperm(len(self.prompts)).tolist()
        rows, self.order = self.order[:n], self.order[n:]
        return rows

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Draw from the trainer's own random state, so that nothing else in the process changes the run, nor the run anything else."""
        outside = random_states(self.lm.device)
        set_random_states(self.random, self.lm.device)
        try:
            yield
        finally:
            self.random = random_states(self.lm.device)
            set_random_states(outside, self.lm.device)

    # -- a whole run

    def train(self, resume: bool = True) -> pd.DataFrame:
        """Train to the end and return the log, one row a step.

        With a folder, continue from its checkpoint (`resume`), or return the log at once if the run is done; a resumed run ends with the
        same weights and log as an uninterrupted one. `resume=False` starts the folder again. Raises UserError if the folder's run had
        other options, or if the reward gives anything but one finite score a reply; the last checkpoint then stays.
        """
        if self.folder is not None and self._restore(resume):
            return self._frame()
        reason = "episodes"
        total = self.config.episodes
        with tqdm(total=total, initial=self.episodes, desc=self.adapter, unit="ep", disable=not self.progress) as bar:
            while self.episodes < total:
                before = self.episodes
                row = self.step()
                self.log.append([{k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}])
                self.samples_table.append(self.last_samples)
                bar.set_postfix(reward=f"{row['reward']:.3f}", kl=f"{row['kl']:.2f}")
                bar.update(self.episodes - before)
                if self.config.early_stop and converged(self.validation_means, self.config.patience, self.config.tolerance):
                    reason = "converged"
                    break
                if self.config.checkpoint_every and self.steps % self.config.checkpoint_every == 0:
                    self.save_checkpoint()
        if self.folder is not None:
            self.save_checkpoint()
            self.lm.save_adapter(self.adapter, self.folder)
            done: dict[str, Any] = {
                "seconds": round(self.seconds, 3),
                "steps": self.steps,
                "episodes": self.episodes,
                "samples": self.samples,
            }
            done["stopped"] = reason
            write_atomically(self.folder / "done.json", json.dumps(done | {"identity": self.identity()}, indent=1))
        return self._frame()

    def _frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.log.rows, columns=self.log.columns)
        return frame.apply(pd.to_numeric)

    def identity(self) -> dict[str, Any]:
        """What makes a run this run: a checkpoint continues only under the same."""

        def digest(texts: Sequence[str]) -> str:
            return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]

        model = {key: value for key, value in asdict(self.lm.config).items() if key not in ("path", "device", "dtype")}
        return {
            "adapter": self.adapter,
            "reward": reward_name(self.reward),
            "watch": list(self.watch),
            "seed": self.seed,
            "prompts": digest(self.prompts),
            "validation_prompts": digest(self.validation_prompts),
            **{f"ppo.{key}": value for key, value in asdict(self.config).items()},
            **{f"model.{key}": value for key, value in model.items()},
        }

    def save_checkpoint(self) -> None:
        """Write checkpoint/state.safetensors: adapter, value head, optimizer moments, random states; the rest in its header."""
        if self.folder is None:
            return
        tensors = {f"adapter/{k}": v for k, v in get_peft_model_state_dict(self.lm.model, adapter_name=self.adapter).items()}
        tensors |= {f"value_head/{k}": v for k, v in self.value_head.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{k}": v for k, v in moments.items()}
        tensors |= {f"random/{k}": v for k, v in self.random.items()}
        names = ("steps", "episodes", "samples", "seconds", "order", "validation_means")
        state = {name: getattr(self, name) for name in names} | {"identity": self.identity()}
        save_state(self.folder / "checkpoint" / "state.safetensors", tensors, state)

    def _restore(self, resume: bool) -> bool:
        """Bring the trainer to where its folder's run stands; True if that run is done."""
        assert self.folder is not None
        done, file = self.folder / "done.json", self.folder / "checkpoint" / "state.safetensors"
        if not resume:
            for old in (done, file):
                old.unlink(missing_ok=True)
        if done.is_file() and not file.is_file():  # a published run: adapter and tables, no checkpoint
            check_identity(done, json.loads(done.read_text(encoding="utf-8"))["identity"], self.identity())
            self.lm.load_adapter(self.folder, self.adapter)
            self.parameters = [p for p in self.lm.model.parameters() if p.requires_grad]
            self.steps = json.loads(done.read_text(encoding="utf-8"))["steps"]
        elif file.is_file():
            tensors, state = load_state(file)
            check_identity(file, state.pop("identity"), self.identity())
            self._load(tensors, state)
        self.log.rewind(self.steps)
        self.samples_table.rewind(self.steps)
        return done.is_file()

    def _load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name + "/"): v for k, v in tensors.items() if k.startswith(name + "/")}

        set_peft_model_state_dict(self.lm.model, part("adapter"), adapter_name=self.adapter)
        self.value_head.load_state_dict(part("value_head"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer").items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.random = part("random")
        for name, value in state.items():
            setattr(self, name, value)


def check_config(config: PPOConfig, validation: bool) -> None:
    """Raise UserError for options that make no sense."""
    positive = ("episodes", "batch_size", "minibatch_size", "epochs", "gradient_accumulation", "temperature", "max_grad_norm")
    for name in positive:
        if not getattr(config, name) > 0:
            raise UserError(f"--ppo.{name.replace('_', '-')} {getattr(config, name)}: must be positive")
    if config.estimator not in ("ppo", "rloo"):
        raise UserError(f"--ppo.estimator {config.estimator!r}: expected ppo or rloo")
    if config.estimator == "rloo" and config.k < 2:
        raise UserError(f"--ppo.k {config.k}: the leave-one-out baseline needs at least 2 samples a prompt")
    if config.early_stop and not (validation and config.validate_every):
        raise UserError("--ppo.early-stop: needs validation prompts and --ppo.validate-every above 0")
