"""The weight explorer: sliders for the objectives' weights, and the ensemble's reply and its scores at those weights.

`render` does the work and needs no notebook; `weight_explorer` is a thin wrapper that calls it when a slider moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ipywidgets

from emorl_lite.base.errors import UserError
from emorl_lite.base.scores import as_scores
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.texts import check_texts
from emorl_lite.search.evaluation import Score

ALL_ZERO = "All weights are zero: every word gets the same score, so there is no reply. Raise a weight."


class Replies(Protocol):
    """What the explorer needs of an ensemble."""

    def reply(self, prompts: Sequence[str], weights: Any = None) -> list[str]: ...


@dataclass(frozen=True)
class Explored:
    """One prompt answered at one weight vector. `weights` and `scores` by objective; no reply (and no scores) if all weights are zero."""

    prompt: str
    weights: dict[str, float]
    reply: str
    scores: dict[str, float]

    def text(self) -> str:
        """Plain text: weights, reply, scores."""
        if not any(self.weights.values()):
            return ALL_ZERO
        return f"weights: {_listed(self.weights)}\n{self.reply}\nscores: {_listed(self.scores)}"

    def html(self) -> str:
        """The same as HTML, everything escaped; scores also as bars with their numbers."""
        if not any(self.weights.values()):
            return f"<p>{as_html(ALL_ZERO)}</p>"
        client = f"<p><b>Client:</b> {as_html(self.prompt)}</p>"
        reply = f"<p><b>Reply:</b> {as_html(self.reply)}</p>"
        return f"{client}{reply}<table><tr><th>objective</th><th colspan='2'>score</th></tr>{score_bars(self.scores)}</table>"


def score_bars(scores: Mapping[str, float]) -> str:
    """Scores in [0, 1] by objective as rows of an HTML table: name (escaped), bar, number."""
    return "".join(
        f"<tr><td>{as_html(name)}</td><td><meter min='0' max='1' value='{score:.4f}'></meter></td><td>{score:.3f}</td></tr>"
        for name, score in scores.items()
    )


def render(ensemble: Replies, score: Score, prompt: str, weights: Mapping[str, float]) -> Explored:
    """Reply to one prompt at these weights (by objective, in the order of the ensemble's adapters) and score the reply.

    All-zero weights give an empty reply without calling the model. Raises what the ensemble or the score raises.
    """
    if not any(weights.values()):
        return Explored(prompt, dict(weights), "", {})
    [reply] = ensemble.reply([prompt], weights=tuple(weights.values()))
    scores = {name: float(as_scores(values, [reply], name)[0]) for name, values in score([prompt], [reply]).items()}
    return Explored(prompt, dict(weights), reply, scores)


def weight_explorer(
    ensemble: Replies,
    score: Score,
    prompts: Sequence[str],
    objectives: Sequence[str],
    weights: Sequence[float] | None = None,
) -> ipywidgets.VBox:
    """A dropdown of prompts, one slider an objective (0 to 1; all at 1/2, or at `weights`), and the reply below them.

    The reply follows when a slider is let go. An error is shown in place of the reply. Works with ipywidgets 7.7 and 8.
    Raises UserError without prompts, or if `weights` are not one number in [0, 1] per objective.
    """
    prompts = check_texts(prompts, "prompt")
    if not prompts:
        raise UserError("weight explorer: no prompts")
    start = list(weights) if weights is not None else [0.5] * len(objectives)
    if len(start) != len(objectives) or not all(0 <= w <= 1 for w in start):
        raise UserError(f"weight explorer: expected one weight in [0, 1] for each of {', '.join(objectives)}, got {start}")
    layout = ipywidgets.Layout(width="95%")
    choice = ipywidgets.Dropdown(options=list(dict.fromkeys(prompts)), description="client", layout=layout)
    sliders = {
        name: ipywidgets.FloatSlider(value=w, min=0, max=1, step=0.05, description=name, continuous_update=False)
        for name, w in zip(objectives, start, strict=True)
    }
    output = ipywidgets.HTML()

    def refresh(_: object = None) -> None:
        try:
            output.value = render(ensemble, score, choice.value, {name: s.value for name, s in sliders.items()}).html()
        except Exception as error:  # a widget callback's exception would vanish in a log that nobody reads
            output.value = f"<p><b>{as_html(type(error).__name__)}:</b> {as_html(error)}</p>"

    for control in (choice, *sliders.values()):
        control.observe(refresh, names="value")
    refresh()
    return ipywidgets.VBox([choice, *sliders.values(), output])


def _listed(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number:.3f}" for name, number in numbers.items())
