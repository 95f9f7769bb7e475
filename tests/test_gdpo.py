"""GDPO: its advantages are TRL's, and it says what it lacks."""

from __future__ import annotations

import runpy
from dataclasses import make_dataclass

import pandas as pd
import pytest
import tiny
import torch
from course_cells import ROOT
from test_methods import bench
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.lm.devices import cpu_has_bfloat16
from emorl_lite.methods import make_method
from emorl_lite.methods.bench import Objectives
from emorl_lite.methods.gdpo import GDPO, KL_TIMES, gdpo_advantages
from emorl_lite.methods.grpo import GRPO


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
