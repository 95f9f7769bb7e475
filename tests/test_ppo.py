"""PPO: its formulas against their definitions, its rollouts against plain forward passes, and runs that resume exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.base.fingerprint import describe_reward
from emorl_lite.base.presets import PPOConfig
from emorl_lite.lm.forward import folded
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.training import ppo, stopping
from emorl_lite.training.policy import ROWS_READ, rows_read
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import collect, trim

QUICK = PPOConfig(episodes=24, batch_size=8, minibatch_size=4, epochs=2, lr=5e-3, validate_every=2, checkpoint_every=2)
EASY = {f"w{i}" for i in range(20)}


def wordy(prompts: list[str], replies: list[str]) -> torch.Tensor:
    """Share of the reply's eight words that are among the first twenty of the vocabulary: easy to raise."""
    return torch.tensor([sum(word in EASY for word in reply.split()) / 8 for reply in replies])


def easy_first(prompts: list[str], replies: list[str]) -> torch.Tensor:
    """1 if a reply's first word is among those twenty, else 0: with replies of one token, a single token decides."""
    return torch.tensor([float(reply.split()[:1] != [] and reply.split()[0] in EASY) for reply in replies])


def first_token(lm, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
    """log-probabilities [prompts, V] of a reply's first token, with the adapter and without any: exact, where a sample is a draw."""
    prompts, ids = lm.encode(tiny.PROMPTS), torch.zeros(len(tiny.PROMPTS), 1, dtype=torch.long)
    lm.use(adapter)
    with torch.no_grad():
        own = lm.forward_reply(prompts, ids, torch.ones_like(ids))[0][:, 0].log_softmax(-1)
        with lm.without_adapters():
            base = lm.forward_reply(prompts, ids, torch.ones_like(ids))[0][:, 0].log_softmax(-1)
    return own, base


def easy_share(lm, adapter: str) -> float:
    """The policy's probability of a first word among the twenty: the expected reward of `easy_first`."""
    return float(first_token(lm, adapter)[0].exp()[:, [word in EASY for word in tiny.WORDS]].sum(1).mean())


def exact_kl(lm, adapter: str) -> float:
    """KL of the first token from the base, summed over the vocabulary."""
    own, base = first_token(lm, adapter)
    return float((own.exp() * (own - base)).sum(1).mean())


def trainer(lm=None, reward=wordy, config=QUICK, **options) -> PPOTrainer:
    options = {"prompts": tiny.PROMPTS, "progress": False, "adapter": "reflection"} | options
    lm, adapter = lm or tiny.language_model("llama"), options.pop("adapter")
    options.setdefault("start_from_loaded", adapter in lm.adapters)
    return PPOTrainer(lm, adapter, reward, options.pop("prompts"), config, **options)


def weights(lm) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in lm.model.named_parameters()}


