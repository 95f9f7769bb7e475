"""The explorer of PPO's clip and KL on recorded replies: which tokens are clipped, the loss, each token's share of the gradient, the KL.

`clip_at` does the work and needs no notebook; `clipped_tokens` draws it; `ppo_explorer` is a thin wrapper that calls both.
Shapes: N replies, T reply tokens.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.wording import counted, listing, number, percent
from emorl_lite.plots.style import describe, figure_bytes, need, panels, readable
from emorl_lite.plots.weight_explorer import number_control, shown_or_error
from emorl_lite.training.ppo import gae, kl_k3, kl_per_token, masked_mean, policy_loss, token_rewards, whiten

GOOD, BAD = "#0072b2", "#c44601"


@dataclass(frozen=True)
class Recorded:
    """A rollout of N replies and what an update did to it. Tensors on the CPU, [N, T] unless noted, 0 where `mask` is."""

    words: Sequence[Sequence[str]]
    """The tokens of each reply, as texts."""
    mask: Tensor
    old_logp: Tensor
    """log pi_old: when sampled."""
    logp: Tensor
    """log pi_theta: after an update."""
    ref_logp: Tensor
    """log pi_0: the base."""
    values: Tensor
    scores: Tensor
    """[N]."""
    gamma: float = 1.0
    lam: float = 0.95

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.mask) == len(self.scores) or any(
            x.shape != self.mask.shape for x in (self.old_logp, self.logp, self.ref_logp, self.values)
        ):
            raise UserError("recorded rollout: expected tensors of one shape [N, T], and N scores and lists of words")


@dataclass(frozen=True)
class Clipped:
    """A recorded rollout at one clip range, KL weight and size of update."""

    reply: int
    epsilon: float
    beta: float
    scale: float
    tokens: pd.DataFrame
    """A row a token of the chosen reply. Columns: token, ratio, advantage, clipped (no gradient), gradient (on log pi_theta), share
    (of the rollout's gradients, in size)."""
    loss: float
    """PPO's clipped loss, mean over the rollout's tokens."""
    clip_fraction: float
    """Share of the rollout's tokens whose ratio left the clip range: what a log calls clipfrac."""
    clipped: float
    """Share of them that have no gradient any more."""
    approx_kl: float
    """KL(pi_old || pi_theta), nats a token, by k3."""
    kl: float
    """KL(pi_old || pi_0), nats a reply, by k1: what beta weighs."""
    penalised: float
    """Mean score less beta times that KL."""

    def text(self) -> str:
        """Plain text: the settings and what came of them, over the whole rollout."""
        return (
            f"ε {self.epsilon:.2f}, β {self.beta:.2f}, size of the update {self.scale:.1f}: loss {number(self.loss, 3)}; "
            f"{percent(self.clip_fraction)} of all tokens have a ratio outside the clip range, {percent(self.clipped)} are clipped (no "
            f"gradient); KL of old to new policy {number(self.approx_kl, 4)} nats a token; "
            f"KL to the base {number(self.kl)} nats a reply, mean score less its penalty {number(self.penalised)}."
        )

    def html(self) -> str:
        """The same as HTML, escaped, with the picture."""
        figure = clipped_tokens(self)
        png = base64.b64encode(figure_bytes(figure, "png")).decode()
        alt = html.escape(figure.alt_text)  # type: ignore[attr-defined]
        return f"<p>{as_html(self.text())}</p><img src='data:image/png;base64,{png}' alt='{alt}' style='max-width:100%'>"


def clip_at(recorded: Recorded, reply: int, epsilon: float, beta: float, scale: float = 1.0) -> Clipped:
    """What PPO's loss sees of a recorded rollout with this clip range and KL weight, and of one reply's tokens.

    `scale`: how much of the recorded update is done, in log-ratios: 0 none (every ratio is 1), 1 as recorded, 2 twice as far.
    Raises UserError for a reply that is not there, a clip range that is not positive, or a negative beta or scale.
    """
    if not 0 <= reply < len(recorded.words):
        raise UserError(f"reply {reply}: there are {len(recorded.words)}, from 0")
    if epsilon <= 0 or beta < 0 or scale < 0:
        raise UserError(f"clip range {epsilon:g}, beta {beta:g}, scale {scale:g}: expected a positive one, and two that are not negative")
    mask, old = recorded.mask, recorded.old_logp
    penalty = kl_per_token(old, recorded.ref_logp, mask)
    rewards = token_rewards(recorded.scores, beta * penalty, mask)
    advantages = whiten(gae(rewards, recorded.values, mask, recorded.gamma, recorded.lam)[0], mask)
    logp = old + scale * (recorded.logp - old)
    ratio = (logp - old).exp()
    outside = ((ratio - 1).abs() > epsilon).float()
    clipped = ((advantages > 0) & (ratio > 1 + epsilon)) | ((advantages < 0) & (ratio < 1 - epsilon))
    gradient = torch.where(clipped, 0.0, -advantages * ratio) * mask
    share = gradient.abs() / gradient.abs().sum().clamp(min=1e-12)
    length = int(mask[reply].sum())
    columns = {"ratio": ratio, "advantage": advantages, "clipped": clipped, "gradient": gradient, "share": share}
    tokens = pd.DataFrame({"token": list(recorded.words[reply][:length])} | {k: x[reply, :length].tolist() for k, x in columns.items()})
    kl = float(penalty.sum(1).mean())
    return Clipped(
        reply=reply,
        epsilon=epsilon,
        beta=beta,
        scale=scale,
        tokens=tokens,
        loss=float(policy_loss(logp, old, advantages, mask, epsilon)),
        clip_fraction=float(masked_mean(outside, mask)),
        clipped=float(masked_mean(clipped.float(), mask)),
        approx_kl=float(masked_mean(kl_k3(old, logp), mask)),
        kl=kl,
        penalised=float(recorded.scores.mean()) - beta * kl,
    )


@readable
def clipped_tokens(seen: Clipped) -> Figure:
    """One reply's tokens: their ratios with the clip range (left), and the loss's gradient on each log-probability (right).

    Clipped tokens are hollow and have no gradient.
    """
    tokens = seen.tokens
    need(tokens, ["token", "ratio", "advantage", "clipped", "gradient", "share"], "clipped_tokens")
    figure, (left, right) = panels(2, width=4.8, height=0.9 + 0.27 * len(tokens), sharey=True)
    left.axvspan(1 - seen.epsilon, 1 + seen.epsilon, color="0.5", alpha=0.15, label=f"clip range, ε = {seen.epsilon:g}")
    left.axvline(1, color="0.4", linewidth=0.8)
    for good, color, marker, label in ((True, GOOD, "o", "A > 0"), (False, BAD, "s", "A ≤ 0")):
        for clipped in (False, True):
            rows = tokens[((tokens["advantage"] > 0) == good) & (tokens["clipped"] == clipped)]
            face = "white" if clipped else color
            name = f"{label}, clipped" if clipped else label
            left.scatter(rows["ratio"], rows.index, marker=marker, facecolor=face, edgecolor=color, s=48, zorder=3, label=name)
            right.barh(rows.index, rows["gradient"], color=color, height=0.6)
    right.axvline(0, color="0.4", linewidth=0.8)
    left.set_yticks(range(len(tokens)), tokens["token"])
    left.set_ylim(len(tokens) - 0.4, -0.6)
    reach = max(1.3 * seen.epsilon, 1.1 * float((tokens["ratio"] - 1).abs().max()), 0.05)
    left.set_xlim(max(0.0, 1 - reach) - 0.02, 1 + reach)
    left.set_xlabel("ratio ρ = π_θ / π_old")
    right.set_xlabel("gradient of the loss on log π_θ")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return describe(figure, _alt(seen))


def _alt(seen: Clipped) -> str:
    tokens = seen.tokens
    stopped = tokens.loc[tokens["clipped"], "token"].tolist()
    largest = tokens.to_dict("records")[int(tokens["share"].argmax())]
    return (
        f"The {counted(len(tokens), 'token')} of one reply, ratios left, gradients right, clip range {seen.epsilon:g}. Ratios from "
        f"{number(tokens['ratio'].min())} to {number(tokens['ratio'].max())}. Clipped, without gradient: {listing(stopped)}. The largest "
        f"gradient is that of “{largest['token']}”, {number(largest['gradient'])}."
    )


def ppo_explorer(recorded: Recorded, replies: Sequence[str], epsilon: float = 0.2, beta: float = 0.03) -> ipywidgets.VBox:
    """A choice of replies, a field and a slider each for clip range, KL weight and size of the update, and `clip_at` below them.

    It follows when a slider is let go; an error is shown in its place. Raises UserError unless there is a text for every recorded reply.
    """
    if len(replies) != len(recorded.words) or not replies:
        raise UserError(f"ppo explorer: {len(recorded.words)} recorded replies and {len(replies)} texts")
    options = [(f"{i + 1}: {text}", i) for i, text in enumerate(replies)]
    choice = ipywidgets.Dropdown(options=options, description="reply", layout=ipywidgets.Layout(width="95%", max_width="60em"))
    controls = {
        "epsilon": number_control("clip range ε", epsilon, 0.02, 1.0, 0.02),
        "beta": number_control("KL weight β", beta, 0.0, 1.0, 0.01),
        "scale": number_control("update size", 1.0, 0.0, 5.0, 0.1),
    }
    output = ipywidgets.HTML()

    def refresh(_: object = None) -> None:
        settings = {name: float(control.slider.value) for name, control in controls.items()}
        output.value = shown_or_error(lambda: clip_at(recorded, choice.value, **settings).html())

    for control in (choice, *(control.slider for control in controls.values())):
        control.observe(refresh, names="value")
    refresh()
    return ipywidgets.VBox([choice, *(control.row for control in controls.values()), output])
