"""One step of aggregated decoding after another: what each adapter would say next, what their mixture says, and by which scores.

`decoding_steps` does the work and needs no notebook; `decoding_step` draws one step; `step_explorer` is a thin wrapper that shows the step
which a slider points at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
import torch
from matplotlib.figure import Figure

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OF_PROBABILITIES
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.wording import counted
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.plots.style import describe, panels, readable, styles
from emorl_lite.plots.weight_explorer import ALL_ZERO, client_choice, number_control, shown_or_error, weight_controls

MIXTURE = "mixture"
END = "(end)"
"""How a token that ends the reply is shown."""
RIGHT = "text-align:right;padding-left:1.5em"
"""Style of a column of numbers."""


@dataclass(frozen=True)
class Candidate:
    """A word that may come next."""

    word: str
    logits: dict[str, float]
    """z_i, by adapter."""
    score: float
    """sum_i w_i z_i: the largest one wins."""


@dataclass(frozen=True)
class Step:
    """The choice of one word of a reply."""

    prompt: str
    weights: dict[str, float]
    position: int
    """t, from 1."""
    prefix: str
    """The reply so far."""
    word: str
    """What the mixture says next."""
    words: dict[str, list[tuple[str, float]]]
    """By adapter, and at last of the mixture: the likeliest next words with their probabilities, likeliest first."""
    candidates: list[Candidate]
    """The mixture's likeliest words and each adapter's own favourite, by score, highest first."""

    def html(self) -> str:
        """The step as HTML, everything escaped: the reply so far, the likeliest words of each, and how the scores come about."""
        start = f"<p><b>Client:</b> {as_html(self.prompt)}</p><p><b>Reply so far:</b> {as_html(self.prefix) or '(nothing yet)'} "
        return f"{start}<b>→ {as_html(self.word)}</b></p>{self._words_html()}{self._scores_html()}"

    def _words_html(self) -> str:
        head = "".join(f"<th style='text-align:left'>{as_html(self.title(name))}</th>" for name in self.words)
        rows = ""
        for place in range(max(map(len, self.words.values()))):
            cells = [self._word_html(*words[place]) if place < len(words) else "" for words in self.words.values()]
            rows += "<tr>" + "".join(f"<td style='padding-right:1.5em'>{cell}</td>" for cell in cells) + "</tr>"
        return _table("Likeliest next words, with their probabilities", head, rows)

    def _word_html(self, word: str, probability: float) -> str:
        shown = f"<b>{as_html(word)}</b>" if word == self.word else as_html(word)
        return f"<meter min='0' max='1' value='{probability:.4f}'></meter> {probability:.2f} {shown}"

    def title(self, name: str) -> str:
        """The name of an adapter with its weight, or that of the mixture."""
        return name if name == MIXTURE else f"{name} (w = {self.weights[name]:.2f})"

    def _scores_html(self) -> str:
        names = list(self.weights)
        head = "".join(f"<th style='{RIGHT}'>{as_html(text)}</th>" for text in [*(f"z of {name}" for name in names), "w · z"])
        rows = ""
        for found in self.candidates:
            cells = "".join(f"<td style='{RIGHT}'>{number:.2f}</td>" for number in [*found.logits.values(), found.score])
            word = f"<b>{as_html(found.word)}</b>" if found.word == self.word else as_html(found.word)
            rows += f"<tr><td>{word}</td>{cells}</tr>"
        return _table("Their scores before the softmax; the highest sum wins", f"<th>word</th>{head}", rows)


def _table(caption: str, head: str, rows: str) -> str:
    return f"<table><caption style='text-align:left'>{caption}</caption><tr>{head}</tr>{rows}</table>"


@torch.no_grad()
def decoding_steps(ensemble: EnsembleLM, prompt: str, weights: Mapping[str, float], top: int = 4) -> list[Step]:
    """Reply greedily to a prompt at these weights (by adapter) and tell how each word was chosen: a step a word, the end included.

    The words by `generate`, the scores by one pass over the whole reply. No steps if all weights are zero.
    Raises UserError for an ensemble that mixes probabilities (no score is a sum there), or weights of other adapters than its own.
    """
    if ensemble.mix in OF_PROBABILITIES:
        raise UserError(f'decoding_steps: mix "{ensemble.mix}" has no scores that are sums; take an ensemble that mixes hidden states')
    if list(weights) != ensemble.adapters:
        raise UserError(f"decoding_steps: expected weights of {', '.join(ensemble.adapters)}, got {', '.join(weights) or 'none'}")
    if not any(weights.values()):
        return []
    lm, numbers = ensemble.lm, tuple(weights.values())
    inputs = lm.encode([prompt])
    tokens = ensemble.generate(inputs, weights=numbers)
    tokens = tokens[:, : int(lm.reply_mask(tokens).sum())]
    mixed, hidden = ensemble.forward_reply(inputs, tokens, torch.ones_like(tokens), weights=numbers)
    z = (lm.head(hidden[0]) * ensemble.head.scale).float()  # [d, T, V]
    return [
        _step(ensemble, prompt, weights, tokens[0, : t + 1].tolist(), z[:, t].cpu(), mixed[0, t].float().cpu(), top)
        for t in range(tokens.shape[1])
    ]


def _step(
    ensemble: EnsembleLM,
    prompt: str,
    weights: Mapping[str, float],
    tokens: Sequence[int],
    z: torch.Tensor,
    mixed: torch.Tensor,
    top: int,
) -> Step:
    """The choice of the last of `tokens`, from the adapters' logits [d, V] and the mixture's [V]."""
    names = list(weights)
    logits = dict(zip([*names, MIXTURE], [*z, mixed], strict=True))
    words = {}
    for name, scores in logits.items():
        p = scores.softmax(-1)
        words[name] = [(_word(ensemble, int(v)), float(p[v])) for v in p.topk(top).indices]
    shown = dict.fromkeys([tokens[-1], *mixed.topk(top).indices.tolist(), *z.argmax(-1).tolist()])
    candidates = [
        Candidate(_word(ensemble, v), {name: float(row[v]) for name, row in zip(names, z, strict=True)}, float(mixed[v])) for v in shown
    ]
    candidates.sort(key=lambda found: -found.score)
    prefix = ensemble.lm.tokenizer.decode(tokens[:-1], skip_special_tokens=True).strip()
    return Step(prompt, dict(weights), len(tokens), prefix, _word(ensemble, tokens[-1]), words, candidates)


def _word(ensemble: EnsembleLM, token: int) -> str:
    if token in ensemble.lm.end_ids:
        return END
    return ensemble.lm.tokenizer.decode([token]).strip() or str(ensemble.lm.tokenizer.convert_ids_to_tokens(token))


@readable
def decoding_step(step: Step) -> Figure:
    """One step as a picture: a panel for each adapter and one for the mixture, bars as long as the likeliest words' probabilities.

    The word that the mixture says is hatched wherever it stands.
    """
    looks = styles([*step.weights, "ensemble"])
    figure, axes = panels(len(step.words), width=2.35, height=2.7, sharex=True)
    for panel, (name, words) in zip(axes, step.words.items(), strict=True):
        color = looks["ensemble" if name == MIXTURE else name].color
        bars = panel.barh(range(len(words)), [p for _, p in words], color=color, edgecolor="black", linewidth=0.8)
        for bar, (word, p) in zip(bars, words, strict=True):
            if word == step.word:
                bar.set_hatch("//")
            panel.text(p + 0.02, bar.get_y() + bar.get_height() / 2, f"{p:.2f}", va="center", fontsize=10)
        panel.set_yticks(range(len(words)), [word for word, _ in words])
        panel.invert_yaxis()
        panel.set_xlim(0, 1.19)
        panel.set_xticks([0, 0.5, 1])
        panel.grid(axis="y", visible=False)
        panel.set_title(step.title(name))
        panel.set_xlabel("probability")
    prefix = step.prefix if len(step.prefix) <= 44 else "… " + step.prefix[-44:].partition(" ")[2]
    figure.suptitle(
        f'After "{prefix}" the mixture says "{step.word}" (hatched)' if prefix else f'The mixture begins with "{step.word}" (hatched)'
    )
    return describe(figure, decoding_step_alt(step))


def decoding_step_alt(step: Step) -> str:
    """What `decoding_step` draws."""
    told = "; ".join(f"{step.title(name)}: " + ", ".join(f"{word} {p:.2f}" for word, p in words) for name, words in step.words.items())
    prefix = f'after "{step.prefix}"' if step.prefix else "at the beginning of a reply"
    return f'Bars of the likeliest next words {prefix}, a panel each. {told}. The mixture says "{step.word}", hatched in every panel.'


def step_at(steps: Sequence[Step], position: int) -> Step:
    """The step of the t-th word, t from 1. Raises UserError where the reply has no such word."""
    if not 1 <= position <= len(steps):
        raise UserError(f"position {position}: the reply has {counted(len(steps), 'word')}, numbered from 1")
    return steps[position - 1]


def step_explorer(
    ensemble: EnsembleLM,
    prompts: Sequence[str],
    weights: Sequence[float] | None = None,
    top: int = 4,
) -> ipywidgets.VBox:
    """A dropdown of prompts, a field and a slider for each adapter's weight and for the position in the reply, and the step below them.

    A slider at a position takes the arrow keys: one word forth or back. An error is shown in place of the step.
    Raises UserError without prompts, or if `weights` are not one number in [0, 1] per adapter (all 1/2 by default).
    """
    choice = client_choice(prompts, "step explorer")
    controls = weight_controls(ensemble.adapters, weights, "step explorer")
    position = number_control("word", 1, 1, 1, 1, whole=True)
    output = ipywidgets.HTML()
    steps: list[Step] = []

    def page() -> str:
        if not steps:
            return f"<p>{as_html(ALL_ZERO)}</p>"
        whole = f"{steps[-1].prefix} {steps[-1].word}"
        here = step_at(steps, min(position.slider.value, len(steps)))
        return f"<p>Word {here.position} of {len(steps)}. <b>The whole reply:</b> {as_html(whole)}</p>{here.html()}"

    def move(_: object = None) -> None:
        output.value = shown_or_error(page)

    def read() -> str:
        steps[:] = []  # an error leaves no steps of other weights behind
        values = {name: control.slider.value for name, control in controls.items()}
        steps[:] = decoding_steps(ensemble, choice.value, values, top)
        for part in (position.slider, position.field):
            part.max = max(1, len(steps))
        return page()

    def refresh(_: object = None) -> None:
        output.value = shown_or_error(read)

    for control in (choice, *(control.slider for control in controls.values())):
        control.observe(refresh, names="value")
    position.slider.observe(move, names="value")
    refresh()
    return ipywidgets.VBox([choice, *(control.row for control in controls.values()), position.row, output])
