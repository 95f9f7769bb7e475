"""What finds a wrong map: overlaps, holes and what lies beyond the domain by geometry, replies and borders by decoding."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
from test_exact_map import built, model, tree_of

from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import Piece, box, scaled, simplex
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.exact.checking import check_replies
from emorl_lite.exact.cover import Cover, check_cover
from emorl_lite.exact.exact_map import ExactMap, check_map, exact_map

DIMENSIONS = [2, 3, 4, pytest.param(6, marks=pytest.mark.slow)]


@cache
def parts(d: int, depth: int = 4, whole: Piece | None = None) -> tuple[Piece, ...]:
    """A domain cut at random: again and again into the parts where one of three linear functions is the largest."""
    rng = np.random.default_rng(d)
    pieces = [whole or simplex(d)]
    for _ in range(depth + (d == 2)):
        cut = []
        for piece in pieces:
            through = rng.dirichlet(np.ones(len(piece.vertices))) @ piece.vertices
            z = rng.normal(size=(3, d))
            z -= (z @ through)[:, None]
            found = [piece.cut(np.array([z[a] - z[b] for b in range(3) if b != a])) for a in range(3)]
            cut += [part for part in found if part is not None]
        pieces = cut
    return tuple(pieces)


def told(pieces: Iterable[Piece], d: int, thorough: bool = False, whole: Piece | None = None) -> str:
    """What the check says of them; nothing if they are a partition."""
    try:
        check_cover(list(pieces), whole or simplex(d), "map of prompt 7", thorough=thorough)
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith("map of prompt 7: ")
        return str(error).removeprefix("map of prompt 7: ")
    return ""


def moved(piece: Piece, whole: Piece, by: float, facet: int | None = None) -> Piece:
    """The same piece with one border, by default the first inner one, moved outwards by this."""
    chosen = int(np.flatnonzero(~piece.own)[0]) if facet is None else facet
    facets = piece.facets.copy()
    facets[chosen] += by  # on the plane of weights: n.w + by
    found = whole.cut(facets[~piece.own | (np.arange(len(facets)) == chosen)])
    assert found is not None
    return found


# -- geometry


@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_partition_passes(d):
    pieces = parts(d)
    assert len(pieces) > 20 and told(pieces, d, thorough=True) == "" == told(pieces[::-1], d, thorough=True)
    assert Cover(pieces, simplex(d)).measure == pytest.approx(1)


def test_a_partition_of_another_domain_passes():
    whole = box([-3.0, 0.5], [4.0, 2.0])
    assert told(parts(3, 4, whole), 3, thorough=True, whole=whole) == ""


@pytest.mark.parametrize("d", DIMENSIONS)
def test_each_region_is_missed(d):
    """Also the smallest, whatever its size."""
    pieces, whole = parts(d), simplex(d)
    by_size = np.argsort([piece.measure for piece in pieces])
    for i in [*by_size[:3], *by_size[:: len(pieces) // 5]]:
        without = [piece for j, piece in enumerate(pieces) if j != i]
        assert told(without, d, thorough=True).startswith("a hole at (")
        at = next(Cover(without, whole).holes())
        assert pieces[i].contains(at[None], 1e-9).all()
        if pieces[i].measure > 1e-5:
            assert told(without, d) == f"a hole; the regions cover {1 - pieces[i].measure:.9f} of the domain"


@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_region_that_is_there_twice(d):
    pieces = parts(d)
    last = len(pieces)
    for i in np.argsort([piece.measure for piece in pieces])[[0, -1]].tolist():
        assert told([*pieces, pieces[i]], d).startswith(f"regions {i} and {last} overlap, at (")


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("by", [1e-3, -1e-3, 1e-6, -1e-6])
def test_a_border_that_one_region_moved(d, by):
    """Outwards it overlaps its neighbour, inwards it leaves a hole; by 10^-6 of the simplex that is too little for the measure."""
    pieces = list(parts(d))
    i = int(np.argmax([piece.measure for piece in pieces]))
    pieces[i] = moved(pieces[i], simplex(d), by)
    if by > 0:
        pair = re.match(r"regions (\d+) and (\d+) overlap, at \(", told(pieces, d))
        assert pair and str(i) in pair.groups()
    else:
        assert told(pieces, d, thorough=True).startswith("a hole at (")


@pytest.mark.parametrize("d", [2, 3])
def test_a_hole_and_an_overlap_of_one_size_do_not_cancel(d):
    """The sum of the measures stays 1; the overlap is told, and, when that is cut away, the hole."""
    whole, first = simplex(d), np.eye(d)[0]

    def between(low: float, high: float) -> Piece:
        found = whole.cut(np.array([first - low, high - first]))
        assert found is not None
        return found

    low, middle, high = between(0.0, 0.2), between(0.21, 0.6), between(0.6, 1.0)  # a hole from .2 to .21
    lacking = 1 - low.measure - middle.measure - high.measure
    small, large = 0.6, 0.5  # where the last must begin for an overlap of that size: by halving
    for _ in range(60):
        at = (small + large) / 2
        small, large = (small, at) if between(at, 1.0).measure - high.measure > lacking else (at, large)
    extended = between(large, 1.0)
    assert Cover([low, middle, extended], whole).measure == pytest.approx(1, abs=1e-9)
    assert told([low, middle, extended], d).startswith("regions 1 and 2 overlap, at (")
    assert told([low, middle, high], d, thorough=True).startswith("a hole at (0.2")


@pytest.mark.parametrize("d", [2, 3, 4])
def test_a_region_beyond_the_domain(d):
    pieces, whole = list(parts(d)), simplex(d)
    i = next(i for i, piece in enumerate(pieces) if piece.own.any())
    wide = whole.vertices * 1.5 - 0.5 / d  # 1.5 times as large, about its middle
    facets = np.array([scaled(normal) for normal in 2 * d * np.eye(d) + 1])  # w_i >= -1 / 2d
    wide = Piece(wide, facets, whole.incidence, whole.own)
    beyond = wide.cut(pieces[i].facets[~pieces[i].own])
    assert beyond is not None
    pieces[i] = beyond
    assert told(pieces, d).startswith(f"region {i} goes beyond the domain, at (")


def test_pieces_that_no_facet_of_theirs_parts_do_not_overlap():
    """From three dimensions on the plane between two pieces may be along an edge of each: they are cut by each other then."""
    whole = simplex(4)
    middle = np.full(4, 0.25)
    e = np.array([[1, -1, 0, 0], [0, 0, 1, -1], [1, 1, -1, -1]]) / np.array([[2**0.5], [2**0.5], [2.0]])  # three directions

    def wedge(along: int, side: float, gap: float) -> Piece:
        """A roof whose ridge runs along one direction, and faces the other."""
        across = e[1 - along]
        normals = [side * e[2] + across, side * e[2] - across]
        facets = [n - n @ middle - gap for n in normals]
        found = whole.cut(np.array(facets))
        assert found is not None
        return found

    apart = [wedge(0, 1.0, 1e-3), wedge(1, -1.0, 1e-3)]
    assert not Cover(apart, whole)._apart(apart[0], np.array([1]))[0] and list(Cover(apart, whole).overlaps()) == []
    assert [pair[:2] for pair in Cover([wedge(0, 1.0, -1e-3), wedge(1, -1.0, -1e-3)], whole).overlaps()] == [(0, 1)]


def test_no_region_at_all():
    assert told([], 3) == told([], 3, thorough=True) == "a hole; the regions cover 0.000000000 of the domain"
    assert told([simplex(3)], 3, thorough=True) == ""


# -- maps of models


def doctored(found: ExactMap, changed: dict[int, object]) -> ExactMap:
    return replace(found, regions=[changed.get(i, region) for i, region in enumerate(found.regions)])


def decoder(kind: str, d: int):
    ensemble = EnsembleLM(model(kind, d), [f"a{i}" for i in range(d)])
    return lambda prompts, w: ensemble.reply(list(prompts), weights=w, max_new_tokens=8 if d < 4 else 4)


@tiny.kinds("llama", "gpt2", "t5")
def test_a_map_passes_both_checks(kind):
    found = built(kind, 3)
    check_map(found, thorough=True)
    agreement = check_replies(found, decoder(kind, 3))
    assert agreement.points == agreement.regions == len(found.regions) and agreement.near <= 0.05 * agreement.points
    assert ("says at all of them" in str(agreement)) == (agreement.near == 0)
    some = check_replies(found, decoder(kind, 3), regions=range(0, len(found.regions), 9), borders=1e-5)
    assert some.points > 3 * some.regions > 0 and some.near <= 0.05 * some.points


def test_a_doctored_map_is_told_by_prompt_and_region():
    whole = built("llama", 3)
    second = int(whole.indices[1][0])
    with pytest.raises(UserError, match=r"^map of prompt 2: a hole"):
        check_map(replace(whole, regions=[r for i, r in enumerate(whole.regions) if i != second]), thorough=True)
    with pytest.raises(UserError, match=rf"^map of prompt 2: regions {second} and {len(whole.regions)} overlap"):
        check_map(replace(whole, regions=[*whole.regions, whole.regions[second]]))


def test_exchanged_replies_are_seen_by_decoding_alone():
    whole = built("llama", 3)
    one, other = whole.indices[0][np.argsort([whole.regions[i].piece.measure for i in whole.indices[0]])[[0, -1]]].tolist()
    a, b = whole.regions[one], whole.regions[other]
    exchanged = doctored(whole, {one: replace(a, reply=b.reply), other: replace(b, reply=a.reply)})
    check_map(exchanged, thorough=True)
    with pytest.raises(
        UserError, match=rf"^map of prompt 1: region {min(one, other)} says '.*', decoding at \(.*\) says '.*'; 2 of \d+ points differ$"
    ):
        check_replies(exchanged, decoder("llama", 3))
    with pytest.raises(UserError, match="1 of 1 points differ"):
        check_replies(exchanged, decoder("llama", 3), regions=[one])


def test_a_border_that_two_regions_moved_together_is_seen_next_to_their_vertices():
    """The map stays a partition, and no deepest point is in another region."""
    whole = built("llama", 2)
    in_order = sorted(whole.indices[0].tolist(), key=lambda i: whole.regions[i].piece.vertices[:, 1].min())
    sizes = [whole.regions[i].piece.measure for i in in_order]
    place = int(np.argmax(np.minimum(sizes[1:], sizes[:-1])))  # the two largest neighbours
    one, other = (whole.regions[i] for i in in_order[place : place + 2])
    border = float(one.piece.vertices[:, 1].max()) + 1e-3
    assert np.isclose(border - 1e-3, other.piece.vertices[:, 1].min(), atol=1e-9) and min(sizes[place : place + 2]) > 0.01
    second = np.array([0.0, 1.0])
    (a, _), (_, b) = (sorted(region.piece.vertices[:, 1].tolist()) for region in (one, other))
    left, right = (simplex(2).cut(np.array([second - low, high - second])) for low, high in ((a, border), (border, b)))
    assert left is not None and right is not None
    wrong = doctored(whole, {in_order[place]: replace(one, piece=left), in_order[place + 1]: replace(other, piece=right)})
    check_map(wrong, thorough=True)
    assert check_replies(wrong, decoder("llama", 2)).points == len(whole.regions)
    with pytest.raises(UserError, match=rf"region {in_order[place]} says"):
        check_replies(wrong, decoder("llama", 2), borders=1e-4)
    assert check_replies(whole, decoder("llama", 2), borders=1e-4).near == 0


def test_a_sampled_map_is_compared_sample_by_sample():
    found, tree = exact_map(tree_of("llama", 2, samples=2)), tree_of("llama", 2, samples=2)

    def decode(prompts, weights, samples):
        rows = [tiny.PROMPTS.index(p) * 2 + s for p, s in zip(prompts, samples, strict=True)]
        return [tree.replies(w)[row][0] for row, w in zip(rows, weights, strict=True)]

    assert check_replies(found, decode).points == len(found.regions)
    a, b = (found.regions[int(found.indices[row][0])] for row in (0, 1))
    with pytest.raises(UserError, match=r"^map of prompt 1, sample 2: "):
        check_replies(doctored(found, {int(found.indices[1][0]): replace(b, reply=a.reply + " w1")}), decode)


def test_a_decoder_that_loses_replies_is_told():
    with pytest.raises(UserError, match="decode: 1 replies to"):
        check_replies(built("llama", 2), lambda prompts, w: ["w1"])
    for wrong in (-1, 10**6, 0.5):
        with pytest.raises(UserError, match=r"region .* there are"):
            check_replies(built("llama", 2), decoder("llama", 2), regions=[wrong])
    assert check_replies(built("llama", 2), decoder("llama", 2), regions=[]).points == 0
    with pytest.raises(UserError, match="borders"):
        check_replies(built("llama", 2), decoder("llama", 2), borders=-1.0)