def ragged(seed: int, N: int, T: int) -> tuple[torch.Tensor, ...]:
    """Rewards, values and a mask of replies that end at different places."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (N, 1), generator=g)
    mask = (torch.arange(T)[None] < lengths).double()
    return torch.randn(N, T, generator=g).double() * mask, torch.randn(N, T, generator=g).double(), mask


# -- formulas


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_discounted_sum_of_td_errors(seed, N, T, gamma, lam):
    rewards, values, mask = ragged(seed, N, T)
    advantages, returns = ppo.gae(rewards, values, mask, gamma, lam)
    for n in range(N):
        end = int(mask[n].sum())
        v = [*values[n, :end].tolist(), 0.0]
        delta = [rewards[n, t] + gamma * v[t + 1] - v[t] for t in range(end)]
        for t in range(T):
            expected = sum((gamma * lam) ** (u - t) * delta[u] for u in range(t, end)) if t < end else 0.0
            assert float(advantages[n, t]) == pytest.approx(float(expected), abs=1e-9)
    assert_close(returns, (advantages + values) * mask)


def test_gae_with_lambda_one_is_return_minus_value():
    rewards, values, mask = ragged(0, 3, 6)
    _, returns = ppo.gae(rewards, values, mask, 1.0, 1.0)
    assert_close(returns, rewards.flip(1).cumsum(1).flip(1) * mask)


def test_kl_estimators_agree_on_average():
    """k1 and k3 of samples from pi have the same mean, KL(pi || pi_ref), here summed over the whole vocabulary; k3 is never negative."""
    g = torch.Generator().manual_seed(0)
    p, q = (torch.randn(9, generator=g, dtype=torch.float64).log_softmax(0) for _ in range(2))
    exact = (p.exp() * (p - q)).sum()
    assert_close((p.exp() * ppo.kl_per_token(p, q, torch.ones(9))).sum(), exact)
    assert_close((p.exp() * ppo.kl_k3(p, q)).sum(), exact)
    assert (ppo.kl_k3(p, q) >= 0).all() and (ppo.kl_per_token(p, q, torch.ones(9)) < 0).any()


def test_the_score_comes_at_the_last_token_and_the_penalty_at_each():
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    rewards = ppo.token_rewards(torch.tensor([10.0, 20.0]), torch.full((2, 3), 0.5) * mask, mask)
    assert_close(rewards, torch.tensor([[-0.5, 9.5, 0.0], [-0.5, -0.5, 19.5]]))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 5))
def test_leave_one_out_is_k_over_k_minus_1_times_the_paper_advantage(seed, k, prompts):
    scores = torch.rand(prompts * k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    groups = scores.view(-1, k)
    paper = (groups - groups.mean(1, keepdim=True)).view(-1)
    assert_close(ppo.leave_one_out(scores, k), k / (k - 1) * paper)


def test_whitened_advantages_have_mean_0_and_variance_1_over_the_mask():
    x, _, mask = ragged(3, 5, 7)
    out = ppo.whiten(x + 4, mask)
    kept = out[mask.bool()]
    assert_close(kept.mean(), torch.zeros(()).double(), atol=1e-9, rtol=0)
    assert_close(kept.var(correction=0), torch.ones(()).double(), atol=1e-6, rtol=0)
    assert not out[~mask.bool()].any()


@pytest.mark.parametrize("loss", ["policy", "value"])
def test_losses_ignore_masked_positions(loss):
    a, b, mask = ragged(1, 4, 6)
    c = torch.randn(4, 6, generator=torch.Generator().manual_seed(9)).double()
    junk = (1 - mask) * 3.0
    f = (lambda x, y, z: ppo.policy_loss(x, y, z, mask, 0.2)) if loss == "policy" else (lambda x, y, z: ppo.value_loss(x, y, z, mask, 0.2))
    assert_close(f(a, b, c), f(a + junk, b - junk, c + junk))


def test_policy_gradient_vanishes_where_the_ratio_left_the_clip_range():
    logp = torch.tensor([[0.5, 0.05, -0.5]], requires_grad=True)
    ppo.policy_loss(logp, torch.zeros(1, 3), torch.tensor([[1.0, 1.0, -1.0]]), torch.ones(1, 3), 0.2).backward()
    assert logp.grad is not None and logp.grad[0, 0] == 0 and logp.grad[0, 2] == 0 and logp.grad[0, 1] < 0


def test_value_loss_takes_the_worse_of_clipped_and_unclipped():
    one = torch.ones(1, 1)
    assert float(ppo.value_loss(one, 0 * one, one, one, 0.2)) == pytest.approx(0.5 * 0.8**2)
    assert float(ppo.value_loss(-one, 0 * one, one, one, 0.2)) == pytest.approx(0.5 * 2**2)


def test_converged_is_the_papers_rule():
    flat, noisy = [0.5 + 0.001 * (-1) ** i for i in range(20)], [0.5 + 0.1 * (-1) ** i for i in range(20)]
    assert stopping.converged(noisy + flat, 20, 0.015)
    assert not stopping.converged(flat + noisy, 20, 0.015)
    assert not stopping.converged(flat[:19], 20, 0.015)
    assert not stopping.converged([0.0] * 20, 20, 0.015)
    edge = [1.0, 1.03]  # std / mean = .015 / 1.015
    assert stopping.converged(edge, 2, 0.0148) and not stopping.converged(edge, 2, 0.0147)


# -- rollouts


@tiny.kinds()
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_rollout_says_what_plain_forward_passes_say(kind, temperature):
    lm = tiny.language_model(kind, adapters=1)
    torch.manual_seed(0)
    rollout = collect(lm, lm.encode(tiny.PROMPTS), 2, temperature, batch_size=3)
    assert len(rollout) == 2 * len(tiny.PROMPTS)
    repeated = [p for p in tiny.PROMPTS for _ in range(2)]
    with torch.no_grad():
        for n, prompt in enumerate(repeated):  # one by one, without padding
            T = int(rollout.mask[n].sum())
            tokens, mask = rollout.tokens[n : n + 1, :T], torch.ones(1, T)
            assert_close(rollout.logp[n, :T], lm.logprobs(lm.encode([prompt]), tokens, mask, temperature)[0], atol=1e-4, rtol=0)
            with lm.without_adapters():
                assert_close(rollout.ref_logp[n, :T], lm.logprobs(lm.encode([prompt]), tokens, mask, temperature)[0], atol=1e-4, rtol=0)
            logits, hidden = lm.forward_reply(lm.encode([prompt]), tokens, mask, hidden=True)
            entropy = torch.distributions.Categorical(logits=logits / temperature).entropy()[0]
            assert_close(rollout.entropy[n, :T], entropy, atol=1e-4, rtol=0)
            assert_close(rollout.features[n, :T], torch.nn.functional.layer_norm(hidden, hidden.shape[-1:])[0], atol=1e-3, rtol=0)
            assert not rollout.logp[n, T:].any() and not rollout.ref_logp[n, T:].any() and not rollout.features[n, T:].any()


def test_samples_follow_the_models_distribution():
    lm = tiny.language_model("llama", adapters=1)
    prompts = lm.encode(tiny.PROMPTS[:1])
    torch.manual_seed(0)
    first = collect(lm, prompts, 4000, 0.8, batch_size=4000).tokens[:, 0]
    with torch.no_grad():
        logits, _ = lm.forward_reply(prompts, first[:1, None], torch.ones(1, 1))
    p = torch.softmax(logits[0, 0] / 0.8, -1)
    share = torch.bincount(first, minlength=len(p)) / len(first)
    assert (share - p).abs().max() < 5 * (0.25 / 4000) ** 0.5


@tiny.kinds()
@pytest.mark.parametrize("estimator", ["ppo", "rloo"])
def test_a_fresh_adapter_has_no_kl_and_ratio_one(kind, estimator):
    row = trainer(tiny.language_model(kind), config=replace(QUICK, estimator=estimator)).step()
    assert abs(row["kl"]) < 1e-4
    assert row["first_ratio"] < 1e-4


@tiny.kinds()
def test_the_ratio_is_one_with_a_trained_adapter_and_another_temperature(kind):
    lm = tiny.language_model(kind, adapters=1)
    assert exact_kl(lm, "reflection") > 0.1  # the adapter does say something else than the base
    assert trainer(lm, config=replace(QUICK, temperature=0.7)).step()["first_ratio"] < 1e-3


@pytest.mark.parametrize("factor", [0.7, float("nan")])
def test_replies_of_another_policy_stop_a_run(monkeypatch, factor):
    """Read at another temperature than they were sampled at, or as no number at all, replies teach nothing; weights stay."""
    lm = tiny.language_model("llama")
    run = trainer(lm)
    monkeypatch.setattr(run.policy, "logits", lambda *args: ppo.AdapterPolicy.logits(run.policy, *args) * factor)
    before = [p.clone() for p in run.parameters]
    with pytest.raises(UserError, match=r"^tiny-llama: step 1 of '\w+' began with a ratio of probabilities \S+ off 1"):
        run.step()
    assert all(torch.equal(p, old) for p, old in zip(run.parameters, before, strict=True))


def test_a_model_that_reads_weights_past_their_layer_is_not_trained(monkeypatch):
    """As Mamba's kernels do: folded into the weights an adapter has an effect that it does not have beside them."""
    lm = tiny.language_model("llama")
    for block in lm.base.model.layers:

        def past(x, mlp=block.mlp):
            down = mlp.down_proj
            return torch.nn.functional.linear(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x), getattr(down, "base_layer", down).weight)

        monkeypatch.setattr(block.mlp, "forward", past)
    with pytest.raises(UserError, match=r"^tiny-llama: an adapter folded into its weights .* differ by \d"):
        trainer(lm)
    assert not lm.adapters


