"""Decode many weight vectors at once: one forward pass per distinct prefix.

A hidden state depends on the text so far, not on the weights that chose it. So all weight vectors (and all levels of a search) whose
replies begin alike share the passes of that beginning, and part only where they choose different tokens. The replies are those of
decoding each weight vector on its own.

Of every prefix the tree keeps the tokens that can win for SOME weights: token v is left out if another one has more at every vertex of the
domain of weights (on the simplex: from every adapter, z_a,i > z_v,i for all i), because then w.z_a > w.z_v for every w. A dozen of
thousands remain, so that a prefix that has been read once is decided for any further weights without the model. (More by less than
rounding leaves a token in, so that the lead of the best word over the second is known wherever it is that small.)
Shapes: B prompts, S samples, W weight vectors, N sources, d corners, m vertices of the domain, R prefixes, V words, T reply tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OF_PROBABILITIES, Mix
from emorl_lite.base.ranges import Within, check_seed, checked, shown
from emorl_lite.base.sizes import BLOCK, Estimate, blocks, shown_bytes
from emorl_lite.base.texts import check_texts
from emorl_lite.ensemble.corners import Corners, adapter_corners, check_linear, of_probabilities
from emorl_lite.ensemble.ragged import Ragged, first_best
from emorl_lite.ensemble.readers import Reader, Readers, RowsFullError
from emorl_lite.ensemble.rounding import NearTies
from emorl_lite.ensemble.tree_cache import GROWTH
from emorl_lite.ensemble.tree_model import MEMORY
from emorl_lite.lm.model import LanguageModel

PASS_ROWS, MOST_PASS_ROWS = 32, 128
"""Prefixes in one forward pass, as many as are fastest: where each is small, more of them share what a pass costs in itself."""
PASS_BYTES = 6 * 2**20
"""Keys of a layer, or logits, that a pass of more than PASS_ROWS may have: about what a processor's cache holds."""
WIDEST = 1e6
"""Size of scores beyond which those near 0 cannot be told apart to twelve digits of the largest: reciprocals of probabilities, or what a
number type does not reach."""
USUAL_CANDIDATES = 16
"""Words that can win at a prefix, before any has been read: 14 to 15 in the models of the tests, 13 in the reference run."""
MANY_WORDS = 64
"""That can win at a prefix by what few words say of them: on a line they are held against the highest scores all along it."""
NODE_BYTES = 200
"""Of a prefix in the dictionary of children: its key, its number and their places."""
PAIR_BYTES = 200
"""Of a reply on its way through the tree: its weights and what is chosen by them, times a few for copies."""


ARRAYS = ("_parent", "_token", "_depth", "_root", "_slot", "_candidate_list", "_rounding")
"""What is known of every node, by its number."""


@dataclass(frozen=True)
class _Limits:
    """The options of a tree, checked."""

    max_new_tokens: int | None
    samples: int
    temperature: float
    seed: int
    max_rows: int | None
    memory: int

    def __post_init__(self) -> None:
        samples = checked(self.samples, int, [Within(0, 10**6)], f"samples {shown(self.samples)}")
        temperature = checked(self.temperature, float, [Within(0, 10**6, above=True)], f"temperature {shown(self.temperature)}")
        for what in ("max_new_tokens", "max_rows", "memory"):
            value = getattr(self, what)
            checked(1 if value is None else value, int, [Within(1, 2**63)], f"{what} {shown(value)}")
        for what, value in (("samples", samples), ("temperature", temperature), ("seed", check_seed(self.seed, "seed"))):
            object.__setattr__(self, what, value)


