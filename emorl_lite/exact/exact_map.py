"""Every weight vector at once: the weight simplex cut into convex regions, one reply each, exactly.

At a prefix the greedy token is argmax_v w.z_v, linear in the weights w: the weights that choose token v form a convex piece, and the
weights that share a prefix are an intersection of such pieces. So decoding runs on pieces of the simplex instead of points, and a piece
is split wherever its vertices disagree about the next token. Where all vertices of a piece agree on token v, all its weights do: w.z_v -
w.z_u is linear, and not negative at the vertices, hence not inside. With common random numbers (`samples` of the tree) w.z_v / t + g_v
is linear on the simplex as well, so sampled replies have an exact map too.

Its kin: minimum error rate training (Och 2003; for lattices Macherey et al. 2008) follows the upper envelope of linear scores over fixed
hypotheses, here the envelope is over the decisions of greedy decoding. Linear support (Cheng 1988, for POMDPs; Roijers et al. 2015, for
several objectives) also asks only the corners of a region and stops where they agree; convex hull value iteration (Barrett and Narayanan
2008) also solves for all weights at once, by values instead of decisions.
Shapes: B prompts, S samples, d objectives, G regions, n weight vectors, c tokens, m vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.weights import weight_rows
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.polytopes import TOLERANCE, Piece, scaled, simplex

TOGETHER = 16
"""Prompts decoded side by side: enough to fill the forward passes, few enough to keep their prefixes in memory."""


@dataclass(frozen=True)
class Region:
    """A convex piece of the simplex whose weights all give this reply."""

    row: int
    """Which prompt and sample: prompt * S + sample (S = 1 for greedy replies)."""
    reply: str
    piece: Piece
    tokens: int = 0
    """Length of the reply in tokens."""


@dataclass
class ExactMap:
    """The regions of every prompt (and sample)."""

    objectives: list[str]
    prompts: list[str]
    regions: list[Region]
    samples: int = 1
    sampled: bool = False
    """Whether the replies are sampled (with common random numbers) and not greedy: then weights must sum to 1."""
    rows_read: int = 0
    """Distinct prefixes that needed a forward pass."""
    indices: list[np.ndarray] = field(init=False, repr=False)
    """Of each row (prompt and sample) its regions' positions in `regions`."""

    def __post_init__(self) -> None:
        rows = np.array([region.row for region in self.regions], dtype=np.int64)
        self.indices = [np.flatnonzero(rows == row) for row in range(len(self.prompts) * self.samples)]
        facets = [region.piece.facets for region in self.regions]
        self._facets = np.concatenate(facets)
        self._start = np.cumsum([0, *map(len, facets)])[:-1]

    def of(self, row: int) -> list[Region]:
        """The regions of one prompt (and sample)."""
        return [self.regions[i] for i in self.indices[row]]

    def touching(self, vertices: np.ndarray) -> np.ndarray:
        """Which regions could meet a piece with these vertices [m, d], [G]: none of their facets has all of them on its outside.

        A superset of those that do.
        """
        highest = (vertices @ self._facets.T).max(0)  # [F]
        return np.asarray(np.minimum.reduceat(highest, self._start) > TOLERANCE)

    def locate(self, weights: Any) -> np.ndarray:
        """Which region (its index in `regions`) each weight vector falls into, [n, B * S]; -1 in a hole (`check_map`).

        Weights [n, d] or [d] of any size: only their direction counts under greedy decoding. On a border either side may be taken.
        Raises UserError for weights that are not finite, negative or all zero; for a sampled map, where the size is an inverse
        temperature, also for weights that do not sum to 1.
        """
        w = self._on_simplex(weights)
        located = np.full((len(w), len(self.indices)), -1)
        for start in range(0, len(w), 2048):
            part = slice(start, start + 2048)
            inside = np.minimum.reduceat(w[part] @ self._facets.T, self._start, axis=1)  # [n, G]: distance from the nearest facet
            for row, indices in enumerate(self.indices):
                deepest = indices[inside[:, indices].argmax(1)]
                contained = inside[np.arange(len(deepest)), deepest] >= -10 * TOLERANCE
                located[part, row] = np.where(contained, deepest, -1)
        return located

    def replies(self, weights: Any) -> list[list[str | None]]:
        """Replies [B * S][n] by look-up; None in a hole."""
        located = self.locate(weights)
        return [[self.regions[i].reply if i >= 0 else None for i in column] for column in located.T]

    def margins(self, weights: Any) -> np.ndarray:
        """How far each weight vector, brought to the simplex, may move before each reply changes, [n, B * S]; NaN in a hole."""
        w = self._on_simplex(weights)
        return np.array(
            [[self.regions[i].piece.margin(x) if i >= 0 else np.nan for i in line] for x, line in zip(w, self.locate(w), strict=True)]
        )

    def measure(self, row: int) -> float:
        """Share of the simplex that one prompt's regions cover: 1 if they leave no hole."""
        return float(sum(self.regions[i].piece.measure for i in self.indices[row]))

    def shares(self) -> pd.DataFrame:
        """One row per region, the largest of each prompt first: prompt (from 1), sample, share of the simplex, reply, tokens."""
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

    def _on_simplex(self, weights: Any) -> np.ndarray:
        w = weight_rows(weights, len(self.objectives))
        size = w.sum(1, keepdims=True)
        if self.sampled and np.abs(size - 1).max(initial=0.0) > 1e-6:
            raise UserError(
                f"weights: a sampled map is for weights that sum to 1, got a sum of {float(size[np.abs(size - 1).argmax()][0]):g}"
            )
        return np.asarray(w / size)


