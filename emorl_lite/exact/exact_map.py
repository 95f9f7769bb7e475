"""Every weight vector at once: the domain of the weights (mostly the simplex) cut into convex regions, one reply each, exactly.

At a prefix the greedy token is argmax_v w.z_v, linear in the weights w: the weights that choose token v form a convex piece, and the
weights that share a prefix are an intersection of such pieces. So decoding runs on pieces of the domain instead of points, and a piece
is split wherever its vertices disagree about the next token. Where all vertices of a piece agree on token v, all its weights do: w.z_v -
w.z_u is linear, and not negative at the vertices, hence not inside. With common random numbers (`samples` of the tree) w.z_v / t + g_v
is linear where weights sum to one as well, so sampled replies have an exact map too. What the scores are at the corners of the domain does
not matter (`ensemble/corners.py`), nor that weights be positive: DeRa, guidance, contrast and experts on the head have maps as EMORL has.
Averaged parameters have none (layers are not linear), nor has beam search (its sums of log-probabilities hold log Z(w)).

That it ends rests on the token limit: a piece is cut at most `max_new_tokens` times, each time among finitely many words. The map is that
of this limit. Two weights of one region may part at a later word; with a higher limit regions are cut further, and never moved.

To our knowledge the first such map for free-running decoding, where each choice changes what is read next. Its kin (docs/exact_map.md):
minimum error rate training follows the upper envelope of linear scores over *fixed* hypotheses, along a line (Och 2003; over lattices
Macherey et al. 2008) or over a plane by convex geometry (Waite and Byrne 2015); Galley and Quirk (2011, LP-MERT) find its exact optimum
over sentences as `optimum` does over prompts. Balcan, Seiler and Sharma (arXiv 2204.03569) cut a parameter space along an algorithm's
execution tree. Linear support (Cheng 1988, for POMDPs; Roijers 2015, for several objectives) also asks only the vertices of a region and
stops where they agree; convex hull value iteration (Barrett and Narayanan 2008) also solves for all weights at once, by values instead of
decisions. Gumbel-coupled decoding (arXiv 2411.07180, 2409.17027) fixes the noise of sampling, as `samples` does.

What rounding leaves open: every choice of a word, by a prefix and a piece, has a lead over the second best word at the piece's middle (the
mean of its vertices). Where that is less than rounding moves it (`ensemble/rounding.py`), other kernels, batches or number types may choose
another word there; the map says how often, and on what share of the weights some choice on the way is so near.
Shapes: B prompts, S samples, d corners, G regions, n weight vectors, c tokens, m vertices.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from emorl_lite.base.domains import Domain, simplex_domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE, Piece, scaled
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.base.sizes import Estimate, blocks, shown_bytes
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.ensemble.rounding import NearTies, shown_share
from emorl_lite.exact.cover import check_cover

TOGETHER = 16
"""Prompts decoded side by side: enough to fill the forward passes, few enough to keep their prefixes in memory."""
REGION_BYTES = 350
"""Of a region, its piece aside: the object and its fields."""


@dataclass(frozen=True)
class Region:
    """A convex piece of the domain whose weights all give this reply."""

    row: int
    """Which prompt and sample: prompt * S + sample (S = 1 for greedy replies)."""
    reply: str
    piece: Piece
    tokens: int = 0
    """Length of the reply in tokens."""
    lead: float = np.inf
    """Smallest lead of a word over the second best on the way to the reply, in units of rounding: below 1 rounding may change the reply."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.piece.nbytes + REGION_BYTES + len(self.reply)


