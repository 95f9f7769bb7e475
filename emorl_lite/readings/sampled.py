"""What notebook 05 says of sampled replies: their optimum, how much of it is noise, and the temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emorl_lite.base.shown_text import as_markdown
from emorl_lite.base.wording import counted, listing, number, signed, span
from emorl_lite.exact.optimum import Optimum
from emorl_lite.exact.sampled import CrossFit
from emorl_lite.exact.scored_map import ScoredMap

HOLDS = 2.0
"""So many standard errors from zero, a difference is hardly noise."""
MANY = 100
"""So many samples a client nobody takes."""
SEEN = 0.001
"""A step of the mean that three digits show."""


def word_reading(word: str, greedy: str, shares: Sequence[float], drawn: Sequence[float]) -> str:
    """One sampled word beside the greedy one, and how often each word came. `shares`: softmax; `drawn`: of many draws; same order."""
    off = float(np.abs(np.subtract(shares, drawn)).max())
    same = "the greedy word as well" if word == greedy else f"where greedy decoding says “{as_markdown(greedy)}”"
    return (
        f"With this noise the word is “{as_markdown(word)}”, {same}. Over many draws of the noise every word comes as often as its softmax "
        f"says, to {number(off, 3)}."
    )


def optimum_reading(scored: ScoredMap, best: Optimum, fit: CrossFit, noise: float) -> str:
    """The optimum of sampled replies, and what it is worth. `noise`: standard error at fixed weights, for these clients."""
    size = (
        f"{counted(len(scored.map.prompts), 'client')}, {counted(scored.map.samples, 'sample')} each: "
        f"{counted(len(scored.map.regions), 'region')}. The best weights promise **{number(best.value, 3)}**"
    )
    flattered = f"{number(fit.optimism, 3)} of the promise {'are' if fit.optimism > 0 else 'were'} flattery"
    if fit.optimism <= 0:
        flattered = "the promise is not flattered here"
    elif fit.optimism > HOLDS * noise:
        flattered += f", more than {HOLDS:g} standard errors of a mean at fixed weights ({number(noise, 3)})"
    else:
        flattered += f"; a mean at fixed weights has a standard error of {number(noise, 3)}"
    return f"{size}. On samples that did not choose them such weights score {number(fit.value, 3)}: {flattered}."


def sizes_reading(sizes: pd.DataFrame) -> str:
    """How promise and truth close in as there are more samples. `sizes`: sampled_sizes.csv."""
    measured = sizes.dropna(subset=["fresh"]).groupby("samples")[["promised", "fresh", "optimism", "error", "distance"]].mean()
    few, many = measured.iloc[0], measured.iloc[-1]
    first, last = int(measured.index[0]), int(measured.index[-1])
    seeds = _seeds(sizes).capitalize()
    if first == last:
        return f"With {counted(first, 'sample')} a client: promised {number(few['promised'], 3)}, on fresh noise {number(few['fresh'], 3)}."
    gain = many["fresh"] - few["fresh"]
    law = float(np.sqrt(last / first))
    text = (
        f"{seeds}: with {counted(first, 'sample')} a client the choice promises {number(few['promised'], 3)} and gives "
        f"{number(few['fresh'], 3)} on fresh noise; with {last} it promises {number(many['promised'], 3)} and gives "
        f"{number(many['fresh'], 3)}. "
        f"From {first} to {last} the standard error shrinks {number(few['error'] / many['error'], 1)}-fold (the root of {last // first} is "
        f"{number(law, 1)})"
    )
    if many["optimism"] > 0 and few["optimism"] > 0:
        text += f", the flattery {number(few['optimism'] / many['optimism'], 1)}-fold"
    if gain > many["error"]:
        end = f"More samples choose better weights, too ({signed(gain)})."
    else:
        end = f"The weights chosen by more samples are no better than noise can tell ({signed(gain)} on fresh noise)."
    return f"{text}. {end}"


def enough_reading(sizes: pd.DataFrame, target: float = 0.01) -> str:
    """How many samples a client are enough for errors of `target`, by the law of 1 / sqrt(n), from the numbers of sampled_sizes.csv."""
    measured = sizes.dropna(subset=["fresh"])
    if measured.empty:
        return "How many samples are enough was not measured."
    root = np.sqrt(measured["samples"])
    one = {name: float((measured[name] * root).mean()) for name in ("error", "optimism")}  # with one sample a client
    needed = {name: max(1, int(np.ceil((value / target) ** 2 - 1e-9))) if value > 0 else 1 for name, value in one.items()}
    most = int(measured["samples"].max())
    beyond = f" (more than the {most} measured: by the law of 1 / √n)" if needed["optimism"] > most else ""
    text = (
        f"How many are enough? For a standard error of {number(target)} at fixed weights, {counted(needed['error'], 'sample')} a "
        f"client; for a flattery of {number(target)}, {needed['optimism']:,}{beyond}: so report fresh noise, not the promise."
    )
    enough = sizes["enough"].dropna().to_numpy(dtype=float)
    if not len(enough):
        return text
    if np.median(enough) > MANY:
        return (
            f"{text} These clients hardly differ beside the noise of their samples: a further sample is worth as much as a further client."
        )
    many = span(enough.min(), enough.max(), 0) if np.isfinite(enough).all() else f"{number(enough.min(), 0)} or more"
    return f"{text} From {many} samples a client on, noise adds less than a tenth to the error for *new* clients: take more clients then."


def _seeds(table: pd.DataFrame) -> str:
    """Of how many seeds a table's means are."""
    seeds = table["seed"].nunique()
    return "one seed" if seeds == 1 else f"mean of {counted(seeds, 'seed')}"


