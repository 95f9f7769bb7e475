"""The weight explorer: controls for the objectives' weights, and the ensemble's reply and its scores at those weights.

`render` does the work and needs no notebook; `weight_explorer` is a thin wrapper that calls it when a weight changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

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

    def html(self, before: Explored | None = None) -> str:
        """The same as HTML, everything escaped; scores also as bars with their numbers.

        `before`: what was shown until now. Then a line says whether the reply changed: a reply that stays is no sign of a dead slider.
        """
        if not any(self.weights.values()):
            return f"<p>{as_html(ALL_ZERO)}</p>"
        client = f"<p><b>Client:</b> {as_html(self.prompt)}</p>"
        reply = f"<p><b>Reply:</b> {as_html(self.reply)}</p>"
        weights = f"<p><b>Weights:</b> {as_html(_listed(self.weights, 2))}{self._since(before)}</p>"
        return f"{client}{weights}{reply}<table><tr><th>objective</th><th colspan='2'>score</th></tr>{score_bars(self.scores)}</table>"

    def _since(self, before: Explored | None) -> str:
        if before is None or before.prompt != self.prompt or not any(before.weights.values()) or before.weights == self.weights:
            return ""
        past = as_html(_listed(before.weights, 2))
        if before.reply == self.reply:
            return f"<br>The reply is the same as at {past}: a whole region of weights gives it."
        return f"<br>The reply is another than at {past}."


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


class Control(NamedTuple):
    """A number that can be typed or moved: `row` is shown, `slider` holds the value, `field` has the label that a handle cannot have."""

    row: ipywidgets.HBox
    slider: Any
    field: Any


def number_control(name: str, value: float, low: float, high: float, step: float, whole: bool = False) -> Control:
    """A labelled number field and a slider that follow each other; both take the keyboard. The slider tells its value when it is let go."""
    make_field, make_slider = (
        (ipywidgets.BoundedIntText, ipywidgets.IntSlider) if whole else (ipywidgets.BoundedFloatText, ipywidgets.FloatSlider)
    )
    limits = {"value": value, "min": low, "max": high, "step": step}
    field = make_field(**limits, description=name, layout=ipywidgets.Layout(width="13em"))
    slider = make_slider(**limits, readout=False, continuous_update=False, layout=ipywidgets.Layout(width="22em"))
    ipywidgets.link((slider, "value"), (field, "value"))
    return Control(ipywidgets.HBox([field, slider]), slider, field)


def weight_controls(objectives: Sequence[str], weights: Sequence[float] | None, explorer: str) -> dict[str, Control]:
    """A control from 0 to 1 for each objective; all at 1/2, or at `weights`. Raises UserError for other than d numbers in [0, 1]."""
    start = list(weights) if weights is not None else [0.5] * len(objectives)
    if len(start) != len(objectives) or not all(0 <= w <= 1 for w in start):
        raise UserError(f"{explorer}: expected one weight in [0, 1] for each of {', '.join(objectives)}, got {start}")
    return {name: number_control(name, w, 0, 1, 0.05) for name, w in zip(objectives, start, strict=True)}


def client_choice(prompts: Sequence[str], explorer: str) -> ipywidgets.Dropdown:
    """A dropdown of the prompts, each once. Raises UserError without any."""
    prompts = check_texts(prompts, "prompt")
    if not prompts:
        raise UserError(f"{explorer}: no prompts")
    return ipywidgets.Dropdown(
        options=list(dict.fromkeys(prompts)), description="client", layout=ipywidgets.Layout(width="95%", max_width="60em")
    )


def shown_or_error(make: Callable[[], str]) -> str:
    """The HTML that `make` gives, or its error as HTML: a widget callback's exception would vanish in a log that nobody reads."""
    try:
        return make()
    except Exception as error:
        return f"<p><b>{as_html(type(error).__name__)}:</b> {as_html(error)}</p>"


def weight_explorer(
    ensemble: Replies,
    score: Score,
    prompts: Sequence[str],
    objectives: Sequence[str],
    weights: Sequence[float] | None = None,
) -> ipywidgets.VBox:
    """A dropdown of prompts, a field and a slider for each objective (0 to 1; all at 1/2, or at `weights`), and the reply below them.

    The reply follows when a slider is let go. An error is shown in place of the reply. Works with ipywidgets 7.7 and 8.
    Raises UserError without prompts, or if `weights` are not one number in [0, 1] per objective.
    """
    choice = client_choice(prompts, "weight explorer")
    controls = weight_controls(objectives, weights, "weight explorer")
    output = ipywidgets.HTML()
    shown: list[Explored] = []

    def page() -> str:
        explored = render(ensemble, score, choice.value, {name: control.slider.value for name, control in controls.items()})
        before = shown[-1] if shown else None
        shown[:] = [explored]
        return explored.html(before)

    def refresh(_: object = None) -> None:
        output.value = shown_or_error(page)

    for control in (choice, *(control.slider for control in controls.values())):
        control.observe(refresh, names="value")
    refresh()
    return ipywidgets.VBox([choice, *(control.row for control in controls.values()), output])


def _listed(numbers: Mapping[str, float], digits: int = 3) -> str:
    return ", ".join(f"{name} {number:.{digits}f}" for name, number in numbers.items())
