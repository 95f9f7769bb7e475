"""The EMORL paper's own training: k-SCST, logarithms of rewards, perplexity of prompt and reply, its rule, its presets."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from test_methods import bench
from test_ppo import QUICK, Killed, killer, trainer, weights, wordy
from torch.testing import assert_close

from emorl_lite.__main__ import parse
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import FIGURE_2, T5_PAPER, TINY_PAPER, ModelConfig, PPOConfig, Preset, TextRewards, get_preset
from emorl_lite.experiment.options import study_run
from emorl_lite.jobs import EngineConfig
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods import METHODS
from emorl_lite.methods.registry import make_method
from emorl_lite.methods.scores import Objectives, WeightedSum
from emorl_lite.rewards.objectives import Fluency, RewardSet, perplexity_of_both
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.rewards.text_rewards import real_fluency
from emorl_lite.study import recipe
from emorl_lite.study import run as study
from emorl_lite.study.run import Study, comparable, identity, run_job
from emorl_lite.training import ppo
from emorl_lite.training.penalised_reward import logarithm
from emorl_lite.training.run_folder import ADDED_OFF, options_identity
from emorl_lite.training.stopping import converged
from emorl_lite.training.team import Team

PAPER = replace(QUICK, estimator="kscst", log_rewards=True, kl_coef=0.0, weight_decay=0.01, max_grad_norm=2.0, anneal_lr=False)


def half(prompts: list[str], replies: list[str]) -> torch.Tensor:
    """Half of `wordy`."""
    return wordy(prompts, replies) / 2


# -- the estimator


@pytest.mark.parametrize("k", [2, 3, 7])
def test_the_baseline_is_the_mean_of_all_k(k):
    scores = torch.randn(5 * k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    expected = [float(s) - sum(group) / k for group in scores.view(5, k).tolist() for s in group]
    assert_close(ppo.less_the_mean(scores, k), torch.tensor(expected, dtype=torch.float64))
    assert_close(ppo.less_the_mean(scores, k), (k - 1) / k * ppo.leave_one_out(scores, k))
    assert_close(ppo.less_the_mean(scores, k).view(5, k).sum(1), torch.zeros(5, dtype=torch.float64))


@tiny.kinds("llama", "t5")
def test_the_first_gradient_is_that_of_the_papers_loss(kind):
    """-(1 / N) sum_j A_j sum_t log pi(y_t): a batch's replies count alike, however long they are."""
    lm = tiny.language_model(kind, adapters=1)
    lm.model.double()  # of single precision the order of sums alone changes the fifth digit
    t = trainer(lm, config=replace(PAPER, max_grad_norm=1e9))
    kept: list[torch.Tensor] = []
    t.optimizer.step = lambda: kept.extend(p.grad.clone() for p in t.parameters)  # type: ignore[method-assign, assignment]
    sampled, take = [], t._sample
    t._sample = lambda rows: sampled.append(take(rows)) or sampled[-1]  # type: ignore[method-assign, func-returns-value]
    row = t.step()
    (rollout,) = sampled
    assert len(rollout) == 3 * PAPER.batch_size and len(kept) == len(t.parameters)
    scores = wordy([], rollout.texts)
    entered = scores.clamp(1e-4, 0.9999).log()
    advantage = (entered.view(-1, 3) - entered.view(-1, 3).mean(1, keepdim=True)).flatten()
    assert advantage.abs().max() > 0
    loss = -(advantage * t.lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask).sum(1)).sum() / len(rollout)
    for mine, p, expected in zip(kept, t.parameters, torch.autograd.grad(loss, t.parameters), strict=True):
        assert_close(mine, expected, atol=1e-6 * float(expected.abs().max()) + 1e-9, rtol=0, msg=str(p.shape))
    assert row["reward"] == pytest.approx(float(scores.mean())) and row[ppo.ENTERED] == pytest.approx(float(entered.mean()))
    assert row["penalised_reward"] == row[ppo.ENTERED] and math.isnan(row["value_loss"])