def temperature_reading(temperatures: np.ndarray, means: np.ndarray) -> str:
    """The mean on the line of temperatures. `temperatures` [m + 1]: borders; `means` [m]: between them."""
    best, last = int(np.argmax(means)), len(means) - 1
    ends = (
        f"{number(means[0], 3)} at a temperature of {number(temperatures[0], 2)}, {number(means[last], 3)} at {number(temperatures[-1], 2)}"
    )
    text = f"{counted(last, 'border')} on the line; the mean is {ends}"
    if means[best] - means[0] < SEEN:
        return f"{text}: the coldest is as good as any. A higher temperature gains nothing here."
    where = span(temperatures[best], temperatures[best + 1])
    return f"{text}, and highest, {number(means[best], 3)}, at {where}. With so few samples the highest step is partly luck."


# -- the committed tables


def heated_reading(maps: pd.DataFrame) -> str:
    """What the temperature adds as a further corner. `maps`: sampled_maps.csv."""
    name = "optimum over weights and temperature"
    rows = maps[(maps["policy"] == name) & (maps["set"] == "test")].sort_values("seed")
    at_one = maps[(maps["policy"] == "sampled optimum") & (maps["set"] == "test") & (maps["temperature"] == 1.0)].set_index("seed")["mean"]
    if rows.empty:
        return "The table holds no optimum over weights and temperature."
    temperatures = ("a temperature of " if len(rows) == 1 else "temperatures of ") + listing([number(t, 2) for t in rows["temperature"]])
    gains = [row["mean"] - at_one[row["seed"]] for _, row in rows.iterrows()]
    better = "better than" if min(gains) > 0 else "no better than" if max(gains) < 0 else "not always better than"
    fresh = maps[(maps["policy"] == name) & (maps["set"] == "validation")].sort_values("seed")
    kept = f"promised {listing([number(x, 3) for x in fresh['promised']])}, {listing([number(x, 3) for x in fresh['mean']])} on fresh noise"
    return (
        f"Over weights and temperature together the optimum lies at {temperatures} "
        f"and scores {listing([number(m, 3) for m in rows['mean']])} on test clients, {better} the optimum at temperature 1 "
        f"({listing([signed(gain) for gain in gains])}). On the clients that chose it: {kept}."
    )
