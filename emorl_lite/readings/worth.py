"""What notebook 05 says of an optimum's worth: flattery, intervals, and how many prompts are enough, whichever way the numbers come out."""

from __future__ import annotations

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number, percent, signed, span
from emorl_lite.exact.learning_curve import LearningCurve
from emorl_lite.exact.support import ConvexFront
from emorl_lite.exact.worth import HeldOut, Optimism, Rademacher


def rademacher_reading(found: Rademacher, promised: float, confidence: float = 0.95) -> str:
    """How well weights fit random signs, and what that bounds. `promised`: the optimum."""
    how = "over all vectors of signs" if found.exact else f"over {found.draws:,} vectors of signs"
    error = "" if found.exact else f" ± {number(found.error, 4)}"
    excess, reach = found.excess(), found.reach(confidence)
    lowest = promised - reach
    says = (
        f"weights that promise {number(promised, 3)} are worth at least {number(lowest, 3)}"
        if lowest > 0
        else f"it reaches {number(reach, 3)} below a promise of {number(promised, 3)}, beyond 0: with {counted(found.prompts, 'client')} "
        "it says nothing"
    )
    return (
        f"The complexity is **{number(found.value, 4)}**{error} ({how}). So on average a promise is too high by {number(excess, 3)} at "
        f"most, whatever clients there are. With {percent(confidence)} confidence for all weights at once the bound is wider: {says}."
    )


def optimism_reading(found: Optimism) -> str:
    """What the resamples say: promised, real, corrected, left out."""
    below = found.promised - found.expected
    text = (
        f"On a resample the best weights promise {number(found.on_resample.mean(), 3)}; on the original clients the same weights score "
        f"{number(found.on_all.mean(), 3)}. Efron's optimism is {signed(found.optimism, 4)} ± {number(found.error, 4)}, so the optimum of "
        f"{number(found.promised, 4)} is corrected to {number(found.corrected, 4)}. Scored only on the clients that a resample leaves out, "
        f"chosen weights have {number(found.expected, 4)}"
    )
    if below > 0:
        return f"{text}: by that, **about {number(below, 3)} of the promise is flattery**."
    return f"{text}: no less than was promised, so no flattery is seen here."


def fresh_reading(found: Optimism, fresh: tuple[float, float, float], clients: int, level: float = 0.95) -> str:
    """Whether fresh clients score what the interval says. `fresh`: mean and interval of the chosen weights' scores on them."""
    expected, low, high = found.interval(level)
    mean, fresh_low, fresh_high = fresh
    where = "inside" if low <= mean <= high else "below" if mean < low else "above"
    promise = "below" if found.promised > fresh_high else "above" if found.promised < fresh_low else "no clear distance from"
    return (
        f"From the clients chosen on alone we expected {number(expected, 3)}, in [{number(low, 3)}, {number(high, 3)}]. "
        f"{counted(clients, 'fresh client')} give **{number(mean, 3)}** [{number(fresh_low, 3)}, {number(fresh_high, 3)}]: {where} the "
        f"interval, and {promise} the promise of {number(found.promised, 3)}."
    )


def held_out_reading(found: HeldOut, chosen_on: int) -> str:
    """Chosen on some clients, scored on the others."""
    return (
        f"Chosen on {counted(chosen_on, 'client')}, the weights promise {number(found.promised, 3)}; the {found.prompts} held out give "
        f"{number(found.value, 3)} [{number(found.low, 3)}, {number(found.high, 3)}]."
    )


def curve_reading(curve: LearningCurve, regret: float = 0.01) -> str:
    """The two curves, and `curve_answer`."""
    last = curve.table.iloc[-1]
    gap = last["promised"] - last["real"]
    return (
        f"Chosen on {counted(int(last['prompts']), 'client')}, weights promise {number(last['promised'], 3)} and score "
        f"{number(last['real'], 3)} on the others. The best there is lies between, so on average such a choice lacks at most "
        f"{number(max(gap, 0), 3)}. {curve_answer(curve, regret)}"
    )


def curve_answer(curve: LearningCurve, regret: float) -> str:
    """How many prompts a wanted regret needs, and the regret of a choice on all there are; or that it cannot be told, and why."""
    try:
        enough = curve.enough(regret)
    except UserError as error:
        return f"How many clients would bring it to {regret:g}? That is refused: {str(error).split(': ', 1)[1]}."
    now, low, high = curve.regret(curve.prompts)
    beyond = "more than there are: extrapolated" if enough.extrapolated else "no more than there are"
    return (
        f"By the fitted law (power {number(enough.power, 2)}) a choice on all {curve.prompts} lacks {number(now, 3)} "
        f"({span(max(low, 0), high, 3)}), and to lack {regret:g} takes about **{counted(enough.prompts, 'client')}** "
        f"({span(enough.low, enough.high, 0)}), {beyond}."
    )


def convex_front_reading(front: ConvexFront) -> str:
    """How many vectors serve all linear utilities, and the certificate."""
    certificate = (
        "and nothing is missing: no weights do better for any of them"
        if front.complete
        else f"and no weights serve any of them better by more than {number(front.missing, 4)}"
    )
    return (
        f"All linear utilities are served by **{counted(len(front.scores), 'mean score vector')}**, found by asking "
        f"{counted(front.asked, 'exact optimum', 'exact optima')}, {certificate}."
    )
