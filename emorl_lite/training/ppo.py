"""PPO for LoRA policies, in the manner of cleanrl: pure functions, three estimators (PPO, RLOO, k-SCST), the trainer.

Sampling is in `rollout`, what is trained in `policy`.

One switch, `PPOConfig.estimator`, turns it into the estimator of the EMORL paper's code: k samples a prompt, their mean as baseline, no
critic. Sources: PPO, arXiv 1707.06347; GAE, arXiv 1506.02438; KL in the reward, arXiv 1909.08593; RLOO, arXiv 2402.14740; k-SCST, the
code of arXiv 2505.02579 (it takes the idea from self-critical sequence training, arXiv 1612.00563).
Shapes: N replies, T reply tokens; masks are 1 up to and including the first EOS.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.fingerprint import describe_reward
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.ranges import check_seed
from emorl_lite.base.texts import check_texts
from emorl_lite.base.types import Reward, reward_name
from emorl_lite.lm.devices import type_name
from emorl_lite.lm.examination import examine
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.penalised_reward import PenalisedReward
from emorl_lite.training.policy import AdapterPolicy, Ownership, make_anew, own_adapter
from emorl_lite.training.randomness import OwnRandomness
from emorl_lite.training.rollout import Rollout, by_length, examine_sampling, ratio_limit, score, token_logprobs
from emorl_lite.training.run_folder import OF_STUDY, RunFolder, options_identity, texts_digest
from emorl_lite.training.stopping import KL_STEPS, stop_reason
from emorl_lite.training.team import Team

COLUMNS = ["step", "episodes", "samples", "reward", "penalised_reward", "kl", "entropy", "approx_kl", "clipfrac", "policy_loss"]
COLUMNS += ["value_loss", "explained_variance", "length", "finished", "first_ratio", "validation", "seconds"]
ENTERED = "entered"
"""Column of a run whose rewards enter as logarithms: their mean."""

CPU_ROWS = 32
"""Rows in one forward pass of the update on a CPU: enough to be efficient, few enough for a processor's own memory."""


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the positions where mask is 1; 0 if there is none. Any shape."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale x to mean 0 and variance 1 over the mask; 0 elsewhere."""
    centred = (x - masked_mean(x, mask)) * mask
    return centred * torch.rsqrt(masked_mean(centred**2, mask) + 1e-8)