@tiny.kinds()
def test_folding_says_the_same_and_leaves_no_trace(kind):
    lm = tiny.language_model(kind, adapters=2)
    lm.model.double()  # the two ways to compute differ by rounding, which must not decide a word
    before, pointers = weights(lm), [p.data_ptr() for p in lm.model.parameters()]
    lm.use("empathy")
    plain = lm.generate(lm.encode(tiny.PROMPTS))
    with pytest.raises(KeyboardInterrupt), folded(lm):
        assert torch.equal(lm.generate(lm.encode(tiny.PROMPTS)), plain)
        raise KeyboardInterrupt
    assert all(torch.equal(p, before[name]) for name, p in lm.model.named_parameters())
    assert pointers == [p.data_ptr() for p in lm.model.parameters()]
    assert torch.equal(lm.generate(lm.encode(tiny.PROMPTS)), plain)
    lm.use("reflection")
    assert not torch.equal(lm.generate(lm.encode(tiny.PROMPTS)), plain)


def test_trim_drops_padding_on_either_side():
    for kind in ("llama", "t5"):
        lm = tiny.language_model(kind)
        cut = trim(lm.encode(tiny.PROMPTS)[torch.tensor([1, 3])])
        expected = lm.encode([tiny.PROMPTS[1], tiny.PROMPTS[3]])
        assert torch.equal(cut.ids, expected.ids) and torch.equal(cut.mask, expected.mask)


