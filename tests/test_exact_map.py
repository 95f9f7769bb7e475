"""The exact map: it covers the simplex, does not overlap, and says what decoding says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
from tiny import PROMPTS

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import ExactMap, check_map, exact_map

CASES = [
    (kind, d, options)
    for kind in ("llama", "gpt2", "t5")
    for d, options in [(2, {}), (3, {}), (4, {}), (3, {"samples": 3}), (3, {"mix": "probabilities"})]
] + [("llama", 5, {}), ("llama", 6, {})]


@cache
def model(kind: str, d: int):
    lm = tiny.language_model(kind, adapters=0)
    for i in range(d):
        lm.add_adapter(f"a{i}", seed=i)
    lm = tiny.with_random_adapters(lm)
    lm.model.double()
    return lm


def tree_of(kind: str, d: int, **options) -> PrefixTree:
    prompts = PROMPTS[: 4 if d < 4 else 2]
    return PrefixTree(model(kind, d), [f"a{i}" for i in range(d)], prompts, max_new_tokens=8 if d < 4 else 4, **options)


@cache
def built(kind: str, d: int) -> ExactMap:
    return exact_map(tree_of(kind, d))


def weights(d: int, n: int = 1500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(d), n)


@pytest.mark.parametrize(
    ("kind", "d", "options"), [c if c[0] == "llama" and c[1] < 4 else pytest.param(*c, marks=pytest.mark.slow) for c in CASES]
)
def test_look_up_is_decoding(kind, d, options):
    tree = tree_of(kind, d, **options)
    found = exact_map(tree)
    check_map(found, 1e-6)
    assert len(found.regions) > 2 * len(found.prompts)
    other = tree_of(kind, d, **options)
    decoded, looked_up, w = other.replies(weights(d)), found.replies(weights(d)), weights(d)
    differ = [(i, row) for row in range(len(decoded)) for i in range(len(w)) if decoded[row][i] != looked_up[row][i]]
    assert all(found.margins(w[i])[0, row] < 1e-8 for i, row in differ) and len(differ) < 5
    before = tree.passes
    assert tree.replies(weights(d, 300, seed=1)) and tree.passes == before  # the map has read every prefix that there is


@tiny.kinds("llama", "t5")
def test_look_up_is_what_generate_says(kind):
    found, w = built(kind, 3), weights(3, 200, seed=2)
    ensemble = EnsembleLM(model(kind, 3), found.objectives)
    for row, prompt in enumerate(found.prompts):
        assert found.replies(w)[row] == ensemble.reply([prompt] * len(w), weights=w, max_new_tokens=8)


@pytest.mark.parametrize("d", [2, 3, 4, pytest.param(6, marks=pytest.mark.slow)])
def test_regions_do_not_overlap(d):
    found, w = built("llama", d), weights(d, 4000)
    for row in range(len(found.prompts)):
        strictly = np.array([region.piece.contains(w, -1e-9) for region in found.of(row)])
        assert (strictly.sum(0) <= 1).all() and (strictly.sum(0) == 1).mean() > 0.999


@pytest.mark.parametrize("d", [2, 3, 4])
def test_only_the_direction_counts(d):
    found, w = built("llama", d), weights(d, 50)
    assert np.array_equal(found.locate(w), found.locate(3.7 * w))
    assert found.replies(w[0]) == [[reply[0]] for reply in found.replies(w[:1])]


def test_borders_of_two_objectives_are_where_replies_change():
    found = built("llama", 2)
    for row in range(len(found.prompts)):
        ends = sorted(region.piece.outline[0, 1] for region in found.of(row))[1:]
        tree = tree_of("llama", 2)
        for t in ends:
            below, above = tree.replies([[1 - t + 1e-7, t - 1e-7], [1 - t - 1e-7, t + 1e-7]])[row]
            assert below != above


def test_margins_are_how_far_weights_may_move():
    found, rng = built("llama", 3), np.random.default_rng(4)
    for w in weights(3, 60):
        region, margin = found.locate(w)[0], found.margins(w)[0]
        step = rng.normal(size=3)
        step -= step.mean()
        step /= np.linalg.norm(step)
        for row in range(len(region)):
            moved = w + 0.999 * margin[row] * step
            if (moved >= 0).all():
                assert found.locate(moved)[0, row] == region[row]
            piece = found.regions[region[row]].piece
            facet = piece.facets[(piece.facets @ w).argmin()]
            out = w - (1.001 * margin[row] + 1e-8) * (facet - facet.mean())
            if np.isfinite(margin[row]) and (out >= 0).all():
                assert found.locate(out)[0, row] != region[row]


def test_equal_adapters_have_one_region():
    lm = tiny.language_model("llama", adapters=1)
    state = {k: v for k, v in lm.model.named_parameters() if ".reflection." in k}
    for name in ("twin", "triplet"):
        lm.add_adapter(name)
        for key, parameter in lm.model.named_parameters():
            if f".{name}." in key:
                parameter.data.copy_(state[key.replace(name, "reflection")].data)
    lm.model.eval()
    found = exact_map(PrefixTree(lm, ["reflection", "twin", "triplet"], PROMPTS))
    assert len(found.regions) == len(PROMPTS)
    check_map(found)
    assert np.isinf(found.margins([1, 2, 3])).all()


def test_single_precision_agrees_away_from_borders():
    lm = tiny.language_model("llama", adapters=3)
    found = exact_map(PrefixTree(lm, tiny.ADAPTERS, PROMPTS))
    check_map(found)
    w = weights(3, 500)
    clear = found.margins(w) > 1e-4  # a hundred times what single precision rounds away
    ensemble = EnsembleLM(lm, tiny.ADAPTERS)
    for row, prompt in enumerate(PROMPTS):
        decoded, looked_up = ensemble.reply([prompt] * len(w), weights=w), found.replies(w)[row]
        assert all(a == b for a, b, ok in zip(decoded, looked_up, clear[:, row], strict=True) if ok)
        assert clear[:, row].mean() > 0.98


@pytest.mark.slow
def test_a_memory_cap_gives_the_same_map():
    capped = tree_of("llama", 3, max_rows=40)
    found, whole, w = exact_map(capped), built("llama", 3), weights(3, 300)
    assert found.replies(w) == whole.replies(w) and capped.peak_rows <= 40
    check_map(found)


def test_a_sampled_map_is_for_weights_that_sum_to_one():
    found = exact_map(tree_of("llama", 3, samples=1))
    assert found.sampled and found.locate([0.2, 0.3, 0.5]).shape == (1, 4)
    with pytest.raises(UserError, match="sampled map is for weights that sum to 1, got a sum of 2"):
        found.locate([[0.2, 0.3, 0.5], [0.5, 0.5, 1.0]])


def test_wrong_weights():
    for wrong in ([0, 0], [1, -1], [1, 1, 1]):
        with pytest.raises(UserError, match="weights"):
            built("llama", 2).locate(wrong)


def test_shares():
    table = built("llama", 3).shares()
    assert list(table.columns) == ["prompt", "sample", "share", "reply", "tokens"]
    assert table.groupby("prompt")["share"].sum().to_numpy() == pytest.approx(np.ones(4))
    assert (table.groupby("prompt")["share"].diff().dropna() <= 0).all()


def test_a_doctored_map_is_caught():
    whole = built("llama", 3)
    with pytest.raises(UserError, match="map of prompt 1"):
        check_map(ExactMap(whole.objectives, whole.prompts, whole.regions[1:]))
    with pytest.raises(UserError, match="map of prompt 1"):
        check_map(ExactMap(whole.objectives, whole.prompts, [whole.regions[0], *whole.regions]))
    check_map(replace(whole))