def test_one_step_a_rollout_whatever_epochs_and_minibatches_say():
    assert ppo.KSCST(replace(PAPER, epochs=4, minibatch_size=2)).steps(24) == (1, 24)
    with pytest.raises(UserError, match=r"--ppo\.k 1"):
        PPOConfig(estimator="kscst", k=1)


# -- logarithms


def test_rewards_enter_as_logarithms_of_clipped_scores():
    scores = torch.tensor([0.0, 1e-5, 1e-4, 0.3, 0.9999, 1.0], dtype=torch.float64)
    assert_close(logarithm(scores), torch.tensor([math.log(min(max(s, 0.0001), 0.9999)) for s in scores.tolist()], dtype=torch.float64))


def test_of_a_weighted_sum_each_objective_enters_as_a_logarithm():
    rewards = RewardSet({"a": wordy, "b": half})
    total, (prompts, replies) = WeightedSum(Objectives(rewards), [0.25, 0.75]), (["w1"] * 3, ["w1 w2", "w30", "w1 w2 w3 w4"])
    expected = [0.25 * math.log(max(a, 1e-4)) + 0.75 * math.log(max(a / 2, 1e-4)) for a in wordy(prompts, replies).tolist()]
    assert_close(total.logarithms(prompts, replies), torch.tensor(expected))
    t = trainer(reward=total, config=PAPER)
    assert_close(t.reward.logarithms(prompts, replies, torch.zeros(3)), torch.tensor(expected))
    assert_close(t.reward.scores(prompts, replies), 0.25 * wordy(prompts, replies) + 0.75 * half(prompts, replies))


def test_what_is_validated_and_logged_stays_the_score(tmp_path):
    log = trainer(config=PAPER, validation_prompts=tiny.PROMPTS, folder=tmp_path, watch={"same": half}).train()
    plain = trainer(config=replace(PAPER, log_rewards=False), validation_prompts=tiny.PROMPTS).train()
    assert list(log.columns) == [*ppo.COLUMNS, ppo.ENTERED, "same"] and list(plain.columns) == ppo.COLUMNS
    assert log.reward.iloc[0] == plain.reward.iloc[0] == pytest.approx(2 * log.same.iloc[0])  # the same replies
    assert log[ppo.ENTERED].max() <= 0 < log.reward.min() and (log[ppo.ENTERED] < log.reward.apply(math.log) + 1e-6).all()
    samples = pd.read_csv(tmp_path / "samples.csv")
    assert samples.score.tolist() == pytest.approx(wordy([], [str(x) for x in samples.reply.fillna("")]).tolist(), abs=1e-6)
    with pytest.raises(UserError, match="has a column of this name"):
        trainer(config=PAPER, watch={ppo.ENTERED: half})


# -- perplexity of prompt and reply


def test_perplexity_of_prompt_and_reply_by_hand():
    lm = tiny.language_model("llama", adapters=1)
    prompts, replies = ["w1 w2 w3", "w4", "w5 w6"], ["w7 w8", "w9 w10 w11 w12", ""]
    found = perplexity_of_both(lm, prompts, replies)
    for prompt, reply, value in zip(prompts, replies, found.tolist(), strict=True):
        ids = torch.tensor([lm.tokenizer(f"<bos> {prompt} <sep> {reply}").input_ids])
        with torch.no_grad(), lm.without_adapters():
            logp = lm.base(input_ids=ids).logits.log_softmax(-1)[0]
        terms = [float(logp[t, ids[0, t + 1]]) for t in range(ids.shape[1] - 1)]  # every token but the first, no end
        assert value == pytest.approx(math.exp(-sum(terms) / len(terms)), rel=1e-5)
    alone = [float(perplexity_of_both(lm, [p], [r])) for p, r in zip(prompts, replies, strict=True)]
    assert found.tolist() == pytest.approx(alone, rel=1e-5)  # whatever else is read beside it
    assert Fluency(lm, 50.0, both=True)(prompts, replies).tolist() == pytest.approx([max(0.0, (50 - x) / 50) for x in alone], rel=1e-4)
    assert len(perplexity_of_both(lm, [], [])) == 0
    lm = tiny.language_model("gpt2")
    longest = " ".join(["w1", "w2"] * lm.context)
    assert math.isfinite(float(perplexity_of_both(lm, ["w3"], [longest])))  # what its positions hold


