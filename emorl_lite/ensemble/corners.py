"""What is mixed linearly: the scores of the next word at the corners of a domain of weights.

    score(v) = sum_j w_j s_j(v),   s_j = sum_i m_ji z_i,   z_i the logits of source i

A source is a model, with an adapter or without, that reads the prompt as it is or within an instruction. A corner is a linear combination
of sources; mostly a source itself. Whatever has this form can be decoded for all weights at once: EMORL and MOD (adapters), DeRa (a policy
and its base, weights beyond the simplex), classifier-free guidance (with and without the instruction), contrastive decoding (a strong and
a weak model), CLP's logit variant (experts on the head: one call a word). Probabilities instead of logits have this form, too, and so has
their harmonic mean, by the order of words: -1 / p_i stands for z_i. Not of this form: averaged parameters, beam search.
Shapes: N sources' logits, d corners, V words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.domains import Domain, box_domain, simplex_domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE, domain, scaled
from emorl_lite.base.presets import OF_PROBABILITIES, Mix
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.base.texts import check_texts
from emorl_lite.base.weights import as_numbers
from emorl_lite.lm.examination import check_mixable
from emorl_lite.lm.forward import check_adapters
from emorl_lite.lm.model import LanguageModel

MOST = 6
"""Corners: beyond, the regions are too many to list."""
PROMPT = "{prompt}"
"""Where a source's template has the prompt."""

Experts = Callable[[Tensor, Tensor], Tensor]
"""(hidden states [R, width], logits [R, V]) -> the logits [R, E, V] of E experts on the head."""


@dataclass(frozen=True, eq=False)
class Source:
    """Something that scores every next word: one language model, as it is told."""

    lm: LanguageModel
    adapter: str | None = None
    """None: the base model."""
    template: str = PROMPT
    """What it reads of a prompt, such as an instruction before it."""
    experts: Experts | None = None
    """Experts on the head, which make several scores of one pass."""
    outputs: int = 1
    """How many scores that are."""

    @property
    def name(self) -> str:
        """The adapter's, or "base"."""
        return self.adapter or "base"


@dataclass(frozen=True, eq=False)
class Corners:
    """d corners, made of sources, and the weights that they may have."""

    sources: tuple[Source, ...]
    domain: Domain
    combination: np.ndarray
    """m [d, N]: corner j is sum_i m_ji z_i, z_i the i-th of all the sources' scores."""
    mix: Mix = "logits"
    """What of the sources is mixed; "hidden" is the same as "logits" where one head follows; "probabilities" takes their softmax first,
    "harmonic" what orders words as the harmonic mean of the softmaxes does (`of_harmonic_mean`)."""

    def __post_init__(self) -> None:
        check_linear(self.mix)
        if not 2 <= len(self.domain.corners) <= MOST:
            raise UserError(f"corners: 2 to {MOST} can be mixed, got {len(self.domain.corners)}")
        check_sources(self.sources)
        if len(set(self.domain.corners)) < len(self.domain.corners):
            raise UserError(f"corners: expected different names, got {', '.join(self.domain.corners)}")
        outputs = sum(source.outputs for source in self.sources)
        if self.combination.shape != (len(self.domain.corners), outputs) or not np.isfinite(self.combination).all():
            raise UserError(f"corners: expected {len(self.domain.corners)} rows of {outputs} finite numbers, one a source")
        if self.mix in OF_PROBABILITIES and not (self.plain and self.domain.directions):
            raise UserError(f"mix {self.mix!r}: a mixture of distributions has no negative weights")
        if self.mix == "hidden" and len({id(source.lm) for source in self.sources}) > 1:
            raise UserError("mix 'hidden': states of different models have no head in common, mix their logits")
        check_one_vocabulary([source.lm for source in self.sources])

    @property
    def names(self) -> list[str]:
        """Of the corners."""
        return list(self.domain.corners)

    @cached_property
    def plain(self) -> bool:
        """Whether each corner is a source as it is."""
        return np.array_equal(self.combination, np.eye(len(self.domain.corners)))

    @cached_property
    def rays(self) -> np.ndarray | None:
        """The domain's vertices [m, d]: a word that another one beats at all of them can never win. None: they are the corners."""
        vertices = self.domain.piece.vertices
        return None if np.array_equal(vertices, np.eye(len(self.domain.corners))) else vertices

    @property
    def words(self) -> int:
        """V: those that all sources score. (A head may be wider than its tokenizer.)"""
        return min(int(source.lm.base.get_output_embeddings().weight.shape[0]) for source in self.sources)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """What weights [n, d] make of the sources' scores: [n, N]."""
        return np.asarray(weights @ self.combination)

    def mixed(self, scores: Tensor) -> Tensor:
        """The corners' scores [R, d, V] from the sources' [R, N, V], in their own precision."""
        if self.plain:
            return scores
        half = scores.dtype.itemsize == 2
        combination = torch.as_tensor(self.combination, device=scores.device, dtype=torch.float32 if half else scores.dtype)
        return combination @ (scores.float() if half else scores)

    def check(self, sampled: bool) -> None:
        """Raise UserError unless every source's scores are what its model computes (`check_mixable`)."""
        for lm, adapters in self._adapters():
            check_adapters(lm, adapters)
            check_mixable(lm, self.mix, sampled)

    def _adapters(self) -> list[tuple[LanguageModel, list[str]]]:
        """Each model and the adapters of it that are sources."""
        models = {id(source.lm): source.lm for source in self.sources}
        return [(lm, [s.adapter for s in self.sources if s.lm is lm and s.adapter is not None]) for lm in models.values()]