def exact_map(tree: PrefixTree) -> ExactMap:
    """The map of all prompts (and samples) of a tree, over the simplex of its adapters' weights, in the tree's order of adapters.

    Regions cover the simplex, do not overlap, and agree with decoding point by point but for weights closer to a border than rounding
    (about 1e-6 for a float32 model; see PrefixTree for others).

    Raises UserError as the tree does, and if the regions should not fit together (`check_map`).
    """
    builder = _Builder(tree)
    before, samples = tree.rows_read, max(1, tree.samples)
    for start in range(0, len(tree.prompts) * samples, TOGETHER):
        builder.follow(np.arange(start, min(start + TOGETHER, len(tree.prompts) * samples)))
    regions = sorted(builder.regions(), key=lambda region: region.row)
    exact = ExactMap(list(tree.adapters), tree.prompts, regions, samples, tree.samples > 0, tree.rows_read - before)
    check_map(exact)
    return exact


class _Builder:
    """Pieces of the simplex on their way from the roots of a tree to its leaves."""

    def __init__(self, tree: PrefixTree):
        self.tree = tree
        self.pieces: list[Piece] = []
        self.nodes: list[int] = []
        self.ended: list[int] = []

    def follow(self, roots: np.ndarray) -> None:
        """Split the simplex of each root until all replies have ended."""
        items = self._add(roots, [simplex(len(self.tree.adapters))] * len(roots))
        self.tree.run(items, lambda numbers: np.array([self.nodes[i] for i in numbers]), self._step)

    def _add(self, nodes: np.ndarray, pieces: Sequence[Piece]) -> np.ndarray:
        items = np.arange(len(self.nodes), len(self.nodes) + len(nodes))
        self.nodes.extend(nodes.tolist())
        self.pieces.extend(pieces)
        leaves = self.tree.is_leaf(nodes)
        self.ended.extend(items[leaves].tolist())
        return items[~leaves]

    def _step(self, items: np.ndarray) -> np.ndarray:
        """One more token: every piece goes on as a whole, or in parts."""
        nodes, pieces = [self.nodes[i] for i in items], [self.pieces[i] for i in items]
        branches = []
        for node, piece, tokens in zip(nodes, pieces, _vertex_choices(self.tree, nodes, pieces), strict=True):
            parts = {tokens[0]: piece} if (tokens == tokens[0]).all() else _split(self.tree, node, piece, tokens)
            branches += [(node, token, part) for token, part in parts.items()]
        children = self.tree.children(np.array([g[0] for g in branches]), np.array([g[1] for g in branches]))
        return self._add(children, [part for _, _, part in branches])

    def regions(self) -> list[Region]:
        """One for each piece whose reply has ended."""
        nodes = np.array([self.nodes[i] for i in self.ended], dtype=np.int64)
        rows, texts = self.tree.root_of(nodes), self.tree.texts(nodes)
        return [
            Region(int(row), text, self.pieces[i], len(self.tree.tokens(int(node))))
            for row, text, i, node in zip(rows, texts, self.ended, nodes, strict=True)
        ]


def _vertex_choices(tree: PrefixTree, nodes: list[int], pieces: list[Piece]) -> list[np.ndarray]:
    """For each piece the token that each of its vertices chooses."""
    counts = [len(piece.vertices) for piece in pieces]
    corners = np.concatenate([piece.vertices for piece in pieces])
    tokens = tree.choose(np.repeat(nodes, counts), tree.with_noise(corners))
    return np.split(tokens, np.cumsum(counts)[:-1])


def _split(tree: PrefixTree, node: int, piece: Piece, chosen: np.ndarray) -> dict[int, Piece]:
    """The part of a piece that each token takes.

    Start with the tokens that the vertices choose, and cut the piece among them. If another token is better at a vertex of a part, it
    joins, and the piece is cut anew. At the end every part's token is the best at all its vertices, hence everywhere in it.
    """
    tokens, scores = tree.candidates(node)
    z = scores[:, :-1] + scores[:, -1:] if tree.samples else scores  # on the simplex w.(z + g) = w.z + g
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


def check_map(found: ExactMap, tolerance: float = 1e-6) -> None:
    """Raise UserError if a map leaves a hole or overlaps itself, judged by the measure of each prompt's regions."""
    for row in range(len(found.prompts) * found.samples):
        if abs(found.measure(row) - 1) > tolerance:
            raise UserError(f"map of prompt {row // found.samples + 1}: covers {found.measure(row):.9f} of the simplex")