def test_nothing_stands_between_statement_and_reply_in_t5_paper(monkeypatch):
    """As in the paper's code; a reply that is scored given its client is another text, after a space."""
    asked: list[ModelConfig] = []
    lm = tiny.language_model("llama", adapters=1)
    monkeypatch.setattr(LanguageModel, "load", lambda config: asked.append(config) or lm)
    found = [real_fluency(preset.rewards, lambda: lm, "cpu") for preset in (T5_PAPER, get_preset("t5"))]
    assert [(f.both, f.context) for f in found] == [(True, False), (False, True)]
    assert [(config.path, config.template) for config in asked] == [("openai-community/gpt2", t) for t in ("{prompt}", "{prompt} ")]
    small = [REWARDS["fluency"](SimpleNamespace(preset=preset, frozen=lm)).both for preset in (TINY_PAPER, get_preset("tiny"))]
    assert small == [True, False]  # tiny-paper's judge reads both, too


def test_an_encoder_decoder_has_no_perplexity_of_its_prompt():
    with pytest.raises(UserError, match="encoder-decoder; name a decoder-only"):
        perplexity_of_both(tiny.language_model("t5"), ["w1"], ["w2"])
    with pytest.raises(UserError, match=r"--rewards\.fluency-both"):
        TextRewards(fluency_context=True, fluency_both=True)


# -- its rule


STOPPING = replace(PAPER, episodes=400, lr=1e-4, early_stop=True, patience=4, tolerance=0.06, validate_every=1, validation_samples=3)


@tiny.kinds("llama", "t5")
def test_a_run_stops_where_the_rule_holds_and_resumes_to_the_same(tmp_path, kind):
    options = {"config": STOPPING, "validation_prompts": tiny.PROMPTS, "seed": 3}
    whole = trainer(tiny.language_model(kind), folder=tmp_path / "whole", **options)
    log = whole.train()
    means = log.validation.tolist()
    held = [i for i in range(len(means)) if converged(means[: i + 1], STOPPING.patience, STOPPING.tolerance)]
    assert held == [len(means) - 1] and STOPPING.patience < len(log) < 50, means
    record = json.loads((tmp_path / "whole/done.json").read_text())
    assert record["stopped"] == "converged" and record["episodes"] == 8 * len(log) and record["samples"] == 24 * len(log)
    with pytest.raises(Killed):
        trainer(tiny.language_model(kind), killer(5), folder=tmp_path / "cut", **options).train()
    again = trainer(tiny.language_model(kind), folder=tmp_path / "cut", **options)
    pd.testing.assert_frame_equal(again.train().drop(columns="seconds"), log.drop(columns="seconds"), check_exact=True)
    one, two = weights(whole.lm), weights(again.lm)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", ["clp-full", "clp-logit", "prompted", "panacea-tchebycheff"])
def test_a_policy_that_is_told_weights_trains_so_too(name):
    """Each reply's logarithms by its own weights; validations sample at uniform weights."""
    method = make_method(name, bench(config=replace(PAPER, episodes=16, validation_samples=3)))
    t = method.trainer()
    t.validation_prompts, t.encoded_validation = tiny.PROMPTS, t.lm.encode(tiny.PROMPTS)
    with method.conditioning.installed():
        t.step()
        row = t.step()
    assert row[ppo.ENTERED] < row["reward"] and math.isfinite(row["validation"])