def kl_per_token(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """log pi(a|s) - log pi_ref(a|s) of the sampled tokens, [N, T]: summed over a reply, an unbiased estimate of KL(pi || pi_ref).

    This is the estimator k1 (joschu.net/blog/kl-approx.html), for the penalty and for what is logged. As a penalty in the reward it is the
    one whose policy gradient is KL's; k3 has less variance as a measurement, but as a reward its gradient vanishes near the base.
    """
    return (logp - ref_logp) * mask


def kl_k3(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """r - 1 - log r, r = pi_ref(a|s) / pi(a|s) at tokens sampled from pi, [N, T]: the estimator k3 of KL(pi || pi_ref), never negative."""
    log_r = ref_logp - logp
    return log_r.exp() - 1 - log_r


def token_rewards(scores: Tensor, penalty: Tensor, mask: Tensor) -> Tensor:
    """The reward of every token, [N, T]: less the KL penalty [N, T] at each, and the reply's score [N] at its last (arXiv 1909.08593)."""
    rewards, last = -penalty, mask.sum(1).long() - 1
    rewards[torch.arange(len(rewards), device=mask.device), last] += scores
    return rewards


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


def less_the_mean(scores: Tensor, k: int) -> Tensor:
    """Each score minus the mean of all k of its prompt, its own among them, [N]; the k samples of a prompt are adjacent (k-SCST).

    That is (k - 1) / k times `leave_one_out`: a biased baseline, whose only effect is this factor.
    """
    groups = scores.view(-1, k)
    return (groups - groups.mean(1, keepdim=True)).view(-1)


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


class PPO:
    """Clipped PPO with a critic: one sample a prompt, GAE, several epochs of optimizer steps over a rollout (arXiv 1707.06347)."""

    samples_per_prompt = 1
    has_critic = True

    def __init__(self, config: PPOConfig):
        self.config = config

    def steps(self, N: int) -> tuple[int, int]:
        """(epochs, replies of an optimizer step) for a rollout of N replies."""
        return self.config.epochs, self.config.minibatch_size * self.config.gradient_accumulation

    def advantages(self, scores: Tensor, penalty: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(advantages, returns) [N, T] from scores [N], KL penalty and values [N, T]."""
        advantages, returns = gae(token_rewards(scores, penalty, mask), values, mask, self.config.gamma, self.config.lam)
        return whiten(advantages, mask), returns

    def loss(self, logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        """The policy's loss on some replies; inputs [n, T]."""
        return policy_loss(logp, old_logp, advantages, mask, self.config.clip)

    def share(self, mask: Tensor, step_mask: Tensor) -> float:
        """How much some replies weigh in their optimizer step: a mean over tokens weighs them by their tokens."""
        return float(mask.sum() / step_mask.sum())


class RLOO:
    """k samples a prompt, each other's baseline, one plain policy-gradient step a rollout (arXiv 2402.14740).

    It has no ratio that would correct for older samples, hence one step.
    """

    has_critic = False
    less_baseline = staticmethod(leave_one_out)

    def __init__(self, config: PPOConfig):
        self.samples_per_prompt = config.k

    def steps(self, N: int) -> tuple[int, int]:
        """(epochs, replies of an optimizer step) for a rollout of N replies."""
        return 1, N

    def advantages(self, scores: Tensor, penalty: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(advantages, returns) [N, T]: a reply's advantage at each of its tokens, and no returns."""
        advantages = self.less_baseline(scores - penalty.sum(1), self.samples_per_prompt)
        return advantages[:, None] * mask, torch.zeros_like(mask)

    def loss(self, logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        """The policy's loss on some replies, -A sum_t log pi(y_t), mean over the replies; inputs [n, T]."""
        return -(advantages * logp).sum(1).mean()

    def share(self, mask: Tensor, step_mask: Tensor) -> float:
        """How much some replies weigh in their optimizer step: a mean over replies weighs them alike."""
        return len(mask) / len(step_mask)


class KSCST(RLOO):
    """The EMORL paper's estimator: as RLOO, but the baseline is the mean of all k samples, the reply's own among them.

    One step a rollout on all its replies: loss = mean over the batch's k samples of every prompt of -A sum_t log pi(y_t), as its code has
    it; there t stops before the end token, here the end token is a word like others.
    """

    less_baseline = staticmethod(less_the_mean)


ESTIMATORS: dict[str, type[PPO] | type[RLOO]] = {"ppo": PPO, "rloo": RLOO, "kscst": KSCST}
"""By their names in `PPOConfig.estimator`."""


class PPOTrainer:
    """Train one adapter on one reward: sample replies, score them, penalise their distance from the base, estimate advantages, update.

    `reward` may be a `PenalisedReward`: a subclass may change its weights while the policy trains. `watch` are other rewards that are only
    logged, as columns named by their keys. `policy` and `team` are for other kinds of policies (methods/) and several processes (parallel).
    `folder` receives log.csv, samples.csv, checkpoint/, the final adapter and done.json; without it nothing is written. The adapter is made
    (seeded) if the model lacks it; one that is there must come from this folder, unless `start_from_loaded` says to train on from it.
    The policy runs without dropout, so that the ratio before the first update is 1. Results depend on `seed`, not on torch's global state.
    Raises UserError for options that make no sense, an empty prompt list, a prompt too long, a folder that cannot be written, or an
    adapter of another run.
    """

    def __init__(
        self,
        lm: LanguageModel,
        adapter: str,
        reward: Reward | PenalisedReward,
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
        if not isinstance(config, PPOConfig):
            raise UserError(f"PPO: expected PPOConfig(...), got {type(config).__name__}")
        seed = check_seed(seed)
        self.prompts = check_texts(prompts, "prompt")
        self.validation_prompts = check_texts(validation_prompts, "validation prompt")
        config.check(bool(self.validation_prompts))
        self.lm, self.adapter, self.config, self.seed = lm, adapter, config, seed
        self.reward = reward if isinstance(reward, PenalisedReward) else PenalisedReward(reward, config.kl_coef)
        self._reward_facts = describe_reward(self.reward.plain)  # now: some rewards change their weights while a policy trains
        self.policy, self.team, self.watch = policy or AdapterPolicy(lm, adapter), team or Team(), dict(watch or {})
        self.estimator: PPO | RLOO = ESTIMATORS[config.estimator](config)
        self.team.check(config)
        if self.team.size > 1 and type(self.reward).adapt is not PenalisedReward.adapt:  # each process would draw another change
            raise UserError(f"adapter {adapter!r}: its reward changes while it trains, so that several processes would part; take one")
        examine(lm)
        if taken := [key for key in self.watch if key in (*COLUMNS, ENTERED)]:
            raise UserError(f"watched reward {taken[0]!r}: the log already has a column of this name")
        self.encoded = lm.encode(self.prompts)
        self.encoded_validation = lm.encode(self.validation_prompts) if self.validation_prompts else None
        self.progress = progress and self.team.leads
        more = [*([ENTERED] if config.log_rewards else []), *self.watch, *self.reward.columns]
        self.run = RunFolder(folder if self.team.leads else None, [*COLUMNS, *more])
        folder = Path(folder) if folder is not None else None
        recorded = self.run.recorded() if start_from_loaded else {}
        self.ownership = own_adapter(self.policy, folder, seed, start_from_loaded, recorded)
        self._examine_policy()
        self.run.make()
        self._take_parameters()
        self.random = OwnRandomness(lm.device, self.team.seed(seed))
        self.steps = self.episodes = self.samples = 0
        self.seconds = 0.0
        self.order: list[int] = []  # prompts still to come in this pass over the data
        self.validation_means: list[float] = []
        self.last_kls: list[float] = []
        self.last_samples: list[dict[str, Any]] = []
        with self.random:
            self.reward.start()

    def _examine_policy(self) -> None:
        """Raise UserError, and leave no new adapter behind, if the model's rollouts would not be the policy's own."""
        if type(self.policy) is not AdapterPolicy:  # one that is told weights has no one adapter; its first ratio is looked at
            return
        try:
            examine_sampling(self.lm, self.adapter)
        except UserError:
            if self.ownership == Ownership():  # made just now
                self.lm.remove_adapter(self.adapter)
            raise

    def _take_parameters(self) -> None:
        """What is trained, as it is in the model now, with a critic and an optimizer."""
        lm, config = self.lm, self.config
        lm.use(self.adapter)
        self.extra = self.policy.extra(self.seed).to(lm.device)
        self.parameters = [*(p for p in lm.model.parameters() if p.requires_grad), *self.extra.parameters()]
        self.value_head = nn.Linear(lm.width, self.policy.values_per_state, device=lm.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        groups = [{"params": self.parameters, "lr": config.lr}, {"params": list(self.value_head.parameters()), "lr": config.value_lr}]
        fused, decay = lm.device.type in ("cpu", "cuda"), config.weight_decay
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, weight_decay=decay, fused=fused)

    def _prepare_adapter(self, resume: bool) -> None:
        """A run that starts from nothing gets a fresh adapter; the parameters are those in the model, whoever put them there since."""
        if self.steps:
            return
        if self.ownership.left_behind and self.run.starts_anew(resume):
            if self.ownership.started_from:
                raise UserError(f"adapter {self.adapter!r}: to start this run again, load the adapter that it started from")
            make_anew(self.policy, self.seed)
        trained = {id(p) for p in self.parameters}
        if any(id(p) not in trained for key, p in self.lm.model.named_parameters() if f".{self.adapter}." in key):
            self._take_parameters()

    def train(self, resume: bool = True) -> pd.DataFrame:
        """Train to the end and return the log, one row a step.

        With a folder, continue from its checkpoint (`resume`), or load the adapter and return the log at once if the run is done; a resumed
        run ends with the same weights and log as an uninterrupted one. `resume=False` starts the folder again. Raises UserError if the
        folder's run had other options, or if the reward gives anything but one finite score a reply; the last checkpoint then stays.
        """
        with self.run.held(resume):
            return self._train(resume)

    def _train(self, resume: bool) -> pd.DataFrame:
        self._prepare_adapter(resume)
        if not self.team.catch_up(self, self.run.restore(self, resume)):
            self.lm.unfinished.add(self.adapter)
            if not self.steps and self.config.checkpoint_every:
                self.run.save(self)  # the adapter's first weights: a run killed early starts from the same
            # plain text on standard output: a notebook keeps it as text, without widget state
            tqdm_options: dict[str, Any] = {"unit": "ep", "file": sys.stdout, "mininterval": 1, "disable": not self.progress}
            with tqdm(desc=self.adapter, total=self.config.episodes, initial=self.episodes, **tqdm_options) as bar:
                while not (reason := stop_reason(self.config, self.episodes, self.validation_means, self.last_kls)):
                    row = self.step()
                    self.run.append(row, self.last_samples)
                    bar.set_postfix(reward=f"{row['reward']:.3f}", kl=f"{row['kl']:.2f}")
                    bar.update(self.episodes - bar.n)
                    if self.config.checkpoint_every and self.steps % self.config.checkpoint_every == 0:
                        self.run.save(self)
            self.run.finish(self, reason)
        self.lm.unfinished.discard(self.adapter)
        log: pd.DataFrame = self.team.same(self.run.log.frame())
        return log

    # -- one step

    def step(self) -> dict[str, float]:
        """One rollout and its update. Returns the row of the log; `validation` is NaN unless it is a validation step's turn."""
        started = time.perf_counter()
        self.lm.use(self.adapter)
        self.lm.model.eval()
        self._set_learning_rates()
        with self.random:
            rows, episodes = self._next_prompts()
            prompts = [self.prompts[row] for row in rows for _ in range(self.estimator.samples_per_prompt)]
            rollout = self._sample(rows)
            scores = self.reward.scores(prompts, rollout.texts)
            entered = self.reward.logarithms(prompts, rollout.texts, scores) if self.config.log_rewards else scores
            watched = {key: self._watched(key, prompts, rollout.texts, scores) for key in self.watch}
            if not self.steps:
                self.value_head.bias.data.fill_(float(entered.mean()))  # the critic starts at the mean, not far below it
                self.team.copy(self.value_head.parameters())
            with self.policy.updating():
                updated = self._update(rollout, entered.to(rollout.mask.device))
        self._count(episodes, prompts, rollout, scores)
        row = self._row(rollout, scores, entered) | updated | watched | self.reward.row() | {"validation": self._validation()}
        with self.random:
            self.reward.adapt()
        self.seconds = round(self.seconds + time.perf_counter() - started, 3)  # as its record has them, from which they are read again
        row = self.team.mean(row | {"seconds": self.seconds})
        if not math.isnan(row["validation"]):
            self.validation_means[-1] = row["validation"]  # what all processes sampled, as the log has it
        # rounding may differ between processes, and all must stop together
        row["validation"], self.validation_means = self.team.same((row["validation"], self.validation_means))
        self.last_kls = [*self.last_kls, row["kl"]][-KL_STEPS:]
        return row

    def _sample(self, rows: list[int]) -> Rollout:
        """Sample replies to these training prompts, as many to each as the estimator needs."""
        prompts, inputs = [self.prompts[row] for row in rows], self.encoded[torch.tensor(rows)]
        return self.policy.rollout(prompts, inputs, self.estimator.samples_per_prompt, self.config)

    def _update(self, rollout: Rollout, scores: Tensor) -> dict[str, float]:
        """Gradient steps on a rollout; scores [N] as they enter. Returns columns of the log, means over the optimizer steps."""
        mask = rollout.mask
        penalty = self.reward.kl_coef() * kl_per_token(rollout.logp, rollout.ref_logp, mask)
        values = self._old_values(rollout)
        advantages, returns = self.estimator.advantages(scores, penalty, values, mask)
        epochs, step_size = self.estimator.steps(len(rollout))
        sums = dict.fromkeys(("approx_kl", "clipfrac", "policy_loss", "value_loss"), 0.0)
        updates, first_ratio = 0, 0.0
        for _ in range(epochs):
            for step_rows in torch.randperm(len(rollout)).to(scores.device).split(step_size):
                self.optimizer.zero_grad()
                for rows in self._passes(step_rows, rollout):  # a step's replies go through the model some at a time
                    share = self.estimator.share(mask[rows], mask[step_rows])
                    loss, metrics = self._loss(rollout, rows, advantages, returns, values)
                    (share * loss).backward()
                    for name in sums:
                        sums[name] += share * metrics[name]
                    if not updates:
                        self._check_first_ratio(metrics["ratio"])
                        first_ratio = max(first_ratio, metrics["ratio"])
                self.team.average_gradients([*self.parameters, *self.value_head.parameters()])
                nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
                nn.utils.clip_grad_norm_(self.value_head.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                updates += 1
        self.optimizer.zero_grad()
        means = {name: x / updates for name, x in sums.items()} | {"first_ratio": first_ratio}
        if self.estimator.has_critic:
            return means | {"explained_variance": explained_variance(values, returns, mask)}
        return means | {"value_loss": math.nan, "explained_variance": math.nan}

    def _loss(
        self, rollout: Rollout, rows: Tensor, advantages: Tensor, returns: Tensor, old_values: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """(loss, columns of the log) of these rows of a rollout."""
        T = int(rollout.mask[rows].sum(1).max())
        mask, tokens, old_logp, advantages = (x[rows, :T] for x in (rollout.mask, rollout.tokens, rollout.logp, advantages))
        said = mask.bool()
        logp_said = token_logprobs(self.policy.logits(rollout, rows, T), tokens[said], self.config.temperature)
        logp = torch.zeros_like(mask).masked_scatter(said, logp_said)
        pg_loss, vf_loss = self.estimator.loss(logp, old_logp, advantages, mask), torch.zeros((), device=logp.device)
        if self.estimator.has_critic:
            values = self.policy.values(self.value_head, rollout.features[rows, :T], rows)
            vf_loss = value_loss(values, old_values[rows, :T], returns[rows, :T], mask, self.config.value_clip)
        with torch.no_grad():
            deviation = ((logp - old_logp).exp() - 1).abs() * mask
            metrics = {"ratio": float(deviation.max()), "clipfrac": float(masked_mean((deviation > self.config.clip).float(), mask))}
            metrics |= {"approx_kl": float(masked_mean(kl_k3(old_logp, logp), mask))}
        metrics |= {"policy_loss": float(pg_loss.detach()), "value_loss": float(vf_loss.detach())}
        return pg_loss + self.config.vf_coef * vf_loss, metrics

    def _check_first_ratio(self, deviation: float) -> None:
        """Raise UserError if a ratio before any update is farther from 1 than rounding: the update would learn from others' replies."""
        if deviation <= (limit := ratio_limit(self.lm)):
            return
        self.optimizer.zero_grad()
        raise UserError(
            f"{self.lm.config.path}: step {self.steps + 1} of {self.adapter!r} began with a ratio of probabilities {deviation:.3g} off 1 "
            f"(rounding explains {limit:g}): its replies were not sampled from the policy that is trained"
        )

    def _old_values(self, rollout: Rollout) -> Tensor:
        """The critic's values [N, T] before the update; zeros where there is none."""
        if not self.estimator.has_critic:
            return torch.zeros_like(rollout.mask)
        with torch.no_grad():
            rows = torch.arange(len(rollout), device=rollout.mask.device)
            return self.policy.values(self.value_head, rollout.features, rows) * rollout.mask

    def _row(self, rollout: Rollout, scores: Tensor, entered: Tensor) -> dict[str, float]:
        """Columns of the log about a rollout [N, T]; its scores [N] as they are, and as they entered. KL is measured here as it is,
        whatever weight the penalty gives it."""
        kl = kl_per_token(rollout.logp, rollout.ref_logp, rollout.mask).sum(1)
        ended = self.lm.is_end(rollout.tokens) & rollout.mask.bool()
        return {
            "step": self.steps,
            "episodes": self.episodes,
            "samples": self.samples,
            "reward": float(scores.mean()),
            "penalised_reward": float(entered.mean() - (self.reward.kl_coef() * kl[:, None]).mean()),
            "kl": float(kl.mean()),
            "entropy": float(masked_mean(rollout.entropy, rollout.mask)),
            "length": float(rollout.mask.sum(1).mean()),
            "finished": float(ended.any(1).float().mean()),
            **({ENTERED: float(entered.mean())} if self.config.log_rewards else {}),
        }

    @torch.no_grad()
    def validate(self) -> float:
        """Mean reward of the replies to the validation prompts: greedy ones, or as many samples each as the options say."""
        assert self.encoded_validation is not None
        if not (k := self.config.validation_samples):
            return self.reward.validate(self.validation_prompts, self.policy.greedy(self.validation_prompts, self.encoded_validation))
        with self.random:
            replies = self.policy.sampled(self.validation_prompts, self.encoded_validation, k, self.config.temperature)
        return self.reward.validate([prompt for prompt in self.validation_prompts for _ in range(k)], replies)

    def _validation(self) -> float:
        """`validate` at its turn, else NaN."""
        if not (self.validation_prompts and self.config.validate_every) or self.steps % self.config.validate_every:
            return math.nan
        self.validation_means.append(self.validate())
        return self.validation_means[-1]

    def _watched(self, key: str, prompts: list[str], replies: list[str], scores: Tensor) -> float:
        """Mean of a watched reward; if it is the trained one itself, its scores are there."""
        is_trained = self.watch[key] is self.reward.plain
        return float((scores if is_trained else score(self.watch[key], prompts, replies, key)).mean())

    def _count(self, episodes: int, prompts: list[str], rollout: Rollout, scores: Tensor) -> None:
        self.steps += 1
        self.episodes += episodes
        self.samples += len(rollout) * self.team.size
        self.last_samples = [
            {"step": self.steps, "prompt": prompts[i], "reply": rollout.texts[i], "score": float(scores[i])}
            for i in range(min(self.config.log_samples, len(rollout)))
        ]

    def _set_learning_rates(self) -> None:
        remaining = max(0.0, 1 - self.episodes / self.config.episodes) if self.config.anneal_lr else 1.0
        for group, rate in zip(self.optimizer.param_groups, (self.config.lr, self.config.value_lr), strict=True):
            group["lr"] = rate * remaining

    def _passes(self, step_rows: Tensor, rollout: Rollout) -> tuple[Tensor, ...]:
        """Cut the rows of one optimizer step into forward passes; sorting by length saves padding, and the gradient is the step's."""
        size = self.config.minibatch_size if step_rows.device.type == "cuda" else min(self.config.minibatch_size, CPU_ROWS)
        return step_rows[by_length(rollout.inputs[step_rows], rollout.mask[step_rows])].split(size)

    def _next_prompts(self) -> tuple[list[int], int]:
        """(rows of the prompts that this process answers in this step, prompts that all answer), from endless shuffled passes."""
        n = min(self.config.batch_size, max(1, self.config.episodes - self.episodes))
        while len(self.order) < n:
            self.order += torch.randperm(len(self.prompts)).tolist()
        rows, self.order = self.order[:n], self.order[n:]
        return self.team.share(self.team.same(rows)), n

    def identity(self) -> dict[str, Any]:
        """What makes a run this run: a checkpoint continues only under the same."""
        run: dict[str, Any] = {"adapter": self.adapter.removeprefix(OF_STUDY), "reward": reward_name(self.reward.plain)}
        run |= {"watch": list(self.watch), "seed": self.seed}
        texts = {"prompts": texts_digest(self.prompts), "validation_prompts": texts_digest(self.validation_prompts)}
        options = options_identity(self.lm, self.config)
        start = {"started_from": self.ownership.started_from} if self.ownership.started_from else {}
        return {**run, **options, **texts, **self.policy.identity(), **self.team.identity(), **start}

    def made_of(self) -> dict[str, Any]:
        """What else does: what the reward is made of, and the type in which the base computes."""
        types = {"model.dtype": type_name(self.lm.base.dtype), "model.autocast": self.lm.config.autocast}
        return {**self._reward_facts, **types}