# -- updates


def update_once(config: PPOConfig, change=None) -> dict[str, torch.Tensor]:
    """The adapter after one update on a fixed rollout, which `change` may alter."""
    t = trainer(tiny.language_model("llama", adapters=1), config=config)
    torch.manual_seed(5)
    k = config.k if config.estimator == "rloo" else 1
    rollout = collect(t.lm, t.lm.encode(tiny.PROMPTS * 2), k, 1.0, 8)
    assert not rollout.mask.all() and rollout.mask[:, 1:].any()
    if change:
        change(rollout)
    torch.manual_seed(6)
    t._update(rollout, torch.linspace(0, 1, len(rollout)))
    return {**weights(t.lm), "value": t.value_head.weight.detach().clone()}


@pytest.mark.parametrize("estimator", ["ppo", "rloo"])
def test_changing_tokens_after_eos_changes_nothing(estimator):
    def change(rollout):
        after = rollout.mask == 0
        rollout.tokens[after] = 7

    config = replace(QUICK, minibatch_size=16, estimator=estimator)
    plain, changed = update_once(config), update_once(config, change)
    assert all(torch.equal(plain[k], changed[k]) for k in plain)


def gradients(config: PPOConfig) -> list[list[torch.Tensor]]:
    """What each optimizer step of one update on a fixed rollout is given: the policy's gradients and the critic's."""
    t = trainer(tiny.language_model("llama", adapters=1), config=config)
    torch.manual_seed(5)
    k = config.k if config.estimator == "rloo" else 1
    rollout = collect(t.lm, t.lm.encode(tiny.PROMPTS * 2), k, 1.0, 8)
    kept: list[list[torch.Tensor]] = []
    trained = [*t.parameters, *(t.value_head.parameters() if config.estimator == "ppo" else ())]
    t.optimizer.step = lambda: kept.append([p.grad.clone() for p in trained])  # type: ignore[method-assign, assignment]
    torch.manual_seed(6)
    t._update(rollout, torch.linspace(0, 1, len(rollout)))
    return kept


@pytest.mark.parametrize("estimator", ["ppo", "rloo"])
def test_an_optimizer_step_is_the_same_however_it_is_cut_into_passes(monkeypatch, estimator):
    config = replace(QUICK, epochs=1, minibatch_size=64, estimator=estimator)
    (whole,) = gradients(config)
    assert all(g.abs().max() > 0 for g in whole)
    (accumulated,) = gradients(replace(config, minibatch_size=2, gradient_accumulation=32))
    monkeypatch.setattr(ppo, "CPU_ROWS", 1)
    (one_by_one,) = gradients(config)
    for other in (accumulated, one_by_one):
        for mine, expected in zip(other, whole, strict=True):
            assert_close(mine, expected, atol=1e-4 * float(expected.abs().max()) + 1e-7, rtol=0, msg=str(expected.shape))


def test_rloo_gradient_is_that_of_its_formula():
    config = replace(QUICK, estimator="rloo", k=2, kl_coef=0.1, max_grad_norm=1e9)
    t = trainer(tiny.language_model("llama", adapters=1), config=config)
    torch.manual_seed(5)
    rollout = collect(t.lm, t.lm.encode(tiny.PROMPTS), 2, 1.0, 8)
    scores = torch.rand(len(rollout))
    kept: list[torch.Tensor] = []
    t.optimizer.step = lambda: kept.extend(p.grad.clone() for p in t.parameters)  # type: ignore[method-assign, assignment]
    t._update(rollout, scores)
    final = scores - 0.1 * ((rollout.logp - rollout.ref_logp) * rollout.mask).sum(1)
    advantage = final - final.view(-1, 2).flip(1).reshape(-1)  # with k = 2 the others' mean is the other sample
    loss = -(advantage * t.lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask).sum(1)).mean()
    for mine, p, expected in zip(kept, t.parameters, torch.autograd.grad(loss, t.parameters), strict=True):
        assert_close(mine, expected, atol=1e-4 * float(expected.abs().max()) + 1e-6, rtol=0, msg=str(p.shape))