def check_linear(mix: Mix) -> None:
    """Raise UserError unless words are compared by scores that are linear in the weights where this is mixed."""
    if mix not in ("hidden", "logits", *OF_PROBABILITIES):
        raise UserError(f"mix {mix!r}: choose hidden (the same as logits), probabilities or harmonic")


def adapter_corners(lm: LanguageModel, adapters: Sequence[str], mix: Mix = "hidden") -> Corners:
    """Adapters of one model on the simplex: EMORL ("hidden"), MOD ("logits"; "harmonic"), mixed distributions ("probabilities").

    Raises UserError for fewer than two adapters, or a repeated or missing one.
    """
    adapters = check_texts(adapters, "adapter")
    if len(set(adapters)) < max(2, len(adapters)):
        raise UserError(f"adapters: at least 2 different ones are needed, got {', '.join(adapters) or 'none'}")
    check_adapters(lm, adapters)
    return simplex_corners([Source(lm, name) for name in adapters], adapters, mix)


def simplex_corners(sources: Sequence[Source], names: Sequence[str], mix: Mix = "logits") -> Corners:
    """Two to six sources as they are, mixed with non-negative weights: adapters, models or instructions that share a vocabulary."""
    return Corners(tuple(sources), simplex_domain(check_texts(names, "corner")), np.eye(len(names)), mix)


def expert_corners(source: Source, names: Sequence[str]) -> Corners:
    """Experts on one model's head, on the simplex: sum_j w_j e_j, one pass of the model a word (CLP's logit variant).

    Raises UserError unless the source has as many experts as there are names.
    """
    check_sources([source])
    names = check_texts(names, "corner")
    if source.experts is None or source.outputs != len(names):
        has = "none" if source.experts is None else source.outputs
        raise UserError(f"experts: {len(names)} corners need a source with as many experts on its head (`outputs`), got {has}")
    return Corners((source,), simplex_domain(names), np.eye(len(names)))


def line(first: Source, second: Source, low: float, high: float, names: Sequence[str] | None = None, knob: str = "strength") -> Corners:
    """z_1 + t (z_2 - z_1) for t from `low` to `high`: the first at 0, the second at 1, beyond it an extrapolation.

    DeRa (arXiv 2402.02992): base and aligned policy, t = lambda. Raises UserError for a range that is not one.
    """
    check_sources([first, second])
    names = [first.name, second.name] if names is None else names
    return affine([first, second], names, [knob], [low], [high])


def affine(
    sources: Sequence[Source],
    names: Sequence[str],
    knobs: Sequence[str],
    low: Sequence[float],
    high: Sequence[float],
    limits: Any = (),
    combination: Any = None,
) -> Corners:
    """s_0 + sum_j t_j (s_j - s_0) with k knobs t in a box, perhaps cut by a.t <= b (rows (a_1, .., a_k, b) of `limits`).

    The k + 1 corners are the sources, or combinations [k + 1, N] of them. Raises UserError for ranges that leave nothing.
    """
    where = box_domain(check_texts(names, "corner"), check_texts(knobs, "knob"), low, high, limits)
    if combination is not None:
        combination = as_numbers(combination, "corners' combination", torch.float64).numpy()
    return Corners(tuple(sources), where, np.eye(len(names)) if combination is None else combination)


def guidance(
    lm: LanguageModel, instruction: str, low: float = 0.0, high: float = 4.0, adapter: str | None = None, without: str = PROMPT
) -> Corners:
    """Classifier-free guidance of an instruction: z_without + t (z_with - z_without) (arXiv 2306.17806).

    `instruction`, `without`: what is read of a prompt, with {prompt} in it. t = 0 ignores the instruction, 1 follows, above 1 exaggerates.
    """
    return line(Source(lm, adapter, without), Source(lm, adapter, instruction), low, high, ["without", "with"], "guidance")


def contrast(strong: Source, weak: Source, high: float = 1.0) -> Corners:
    """Contrastive decoding: z_strong + t (z_strong - z_weak) for t from 0 to `high` (arXiv 2309.09117).

    t is that paper's beta. Its mask of implausible words is left out, as it leaves the scores of the others as they are.
    """
    checked(high, float, [Within(0, 10**6, above=True)], f"contrast, high {shown(high)}")
    return affine([strong, weak], ["strong", "contrast"], ["beta"], [0.0], [high], combination=[[1.0, 0.0], [2.0, -1.0]])


