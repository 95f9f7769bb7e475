"""The exact map: it covers the simplex, does not overlap, and says what decoding says."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from tiny import PROMPTS

from emorl_lite.base import sizes
from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.ensemble.rounding import NearTies
from emorl_lite.exact.exact_map import ExactMap, check_map, exact_map, map_estimate

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
    ensemble = EnsembleLM(model(kind, 3), found.corners)
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


def same_map(one: ExactMap, other: ExactMap) -> bool:
    """The same regions, to rounding. (Prompts that are read in other company differ in their last digits, and pieces then come in another
    order.)"""

    def in_order(found: ExactMap) -> list:
        return sorted(found.regions, key=lambda r: (r.row, r.reply, r.tokens, *r.piece.vertices.mean(0).round(6)))

    pairs = list(zip(in_order(one), in_order(other), strict=True))
    same = all(a.row == b.row and a.reply == b.reply and a.tokens == b.tokens for a, b in pairs)
    return same and all(np.allclose(np.sort(a.piece.vertices, 0), np.sort(b.piece.vertices, 0), atol=1e-9) for a, b in pairs)


# -- memory


@tiny.kinds("llama", "t5")
def test_a_small_memory_is_kept_to_and_gives_the_same_map(kind, monkeypatch):
    monkeypatch.setattr(sys.modules[exact_map.__module__], "TOGETHER", 1)
    whole, known = built(kind, 3), tree_of_all(kind)
    tree = tree_of(kind, 3, memory=2 * (whole.nbytes + known.kept_bytes - known._candidates.nbytes // 2))
    seen = []
    step = tree.run
    monkeypatch.setattr(tree, "run", lambda *args: (seen.append(tree.kept_bytes), step(*args)))
    found = exact_map(tree)
    assert same_map(found, whole) and found.rows_read == whole.rows_read and found.ties == whole.ties
    again = tree.rows_read_again
    assert again == 0 or tree.max_rows < known.peak_rows  # no prompt needs another's prefixes, but one may fill the cache by itself
    assert tree.peak_rows * tree.readers.row_bytes <= tree.memory / 2
    assert max(seen) < known.kept_bytes  # some of what was known had been dropped
    before = tree.rows_read
    assert tree.replies(weights(3, 50)) == tree_of(kind, 3).replies(weights(3, 50))
    assert tree.rows_read == before and tree.rows_read_again > again


@cache
def tree_of_all(kind: str) -> PrefixTree:
    tree = tree_of(kind, 3)
    exact_map(tree)
    return tree


def test_a_map_that_does_not_fit_is_told_before_it_is_made(monkeypatch):
    monkeypatch.setattr(sys.modules[exact_map.__module__], "TOGETHER", 1)
    tree = tree_of("llama", 3, memory=int(0.9 * built("llama", 3).nbytes))
    with pytest.raises(
        UserError, match=r"exact map: \d+ regions of (25|50|75)% of the prompts take .*, all about .* kB, of .* kB there are"
    ):
        exact_map(tree)


def test_a_bar_tells_how_large_the_map_will_be(capsys):
    found = exact_map(tree_of("llama", 2), progress=True)
    told = capsys.readouterr().err
    assert "exact map" in told and f"about {len(found.regions)} regions" in told and "in all" in told
    exact_map(tree_of("llama", 2))
    assert not capsys.readouterr().err


def test_bytes_are_counted_as_they_are():
    tree = tree_of("llama", 3)
    exact_map(tree)  # again below: nothing is read any more, so that what comes is the map alone
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found = exact_map(tree)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.6 * grown < found.nbytes < 1.6 * grown


def test_what_a_map_takes_is_estimated():
    whole, tree = built("llama", 3), tree_of("llama", 3)
    expected = map_estimate(tree, pilot=4)
    assert expected.rows == len(whole.regions) and expected.of == "regions" and expected.seconds > 0
    few = map_estimate(tree_of("llama", 3), pilot=2)
    assert 1 / 3 < few.rows / len(whole.regions) < 3 and 1 / 3 < few.bytes / expected.bytes < 3
    assert same_map(exact_map(tree), whole) and tree.rows_read_again == 0


@pytest.mark.parametrize("d", [2, 3])
def test_look_ups_do_not_depend_on_blocks(d, monkeypatch):
    whole, w, piece = built("llama", d), weights(d, 300), built("llama", d).regions[5].piece
    located, margins, touching = whole.locate(w), whole.margins(w), whole.touching(piece.vertices, range(4))
    monkeypatch.setattr(sizes, "BLOCK", 2000)
    assert np.array_equal(whole.locate(w), located) and np.array_equal(whole.margins(w), margins)
    assert all(np.array_equal(regions, touching[row]) for row, regions in whole.touching(piece.vertices, range(4)).items())
    shuffled = ExactMap(whole.corners, whole.prompts, whole.regions[::-1])  # regions of a row need not stand together
    assert np.array_equal(len(whole.regions) - 1 - shuffled.locate(w), located)


def test_touching_leaves_out_none_that_meets():
    found = built("llama", 3)
    for region in found.regions[::7]:
        touching = found.touching(region.piece.vertices, range(4))
        meeting = [i for i, other in enumerate(found.regions) if region.piece.cut(other.piece.facets) is not None]
        assert set(meeting) <= set(np.concatenate(list(touching.values())).tolist())
        assert len(touching[region.row]) < len(found.of(region.row))


# -- rounding


def test_double_precision_leaves_nothing_open():
    for d in (2, 3):
        ties = built("llama", d).ties
        assert ties.dtype == "float64" and ties.near == 0 < ties.decisions and built("llama", d).at_risk == 0
    assert "0 % of" in built("llama", 3).summary() and "\n" not in repr(built("llama", 3)) and len(repr(built("llama", 3))) < 400


def test_a_word_that_is_there_twice_is_a_tie_wherever_it_is_chosen():
    """Its row of the head is copied to a word of a later number, which so never wins, and never loses by anything."""
    lm = tiny.language_model("llama", adapters=3)
    lm.model.double()
    chosen = [
        token for region in exact_map(PrefixTree(lm, tiny.ADAPTERS, PROMPTS)).regions for token in lm.tokenizer(region.reply).input_ids
    ]
    twin = len(lm.tokenizer) - 1
    token = max((t for t in set(chosen) if 5 <= t < twin), key=chosen.count)
    with torch.no_grad():
        table = lm.base.get_input_embeddings().weight
        table[twin] = table[token]
    found = exact_map(PrefixTree(lm, tiny.ADAPTERS, PROMPTS))
    word, other = lm.tokenizer.convert_ids_to_tokens([token, twin])
    holds = [bool({word, other} & set(region.reply.split())) for region in found.regions]
    assert [region.lead < 1 for region in found.regions] == holds and 0 < sum(holds) < len(holds)
    assert all(abs(region.lead) < 1 for region, twice in zip(found.regions, holds, strict=True) if twice)
    assert found.at_risk == pytest.approx(
        sum(r.piece.measure for r, twice in zip(found.regions, holds, strict=True) if twice) / len(PROMPTS)
    )


def test_shorter_numbers_leave_more_open():
    shares = []
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        lm = tiny.language_model("llama", adapters=3)
        lm.model.to(dtype)
        found = exact_map(PrefixTree(lm, tiny.ADAPTERS, PROMPTS[:2]))
        check_map(found)
        assert found.ties.dtype in str(dtype) and f"{found.ties.dtype}'s rounding" in repr(found)
        shares.append(found.at_risk)
    assert shares == sorted(shares) and shares[-1] > shares[0] == 0


def test_a_map_made_by_hand_says_nothing_of_rounding():
    whole = built("llama", 3)
    assert "rounding" not in repr(ExactMap(whole.corners, whole.prompts, whole.regions)) and NearTies().share == 0


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
        check_map(ExactMap(whole.corners, whole.prompts, whole.regions[1:]))
    with pytest.raises(UserError, match="map of prompt 1"):
        check_map(ExactMap(whole.corners, whole.prompts, [whole.regions[0], *whole.regions]))
    check_map(replace(whole))