def test_the_knob_of_kl_weights_has_a_default_without_a_kl_weight():
    """The paper's is 0, beyond the knob's range: its nearest end stands for it."""
    made = replace(bench(config=replace(PAPER, episodes=8)), kl_coefs=dict.fromkeys(tiny.ADAPTERS, 0.0))
    method = make_method("clp-kl", made)
    assert_close(method.condition(None), torch.tensor([[1.0, 0.0]]))
    method.prepare()


def test_the_worst_objectives_logarithm_counts_from_the_best_there_is():
    """Tchebycheff measures how far from the best score, 1, whose logarithm is 0; a weighted sum of logarithms is what it is."""
    made = bench(config=PAPER)
    for name, by_hand in (("panacea-tchebycheff", lambda x, w: -(w * -x).amax(1) / w.amax(1)), ("clp-full", lambda x, w: (w * x).sum(1))):
        reward = make_method(name, made).trainer().reward
        prompts, replies = ["w1"] * 2, ["w1 w2 w20 w45", "w45 w1"]
        reward.policy.weights = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
        logs = logarithm(made.objectives(prompts, replies))
        assert_close(reward.logarithms(prompts, replies, torch.zeros(2)), by_hand(logs, reward.policy.weights))


def test_validation_takes_as_many_samples_as_asked(monkeypatch):
    seen: list[int] = []

    def counted(prompts: list[str], replies: list[str]) -> torch.Tensor:
        seen.append(len(replies))
        assert len(prompts) == len(replies)
        return wordy(prompts, replies)

    t = trainer(reward=counted, config=replace(PAPER, validation_samples=3), validation_prompts=tiny.PROMPTS)
    state = torch.get_rng_state()
    assert {t.validate() for _ in range(4)} != {t.validate()}  # sampled: not the same again
    assert torch.equal(torch.get_rng_state(), state) and set(seen) == {3 * len(tiny.PROMPTS)}
    greedy = trainer(reward=counted, config=PAPER, validation_prompts=tiny.PROMPTS)
    assert greedy.validate() == greedy.validate() and seen[-1] == len(tiny.PROMPTS)


def test_the_rule_looks_at_what_all_processes_sampled():
    """A validation is the mean over a team's, in the log and for the rule."""

    class Half(Team):
        def mean(self, row: dict[str, float]) -> dict[str, float]:
            return row | {"validation": row["validation"] / 2}

    options = {"config": replace(PAPER, validation_samples=3, validate_every=2), "validation_prompts": tiny.PROMPTS}
    halved, alone = (trainer(team=team, **options) for team in (Half(), None))
    logs = [[t.step()["validation"] for _ in range(4)] for t in (halved, alone)]
    assert logs[0][1::2] == [x / 2 for x in logs[1][1::2]] == halved.validation_means and all(map(math.isnan, logs[0][0::2]))


def test_weight_decay_is_adamws():
    decayed, plain = (trainer(tiny.language_model(adapters=1), config=replace(PAPER, weight_decay=w)) for w in (0.5, 0.0))
    for t in (decayed, plain):
        t.step()
    start = weights(tiny.language_model(adapters=1))
    one, two = weights(decayed.lm), weights(plain.lm)
    for name in start:
        expected = two[name] - PAPER.lr * 0.5 * start[name] if ".reflection." in name else start[name]
        assert_close(one[name], expected, atol=1e-6, rtol=0, msg=name)


# -- options and presets


def test_options_that_are_off_change_no_identity():
    plain = options_identity(tiny.language_model(), PPOConfig())
    new = ("weight_decay", "log_rewards", "validation_samples")
    assert not any(f"ppo.{name}" in plain for name in new) and set(new) < set(ADDED_OFF)
    assert all(f"ppo.{name}" in options_identity(tiny.language_model(), replace(PAPER, validation_samples=3)) for name in new)
    before = identity(Preset())
    for part, names in {"ppo": new, "rewards": ["fluency_both"]}.items():
        for name in names:
            del before[part][name]
    theirs, ours = comparable(before, identity(Preset()))
    assert theirs == ours
    assert "methods" not in ours and not any("methods" in key for key in ours)  # a longer list makes no result another