@dataclass
class ExactMap:
    """The regions of every prompt (and sample)."""

    corners: list[str]
    """What is mixed: of EMORL the objectives' adapters."""
    prompts: list[str]
    regions: list[Region]
    samples: int = 1
    sampled: bool = False
    """Whether the replies are sampled (with common random numbers) and not greedy: then weights must sum to 1."""
    rows_read: int = 0
    """Distinct prefixes that needed a forward pass."""
    ties: NearTies = field(default_factory=NearTies)
    """How many choices of a word hang on rounding; one is a prefix and a piece of the domain that goes on with one word."""
    domain: Domain = None  # type: ignore[assignment]  # never after __post_init__
    """Where the weights lie: the simplex of the corners if none is given."""
    indices: list[np.ndarray] = field(init=False, repr=False)
    """Of each row (prompt and sample) its regions' positions in `regions`."""

    def __post_init__(self) -> None:
        self.domain = self.domain or simplex_domain(self.corners)
        rows = np.array([region.row for region in self.regions], dtype=np.int64)
        by_row, places = np.argsort(rows, kind="stable"), np.arange(len(self.prompts) * self.samples + 1)
        self.indices = np.split(by_row, np.searchsorted(rows[by_row], places))[1:-1]
        self._facets = [self._stacked(indices) for indices in self.indices]

    def _stacked(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The facets [F, d] of these regions, and where in them each region's begin."""
        facets = [self.regions[i].piece.facets for i in indices]
        return np.concatenate(facets or [np.empty((0, len(self.corners)))]), np.cumsum([0, *map(len, facets)])[:-1]

    def of(self, row: int) -> list[Region]:
        """The regions of one prompt (and sample)."""
        return [self.regions[i] for i in self.indices[row]]

    def touching(self, vertices: np.ndarray, rows: Iterable[int]) -> dict[int, np.ndarray]:
        """Of each of these rows the regions that could meet a piece with these vertices [m, d].

        Those of which no facet has all vertices on its outside: a superset of those that do.
        """
        found = {}
        for row in rows:
            facets, starts = self._facets[row]
            highest = np.maximum.reduce([(vertices[part] @ facets.T).max(0) for part in blocks(len(vertices), facets.nbytes)])  # [F]
            found[row] = self.indices[row][np.minimum.reduceat(highest, starts) > TOLERANCE]
        return found

    def locate(self, weights: Any) -> np.ndarray:
        """Which region (its index in `regions`) each weight vector falls into, [n, B * S]; -1 in a hole (`check_map`).

        Weights [n, d] or [d], or the knobs' values. On the simplex they may have any size: only their direction counts under greedy
        decoding. On a border either side may be taken.
        Raises UserError for weights outside of the domain (not finite, negative or all zero on the simplex); for a sampled map, where
        the size is an inverse temperature, also for weights that do not sum to 1.
        """
        w = self._on_plane(weights)
        located = np.full((len(w), len(self.indices)), -1)
        for row, indices in enumerate(self.indices):
            if not len(indices):
                continue
            facets, starts = self._facets[row]
            for part in blocks(len(w), 8 * (len(facets) + len(indices))):  # by memory: one prompt may have thousands of regions
                inside = np.minimum.reduceat(w[part] @ facets.T, starts, axis=1)  # [n, G]: distance from the nearest facet
                deepest = inside.argmax(1)
                contained = inside[np.arange(len(deepest)), deepest] >= -10 * TOLERANCE
                located[part, row] = np.where(contained, indices[deepest], -1)
        return located

    def replies(self, weights: Any) -> list[list[str | None]]:
        """Replies [B * S][n] by look-up; None in a hole."""
        located = self.locate(weights)
        return [[self.regions[i].reply if i >= 0 else None for i in column] for column in located.T]

    def margins(self, weights: Any) -> np.ndarray:
        """How far each weight vector, brought to a sum of one, may move before each reply changes, [n, B * S]; NaN in a hole."""
        w = self._on_plane(weights)
        return np.array(
            [[self.regions[i].piece.margin(x) if i >= 0 else np.nan for i in line] for x, line in zip(w, self.locate(w), strict=True)]
        )

    def measure(self, row: int) -> float:
        """Share of the domain that one prompt's regions cover: 1 if they leave no hole."""
        return float(sum(self.regions[i].piece.measure for i in self.indices[row]))

    def shares(self) -> pd.DataFrame:
        """One row per region, the largest of each prompt first: prompt (from 1), sample, share of the domain, reply, tokens."""
        table = pd.DataFrame(
            {
                "prompt": [region.row // self.samples + 1 for region in self.regions],
                "sample": [region.row % self.samples + 1 for region in self.regions],
                "share": [region.piece.measure for region in self.regions],
                "reply": [region.reply for region in self.regions],
                "tokens": [region.tokens for region in self.regions],
            }
        )
        return table.sort_values(["prompt", "sample", "share"], ascending=[True, True, False], ignore_index=True)

    @property
    def at_risk(self) -> float:
        """Share of the weights, the mean over prompts (and samples), on whose way to a reply some choice of a word hangs on rounding."""
        return sum(region.piece.measure for region in self.regions if region.lead < 1) / max(len(self.indices), 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the regions and of what finds them."""
        return sum(region.nbytes for region in self.regions) + sum(facets.nbytes + starts.nbytes for facets, starts in self._facets)

    def summary(self) -> str:
        """In two sentences: how large the map is, and what rounding leaves open."""
        what = f"{len(self.prompts)} prompts, {len(self.corners)} corners"
        size = f"{len(self.regions):,} regions of {what}, {self.rows_read:,} prefixes read, {shown_bytes(self.nbytes)}"
        if not self.ties.decisions:
            return f"{size}."
        return f"{size}. {self.ties}, on the way to {shown_share(self.at_risk)} of the weights' replies."

    def __repr__(self) -> str:
        return f"ExactMap: {self.summary()}"

    def _on_plane(self, weights: Any) -> np.ndarray:
        w = self.domain.rows(weights)
        size = w.sum(1)
        if self.sampled and np.abs(size - 1).max(initial=0.0) > 1e-6:
            raise UserError(f"weights: a sampled map is for weights that sum to 1, got a sum of {float(size[np.abs(size - 1).argmax()]):g}")
        return self.domain.on_plane(w)


def exact_map(tree: PrefixTree, progress: bool = False) -> ExactMap:
    """The map of all prompts (and samples) of a tree, over the domain of its corners' weights.

    Regions cover the domain, do not overlap, and agree with decoding point by point but for weights closer to a border than rounding
    (about 1e-6 for a float32 model; see PrefixTree for others).
    `progress`: a bar of the prompts, with how many regions and bytes there will be.

    It keeps to the tree's `memory`: half for cache rows, the other half for regions and what is known of prefixes. What is known of
    prefixes is dropped between prompts if it takes too much room.
    Raises UserError as the tree does, with an estimate if the regions alone do not fit, and if they should not fit together (`check_map`).
    """
    if not isinstance(tree, PrefixTree):
        raise UserError(f"exact map: expected the prefix tree of some prompts, got {type(tree).__name__}")
    before, samples = tree.rows_read, max(1, tree.samples)
    rows = np.arange(len(tree.prompts) * samples)
    regions: list[Region] = []
    ties, size = NearTies(tree.readers.dtype), 0
    with tqdm(total=len(rows), desc="exact map", unit=" prompts", disable=not progress) as bar:
        for part in blocks(len(rows), 1, TOGETHER):
            builder = _Builder(tree)
            builder.follow(rows[part])
            found = builder.regions()
            regions += found
            size += sum(region.nbytes for region in found)
            ties = NearTies(ties.dtype, ties.decisions + builder.decisions, ties.near + builder.near)
            _check_room(tree, size, part.stop / len(rows), len(regions))
            bar.update(part.stop - part.start)
            bar.set_postfix_str(f"about {_whole(len(regions), size + tree.kept_bytes, part.stop / len(rows))} in all")
    exact = ExactMap(tree.corners.names, tree.prompts, regions, samples, tree.samples > 0, tree.rows_read - before, ties, tree.domain)
    check_map(exact)
    return exact


def map_estimate(tree: PrefixTree, pilot: int = 4) -> Estimate:
    """What the exact map of a tree will take, by that of its first `pilot` prompts: regions, bytes (cache rows included), seconds.

    The tree keeps what was read, so that the map does not read it again. Raises UserError for less than one prompt.
    """
    samples, started = max(1, tree.samples), time.perf_counter()
    pilot = min(checked(pilot, int, [Within(1, 10**6)], f"pilot {shown(pilot)}"), len(tree.prompts))
    builder = _Builder(tree)
    builder.follow(np.arange(pilot * samples))
    regions, done = builder.regions(), pilot / len(tree.prompts)
    whole = _whole(len(regions), sum(region.nbytes for region in regions) + tree.kept_bytes, done)
    cache = min(tree.row_bytes * min(TOGETHER, len(tree.prompts)) / pilot, tree.memory / 2)
    return Estimate(whole.rows, whole.of, int(whole.bytes + cache), (time.perf_counter() - started) / done)


def _whole(regions: int, size: int, done: float) -> Estimate:
    """What all prompts will have, by those that are done."""
    return Estimate(round(regions / done), "regions", round(size / done))


def _check_room(tree: PrefixTree, size: int, done: float, regions: int) -> None:
    """Keep to the tree's memory with regions of this size; raise UserError where that cannot be."""
    room = tree.memory // 2
    tree.keep_to(room - size)
    if (needed := size + tree.kept_bytes) > room and done < 1:
        whole = _whole(regions, needed, done)
        raise UserError(
            f"exact map: {regions:,} regions of {done:.0%} of the prompts take {shown_bytes(needed)}, all about {shown_bytes(whole.bytes)},"
            f" of {shown_bytes(room)} there are (half of --search.memory): give more, or fewer prompts"
        )


class _Builder:
    """Pieces of the domain on their way from some roots of a tree to its leaves."""

    def __init__(self, tree: PrefixTree):
        self.tree = tree
        self.pieces: dict[int, Piece] = {}  # of items still on their way, or ended
        self.nodes: list[int] = []
        self.leads: list[float] = []  # the smallest so far
        self.ended: list[int] = []
        self.decisions = self.near = 0

    def follow(self, roots: np.ndarray) -> None:
        """Split the domain of each root until all replies have ended."""
        items = self._add(roots, [self.tree.domain.piece] * len(roots), np.full(len(roots), np.inf))
        self.tree.run(items, lambda numbers: np.array([self.nodes[i] for i in numbers]), self._step)

    def _add(self, nodes: np.ndarray, pieces: Sequence[Piece], leads: np.ndarray) -> np.ndarray:
        items = np.arange(len(self.nodes), len(self.nodes) + len(nodes))
        self.nodes.extend(nodes.tolist())
        self.leads.extend(leads.tolist())
        self.pieces.update(zip(items.tolist(), pieces, strict=True))
        leaves = self.tree.is_leaf(nodes)
        self.ended.extend(items[leaves].tolist())
        return items[~leaves]

    def _step(self, items: np.ndarray) -> np.ndarray:
        """One more token: every piece goes on as a whole, or in parts."""
        nodes, before = np.array([self.nodes[i] for i in items]), np.array([self.leads[i] for i in items])
        pieces = [self.pieces.pop(i) for i in items.tolist()]
        vertices, starts = _stacked([piece.vertices for piece in pieces])
        chosen = self.tree.choose(np.repeat(nodes, np.diff(starts)), self.tree.with_noise(vertices))
        first, last = (by.reduceat(chosen, starts[:-1]) for by in (np.minimum, np.maximum))
        owner: list[int] = []
        tokens: list[int] = []
        parts: list[Piece] = []
        for i, piece in enumerate(pieces):
            own = {first[i]: piece} if first[i] == last[i] else _split(self.tree, nodes[i], piece, chosen[starts[i] : starts[i + 1]])
            owner += [i] * len(own)
            tokens += own.keys()
            parts += own.values()
        parents, words = nodes[owner], np.array(tokens)
        return self._add(self.tree.children(parents, words), parts, np.minimum(before[owner], self._leads(parents, words, parts)))

    def _leads(self, nodes: np.ndarray, tokens: np.ndarray, pieces: Sequence[Piece]) -> np.ndarray:
        """By how much these tokens lead in the middle of their pieces, in units of rounding."""
        vertices, starts = _stacked([piece.vertices for piece in pieces])
        middles = np.add.reduceat(vertices, starts[:-1]) / np.diff(starts)[:, None]
        leads = self.tree.leads(nodes, tokens, self.tree.with_noise(middles))
        self.decisions += len(leads)
        self.near += int((leads < 1).sum())
        return leads

    def regions(self) -> list[Region]:
        """One for each piece whose reply has ended, prompt after prompt."""
        nodes = np.array([self.nodes[i] for i in self.ended], dtype=np.int64)
        rows, texts = self.tree.root_of(nodes), self.tree.texts(nodes)
        found = [
            Region(row, text, self.pieces[i], length, self.leads[i])
            for row, text, i, length in zip(rows.tolist(), texts, self.ended, self.tree.lengths(nodes).tolist(), strict=True)
        ]
        return sorted(found, key=lambda region: region.row)


def _stacked(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays one after another, and where each begins; at last where all end."""
    return np.concatenate(arrays), np.cumsum([0, *map(len, arrays)])


def _split(tree: PrefixTree, node: int, piece: Piece, chosen: np.ndarray) -> dict[int, Piece]:
    """The part of a piece that each token takes.

    Start with the tokens that the vertices choose, and cut the piece among them. If another token is better at a vertex of a part, it
    joins, and the piece is cut anew. At the end every part's token is the best at all its vertices, hence everywhere in it.
    """
    tokens, scores = tree.candidates(node)
    z = scores[:, :-1] + scores[:, -1:] if tree.samples else scores  # where sum w = 1, w.(z + g) = w.z + g
    candidates = list(dict.fromkeys(np.searchsorted(tokens, chosen).tolist()))
    while True:
        parts = {}
        joined = []
        for a in candidates:
            part = piece.cut(np.array([z[a] - z[b] for b in candidates if b != a]))
            if part is None:
                continue
            parts[a] = part
            values = part.vertices @ z.T  # [m, c]
            for b in np.unique(values.argmax(1)).tolist():
                lead = (values[:, b] - values[:, a]).max()
                if b not in candidates and b not in joined and lead > 0 and (part.vertices @ scaled(z[b] - z[a])).max() > TOLERANCE:
                    joined.append(b)
        if not joined:
            return {int(tokens[a]): part for a, part in parts.items()}
        candidates += joined


def check_map(found: ExactMap, thorough: bool = False) -> None:
    """Raise UserError if a map's regions go beyond its domain, overlap, or leave a hole: geometry alone (replies: `check_replies`).

    Overlaps are found if they are thicker than 10^-8; holes by what the measures lack then, so that the two cannot cancel. `thorough`: also
    holes that are too small for that, by looking across every border (takes some three times as long).
    """
    for row, numbers in enumerate(found.indices):
        check_cover(
            [found.regions[i].piece for i in numbers], found.domain.piece, f"map of {row_name(found, row)}", numbers.tolist(), thorough
        )


def row_name(found: ExactMap, row: int) -> str:
    """Which prompt, and of a sampled map which sample, a row of the map belongs to."""
    prompt, sample = divmod(row, found.samples)
    return f"prompt {prompt + 1}" + (f", sample {sample + 1}" if found.samples > 1 else "")