LEARN = PPOConfig(episodes=320, batch_size=32, minibatch_size=32, lr=1e-2, kl_coef=0.0, validate_every=0)
estimators = pytest.mark.parametrize("estimator", ["ppo", "rloo"])
seeds = pytest.mark.parametrize("seed", [0, 1])


@estimators
@seeds
def test_training_raises_an_easy_reward_and_touches_its_adapter_alone(estimator, seed):
    """A bandit whose one token decides, measured by the policy's own probabilities: from .30 to .87 or more with every seed tried."""
    lm = tiny.language_model("llama", adapters=2, max_new_tokens=1)
    before, share = weights(lm), easy_share(lm, "empathy")
    run = trainer(lm, easy_first, replace(LEARN, estimator=estimator), adapter="empathy", watch={"same": easy_first}, seed=seed)
    log = run.train()
    assert share < 0.4 and easy_share(lm, "empathy") > share + 0.25
    assert_close(torch.tensor(log.same.to_numpy()), torch.tensor(log.reward.to_numpy()))
    assert log.samples.iloc[-1] == 320 * (3 if estimator == "rloo" else 1)
    for name, p in lm.model.named_parameters():
        assert torch.equal(p, before[name]) == (".empathy." not in name), name


@estimators
@seeds
def test_without_a_reward_the_kl_penalty_alone_leads_back_to_the_base(estimator, seed):
    """And with neither there is no gradient at all, whatever was sampled."""
    for coefficient in (0.0, 0.3):
        lm = tiny.language_model("llama", adapters=1, max_new_tokens=1)
        before, distance = weights(lm), exact_kl(lm, "reflection")
        config = replace(LEARN, estimator=estimator, kl_coef=coefficient)
        trainer(lm, lambda p, r: torch.zeros(len(r)), config, seed=seed).train()
        if coefficient:
            assert exact_kl(lm, "reflection") < 0.7 * distance  # .22 to .41 of it with every seed tried
        else:
            assert all(torch.equal(p, before[name]) for name, p in lm.model.named_parameters())


# -- runs


class Killed(BaseException):
    """What ends a process."""


def killer(calls: int):
    """`wordy` under its own name, which dies at its n-th call."""
    left = [calls]

    def reward(prompts, replies):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return wordy(prompts, replies)

    reward.__name__ = "wordy"
    reward.made_of = lambda: {key.removeprefix("reward."): fact for key, fact in describe_reward(wordy).items()}
    return reward


@pytest.mark.parametrize(
    ("kind", "estimator", "died_at"), [("llama", "ppo", 7), ("llama", "rloo", 4), pytest.param("t5", "ppo", 2, marks=pytest.mark.slow)]
)
def test_a_killed_run_resumes_exactly(tmp_path, kind, estimator, died_at):
    config = replace(QUICK, episodes=50, estimator=estimator)
    prompts = [*tiny.PROMPTS, *(f"w{i}" for i in range(20, 27))]  # a pass over them does not end with a batch
    options = {"config": config, "prompts": prompts, "validation_prompts": tiny.PROMPTS, "seed": 3}
    whole = trainer(tiny.language_model(kind), folder=tmp_path / "whole", **options)
    expected = whole.train()
    with pytest.raises(Killed):
        trainer(tiny.language_model(kind), killer(died_at), folder=tmp_path / "cut", **options).train()
    torch.rand(7)  # whatever the next process does before
    (tmp_path / "cut/checkpoint").mkdir(exist_ok=True)
    (tmp_path / "cut/checkpoint/state.safetensors.tmp").write_bytes(b"half of a")  # the process was killed while it wrote
    again = trainer(tiny.language_model(kind), folder=tmp_path / "cut", **options)
    log = again.train()
    pd.testing.assert_frame_equal(log.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)
    assert (tmp_path / "cut/samples.csv").read_bytes() == (tmp_path / "whole/samples.csv").read_bytes()
    one, two = weights(whole.lm), weights(again.lm)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert log.episodes.iloc[-1] == 50 and len(log) == 7
    assert (tmp_path / "cut/done.json").is_file() and not (tmp_path / "cut/checkpoint").exists()