def test_the_budget_reaches_what_the_paper_spent():
    run = study_run(T5_PAPER)
    assert run.episodes >= 31_328 + 16_736 and run.episodes % (run.batch_size * run.validate_every) == 0
    assert (run.estimator, run.k, run.log_rewards, run.early_stop) == ("kscst", 3, True, True)
    assert run == replace(T5_PAPER.ppo)  # the study's runs are the preset's
    small = study_run(TINY_PAPER)
    assert small == TINY_PAPER.ppo and small.episodes // (small.batch_size * small.validate_every) > small.patience
    assert study_run(replace(TINY_PAPER, study=replace(TINY_PAPER.study, patience=7))).patience == 7
    with pytest.raises(UserError, match=r"--study\.patience 1"):
        replace(TINY_PAPER, study=replace(TINY_PAPER.study, patience=1))


def test_tiny_paper_is_the_same_training_scaled_down():
    differ = {f.name for f in fields(PPOConfig) if getattr(T5_PAPER.ppo, f.name) != getattr(TINY_PAPER.ppo, f.name)}
    assert differ == {"lr", "episodes", "validate_every"}
    assert (TINY_PAPER.kl_coef, TINY_PAPER.lr, TINY_PAPER.search, TINY_PAPER.methods) == ({}, {}, T5_PAPER.search, T5_PAPER.methods)
    assert TINY_PAPER.rewards.fluency_both and TINY_PAPER.study.patience == T5_PAPER.study.patience == 20


def test_a_study_takes_the_presets_list_of_methods(tmp_path):
    assert set(FIGURE_2) <= set(METHODS)
    assert Study(TINY_PAPER, 1, root=tmp_path).methods == list(FIGURE_2)
    assert Study(TINY_PAPER, 1, ["uniform"], root=tmp_path).methods == ["uniform"]
    assert Study(get_preset("tiny"), 1, root=tmp_path).methods == list(METHODS)
    command = parse(["study", "--preset", "tiny-paper", "--seeds", "2"])
    assert command.study == TINY_PAPER.study and command.methods == ()
    train = parse(["train", "--preset", "t5-paper"])
    assert train.to_preset() == T5_PAPER


# -- the table of differences


@pytest.mark.parametrize("row", recipe.DIFFERENCES, ids=lambda row: row.what)
def test_rows_of_the_recipe_say_what_the_preset_says(row):
    for option, expected in row.options.items():
        found = recipe.value(T5_PAPER, option)
        assert found == expected and type(found) is type(expected), option
    assert row.paper != row.here and all(getattr(row, f.name) for f in fields(row) if f.name != "options")


def test_the_recipe_is_made_from_the_presets():
    table = recipe.paper_recipe()
    options = {option for step in recipe.RECIPE for option in step.options}
    assert set(table["option"]) == options and len(table) == len(options)
    for option in options:
        part, name = option.split(".")
        assert name in get_type_hints(type(getattr(T5_PAPER, part)))
    own = table.set_index("option")["t5-paper"]
    assert own[["ppo.estimator", "ppo.k", "ppo.tolerance", "rewards.fluency_cap"]].tolist() == ["kscst", "3", "0.015", "50"]
    differences = recipe.remaining_differences()
    assert len(differences) == len(recipe.DIFFERENCES) and differences["what"].is_unique
    smaller = recipe.scaled_down().set_index("option")
    assert {"model.path", "ppo.lr", "ppo.episodes", "ppo.validate_every", "rewards"} <= set(smaller.index)
    assert (smaller["t5-paper"] != smaller["tiny-paper"]).all()
    for preset in (T5_PAPER, TINY_PAPER):  # what is left out is said by another row
        assert (preset.study.budget, preset.study.validate_every) == (preset.ppo.episodes, preset.ppo.validate_every)


