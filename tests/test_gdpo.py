"""GDPO: its advantages are TRL's, and it says what it lacks."""

from __future__ import annotations

import runpy
from dataclasses import make_dataclass, replace

import pandas as pd
import pytest
import tiny
import torch
from course_cells import ROOT
from test_methods import QUICK, REWARDS, bench
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.lm.devices import cpu_has_bfloat16
from emorl_lite.methods import make_method
from emorl_lite.methods.bench import Objectives
from emorl_lite.methods.gdpo import GDPO, KL_TIMES, gdpo_advantages
from emorl_lite.methods.grpo import GRPO
from emorl_lite.training import PPOTrainer


def groups(n: int, k: int, spreads=(0.01, 0.1, 0.4)) -> torch.Tensor:
    """Scores of n groups of k replies: objectives that vary more and less, and a group in which one does not vary."""
    torch.manual_seed(2)
    scores = torch.rand(n * k, len(spreads)) * torch.tensor(spreads)
    scores[:k, 0] = 0.5
    return scores


def test_advantages_by_hand():
    scores, k = groups(3, 4), 4
    total = []
    for first in range(0, len(scores), k):
        group = scores[first : first + k]
        deviation = (((group - group.mean(0)) ** 2).sum(0) / (k - 1)).sqrt()
        total += ((group - group.mean(0)) / (deviation + 1e-4)).mean(1).tolist()
    mean = sum(total) / len(total)
    deviation = (sum((x - mean) ** 2 for x in total) / (len(total) - 1)) ** 0.5
    assert_close(gdpo_advantages(scores, k), torch.tensor([(x - mean) / (deviation + 1e-4) for x in total]))