def with_temperature(corners: Corners, lowest: float, highest: float) -> Corners:
    """The same mixture at temperatures T from `lowest` to `highest`, for sampled replies: one corner more.

    A sampled word is argmax_v (w.z_v / T + g_v). The weights (T_low / T) w on scores z / T_low, and what they lack to one on a corner of
    scores that are all zero, give the same: linear in both. That corner is an infinite temperature. For corners on the simplex.
    Raises UserError for temperatures that are not in order.
    """
    for end in (lowest, highest):
        checked(end, float, [Within(0, 10**6, above=True)], f"temperature {shown(end)}")
    if not lowest < highest:
        raise UserError(f"temperature: {lowest:g} to {highest:g}: expected the lower one first")
    if not corners.domain.directions or corners.mix in OF_PROBABILITIES:
        raise UserError("temperature: a further corner of a simplex alone, where logits are mixed")
    d, names = len(corners.names), (*corners.names, "uniform words")
    whole = simplex_domain(names)
    hottest = np.full(d + 1, 1 - lowest / highest)  # w_d <= 1 - T_low / T_high
    hottest[d] -= 1
    cut = whole.piece.cut(scaled(hottest)[None])
    assert cut is not None
    combination = np.vstack([corners.combination / lowest, np.zeros((1, corners.combination.shape[1]))])
    return replace(corners, domain=replace(whole, piece=domain(cut)), combination=combination)


def of_probabilities(mix: Mix, logits: Tensor) -> Tensor:
    """The sources' scores [R, N, V] where probabilities are mixed, from their logits, in single precision at least."""
    precision = torch.promote_types(logits.dtype, torch.float32)
    return of_harmonic_mean(logits) if mix == "harmonic" else logits.softmax(-1, dtype=precision)


def of_harmonic_mean(logits: Tensor) -> Tensor:
    """Scores [R, N, V] whose weighted sum orders words as 1 / sum_i w_i / p_i does: -c / p_i, from logits, in double precision.

    Probabilities span many magnitudes, and so would facets. Of a row, c is the largest number that some word has as its probability from
    every source: that word scores -1 or more everywhere, hence whatever wins at weights that sum to one does, too. A word that scores -x at
    a source wins only where that weight is at most 1 / x. Beyond x = 1 / TOLERANCE, which pieces are not resolved to, scores end.
    """
    logp = logits.log_softmax(-1, dtype=torch.float64)
    c = logp.amin(1).amax(-1)[:, None, None]
    return -(c - logp).clamp(max=-math.log(TOLERANCE)).exp()


def check_sources(sources: Sequence[Source]) -> None:
    """Raise UserError unless these are sources, each another one, with a place for the prompt in what they read."""
    kinds, seen = {"lm": LanguageModel, "adapter": str | None, "template": str}, set()
    for source in sources:
        if not isinstance(source, Source):
            raise UserError(f"corners: expected sources (`Source(lm, adapter)`), got {type(source).__name__}")
        for name, kind in kinds.items():
            if not isinstance(value := getattr(source, name), kind):
                raise UserError(f"source: {name}: expected {getattr(kind, '__name__', 'a name or None')}, got {type(value).__name__}")
        outputs = checked(source.outputs, int, [Within(1, 1000)], f"source, outputs {shown(source.outputs)}")
        if outputs > 1 and source.experts is None:
            raise UserError(f"source: {outputs} outputs, but no experts that make them")
        if source.template.count(PROMPT) != 1:
            raise UserError(f"template {source.template!r}: expected {PROMPT} once, where the prompt goes")
        what = (id(source.lm), source.adapter, source.template, id(source.experts))
        if what in seen:
            of = f"{source.name} of {source.lm.config.path}" + ("" if source.template == PROMPT else f", reading {source.template!r}")
            raise UserError(f"corners: {of} is there twice: each source once")
        seen.add(what)


def check_one_vocabulary(models: Sequence[LanguageModel]) -> None:
    """Raise UserError unless models can be mixed word by word: the same words with the same numbers, and the same ends."""
    first, *others = {id(lm): lm for lm in models}.values()
    for lm in others:
        both = f"{first.config.path} and {lm.config.path}"
        mine, theirs = first.tokenizer.get_vocab(), lm.tokenizer.get_vocab()
        if mine != theirs:
            differ = sorted(set(mine.items()) ^ set(theirs.items()), key=lambda item: item[1])
            word, number = differ[0]
            raise UserError(f"{both}: their vocabularies differ, the first time at word {number} ({word!r}): they cannot be mixed")
        if set(first.end_ids) != set(lm.end_ids):
            raise UserError(f"{both}: they end their replies with different words")
        widest = max(mine.values())
        for model in (first, lm):
            if (width := int(model.base.get_output_embeddings().weight.shape[0])) <= widest:
                raise UserError(f"{model.config.path}: scores {width} words, and the tokenizer has {widest + 1}")