class PrefixTree:
    """The distinct prefixes of the replies to some prompts. It grows with the weights it is asked for, and reads no prefix twice, but
    for those dropped for lack of memory. (Sampled replies share their prompt; each sample has a tree of its own from there.)

    Nodes are numbered; node r < B * S is the empty reply to prompt r // S, sample r % S. A leaf is a whole reply: it ends with the
    model's end token (one of them), or at `max_new_tokens` without one.

    `adapters` and `mix`: what is mixed, as in EnsembleLM; "hidden" is also "logits". (Other mixtures: `PrefixTree.of`.) `samples` = 0
    decodes greedily. Otherwise S replies per prompt are sampled at `temperature` with common random numbers: token = argmax_v (w.z_v /
    temperature + g_v), where the Gumbel noise g depends on seed, prompt, sample and position alone. So each reply is a fair sample of its
    weights' policy, and two weights differ only where their policies do.
    `memory`: the bytes that the tree is meant to keep to, half of them for cache rows (2 GiB by default). `max_rows`: instead, the most
    cache rows (one token for all adapters) kept at a time. Work that needs more is done part by part, and reads again what it had to
    drop. The tree belongs to the adapters as they were when it was made.

    Exact up to rounding: an adapter's logits are mixed in double precision, EnsembleLM mixes hidden states in the model's own. With a
    float32 model they differ within about 1e-6 of a tie; with bfloat16, where logits have three digits, in a few per cent of replies
    (`near_ties` says how many choices are that near).

    Raises UserError for no prompts, unsuitable adapters, options out of range, or a `max_rows` too small for one reply.
    """

    def __init__(
        self,
        lm: LanguageModel,
        adapters: Sequence[str],
        prompts: Sequence[str],
        mix: Mix = "hidden",
        max_new_tokens: int | None = None,
        samples: int = 0,
        temperature: float = 1.0,
        seed: int = 0,
        max_rows: int | None = None,
        memory: int = MEMORY,
    ):
        check_linear(mix)
        limits = _Limits(max_new_tokens, samples, temperature, seed, max_rows, memory)
        self._begin(adapter_corners(lm, adapters, mix), prompts, limits)

    @classmethod
    def of(
        cls,
        corners: Corners,
        prompts: Sequence[str],
        max_new_tokens: int | None = None,
        samples: int = 0,
        temperature: float = 1.0,
        seed: int = 0,
        max_rows: int | None = None,
        memory: int = MEMORY,
    ) -> PrefixTree:
        """The tree of any corners that are mixed linearly. Weights lie in the corners' domain; the options are the same.

        Raises UserError also for sources that cannot be mixed as their models compute them.
        """
        tree = cls.__new__(cls)
        tree._begin(corners, prompts, _Limits(max_new_tokens, samples, temperature, seed, max_rows, memory))
        return tree

    def _begin(self, corners: Corners, prompts: Sequence[str], limits: _Limits) -> None:
        if not isinstance(corners, Corners):
            raise UserError(f"prefix tree: expected corners, got {type(corners).__name__}")
        self.corners, self.domain, self.mix = corners, corners.domain, corners.mix
        self.samples, self.temperature, self.seed = limits.samples, limits.temperature, limits.seed
        if self.samples and self.mix in OF_PROBABILITIES:
            raise UserError("samples: available for mix hidden only")
        if not self.samples and not corners.combination.any(1).all():
            raise UserError("samples: a corner where all words score the same, such as an infinite temperature, is for sampled replies")
        corners.check(bool(self.samples))
        self.prompts = prompts = check_texts(prompts, "prompt")
        self.lm = corners.sources[0].lm
        self.max_new_tokens = self.lm.config.max_new_tokens if limits.max_new_tokens is None else limits.max_new_tokens
        self.readers = Readers(corners, prompts, single=bool(self.samples))
        for reader in self.readers.all:
            reader.check(self.max_new_tokens)
        self.memory = limits.memory
        self.max_rows = self.readers.max_rows = limits.max_rows or max(1, self.memory // 2 // self.readers.row_bytes)
        self._seconds = 0.0
        self.rows_read = self.rows_read_again = 0
        self.words = corners.words
        self.peak_rows = 0
        roots = len(self.prompts) * max(1, self.samples)
        nodes = np.arange(roots)
        self._nodes = roots
        self._parent, self._token, self._depth = nodes.copy(), np.full(roots, -1), np.zeros(roots, dtype=np.int64)
        self._root, self._slot = nodes.copy(), np.zeros((roots, len(self.readers.all)), dtype=np.int64)
        self._children: dict[int, int] = {}
        self._width = len(corners.names) + bool(self.samples)
        self._rays = corners.rays if corners.rays is None else self.with_noise(corners.rays)
        # what a lead at the domain's vertices may add up of the sources' rounding
        self._largest = float(np.abs(corners.coefficients(self.domain.piece.vertices)).sum(1).max())
        self._candidates = Ragged(self._width)
        self._candidate_list = np.full(roots, -1)  # of a node among the candidates; -1: not read
        self._rounding = np.full(roots, -1.0)  # what rounding moves a lead by at a node; -1: never read

    # -- replies

    def replies(self, weights: Any) -> list[list[str]]:
        """Texts [B * S][W]: the reply to every prompt (and sample) under every weight vector, [W, d] or one [d] (or the knobs' values)."""
        leaves = self.leaves(weights)
        distinct, inverse = np.unique(leaves, return_inverse=True)
        texts = self.texts(distinct)
        return [[texts[i] for i in row] for row in inverse.reshape(leaves.shape)]

    def leaves(self, weights: Any) -> np.ndarray:
        """The leaf [B * S, W] of every prompt (and sample) under every weight vector. Equal leaves are equal replies.

        Raises UserError for weights outside of the domain: on the simplex those that are not finite, negative or all zero.
        """
        w = self.domain.rows(weights)
        roots = len(self._roots())
        leaves = np.empty((roots, len(w)), dtype=np.int64)
        for part in blocks(len(w), roots * PAIR_BYTES):
            leaves[:, part] = self._leaves(w[part]).reshape(roots, -1)
        return leaves

    def _leaves(self, w: np.ndarray) -> np.ndarray:
        """The same of checked weights, [B * S * W]."""
        nodes = np.repeat(self._roots(), len(w))
        pair_weights = self.with_noise(np.tile(w, (len(self._roots()), 1)))

        def step(pairs: np.ndarray) -> np.ndarray:
            nodes[pairs] = self.children(nodes[pairs], self.choose(nodes[pairs], pair_weights[pairs]))
            return pairs[~self.is_leaf(nodes[pairs])]

        self.run(np.arange(len(nodes)), lambda pairs: nodes[pairs], step)
        return nodes

    def near_ties(self, weights: Any) -> NearTies:
        """How many choices of a word, one a prefix and weight vector ([W, d] or [d]), hang on rounding. Decodes them as `leaves` does."""
        w = self.domain.rows(weights)
        nodes, which = self.leaves(w).flatten(), np.tile(np.arange(len(w)), len(self._roots()))
        decisions = near = 0
        while len(nodes):
            parents = self._parent[nodes]
            near += int((self.leads(parents, self._token[nodes], self.with_noise(w[which])) < 1).sum())
            decisions += len(nodes)
            nodes, which = parents[self._depth[parents] > 0], which[self._depth[parents] > 0]
        return NearTies(self.readers.dtype, decisions, near)

    def texts(self, leaves: Sequence[int] | np.ndarray) -> list[str]:
        """The replies that end at these leaves; one without end carries the UNFINISHED mark."""
        rows = [torch.tensor(self.tokens(int(leaf))) for leaf in leaves]
        if not rows:
            return []
        return self.lm.decode(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.lm.tokenizer.pad_token_id))

    def tokens(self, node: int) -> list[int]:
        """Token ids of a prefix."""
        tokens = []
        while self._depth[node]:
            tokens.append(int(self._token[node]))
            node = self._parent[node]
        return tokens[::-1]

    def lengths(self, nodes: np.ndarray) -> np.ndarray:
        """How many tokens these prefixes have after their prompts."""
        return self._depth[nodes]

    def prompt_of(self, nodes: np.ndarray) -> np.ndarray:
        """The prompts (from 0) that these nodes reply to."""
        return self._root[nodes] // max(1, self.samples)

    def root_of(self, nodes: np.ndarray) -> np.ndarray:
        """Their roots, prompt * S + sample."""
        return self._root[nodes]

    @property
    def passes(self) -> int:
        """Forward passes so far."""
        return self.readers.passes

    # -- growing: what a decoder of points or of regions needs

    def run(self, items: Any, node_of: Callable[[Any], np.ndarray], step: Callable[[Any], Any]) -> None:
        """Read the nodes of all items (an array), call `step` on them, and go on with the items that it returns, until none are left.

        All items start at roots. Where the cache has no room for all, they are taken part by part.
        """
        pending, started = [items] if len(items) else [], time.perf_counter()
        with self.readers.reading():
            while pending:
                items = pending.pop()
                while len(items):
                    item_nodes = node_of(items)
                    nodes = np.unique(item_nodes)
                    if self._have_read(nodes):
                        items = step(items)
                    elif len(nodes) > 1:
                        first = item_nodes <= nodes[(len(nodes) - 1) // 2]
                        pending.append(items[~first])
                        items = items[first]
                    elif not self._have_read(nodes):  # alone, in an empty cache
                        row = shown_bytes(self.readers.row_bytes)
                        raise UserError(f"max_rows {self.max_rows}: too few for a single reply; give more memory ({row} a row)")
        self._seconds += time.perf_counter() - started

    def _have_read(self, nodes: np.ndarray) -> bool:
        """Read nodes of one depth that have not been read. If the cache is too full for them all, it is emptied."""
        try:
            self._read(nodes[self._candidate_list[nodes] < 0])
        except RowsFullError:
            self._drop_rows()
            return False
        return True

    def choose(self, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The next token [n] at each node under its weights [n, d]; of equal ones the first in the vocabulary."""
        tokens = np.empty(len(nodes), dtype=np.int64)
        for part in self._candidates.parts(self._candidate_list[nodes]):
            owner, entry = self._candidates.entries(self._candidate_list[nodes[part]])
            scores = self._candidates.mixed(entry, owner, weights[part])
            tokens[part] = self._candidates.tokens[entry[first_best(scores, owner, len(nodes[part]))]]
        return tokens

    def candidates(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens [c] that can win at a node, and their scores [c, d] (with the noise in a last column, if there are samples)."""
        entry = self._candidates.of(int(self._candidate_list[node]))
        return self._candidates.tokens[entry].copy(), self._candidates.scores[entry].astype(np.float64)

    def leads(self, nodes: np.ndarray, tokens: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """By how much these tokens [n] lead over the best other one at nodes [n], under weights [n, d], in units of rounding.

        Below 1 rounding may give the next word to another one; inf where no other word comes near, negative where another one leads.
        """
        leads = np.full(len(nodes), np.inf)
        for part in self._candidates.parts(self._candidate_list[nodes]):
            owner, entry = self._candidates.entries(self._candidate_list[nodes[part]])
            scores = self._candidates.mixed(entry, owner, weights[part])
            chosen = self._candidates.tokens[entry] == tokens[part][owner]
            starts = np.searchsorted(owner, np.arange(len(nodes[part])))
            leads[part] = np.maximum.reduceat(np.where(chosen, scores, -np.inf), starts)
            leads[part] -= np.maximum.reduceat(np.where(chosen, -np.inf, scores), starts)
        room = self._rounding[nodes] * np.abs(self.corners.coefficients(weights[:, : len(self.corners.names)])).sum(1)
        return leads / np.maximum(room, np.finfo(float).tiny)

    def with_noise(self, weights: np.ndarray) -> np.ndarray:
        """Weights [n, d] with the noise's own weight of 1 in a last column, if there are samples."""
        return np.hstack([weights, np.ones((len(weights), 1))]) if self.samples else weights

    def is_leaf(self, nodes: np.ndarray) -> np.ndarray:
        tokens = self._token[nodes]
        return np.logical_or.reduce([tokens == end for end in self.lm.end_ids]) | (self._depth[nodes] == self.max_new_tokens)

    def children(self, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The nodes that follow by these tokens. New ones are read when they are run."""
        keys, inverse = np.unique(nodes * self.words + tokens, return_inverse=True)
        missing = np.array([key for key in keys.tolist() if key not in self._children], dtype=np.int64)
        self._add(missing, missing // self.words, missing % self.words)
        return np.array([self._children[key] for key in keys.tolist()], dtype=np.int64)[inverse]

    # -- inside

    def _roots(self) -> np.ndarray:
        return np.arange(len(self.prompts) * max(1, self.samples))

    def _add(self, keys: np.ndarray, parents: np.ndarray, tokens: np.ndarray) -> None:
        nodes = np.arange(self._nodes, self._nodes + len(keys))
        self._nodes += len(keys)
        if self._nodes > len(self._parent):
            padding = max(self._nodes, 2 * len(self._parent)) - len(self._parent)
            for name in ARRAYS:
                array = getattr(self, name)
                setattr(self, name, np.pad(array, [(0, padding), *[(0, 0)] * (array.ndim - 1)]))
        self._parent[nodes], self._token[nodes], self._depth[nodes] = parents, tokens, self._depth[parents] + 1
        self._root[nodes], self._slot[nodes], self._candidate_list[nodes], self._rounding[nodes] = self._root[parents], 0, -1, -1
        self._children.update(zip(keys.tolist(), nodes.tolist(), strict=True))

    def _read(self, nodes: np.ndarray, keep: bool = True) -> None:
        """Forward passes for nodes of one depth. `keep`: decide their candidates; if not, only their cache rows had been dropped."""
        if not len(nodes):
            return
        depth, readers = int(self._depth[nodes[0]]), self.readers.all
        above = np.unique(self._parent[nodes])
        self._read(above[(self._depth[above] > 0) & (self._slot[above, 0] == 0)] if depth else above[:0], keep=False)
        prompts = np.unique(self.prompt_of(nodes))
        absent = np.array([p for p in prompts.tolist() if p not in readers[0].prompt_rows], dtype=np.int64)
        size = self._pass_rows(depth)
        for part in _batches(absent, PASS_ROWS):
            hidden = [self._pass(reader).read_prompts(part) for reader in readers]
            if not depth:
                roots = self._roots()  # of all samples of these prompts, asked for or not
                for some in _batches(roots[np.isin(self.prompt_of(roots), part)], size):
                    self._add_candidates(some, hidden, np.searchsorted(part, self.prompt_of(some)))
        for part in _batches(nodes, size) if depth else []:
            prompts, tokens, steps = self.prompt_of(part), self._token[part], self._steps(part, depth)
            hidden = []
            for k, reader in enumerate(readers):
                states, self._slot[part, k] = self._pass(reader).read_tokens(prompts, tokens, steps[..., k])
                hidden.append(states)
            again = int((self._rounding[part] >= 0).sum())
            self.rows_read += len(part) - again
            self.rows_read_again += again
            if keep:
                self._add_candidates(part, hidden)
        self.peak_rows = max(self.peak_rows, self.readers.used - 1)

    def _pass_rows(self, depth: int) -> int:
        """Prefixes of this many tokens in one forward pass."""
        most = max(reader.pass_bytes(depth, self.words) for reader in self.readers.all)
        return int(np.clip(PASS_BYTES // most, PASS_ROWS, MOST_PASS_ROWS))

    def _pass(self, reader: Reader) -> Reader:
        """The reader, with its model in hand."""
        self.readers.borrow(reader)
        return reader

    def _steps(self, nodes: np.ndarray, depth: int) -> np.ndarray:
        """Cache rows of the tokens before these [R, depth - 1, readers]."""
        steps = np.empty((len(nodes), depth - 1, self._slot.shape[1]), dtype=np.int64)
        ancestors = self._parent[nodes]
        for step in range(depth - 2, -1, -1):
            steps[:, step] = self._slot[ancestors]
            ancestors = self._parent[ancestors]
        return steps

    def _drop_rows(self) -> None:
        self.peak_rows = max(self.peak_rows, self.readers.used - 1)
        self.readers.drop_rows()
        self._slot[: self._nodes] = 0

    # -- memory

    def keep_to(self, room: int) -> None:
        """Before other prompts: drop the cache rows if they fill half of theirs, and what is known of prefixes if it is more than `room`.

        What is asked for again is read again; replies and their numbers stay.
        """
        if self.readers.used > self.max_rows // 2:
            self._drop_rows()
        if self.kept_bytes > room:
            self._drop_rows()
            self._candidates = Ragged(self._width)
            self._candidate_list[: self._nodes] = -1

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept of all prefixes, cache rows aside: numbers, candidates and their scores."""
        arrays = sum(getattr(self, name).nbytes for name in ARRAYS)
        return self._candidates.nbytes + arrays + NODE_BYTES * len(self._children)

    @property
    def row_bytes(self) -> int:
        """Bytes of the cache rows, room to grow included."""
        return self.readers.kept_bytes

    def estimate(self, points: int) -> Estimate:
        """What decoding this many more weight vectors takes at most, if no two of their replies begin alike: rows, bytes, seconds.

        Bytes by the candidates of a prefix so far, seconds by the time of a row so far (None before there is one).
        """
        replies = len(self._roots()) * points
        prompt_tokens = max(reader.prompt_tokens() for reader in self.readers.all)
        rows = (0 if self.readers.all[0].prompt_rows else prompt_tokens) + replies * (self.max_new_tokens - 1)
        lists = self._candidates.lists
        of_prefix = self._candidates.nbytes / lists if lists else USUAL_CANDIDATES * (4 + 8 * self._width)
        nodes = replies * self.max_new_tokens
        kept = self.kept_bytes + nodes * (NODE_BYTES + 2 * 8 * len(ARRAYS)) + 1.25 * (nodes + len(self._roots())) * of_prefix
        cache = min(self.readers.used + rows, self.max_rows + 1) * GROWTH * self.readers.row_bytes
        pairs = max(BLOCK, len(self._roots()) * PAIR_BYTES)
        read = self.rows_read + self.rows_read_again
        return Estimate(rows, "rows", int(kept + cache + pairs), self._seconds / read * rows if read else None)

    def __repr__(self) -> str:
        size = shown_bytes(self.kept_bytes + self.row_bytes)
        return f"PrefixTree of {len(self.prompts)} prompts and {len(self.corners.names)} corners: {self.rows_read:,} prefixes read, {size}"

    def _add_candidates(self, nodes: np.ndarray, hidden: Sequence[Tensor], rows: np.ndarray | None = None) -> None:
        """Decide which tokens can win at these nodes, from each reader's hidden states [R, N, width] (`rows`: which of them)."""
        which = None if rows is None else torch.as_tensor(rows, device=hidden[0].device)
        scores, room = self.readers.scores(hidden, which)
        if self.mix in OF_PROBABILITIES:
            scores = of_probabilities(self.mix, scores)
            if self.mix == "probabilities":
                room = room * scores.amax((1, 2))  # dp = p (1 - p) dz, of the largest p; of what can win, d(c / p) is no more than dz
        scores = self.corners.mixed(scores)
        if self.samples:
            noise = np.stack([self._noise(self._root[node], self._depth[node], scores.shape[-1]) for node in nodes])
            noise_scores = torch.as_tensor(noise, device=scores.device, dtype=torch.float32)
            scores = torch.cat([scores.float() / self.temperature, noise_scores[:, None]], 1)
            room = room / self.temperature
        self._rounding[nodes] = room.cpu().numpy()
        self._candidate_list[nodes] = self._candidates.append(*not_dominated(scores, room * self._largest, self._rays))

    def _noise(self, root: int, position: int, words: int) -> np.ndarray:
        """Gumbel noise [V] that depends on seed, prompt, sample and position, not on what was decoded before or beside it."""
        prompt, sample = divmod(int(root), self.samples)
        return np.random.default_rng([self.seed, prompt, sample, int(position)]).gumbel(size=words)


def _batches(nodes: np.ndarray, size: int) -> list[np.ndarray]:
    return np.array_split(nodes, -(-len(nodes) // size)) if len(nodes) else []


def not_dominated(scores: Tensor, room: Tensor | float = 0.0, rays: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words of R rows that could win for some weights, from their scores [R, d, V] at the corners.

    Weights are sums of `rays` [m, d] with non-negative factors; of the corners themselves (any non-negative weights) if None.
    `room` [R]: a word stays, too, that no other one beats by more than this at every ray.
    Returns counts [R], tokens [C] row after row in the vocabulary's order, and their scores [C, d]. Words are compared with a few strong
    ones only, so some that can never win may remain; none that can is left out.
    """
    at_rays = scores if rays is None else torch.as_tensor(rays, device=scores.device, dtype=scores.dtype) @ scores  # [R, m, V]
    leaders = _first_largest(torch.cat([at_rays.mean(1, keepdim=True), at_rays], 1))  # [R, 1 + m]
    best = at_rays.gather(2, leaders[:, None, :].expand(-1, at_rays.shape[1], -1))  # [R, m, 1 + m]
    least = best - torch.as_tensor(room, device=scores.device).to(scores.dtype).expand(len(scores))[:, None, None]
    at_some_ray = [at_rays[:, m] >= least[:, m, :1] for m in range(at_rays.shape[1])]
    row, token = reduce(torch.logical_or, at_some_ray).nonzero(as_tuple=True)
    undominated = (at_rays[row, :, token][:, :, None] >= least[row, :, 1:]).any(1).all(1)
    row, token = row[undominated], token[undominated]
    if at_rays.shape[1] == 2 and len(row) > MANY_WORDS * len(scores):  # far apart on a line no single word beats many at both ends
        ends, slack = at_rays[row, :, token].double().cpu().numpy(), torch.as_tensor(room).double().cpu().expand(len(scores)).numpy()
        starts = np.searchsorted(row.cpu().numpy(), np.arange(len(scores)))
        high = [_near_highest(own, by) for own, by in zip(np.split(ends, starts[1:]), slack, strict=True)]
        near = torch.from_numpy(np.concatenate(high)).to(row.device)
        row, token = row[near], token[near]
    counts, kept = torch.bincount(row, minlength=len(scores)), scores[row, :, token].cpu()  # [C, d]
    return counts.cpu().numpy(), token.cpu().numpy(), (kept.float() if kept.dtype.itemsize == 2 else kept).numpy()


def _near_highest(ends: np.ndarray, room: float) -> np.ndarray:
    """Which of c words come within `room` of the highest score somewhere on a line, [c], from their scores at its two ends [c, 2].

    The highest score is convex along the line, and a word's is straight: it comes nearest at an end, or where two of the highest meet.
    These are found by asking for the highest word where the two that are known beside it meet (Cheng 1988).
    """
    if not np.isfinite(ends).all() or np.abs(ends).max() > WIDEST:  # nothing is said of anything
        return np.ones(len(ends), dtype=bool)
    rounding = 1e-12 * float(np.abs(ends).max())
    first, last = ends.argmax(0).tolist()
    near = (ends >= ends.max(0) - room - rounding).any(1)
    pairs = [(first, last)]
    while pairs:
        a, b = pairs.pop()
        falls, rises = ends[a, 0] - ends[b, 0], ends[b, 1] - ends[a, 1]
        if falls + rises <= rounding:
            continue
        scores = ends @ np.array([rises, falls]) / (falls + rises)  # where a and b meet
        best = int(scores.argmax())
        near |= scores >= scores[best] - room - rounding
        if scores[best] > max(scores[a], scores[b]) + rounding:
            pairs += [(a, best), (best, b)]
    return near


def _first_largest(x: Tensor) -> Tensor:
    """argmax over the last dimension; on a CPU by NumPy, which is ten times as fast."""
    return torch.from_numpy(x.numpy().argmax(-1)) if x.device.type == "cpu" and x.dtype.itemsize > 2 else x.argmax(-1)
