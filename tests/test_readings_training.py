"""Sentences and alternative texts of notebooks 00 to 02: true of their numbers whichever way these come out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from emorl_lite import plots
from emorl_lite.base.presets import get_preset
from emorl_lite.base.wording import part
from emorl_lite.readings import rewards, training
from emorl_lite.readings.spread import (
    CLASSIFIER_MEASURES,
    classifier_runs,
    policies_here,
    policy_measures,
    policy_runs,
    spread_reading,
)
from emorl_lite.tutorial.notebook import beside, table

NAMES = ("reflection", "empathy", "fluency")


# -- words


@pytest.mark.parametrize(
    ("k", "n", "text"),
    [(0, 5, "none of 5 runs"), (1, 5, "1 of 5 runs"), (5, 5, "all 5 runs"), (1, 1, "the one run"), (0, 1, "not the one run")],
)
def test_a_part_of_all(k, n, text):
    assert part(k, n, "run") == text


def test_a_table_shows_no_minus_zero():
    html = table(pd.DataFrame({"x": [-0.001, -0.2], "n": [1, 2]}), "numbers").to_html()
    assert ">0.00<" in html and ">-0.20<" in html and "-0.00" not in html


# -- alternative texts


def log(reward, validation=np.nan, kl=0.5, **watched):
    """A log of one run of empathy."""
    steps = len(reward)
    columns = {
        "episodes": 64 * np.arange(1, steps + 1),
        "reward": reward,
        "kl": kl,
        "validation": validation,
        "first_ratio": 1e-6,
        **watched,
    }
    return pd.DataFrame({"objective": "empathy", "seed": 0, **columns})


def test_alternative_texts_hold_the_numbers_of_their_figures():
    up, down = (log(reward, reflection=0.3) for reward in ([0.2, 0.8], [0.8, 0.2]))
    assert "empathy from 0.20 to 0.50, KL 0.50" in plots.learning_curves_alt(up)
    assert "empathy from 0.80 to 0.50" in plots.learning_curves_alt(down)
    assert "validation 0.90 at its last check" in plots.learning_curves_alt(log([0.2, 0.8], [0.7, 0.9]))
    assert "at its last check" not in plots.learning_curves_alt(up)
    assert "empathy 0.20 to 0.50 and reflection 0.30 to 0.30" in plots.cross_scores_alt(up, ["empathy", "reflection", "fluency"])
    losses = pd.DataFrame({"objective": "empathy", "step": range(40), "loss": [0.7] * 20 + [0.2] * 20})
    assert "empathy from 0.70 to 0.20" in plots.classifier_loss_alt(losses)
    bars = pd.DataFrame({"shortcut": ["loop", "cut off"], "before": [0.1, 0.9], "after": [0.0, 0.0]})
    assert "loop 0.10 and 0.00; cut off 0.90 and 0.00" in plots.shortcut_bars_alt(bars)
    scores = pd.DataFrame({"policy": ["a", "a", "b", "b"], "objective": "empathy", "score": [0.0, 1.0, 0.4, 0.4]})
    assert "a 0.50 (0.25 to 0.75), b 0.40 (0.40 to 0.40)" in plots.reward_distributions_alt(scores)


def test_the_alternative_text_of_the_calibration_agrees_with_its_legend():
    judged = pd.DataFrame({"predicted": [0.05, 0.05, 0.95, 0.95], "label": [0.0, 0.0, 1.0, 0.0], "objective": "empathy"})
    assert "empathy 0.250 from it on average, farthest where it predicts 0.95 and the labels are 0.50 (50 % of" in plots.calibration_alt(
        judged
    )
    assert "ECE 0.250" in plots.calibration(judged).axes[0].get_legend().get_texts()[1].get_text()
    assert "empathy 0.833" in plots.roc_curves_alt(judged)


# -- the rewards


def test_losses_that_fall_and_that_do_not():
    fell = pd.DataFrame({"objective": "empathy", "step": range(200), "loss": [0.7] * 20 + [0.3] * 90 + [0.2] * 90})
    assert "empathy 0.70 at the start, 0.20 at the end (80 % of the fall by step 100)" in rewards.loss_reading(fell)
    assert "(no fall)" in rewards.loss_reading(fell.assign(loss=0.7))
    assert "by step" not in rewards.loss_reading(fell.head(60))


def test_what_form_alone_tells():
    areas = pd.DataFrame(
        {"held out": {"its length": 0.7, "all its words": 0.81}, "equal form": {"its length": 0.57, "all its words": 0.52}}
    )
    fooled = rewards.form_reading(areas)
    assert "sees of the reply all its words" in fooled and "**0.81**" in fooled and "0.52, which is guessing" in fooled
    assert "would look like success" not in rewards.form_reading(areas.assign(**{"held out": 0.6}))
    assert "0.90, no less than before" in rewards.form_reading(areas.assign(**{"equal form": 0.9}))


def test_what_a_client_explains_of_a_reply():
    ratios = pd.DataFrame({"reply": ["mine"] * 3 + ["another"] * 2, "word": list("abcde"), "ratio": [6.5, 0.0, 2.0, -3.0, 0.5]})
    text = rewards.ratio_reading(ratios)
    assert "+8.5 nats of mine" in text and "“a” (+6.5), “c” (+2.0)" in text and "Of another it explains −2.5" in text
    assert "tells them apart, and" in text
    assert "does not tell them apart" in rewards.ratio_reading(ratios.assign(ratio=1.0))
    assert "mine: “a” +6.5, “c” +2.0" in plots.word_ratios_alt(ratios) and "another: “d” −3.0" in plots.word_ratios_alt(ratios)


def test_errors_of_single_scores_and_of_bins():
    assert "reflection 0.042 and 0.021; empathy 0.016 and 0.011" in rewards.error_reading(
        {"reflection": 0.042, "empathy": 0.016}, {"reflection": 0.021, "empathy": 0.011}
    )


def test_a_tried_shortcut_that_pays_and_one_that_does_not():
    tried = pd.DataFrame(
        {
            "measure": ["reflection", "empathy", "fluency", "wrong elements"],
            "reward before": [0.9, 0.2, 0.2, float("nan")],
            "reward after": [0.8, 0.9, 0.1, float("nan")],
            "truth before": [1.0, 0.2, float("nan"), 0.0],
            "truth after": [0.85, 0.2, float("nan"), 1.0],
        }
    )
    text = rewards.tried_reading(tried)
    assert "reflection earns 0.80 after 0.90 and is worth 0.85 after 1.00" in text and "1.00 wrong elements" in text
    assert "The reward of empathy follows" in text
    assert "does not pay" in rewards.tried_reading(tried.assign(**{"reward after": [0.8, 0.2, 0.1, float("nan")]}))


def test_a_reward_that_reads_its_client_and_one_that_does_not():
    reads = rewards.same_form_reading(0.995, {"this client": 0.96, "another client": 0.03, "one wrong element": 0.5}, 0.05)
    blind = rewards.same_form_reading(0.5, {"this client": 0.9, "another client": 0.9, "one wrong element": 0.9}, 0.9)
    assert "0.25 or 0.60" in reads and "could live on" in reads
    assert "could live on" not in blind
    assert "helps to hand it" in rewards.support_reading(0.995, 0.78, 0.03, 0.5)
    assert "floor of 0.200 the last losses stand +0.050 off" in rewards.support_reading(0.9, 0.5, 0.03, 0.5, losses=(0.25, 0.4, 0.2))
    assert "No clear difference" in rewards.support_reading(0.995, 0.993, 0.03, 0.03)
    assert "tells the replies apart better" in rewards.support_reading(0.78, 0.995, 0.5, 0.03)


def test_perplexities_either_way():
    medians = pd.DataFrame({"given the client": {"full": 1.6, "generic": 1.7}, "alone": {"full": 2.4, "generic": 1.8}})
    assert "the more predictable" in rewards.perplexity_reading(medians) and "pays for them" in rewards.perplexity_reading(medians)
    turned = rewards.perplexity_reading(medians.rename(index={"full": "generic", "generic": "full"}))
    assert "no more predictable" in turned and "does not prefer" in turned


def test_shortcuts_that_pay_and_that_do_not():
    scores = {"as they are": 0.96, "question mark": 0.97, "long but empty": 0.0, "phrase looped": 0.01, "cut off": 0.0}
    left = scores | dict.fromkeys(scores, 1.0)
    holes = pd.DataFrame({"bare": scores | {"cut off": 0.9}, "repetition guard": left | {"phrase looped": 0.1}, "reflection": scores})
    closed = rewards.shortcut_reading(holes, 0.99, 0.7)
    assert (
        "catches phrase looped (it leaves 0.10 of a score that is 0.01" in closed
        and "0.00, where the classifier alone would pay 0.90" in closed
    )
    assert "catches none of these" in rewards.shortcut_reading(holes.assign(**{"repetition guard": 1.0}), 0.99, 0.7)
    assert "leaves reflection where it was" in closed and "None of them is above 0.20" in closed
    paid = pd.Series(scores | {"question mark": 0.5, "phrase looped": 0.6})
    open_ = rewards.shortcut_reading(holes.assign(reflection=paid), 0.99, 0.7)
    assert "lowers reflection" in open_ and "A hole to look into: phrase looped." in open_


# -- training


def test_options_name_the_objectives_that_differ():
    preset = replace(get_preset("tiny"), kl_coef={"fluency": 0.06}, lr={})
    options = training.option_table(preset, ["kl_coef", "lr"]).set_index("option")["value"]
    assert options["kl_coef"] == f"{preset.ppo.kl_coef} (fluency: 0.06)" and options["lr"] == str(preset.ppo.lr)


@pytest.mark.parametrize(
    ("read", "source", "text"),
    [
        ((), "mine", "trained on this machine"),
        (NAMES, "reference", "the reference run, seed 3: they were not trained here"),
        (NAMES, "some/folder", "EMORL_RUN names, seed 3: they were not trained here"),
        (("empathy",), "any", "logs of empathy are those of the reference run, seed 3; the others were trained on this machine"),
    ],
)
def test_it_is_said_whose_run_it_is(read, source, text):
    run = SimpleNamespace(preset=get_preset("tiny"), seed=3, source=source, run_folder=str, is_published=lambda folder: folder in read)
    assert text in training.whose_run(run)


def test_checks_of_an_implementation_pass_and_fail():
    assert "That is rounding" in training.ratio_reading(log([0.1, 0.2]))
    assert "2 rollouts" in training.ratio_reading(log([0.1, 0.2])) and "1 rollout " in training.ratio_reading(log([0.1]))
    wrong = training.ratio_reading(log([0.1, 0.2], kl=0.0).assign(first_ratio=[0.0, 1.16]))
    assert "1.2e+00" in wrong and "That is rounding" not in wrong


def test_costs_say_where():
    ends = pd.DataFrame({"data_points": [100, 100], "seconds": [1.0, 3.0]}, index=["a", "b"])
    assert "used 100 data points (prompts answered) and 1 to 3 seconds here, 20 ms" in training.cost_reading(ends, True)
    other = training.cost_reading(ends.assign(data_points=[100, 300]), False)
    assert "used 100 to 300 data" in other and "the machine that trained it" in other and "counts, 300" in other


def test_greedy_ahead_behind_and_absent():
    assert (
        "In 2 of 2 checks they score higher than the replies sampled in the same step; the difference, greedy less sampled, is +0.30"
        in training.greedy_reading(log([0.2, 0.3], [0.5, 0.6]))
    )
    behind = training.greedy_reading(log([0.5, 0.6], [0.2, 0.3]))
    assert "In 0 of 2 checks" in behind and "is −0.30" in behind and "need not run ahead" in behind
    assert "too short" in training.greedy_reading(log([0.5, 0.6]))


def replies(**scores):
    """Scores of policies on the three objectives, four clients with a little spread; scores: policy -> three means."""
    spread = np.array([-0.01, 0.01, -0.01, 0.01])
    frames = [
        pd.DataFrame({"policy": policy, "objective": objective, "score": mean + spread})
        for policy, means in scores.items()
        for objective, mean in zip(NAMES, means, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


BASE = (0.1, 0.2, 0.3)


def test_gains_and_losses_against_the_base():
    won = replies(base=BASE, reflection=(0.9, 0.2, 0.1), empathy=(0.1, 0.9, 0.6), fluency=(0.1, 0.2, 0.6))
    assert "Each model raises its own reward" in training.gains_reading(won, NAMES)
    side = training.side_reading(won, NAMES)
    assert "Clear losses: fluency of the reflection model. Clear gains: fluency of the empathy model; what was not trained" in side
    assert "No single model is best" in side
    lost = replies(base=BASE, reflection=(0.05, 0.2, 0.3), empathy=BASE, fluency=BASE)
    assert "No model clearly raises its own reward against the base: reflection −0.05, empathy 0.00" in training.gains_reading(lost, NAMES)
    side = training.side_reading(lost, NAMES)
    assert "Clear losses: none. Clear gains: none. " in side and "by-product" not in side
    assert "Best or level at all of them: base, empathy and fluency." in side
    one = replies(base=BASE, reflection=(0.9, 0.2, 0.3), empathy=BASE, fluency=BASE)
    assert "clearly for reflection, not for empathy and fluency" in training.gains_reading(one, NAMES)


def test_replies_at_the_top_or_not():
    top = replies(base=BASE, reflection=(0.9, 0, 0), empathy=(0, 0.9, 0), fluency=(0, 0, 0.9))
    assert "Each trained model has most" in training.shape_reading(top, NAMES)
    assert "not so: fluency." in training.shape_reading(
        replies(base=(0.1, 0.2, 0.9), reflection=(0.9, 0, 0), empathy=(0, 0.9, 0), fluency=BASE), NAMES
    )
    assert "None of the trained models" in training.shape_reading(
        replies(base=(0.9, 0.9, 0.9), reflection=BASE, empathy=BASE, fluency=BASE), NAMES
    )


def test_reward_against_truth():
    checked = pd.DataFrame(
        {"reflection reward": 0.8, "reflection truth": 0.7, "empathy reward": 0.4, "empathy truth": 0.41}, index=["base", *NAMES]
    )
    text = training.truth_reading(checked, True)
    assert "0.80 on average where the truth is 0.70: +0.10" in text and "0.40 on average where the truth is 0.41: −0.01" in text
    assert "0.90: −0.10" in training.truth_reading(checked.assign(**{"reflection truth": 0.9}), True)
    assert training.truth_reading(checked, False).startswith("No truth is known")


def test_favourite_replies():
    words = dict.fromkeys(NAMES, "Okay.")
    none = training.favourite_reading({"reflection": 0.01, "empathy": 0.18, "fluency": 0.5}, 100, words)
    assert "No model says the same" in none and "hacking" not in none
    some = training.favourite_reading({"reflection": 0.01, "empathy": 0.99, "fluency": 0.4}, 100, words)
    assert "empathy 99 of 100 clients" in some and "(empathy)" in some and "Okay" not in some
    assert "“Okay.”" in training.favourite_reading({"reflection": 0.01, "empathy": 0.2, "fluency": 1.0}, 100, words)


# -- beside the reference


def policies(own):
    """A table like emorl_lite/assets/tiny/policies.csv: own rewards by run."""
    rows = [
        {"machine": machine, "seed": 0, "policy": policy, "mean": 0.4, "sampled_first": 0.1, "sampled_last": 0.5, "favourite_share": 0.9}
        | {o: value if o == policy else 0.2 for o in NAMES}
        for machine, value in own.items()
        for policy in ("base", *NAMES)
    ]
    return pd.DataFrame(rows)


def test_runs_are_rows_with_the_reference_first():
    runs = policy_runs(policies({"native": 0.9, "avx2": 0.7}), NAMES)
    assert list(runs.columns) == list(policy_measures(NAMES)) and runs["empathy empathy"].tolist() == [0.9, 0.7]
    judged = pd.DataFrame(
        [
            {
                "machine": "native",
                "seed": 0,
                "objective": o,
                "auc": 0.9,
                "mean_absolute_error": 0.1,
                "auc_equal_form": 0.8,
                "score_handed_on": 0.1,
            }
            for o in ("reflection", "empathy")
        ]
    )
    assert list(classifier_runs(judged).columns) == list(CLASSIFIER_MEASURES) and len(classifier_runs(judged)) == 1


def test_a_run_inside_near_and_far_outside_the_spread():
    reference = policy_runs(policies({"native": 0.9, "avx2": 0.85, "default": 0.8}), NAMES)
    scores = policies({"native": 0.85}).set_index("policy")[[*NAMES, "mean"]]
    logs = pd.concat([log([0.1, 0.5]).assign(objective=name) for name in NAMES])
    here = policies_here(scores, logs, dict.fromkeys(NAMES, 0.9), NAMES)
    assert set(here) == set(policy_measures(NAMES))
    names = policy_measures(NAMES)

    def reading(changes, **options):
        return spread_reading(beside(here | changes, reference, names), len(reference), **options)

    inside = reading({})
    assert "All 21 measures lie between" in inside and "outside:" not in inside and "another draw" in inside
    near = reading({"empathy empathy": 0.95})
    assert "20 of 21 measures" in near and "outside: empathy model: own reward (0.95, above 0.90)." in near and "another draw" in near
    far = reading({"empathy empathy": 0.2})
    assert "(0.20, below 0.80)" in far and "width: 1." in far and "Look for what differs" in far
    everything = spread_reading(beside(dict.fromkeys(here, 0.0), reference, names), len(reference))
    assert everything.startswith("None of 21 measures") and "and 17 more" in everything and "Look for" in everything
    assert "one of them" in reading({}, reference=True) and "another draw" not in reading({}, reference=True)


def test_inside_agrees_with_the_digits_that_are_shown():
    reference = pd.DataFrame({"auc": [0.992, 0.989]})
    assert beside({"auc": 0.985}, reference, digits=3)["inside"].item() == "no"
    assert beside({"auc": 0.9886}, reference, digits=3)["inside"].item() == "yes"
    kept = pd.DataFrame({"score": [0.055462]})  # rounded once, as the page's sentences round
    assert beside({"score": 0.0554619}, kept, digits=3).drop(columns="measure").iloc[0].tolist() == [0.055] * 4 + ["yes"]