def test_a_done_run_is_loaded_instead_of_trained(tmp_path):
    first = trainer(folder=tmp_path)
    log = first.train()
    assert json.loads((tmp_path / "done.json").read_text())["stopped"] == "episodes"
    second = trainer(folder=tmp_path, reward=killer(0))
    pd.testing.assert_frame_equal(second.train(), log)
    assert all(torch.equal(a, b) for a, b in zip(weights(first.lm).values(), weights(second.lm).values(), strict=True))
    fresh = trainer(folder=tmp_path).train(resume=False)
    pd.testing.assert_frame_equal(fresh.drop(columns="seconds"), log.drop(columns="seconds"))


def test_the_log_in_memory_is_the_log_on_disk(tmp_path):
    options = {"validation_prompts": tiny.PROMPTS, "watch": {"extra": lambda p, r: wordy(p, r) / 2}}
    memory, disk = trainer(**options).train(), trainer(folder=tmp_path, **options).train()
    pd.testing.assert_frame_equal(memory.drop(columns="seconds"), disk.drop(columns="seconds"))
    assert list(disk.columns) == [*ppo.COLUMNS, "extra"]
    assert disk.validation.notna().tolist() == [False, True, False]


def test_the_run_does_not_touch_torchs_random_state():
    torch.manual_seed(1)
    t = trainer()
    before = torch.get_rng_state()
    t.step()
    assert torch.equal(torch.get_rng_state(), before)


def states(lm, adapter: str) -> dict[str, torch.Tensor]:
    return {name: p for name, p in weights(lm).items() if f".{adapter}." in name}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_an_adapter_of_another_run_is_not_trained_on(tmp_path):
    """Two owners of one name would train on from each other's weights and file the result as a run from the base."""
    lm = tiny.language_model("llama")
    trainer(lm, folder=tmp_path / "one").train()
    before = states(lm, "reflection")
    for options in ({"folder": tmp_path / "two"}, {}):
        with pytest.raises(UserError, match=r"'reflection' is in the model already .*one.* start_from_loaded"):
            trainer(lm, start_from_loaded=False, **options)
    assert same(states(lm, "reflection"), before) and not (tmp_path / "two" / "done.json").exists()
    lm.add_adapter("by hand")
    with pytest.raises(UserError, match="made in this process"):
        trainer(lm, adapter="by hand", start_from_loaded=False)
    with pytest.raises(UserError, match="not loaded, so there is nothing to start from"):
        trainer(lm, adapter="nobody's", start_from_loaded=True)


def test_a_run_of_the_same_folder_goes_on_in_the_same_model(tmp_path):
    """Finished, it is loaded; interrupted, it starts from its checkpoint, or from a fresh adapter where there is none."""
    whole = trainer(tiny.language_model("llama"), folder=tmp_path / "whole", config=replace(QUICK, checkpoint_every=0))
    expected = whole.train()
    for checkpoint_every in (0, 1):
        lm, folder = tiny.language_model("llama"), tmp_path / f"cut{checkpoint_every}"
        config = replace(QUICK, checkpoint_every=checkpoint_every)
        with pytest.raises(Killed):
            trainer(lm, killer(2), folder=folder, config=config).train()
        log = trainer(lm, folder=folder, config=config, start_from_loaded=False).train()
        pd.testing.assert_frame_equal(log.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)
        assert same(states(lm, "reflection"), states(whole.lm, "reflection"))
        trainer(lm, folder=folder, config=config, start_from_loaded=False, reward=killer(0)).train()  # finished: read, not trained
        assert same(states(lm, "reflection"), states(whole.lm, "reflection"))
        fresh = trainer(lm, folder=folder, config=config, start_from_loaded=False).train(resume=False)
        pd.testing.assert_frame_equal(fresh.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)


def test_training_on_from_a_loaded_adapter_is_another_run(tmp_path):
    lm = tiny.language_model("llama", adapters=1)
    run = trainer(lm, folder=tmp_path, start_from_loaded=True)
    assert len(run.identity()["started_from"]) == 16 and "started_from" not in trainer().identity()
    assert abs(run.train().kl.iloc[0]) > 0.01, "it starts where the adapter is, not at the base"
    with pytest.raises(UserError, match="started_from"):
        trainer(folder=tmp_path, start_from_loaded=False).train()


