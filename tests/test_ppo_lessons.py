"""Notebook 02's figures, explorer and sentences about PPO's parts: true of their numbers whichever way these come out."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from emorl_lite import grammar, plots
from emorl_lite.base.errors import UserError
from emorl_lite.plots.ppo import LOG_COLUMNS, run_log_alt
from emorl_lite.plots.ppo_explorer import Recorded, clip_at, clipped_tokens, ppo_explorer
from emorl_lite.readings import ppo, training
from emorl_lite.training import gae, kl_per_token, masked_mean, policy_loss, token_rewards, whiten


def recorded(moved: float = 0.3, N: int = 3, T: int = 5) -> Recorded:
    random = torch.Generator().manual_seed(0)
    mask = (torch.arange(T) < torch.tensor([T, 3, 1])[:, None]).float()
    old, ref, new, values = (torch.randn(N, T, generator=random) for _ in range(4))
    words = [[f"w{i}<{t}>" for t in range(T)] for i in range(N)]
    old, ref = -old.abs() * mask, -ref.abs() * mask
    return Recorded(words, mask, old, (old + moved * new) * mask, ref, 0.2 * values * mask, torch.tensor([0.1, 0.8, 0.5]))


# -- the explorer


def test_it_shows_what_ppos_loss_sees():
    rollout = recorded()
    seen = clip_at(rollout, 0, 0.2, 0.1)
    penalty = kl_per_token(rollout.old_logp, rollout.ref_logp, rollout.mask)
    advantages = whiten(
        gae(token_rewards(rollout.scores, 0.1 * penalty, rollout.mask), rollout.values, rollout.mask, 1.0, 0.95)[0], rollout.mask
    )
    assert seen.tokens["advantage"].tolist() == pytest.approx(advantages[0].tolist())
    logp = rollout.logp.clone().requires_grad_()
    loss = policy_loss(logp, rollout.old_logp, advantages, rollout.mask, 0.2)
    (gradient,) = torch.autograd.grad(loss, logp)
    assert seen.loss == pytest.approx(loss.item())
    assert seen.tokens["gradient"].tolist() == pytest.approx((gradient[0] * rollout.mask.sum()).tolist(), abs=1e-5)
    assert (seen.tokens["gradient"] == 0).tolist() == seen.tokens["clipped"].tolist()
    shares = [clip_at(rollout, i, 0.2, 0.1).tokens["share"].sum() for i in range(3)]
    assert sum(shares) == pytest.approx(1)
    assert seen.kl == pytest.approx(float(penalty.sum(1).mean())) and seen.penalised == pytest.approx(1.4 / 3 - 0.1 * seen.kl)


def test_no_update_clips_nothing_and_a_wide_range_neither():
    still = clip_at(recorded(), 0, 0.2, 0.03, scale=0.0)
    assert still.tokens["ratio"].eq(1).all() and still.clip_fraction == still.clipped == 0 and still.approx_kl == 0
    assert clip_at(recorded(), 0, 1e6, 0.03).clipped == 0
    narrow, far = clip_at(recorded(), 0, 0.01, 0.03), clip_at(recorded(), 0, 0.2, 0.03, scale=3.0)
    plain = clip_at(recorded(), 0, 0.2, 0.03)
    assert narrow.clip_fraction >= plain.clip_fraction and narrow.clipped <= narrow.clip_fraction and far.approx_kl > plain.approx_kl > 0


def test_beta_changes_the_advantages_and_not_the_ratios():
    free, bound = clip_at(recorded(), 0, 0.2, 0.0), clip_at(recorded(), 0, 0.2, 1.0)
    assert free.tokens["ratio"].tolist() == bound.tokens["ratio"].tolist()
    assert free.tokens["advantage"].tolist() != pytest.approx(bound.tokens["advantage"].tolist())
    assert free.kl == bound.kl and free.penalised == pytest.approx(1.4 / 3)


@pytest.mark.parametrize(
    ("reply", "epsilon", "beta", "scale"), [(3, 0.2, 0, 1), (-1, 0.2, 0, 1), (0, 0, 0, 1), (0, 0.2, -1, 1), (0, 0.2, 0, -1)]
)
def test_settings_that_make_no_sense(reply, epsilon, beta, scale):
    with pytest.raises(UserError, match=r"reply|clip range"):
        clip_at(recorded(), reply, epsilon, beta, scale)


def test_a_record_has_one_shape():
    good = recorded()
    with pytest.raises(UserError, match="one shape"):
        Recorded(good.words, good.mask, good.old_logp, good.logp[:, :2], good.ref_logp, good.values, good.scores)


def test_the_picture_names_its_tokens_and_the_page_is_escaped():
    seen = clip_at(recorded(2.0), 0, 0.1, 0.03)
    assert seen.tokens["clipped"].any()
    figure = clipped_tokens(seen)
    assert [x.get_text() for x in figure.axes[0].get_yticklabels()] == seen.tokens["token"].tolist()
    stopped = seen.tokens.loc[seen.tokens["clipped"], "token"].iloc[0]
    assert f"Clipped, without gradient: {stopped}" in figure.alt_text
    assert "without gradient: none." in clipped_tokens(clip_at(recorded(), 0, 1e6, 0.03)).alt_text
    html = seen.html()
    assert "<img src='data:image/png;base64," in html and "w0<0>" not in html and "alt='The 5 tokens" in html


def test_a_token_cannot_end_the_alternative_text():
    rollout = recorded()
    words = [["' onerror='alert(1)' <b>$x$\\"] * 5 for _ in rollout.words]
    found: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.extend([dict(attributes)] if tag == "img" else [])

    Reader().feed(clip_at(replace(rollout, words=words), 0, 0.01, 0.03).html())
    assert [set(attributes) for attributes in found] == [{"src", "alt", "style"}] and words[0][0] in str(found[0]["alt"])


def test_the_explorer_follows_its_sliders():
    box = ppo_explorer(recorded(), ["first", "second", "third"])
    choice, *rows, output = box.children
    assert [row.children[0].description for row in rows] == ["clip range ε", "KL weight β", "update size"]
    before = output.value
    rows[0].children[1].value = 0.5
    assert output.value != before and "ε 0.50" in output.value
    choice.value = 2
    assert "The 1 token of one reply" in output.value
    with pytest.raises(UserError, match="3 recorded replies and 1 texts"):
        ppo_explorer(recorded(), ["first"])


# -- figures


def curves(epsilon: float = 0.2) -> pd.DataFrame:
    ratio = np.linspace(0.5, 1.5, 101)
    frames = []
    for sign in (1, -1):
        clipped = (ratio > 1 + epsilon) if sign > 0 else (ratio < 1 - epsilon)
        loss = -np.minimum(sign * ratio, sign * ratio.clip(1 - epsilon, 1 + epsilon))
        frames.append(pd.DataFrame({"advantage": sign, "ratio": ratio, "loss": loss, "gradient": np.where(clipped, 0.0, -sign * ratio)}))
    return pd.concat(frames)


def test_the_clips_cases():
    alt = plots.clip_cases(curves(), 0.2).alt_text
    assert "for A = −1 at ratios from 0.50 to 0." in alt and "0 for A = +1 at ratios from 1." in alt
    with pytest.raises(UserError, match="no column 'gradient'"):
        plots.clip_cases(curves().drop(columns="gradient"), 0.2)


def test_the_advantages_of_a_reply():
    alt = plots.advantage_lines(["a", "b"], {0.0: [0.1, -0.2], 1.0: [0.3, 0.4]}).alt_text
    assert "2 tokens" in alt and "λ = 0 from −0.20 to 0.10" in alt and "λ = 1 from 0.30 to 0.40" in alt


def small_log(**rewards: tuple[float, float]) -> pd.DataFrame:
    """Two steps of two seeds; rewards: run -> (first, last)."""
    rows = [
        {"run": run, "seed": seed, "samples": 32 * (step + 1), "reward": reward + 0.02 * seed, "kl": 0.5 * step, "length": 9.0}
        for run, ends in rewards.items()
        for seed in (0, 1)
        for step, reward in enumerate(ends)
    ]
    return pd.DataFrame(rows)


def test_small_runs_keep_apart():
    log = small_log(**{name: (0.1, 0.9) for name in "abcdef"})
    figure = plots.small_runs(log, {"reward": "reward", "kl": "KL"})
    bold = [line for line in figure.axes[0].lines if line.get_linewidth() == 2]
    assert len({(line.get_color(), line.get_marker()) for line in bold}) == len(bold) == 6
    assert "a: reward 0.11 to 0.91, KL 0.00 to 0.50" in figure.alt_text


def run_log(**changes: float) -> pd.DataFrame:
    columns = {"clipfrac": 0.02, "entropy": 0.6, "explained_variance": 0.5, "approx_kl": 0.001, "kl": 1.0, "first_ratio": 1e-6} | changes
    assert set(columns) == set(LOG_COLUMNS)
    rows = [{"objective": name, "seed": 0, "episodes": 64 * step, **columns} for name in ("empathy", "fluency") for step in range(1, 21)]
    return pd.DataFrame(rows)


def test_a_runs_log_is_drawn_and_told():
    figure = plots.run_log(run_log())
    assert len(figure.axes) == 6 and figure.alt_text == run_log_alt(run_log())
    assert "empathy: clip fraction 2 % to 2 %" in figure.alt_text and "at most 1.0e-06 off 1" in figure.alt_text


# -- a run's log, read


def test_a_sound_log_and_an_unsound_one():
    sound = training.log_reading(run_log(), 0.2)
    assert "At most 2 %, within" in sound and "all still explore" in sound and "above .3 for empathy and fluency" in sound
    assert "left 0.8 to 1.2" in sound
    bad = run_log(clipfrac=0.6, explained_variance=-0.2)
    bad.loc[bad["episodes"] > 700, "entropy"] = 0.01
    text = training.log_reading(bad, 0.2)
    assert "At most 60 %, much" in text and "empathy and fluency lost over three quarters" in text
    assert "nowhere above .3; below 0 for empathy and fluency" in text


# -- by hand


def test_a_reward_that_costs_and_one_that_earns():
    dear = ppo.reward_reading(0.5, torch.tensor([1.0, 2.0, -1.0]), 0.1)
    assert "costs 0.200" in dear and "0.300 in all" in dear and "earns a little: 1 of 3 tokens." in dear
    assert "earns 0.200" in ppo.reward_reading(0.5, torch.tensor([-1.0, -1.0]), 0.1)


def estimates(k2: float, k3_spread: float) -> pd.DataFrame:
    exact = {"k1": 0.5, "k2": k2, "k3": 0.5}
    spread = {"k1": 1.0, "k2": 0.8, "k3": k3_spread}
    rows = [
        {"estimator": k, "exact mean": exact[k], "exact KL": 0.5, "spread of one draw": spread[k], "share below 0": 0.2 * (k == "k1")}
        for k in exact
    ]
    return pd.DataFrame(rows)


def test_estimators_that_are_steady_and_not():
    steady = ppo.estimator_reading(estimates(0.7, 0.3))
    assert (
        "k1 and k3 give the KL, 0.500" in steady and "biased: k2 (+0.200)" in steady and "20 %" in steady and "the one to plot." in steady
    )
    assert "less steady than k1" in ppo.estimator_reading(estimates(0.7, 9.0))
    assert "as steady here" in ppo.estimator_reading(estimates(0.7, 1.0))


def test_where_the_surprise_is():
    text = ppo.lambda_reading(["a", "b", "c"], {0.0: [0.0, 0.0, 0.5], 1.0: [0.5, 0.5, 0.5]})
    assert "“c” (token 3 of 3, +0.500)" in text and "between +0.500 and +0.500" in text and "the tokens before it learn nothing" in text
    assert "before it" not in ppo.lambda_reading(["a", "b"], {0.0: [0.5, 0.0], 1.0: [0.5, 0.0]})


def test_the_token_table_is_read():
    tokens = pd.DataFrame(
        {"token": ["a", "b"], "ratio ρ": [1.0, 1.0], "reward r": [0, 0.5], "advantage A": [0.1, 0.3], "whitened": [-0.5, 0.5]}
    )
    text = ppo.token_reading(tokens, 0.5)
    assert "push up 1 of 2 tokens: highest is “b” (token 2, +0.50)" in text and "turned the sign of 1 token here." in text
    assert "push up none of 2 tokens: highest is" in ppo.token_reading(tokens.assign(whitened=[-0.5, -0.1]), 0.5)
    assert "turned no sign" in ppo.token_reading(tokens.assign(**{"advantage A": [-0.1, 0.3]}), 0.5)
    assert "ratio is 1 in every row" in text
    assert "ratio is up to 5e-01 off 1, a fault. The score" in ppo.token_reading(tokens.assign(**{"ratio ρ": [1.0, 1.5]}), 0.5)


def test_updates_the_right_way_and_the_wrong_way():
    moves = pd.DataFrame({"advantage": [1.0, -1.0, 1.0], "ratio": [1.3, 0.9, 0.95]})
    assert "67 % of 3 tokens" in ppo.update_reading(moves, 0.2) and "33 % left" in ppo.update_reading(moves, 0.2)
    assert "the wrong way: the steps" in ppo.update_reading(moves.assign(advantage=-moves["advantage"]), 0.2)
    still = ppo.update_reading(moves.assign(ratio=1.0), 0.2)
    assert "Nothing moved" in still and "wrong way" not in still


def test_small_runs_that_learn_and_that_do_not():
    log = small_log(a=(0.1, 0.9)).query("seed == 0")
    assert "It learned: replies that earn are made likelier, until most do." in ppo.small_run_reading(log)
    assert "made likelier." in ppo.small_run_reading(
        log.assign(reward=[0.1, 0.4])
    ) and "2 steps, 64 samples: reward 0.10" in ppo.small_run_reading(log)
    assert "did not learn" in ppo.small_run_reading(log.assign(reward=0.1))


HEALTHY = {"KL at the start": 1e-6, "first ratio, untrained": 1e-6, "first ratio, student": 1e-6, "finished": 1.0}


def test_who_notices_a_fault():
    measured = {
        "none": HEALTHY,
        "dropout": HEALTHY | {"first ratio, student": 0.5},
        "no end": HEALTHY | {"finished": 0.0},
        "sly": HEALTHY,
        "broken": dict.fromkeys(HEALTHY, float("nan")) | {"finished": 1.0},
    }
    table = ppo.fault_table(measured, 0.01).set_index("fault")["noticed by"]
    assert table["none"] == table["sly"] == "nobody" and table["dropout"] == "first ratio (trained)"
    assert table["no end"] == "share finished" and "KL at the start" in table["broken"]
    text = ppo.fault_reading(ppo.fault_table(measured, 0.01))
    assert "Without a fault nobody notices" in text and "Nobody notices sly." in text
    assert "**KL at the start** misses dropout, no end and sly (" in text and "**First ratio (trained)** misses no end and sly (" in text
    seen = {"none": HEALTHY | {"first ratio, student": 0.3}, "loud": {k: 9.0 for k in HEALTHY} | {"finished": 0.0}}
    text = ppo.fault_reading(ppo.fault_table(seen, 0.01))
    assert "Even without a fault: first ratio (trained)" in text and "misses none. " in text and "Each fault is noticed" in text


def test_ablations_below_above_and_open():
    table = ppo.ablation_table(small_log(PPO=(0.5, 0.5), low=(0.1, 0.1), high=(0.9, 0.9), same=(0.505, 0.505)))
    assert table["its range"].tolist()[0] == "0.50 to 0.52" and table["variant"].tolist() == ["PPO", "low", "high", "same"]
    text = ppo.ablation_reading(table, 2)
    assert "Below it in every seed: low; above it in every seed: high; overlapping" in text and "told: same." in text and "2 seeds" in text
    assert text.startswith("At the end PPO")


@pytest.mark.parametrize(
    ("clip", "td", "who"), [(0.9, 0.1, "λ = 0 ends lower"), (0.1, 0.9, "no clip ends lower"), (0.5, 0.5, "both end level")]
)
def test_the_question_about_the_ablations_is_answered(clip, td, who):
    table = ppo.ablation_table(small_log(**{"PPO": (0.5, 0.5), "no clip": (clip, clip), "λ = 0": (td, td)}))
    assert f"Of the two asked about, {who}" in ppo.ablation_reading(table, 2)


# -- was it hacked?


def checked_of(texts: dict[str, str], reward: float) -> tuple[pd.DataFrame, dict]:
    world = grammar()
    clients = world.clients(2, "test")
    known = {client.text: client for client in clients}
    replies = {policy: [text] * 2 for policy, text in texts.items()}
    scores = pd.concat(
        [pd.DataFrame({"policy": policy, "objective": o, "score": [reward] * 2}) for policy in texts for o in ("reflection", "empathy")]
    )
    return training.checked_replies(world, known, list(known), replies, scores), known


def test_wrong_elements_are_counted_and_their_pay_is_told():
    world = grammar()
    feelings = [group[0] for group in world.phrases["feelings"]]
    wrong = " and ".join(f"you feel {feeling}" for feeling in feelings[:3])  # of at most one group the client's own
    checked, known = checked_of({"base": "Okay.", "reflection": wrong}, 0.9)
    assert checked.query("policy == 'reflection'")["wrong"].ge(2).all() and checked.query("policy == 'base'")["wrong"].eq(0).all()
    assert checked["reflection truth"].tolist() == [
        world.truth(known[c], r)[0] for c, r in zip(checked["client"], checked["reply"], strict=True)
    ]
    text = training.wrong_reading(checked, True)
    assert "base none of 2 replies, reflection all 2 replies" in text and "is** hacked in part" in text
    assert "not paid for it" in training.wrong_reading(checked.assign(**{"reflection reward": 0.0}), True)
    assert "did not find" in training.wrong_reading(checked.assign(wrong=0), True)
    table = training.hack_table(checked).set_index("policy")
    assert table.loc["reflection", "wrong element"] == 1 and table.loc["base", "its share"] == 1
    assert training.overpaid(checked, "reflection")["reward"].tolist() == [0.9]


def test_without_a_truth_nothing_is_claimed():
    checked, _ = checked_of({"base": "Okay.", "reflection": "Hm."}, 0.5)
    unknown = training.checked_replies(
        grammar(),
        {},
        ["a", "b"],
        {"reflection": ["x", "y"]},
        pd.DataFrame({"policy": "reflection", "objective": "reflection", "score": [0.1, 0.2]}),
    )
    assert unknown["wrong"].isna().all() and np.isnan(training.hack_table(unknown)["wrong element"].iloc[0])
    assert training.overpaid(unknown, "reflection")["reward"].tolist() == [0.2, 0.1]
    assert "not known" in training.wrong_reading(checked, False)


def test_masked_means_agree():
    """The figure's clip fraction is the log's: a mean over the mask."""
    rollout = recorded()
    ratio = (rollout.logp - rollout.old_logp).exp()
    assert clip_at(rollout, 0, 0.2, 0.03).clip_fraction == pytest.approx(
        float(masked_mean(((ratio - 1).abs() > 0.2).float(), rollout.mask))
    )