# -- from end to end


SMALL = replace(
    TINY_PAPER,
    rewards=replace(TINY_PAPER.rewards, classifier_examples=256, classifier_epochs=1),
    ppo=replace(TINY_PAPER.ppo, checkpoint_every=1, tolerance=10.0),
    model=replace(TINY_PAPER.model, max_new_tokens=10),
    search=replace(TINY_PAPER.search, levels=1, validation_prompts=2),
    data=replace(TINY_PAPER.data, train_prompts=32, validation_prompts=4, test_prompts=6),
    study=replace(
        TINY_PAPER.study, budget=96, validate_every=1, weight_steps=1, level_steps=1, test_prompts=4, sweep_prompts=3, patience=2
    ),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Study:
    made = Study(SMALL, 1, root=tmp_path_factory.mktemp("paper"), progress=False)
    made.run(engine=EngineConfig("here"))
    return made


@pytest.mark.slow
def test_one_command_makes_figure_2(small):
    tables = small.tables()
    names = list(SMALL.objectives)
    rows = tables["rows"].drop_duplicates("method").set_index("method")
    assert set(rows.index) == set(FIGURE_2)
    assert rows["data_points"].to_dict() == {"base": 0, "uniform": 32, "dynaopt": 32, "exact-average-long": 96, "emorl-long": 96}
    assert (rows.loc[["exact-average-long", "emorl-long"], "parallel"] == 32).all() and rows.loc["uniform", "samples"] == 96
    stops = tables["convergence"].set_index("run")
    assert set(stops.index) == {"uniform", "dynaopt", *(f"{name}-long" for name in names)}
    assert (stops["data_points"] == 32).all() and stops["converged"].all()  # the rows' own counts
    points = recipe.figure_2(tables, SMALL).set_index("method")
    assert {name.partition(" ")[0] for name in points.index} == {"base", "uniform", "dynaopt", "exact-average", "emorl"}
    assert points.loc["emorl (longest run)", "data_points"] == 32 and points.loc["emorl (sum of runs)", "data_points"] == 96
    searched = 3 ** len(names) * SMALL.search.validation_prompts
    assert points.loc["emorl (longest run + search)", "data_points"] == 32 + searched
    assert np.isfinite(points["mean"]).all() and not points["censored"].any()
    written = small.save(small.root / "out", "python -m emorl_lite study --preset tiny-paper")
    assert {path.name for path in written} >= {"methods.csv", "methods_convergence.csv"}


@pytest.mark.slow
def test_dynaopt_chooses_at_each_validation_of_a_run_that_stops(small):
    log = pd.read_csv(small.folder / "seed0" / "dynaopt" / "log.csv")
    assert len(log) == 2 and log.validation.notna().all() and log[[f"w_{name}" for name in SMALL.objectives]].notna().all().all()
    assert (log[ppo.ENTERED] < 0).all()


@pytest.mark.slow
def test_a_killed_run_of_the_study_ends_as_one_that_was_not(small, tmp_path, monkeypatch):
    again = Study(SMALL, 1, ["uniform"], root=tmp_path, progress=False)
    step, steps = ppo.PPOTrainer.step, []

    def dying(self: ppo.PPOTrainer) -> dict[str, float]:
        if len(steps) == 1:
            raise Killed
        steps.append(1)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(ppo.PPOTrainer, "step", dying)
        with pytest.raises(Killed):
            run_job(SMALL, 0, "uniform", tmp_path)
    again.run(engine=EngineConfig("here"))
    one, two = (pd.read_csv(s.folder / "seed0" / "uniform" / "log.csv").drop(columns="seconds") for s in (small, again))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert study.convergence(again.folder / "seed0", 0, SMALL)["data_points"].tolist() == [32]