def test_a_log_with_a_columns_old_name_goes_on(tmp_path):
    """`penalised_reward` was called `objective`, which is what an experiment's logs call the reward that was trained."""
    options = {"config": replace(QUICK, checkpoint_every=1), "folder": tmp_path}
    expected = trainer(config=options["config"], folder=tmp_path / "whole").train()
    with pytest.raises(Killed):
        trainer(reward=killer(2), **options).train()
    log = tmp_path / "log.csv"
    log.write_text(log.read_text().replace("penalised_reward", "objective"))
    resumed = trainer(**options).train()
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)
    log.write_text(log.read_text().replace("penalised_reward", "objective"))
    record = json.loads((tmp_path / "done.json").read_text())
    del record["files"]  # of a run made before records had checksums
    (tmp_path / "done.json").write_text(json.dumps(record))
    pd.testing.assert_frame_equal(trainer(**options).train(), resumed)


def test_a_refused_run_changes_nothing(tmp_path):
    """Neither the adapter in the model nor the disk: an empty folder would hide a run that comes with the package."""
    lm = tiny.language_model("llama")
    trainer(lm, folder=tmp_path / "one").train()
    before = states(lm, "reflection")
    with pytest.raises(UserError, match="reward"):
        trainer(lm, lambda p, r: wordy(p, r), folder=tmp_path / "one", start_from_loaded=False).train()
    with pytest.raises(UserError, match="is in the model already"):
        trainer(lm, folder=tmp_path / "two", start_from_loaded=False)
    trainer(lm, folder=tmp_path / "one", start_from_loaded=False)  # made, and not trained
    assert same(states(lm, "reflection"), before) and not (tmp_path / "two").exists()
    assert lm.origin["reflection"] == str((tmp_path / "one").resolve()) and not lm.unfinished


def test_two_trainers_of_one_folder_leave_one_run(tmp_path):
    lm = tiny.language_model("llama")
    first, second = (trainer(lm, folder=tmp_path, start_from_loaded=False) for _ in range(2))
    log = first.train()
    trained = states(lm, "reflection")
    assert any(p.abs().max() > 0 for name, p in trained.items() if "lora_B" in name)
    pd.testing.assert_frame_equal(second.train(), log)
    assert same(states(lm, "reflection"), trained)
    fresh = tiny.language_model("llama")
    fresh.load_adapter(tmp_path, "reflection")
    assert same(states(fresh, "reflection"), trained)


def test_a_run_from_a_loaded_adapter_goes_on_and_is_read_again(tmp_path):
    """Interrupted, in the same process and in another; finished; and not started again from its own end."""
    config, lm = replace(QUICK, checkpoint_every=1), tiny.language_model("llama")
    trainer(lm, folder=tmp_path / "start").train()

    def loaded() -> object:
        model = tiny.language_model("llama")
        model.load_adapter(tmp_path / "start", "reflection")
        return model

    options = {"config": config, "start_from_loaded": True, "seed": 5}
    expected = trainer(loaded(), folder=tmp_path / "whole", **options).train().drop(columns="seconds")
    for other_process in (False, True):
        folder, model = tmp_path / f"cut{other_process}", loaded()
        with pytest.raises(Killed):
            trainer(model, killer(2), folder=folder, **options).train()
        model = loaded() if other_process else model
        log = trainer(model, folder=folder, **options).train()
        pd.testing.assert_frame_equal(log.drop(columns="seconds"), expected, check_exact=True)
        again = trainer(model, killer(0), folder=folder, **options).train()
        pd.testing.assert_frame_equal(again.drop(columns="seconds"), expected, check_exact=True)
        with pytest.raises(UserError, match="load the adapter that it started from"):
            trainer(model, folder=folder, **options).train(resume=False)


def test_a_watched_reward_may_have_a_columns_old_name(tmp_path):
    watch = {"objective": lambda p, r: wordy(p, r) / 2}
    disk, memory = trainer(folder=tmp_path, watch=watch).train(), trainer(watch=watch).train()
    pd.testing.assert_frame_equal(disk.drop(columns="seconds"), memory.drop(columns="seconds"))
    assert_close(torch.tensor(disk.objective.to_numpy()), torch.tensor(disk.reward.to_numpy()) / 2)


def test_early_stop(tmp_path):
    config = replace(QUICK, episodes=80, lr=1e-9, early_stop=True, patience=2, tolerance=0.5)
    log = trainer(config=config, validation_prompts=tiny.PROMPTS, folder=tmp_path, reward=lambda p, r: wordy(p, r) + 0.5).train()
    assert len(log) == 4 and json.loads((tmp_path / "done.json").read_text())["stopped"] == "converged"