def test_advantages_are_of_unit_scale_whatever_the_scores_are():
    scores = groups(4, 4)
    found = gdpo_advantages(scores, 4)
    assert_close(found.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(found.std(), torch.tensor(1.0), atol=1e-3, rtol=0)
    louder = gdpo_advantages(scores.double() * torch.tensor([1.0, 50.0, 1.0]) + 3.0, 4)
    assert_close(louder.float(), found, atol=2e-2, rtol=0)  # but for what is added to the deviations
    assert_close(gdpo_advantages(scores[:, :1], 4)[:4], torch.zeros(4), atol=1e-6, rtol=0)  # equal replies teach nothing


def test_groups_that_are_none_are_told():
    for scores, k in ((torch.rand(6, 3), 4), (torch.rand(4, 3), 1), (torch.rand(8), 4), (torch.rand(0, 3), 4)):
        with pytest.raises(UserError, match="groups of"):
            gdpo_advantages(scores, k)


def test_trl_computes_the_same_advantages_of_given_scores(monkeypatch):
    from trl import GRPOTrainer

    given, found, betas = [], [], []
    completions = GRPOTrainer._generate_and_score_completions

    def rewards(self, inputs, prompts, ids, *others):
        torch.manual_seed(len(given))
        given.append(groups(len(prompts) // 4, 4) + torch.rand(len(prompts), 3) * 0.01)
        return given[-1].clone()

    def spy(self, inputs):
        batch = completions(self, inputs)
        found.append(batch["advantages"])
        betas.append(self.beta)
        return batch

    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", rewards)
    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", spy)
    made = bench()
    cost = make_method("gdpo", made).prepare()
    assert cost.samples == 4 * cost.data_points == made.ppo.episodes
    assert len(found) == len(given) == 3
    for advantages, scores in zip(found, given, strict=True):
        assert_close(advantages, gdpo_advantages(scores, 4))
    assert betas == pytest.approx([KL_TIMES * made.kl_coef(made.uniform)] * 3)


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no bfloat16 products")
def test_the_policy_is_read_in_16_bits_where_other_trainers_read_so_and_judges_are_not(monkeypatch):
    from trl import GRPOTrainer

    policy, judges = [], []
    read, score = GRPOTrainer._get_per_token_logps_and_entropies, Objectives.__call__

    def reading(self, model, *args, **options):
        inside = [layer for layer in self.model.modules() if type(layer) is torch.nn.Linear and "forward" in vars(layer)]
        policy.append((torch.is_autocast_enabled("cpu"), bool(inside)))
        return read(self, model, *args, **options)

    def scoring(self, *texts):
        judges.append(torch.is_autocast_enabled("cpu"))
        return score(self, *texts)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", reading)
    monkeypatch.setattr(Objectives, "__call__", scoring)
    made = bench(tiny.language_model("llama", autocast=True))
    make_method("gdpo", made).prepare()
    assert set(policy) == {(True, True)} and set(judges) == {False} and not torch.is_autocast_enabled("cpu")
    trained = [p for name, p in made.lm.model.named_parameters() if "lora_B" in name and "gdpo" in name]
    assert trained and all(p.dtype == torch.float32 and p.isfinite().all() for p in trained) and any(p.abs().max() > 0 for p in trained)


def test_it_is_grpo_but_for_advantages_and_kl_weight():
    made = bench()
    gdpo, grpo = GDPO(made), GRPO(made)
    assert grpo.marks() == {"group": 4} and gdpo.marks() == {"group": 4, "kl_times": KL_TIMES}
    assert set(gdpo.aggregation()) == {"multi_objective_aggregation", "beta"} and set(grpo.aggregation()) == {"scale_rewards", "beta"}
    assert gdpo.aggregation()["beta"] == pytest.approx(KL_TIMES * grpo.aggregation()["beta"])


class StoppedError(Exception):
    """Before anything is trained."""


def configured(monkeypatch, made, name="gdpo"):
    """TRL's options for a method on this bench."""
    import trl

    found = []

    def spy(base, rewards, config, **_):
        found.append(config)
        raise StoppedError

    monkeypatch.setattr(trl, "GRPOTrainer", spy)
    with pytest.raises(StoppedError):
        make_method(name, made).prepare()
    return found[0]


@pytest.mark.parametrize("name", ["grpo", "gdpo"])
@pytest.mark.parametrize("estimator", ["ppo", "rloo", "kscst"])
@pytest.mark.parametrize("minibatch, accumulation, step", [(4, 1, 4), (2, 2, 4), (8, 1, 8), (64, 3, 8), (4, 5, 8), (3, 5, 8)])
def test_it_makes_the_gradient_steps_of_the_other_trainers(monkeypatch, name, minibatch, accumulation, step, estimator):
    config = replace(QUICK, minibatch_size=minibatch, gradient_accumulation=accumulation, estimator=estimator)
    theirs = PPOTrainer(tiny.language_model("llama"), "own", REWARDS["reflection"], ["w1"], config).estimator
    passes, size = theirs.steps(config.batch_size)
    assert (passes, min(size, config.batch_size)) == ((QUICK.epochs, step) if estimator == "ppo" else (1, 8))
    found = configured(monkeypatch, bench(config=config), name)
    assert found.per_device_train_batch_size * found.gradient_accumulation_steps == min(size, 8) and found.generation_batch_size == 8
    assert found.per_device_train_batch_size <= minibatch
    assert found.max_steps == QUICK.episodes * passes // min(size, 8) and found.num_iterations == passes


def test_trl_makes_these_steps_and_minibatches_are_no_matter(monkeypatch):
    """Smaller than a group, and several to a step: as many gradient steps and batches of replies, and the same adapter."""
    from trl import GRPOTrainer

    batches, adapters = [], []
    generate = GRPOTrainer._generate_and_score_completions
    monkeypatch.setattr(
        GRPOTrainer, "_generate_and_score_completions", lambda self, inputs: batches.append(len(inputs)) or generate(self, inputs)
    )
    for minibatch, accumulation in ((4, 1), (2, 2)):
        made = bench(config=replace(QUICK, minibatch_size=minibatch, gradient_accumulation=accumulation))
        make_method("grpo", made).prepare()
        adapters.append({name: p.detach() for name, p in made.lm.model.named_parameters() if "lora_B.grpo" in name})
    assert batches == [8] * 3 * 2
    assert adapters[0] and any(p.abs().max() > 1e-3 for p in adapters[0].values())
    for name, p in adapters[0].items():
        assert_close(adapters[1][name], p, atol=1e-5, rtol=1e-3)


def test_it_learns_at_the_rate_of_a_policy_for_equal_weights(monkeypatch):
    made = bench()
    assert configured(monkeypatch, made).learning_rate == QUICK.lr
    faster = replace(bench(), lrs={"empathy": 4 * QUICK.lr})
    found = configured(monkeypatch, faster)
    assert found.learning_rate == faster.scalarised(faster.uniform).lr == pytest.approx(2 * QUICK.lr)
    assert found.lr_scheduler_type == "linear"
    own = {"lrs": {"empathy": 4 * QUICK.lr}}
    assert GDPO(faster).marks() == GDPO(made).marks() | own and made.identity() == faster.identity()
    assert replace(made, lrs={"empathy": QUICK.lr, "of nobody": 1.0}).own_rates() == {}
    steady = configured(monkeypatch, bench(config=replace(QUICK, anneal_lr=False)))
    assert steady.lr_scheduler_type == "constant"


def test_a_batch_without_equal_steps_is_told():
    for config, what in (
        (replace(QUICK, minibatch_size=3), "minibatch_size 3, gradient_accumulation 1"),
        (replace(QUICK, batch_size=24, minibatch_size=4, gradient_accumulation=4), "minibatch_size 4, gradient_accumulation 4"),
    ):
        with pytest.raises(UserError, match=f"a batch of {config.batch_size} replies cannot be cut into equal gradient steps: {what}"):
            GDPO.check_options(config)


def test_too_few_prompts_for_a_batch_are_told():
    """TRL would train nothing, without a word."""
    made = bench(config=replace(QUICK, batch_size=64, minibatch_size=64, episodes=64))
    with pytest.raises(UserError, match="method gdpo: a batch of 64 replies needs 16 training prompts, there are 12"):
        make_method("gdpo", made).prepare()


def test_dropout_is_off_as_in_the_other_trainers(monkeypatch):
    from trl import GRPOTrainer

    found = []
    read = GRPOTrainer._get_per_token_logps_and_entropies

    def reading(self, model, *args, **options):
        found.extend(layer.p for layer in self.model.modules() if isinstance(layer, torch.nn.Dropout))
        return read(self, model, *args, **options)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", reading)
    make_method("grpo", bench(tiny.language_model("llama", lora_dropout=0.3))).prepare()
    assert found and set(found) == {0.0}


def test_the_factor_is_the_one_that_the_table_gives():
    """Runs as far from the base as GRPO's, on seeds that no study has."""
    table = pd.read_csv(ROOT / "data" / "results" / "gdpo_beta.csv")
    assert runpy.run_path(str(ROOT / "scripts" / "tune_gdpo.py"))["chosen"](table) == KL_TIMES
    assert table.seed.min() >= 100 and table.seed.nunique() >= 2


def test_a_trl_without_it_is_one_clear_line(monkeypatch):
    import trl

    monkeypatch.setattr(trl, "GRPOConfig", make_dataclass("GRPOConfig", ["scale_rewards"]))
    with pytest.raises(UserError, match="method gdpo: this TRL has no multi_objective_aggregation: pip install -U trl"):
        make_method("gdpo", bench()).prepare()
    with pytest.raises(UserError, match="decoder-only"):
        GDPO.check_possible(tiny.language_model("t5"))


@pytest.mark.parametrize("script", ["tune_gdpo", "tune_genarm"])
def test_wrong_options_of_a_tuning_are_told_before_anything_is_trained(script, tmp_path):
    options, out = runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))["Options"], tmp_path / "table.csv"
    options(out=out).check()
    wrong = [{"preset": "nope"}, {"seeds": ()}, {"seeds": (1, 1)}, {"seeds": (-1,)}, {"out": tmp_path / "table.txt"}]
    if script == "tune_gdpo":
        wrong += [{"times": ()}, {"times": (-1.0,)}, {"times": (float("nan"),)}]
    for given in wrong:
        with pytest.raises(UserError, match=str(next(iter(given)))):
            options(**{"out": out} | given).check()
    assert not list(tmp_path.iterdir())