# -- mistakes


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda n: torch.zeros(n + 1), "expected 8 scores"),
        (lambda n: torch.zeros(n, 1), "expected 8 scores"),
        (lambda n: torch.tensor([0.0, 0.0, float("nan"), *[0.0] * (n - 3)]), "row 3"),
        (lambda n: torch.tensor([0.0, float("inf"), *[0.0] * (n - 2)]), "row 2"),
        (lambda n: torch.zeros(n, dtype=torch.complex64), "0j"),
        (lambda n: ["good"] * n, "row 1: score 'good'"),
        (lambda n: None, "got None"),
    ],
)
def test_a_bad_reward_is_named_and_the_checkpoint_stays(tmp_path, scores, message):
    calls = []

    def broken(prompts, replies):
        calls.append(1)
        return wordy(prompts, replies) if len(calls) < 3 else scores(len(replies))

    with pytest.raises(UserError, match="broken") as error:
        trainer(reward=broken, folder=tmp_path).train()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "checkpoint" / "state.safetensors").is_file()
    log = pd.read_csv(tmp_path / "log.csv")
    assert len(log) == 2


def test_another_config_or_objective_does_not_continue_a_run(tmp_path):
    with pytest.raises(Killed):
        trainer(reward=killer(2), folder=tmp_path).train()
    for options, named in [
        ({"config": replace(QUICK, kl_coef=0.5)}, "ppo.kl_coef"),
        ({"adapter": "empathy"}, "adapter"),
        ({"reward": lambda p, r: wordy(p, r)}, "reward"),
        ({"seed": 1}, "seed"),
        ({"prompts": tiny.PROMPTS[:3]}, "prompts"),
        ({"lm": tiny.language_model("llama", lora_r=2)}, "model.lora_r"),
        ({"lm": tiny.language_model("llama", seed=1)}, "base model"),
    ]:
        with pytest.raises(UserError, match=named):
            trainer(folder=tmp_path, **options).train()
    for file in (tmp_path / "checkpoint").glob("*.safetensors"):
        file.write_bytes(b"junk")
    with pytest.raises(UserError, match="checkpoint"):
        trainer(folder=tmp_path).train()


def test_mistakes_in_the_options(tmp_path):
    (tmp_path / "file").write_text("")
    for options, named in [
        ({"prompts": []}, "no prompts"),
        ({"prompts": ["w1", "w1 " * 60]}, "prompt 2"),
        ({"folder": tmp_path / "file" / "run"}, "cannot write"),
        ({"config": {"batch_size": 0}}, "batch-size"),
        ({"config": {"estimator": "rloo", "k": 1}}, "--ppo.k 1"),
        ({"config": {"early_stop": True}}, "early-stop"),
        ({"watch": {"kl": wordy}}, "'kl'"),
    ]:
        with pytest.raises(UserError, match=named):
            trainer(**options | ({"config": replace(QUICK, **options["config"])} if "config" in options else {}))
    t = trainer()
    t.step()
    with pytest.raises(UserError, match="resume=False"):
        t.train(resume=False)


def test_unfinished_replies_reach_the_reward_with_their_mark():
    seen: list[str] = []

    def reward(prompts, replies):
        seen.extend(replies)
        return wordy(prompts, replies)

    row = trainer(reward=reward).step()
    assert sum(not text.endswith(UNFINISHED) for text in seen) / len(seen) == pytest.approx(row["finished"])


def test_learning_rates_fall_linearly_to_zero():
    lm = tiny.language_model()
    config = PPOConfig(episodes=16, batch_size=4, minibatch_size=4, epochs=1, validate_every=0)
    run = trainer(lm, reward=lambda p, r: torch.zeros(len(r)), config=config, adapter="empathy")
    rates = []
    for _ in range(4):
        run.step()
        rates.append([group["lr"] for group in run.optimizer.param_groups])
    assert_close(torch.tensor(rates), torch.tensor([[config.lr * x, config.value_lr * x] for x in (1, 0.75, 0.5, 0.25)]))


def test_more_replies_than_a_minibatch_are_read_at_a_time_only_where_their_logits_are_few(monkeypatch):
    lm = tiny.language_model()
    one = lm.config.max_new_tokens * len(tiny.WORDS)  # logits of a reply
    assert rows_read(lm, 1) == ROWS_READ and rows_read(lm, 64) == 64
    for limit, rows in ((5 * one, 5), (5 * one - 1, 4), (one - 1, 1)):
        monkeypatch.setattr("emorl_lite.training.policy.LOGITS_READ", limit)
        assert rows_read(lm, 1) == rows and rows_read(lm, 6) == 6
