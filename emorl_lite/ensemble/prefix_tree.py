"""Decode many weight vectors at once: one forward pass per distinct prefix.

A hidden state depends on the text so far, not on the weights that chose it. So all weight vectors (and all levels of a search) whose
replies begin alike share the passes of that beginning, and part only where they choose different tokens. The replies are those of
decoding each weight vector on its own.

Of every prefix the tree keeps the tokens that can win for SOME non-negative weights: token v is left out if another one has more from
every adapter, z_a,i > z_v,i for all i, because then w.z_a > w.z_v for every w. A dozen of thousands remain, so that a prefix that has
been read once is decided for any further weights without the model.
Shapes: B prompts, S samples, W weight vectors, N adapters, R prefixes, V words, T reply tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import Mix
from emorl_lite.base.weights import weight_rows
from emorl_lite.ensemble.ragged import Ragged, first_best
from emorl_lite.ensemble.tree_model import TreeModel
from emorl_lite.lm.devices import cpu_double
from emorl_lite.lm.examination import check_mixable
from emorl_lite.lm.forward import check_adapters
from emorl_lite.lm.model import LanguageModel

PASS_ROWS = 32
"""Most prefixes in one forward pass: more are no faster per prefix, and need more memory at a time."""


class _RowsFullError(Exception):
    """The cache has no room for the rows that a step needs."""


class PrefixTree:
    """The distinct prefixes of the replies to some prompts. It grows with the weights it is asked for, and reads no prefix twice, but
    for those dropped for lack of memory. (Sampled replies share their prompt; each sample has a tree of its own from there.)

    Nodes are numbered; node r < B * S is the empty reply to prompt r // S, sample r % S. A leaf is a whole reply: it ends with the
    model's end token (one of them), or at `max_new_tokens` without one.

    `mix`: what is mixed, as in EnsembleLM; "hidden" is also "logits". `samples` = 0 decodes greedily. Otherwise S replies per prompt are
    sampled at `temperature` with common random numbers: token = argmax_v (w.z_v / temperature + g_v), where the Gumbel noise g depends on
    seed, prompt, sample and position alone. So each reply is a fair sample of its weights' policy, and two weights differ only where
    their policies do.
    `max_rows`: the most cache rows (one token for all adapters) kept at a time; work that needs more is done part by part, and reads
    again what it had to drop. The tree belongs to the adapters as they were when it was made.

    Exact up to rounding: an adapter's logits are mixed in double precision, EnsembleLM mixes hidden states in the model's own. With a
    float32 model they differ within about 1e-6 of a tie; with bfloat16, where logits have three digits, in a few per cent of replies.

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
    ):
        if mix not in ("hidden", "logits", "probabilities"):
            raise UserError(f"mix {mix!r}: choose hidden (the same as logits) or probabilities")
        if samples < 0 or not temperature > 0:
            raise UserError(f"samples {samples}, temperature {temperature}: expected samples of 0 or more, and a temperature above 0")
        if samples and mix == "probabilities":
            raise UserError("samples: available for mix hidden only")
        if len(set(adapters)) < max(2, len(adapters)):
            raise UserError(f"adapters: at least 2 different ones are needed, got {', '.join(adapters) or 'none'}")
        check_adapters(lm, adapters)
        check_mixable(lm, mix, bool(samples))
        if seed < 0:
            raise UserError(f"seed: expected 0 or more, got {seed}")
        limit = lm.config.max_new_tokens if max_new_tokens is None else max_new_tokens
        self.model = TreeModel(lm, adapters, prompts, max_rows)
        longest = 1 if lm.seq2seq else int(self.model.prompt_tokens.max())
        self.model.check_window(longest + limit)
        self.model.examine(longest + limit)
        if not 1 <= limit <= lm.context - longest + lm.seq2seq:
            raise UserError(f"max_new_tokens {limit}: the model reads {lm.context} tokens, {longest} of them a prompt's")
        self.lm, self.prompts, self.adapters = lm, list(prompts), list(adapters)
        self.mix, self.samples, self.temperature, self.seed = mix, samples, temperature, seed
        self.max_new_tokens, self.max_rows = limit, self.model.cache.max_rows
        self.rows_read = self.rows_read_again = 0
        self.words = lm.base.get_output_embeddings().weight.shape[0]  # a head may be wider than the tokenizer
        self.peak_rows = 0
        roots = len(self.prompts) * max(1, samples)
        nodes = np.arange(roots)
        self._nodes = roots
        self._parent, self._token, self._depth = nodes.copy(), np.full(roots, -1), np.zeros(roots, dtype=np.int64)
        self._root, self._slot = nodes.copy(), np.zeros(roots, dtype=np.int64)
        self._children: dict[int, int] = {}
        self._prompt_rows: dict[int, np.ndarray] = {}  # cache rows of each prompt's tokens
        self._candidates = Ragged(len(self.adapters) + bool(samples))
        self._candidate_list = np.full(roots, -1)  # of a node among the candidates; -1: not read

    # -- replies

    def replies(self, weights: Any) -> list[list[str]]:
        """Texts [B * S][W]: the reply to every prompt (and sample) under every weight vector, [W, N] or one [N]."""
        leaves = self.leaves(weights)
        distinct, inverse = np.unique(leaves, return_inverse=True)
        texts = self.texts(distinct)
        return [[texts[i] for i in row] for row in inverse.reshape(leaves.shape)]

    def leaves(self, weights: Any) -> np.ndarray:
        """The leaf [B * S, W] of every prompt (and sample) under every weight vector. Equal leaves are equal replies.

        Raises UserError for weights that are not finite, negative or all zero.
        """
        w = weight_rows(weights, len(self.adapters))
        roots = len(self._roots())
        nodes = np.repeat(self._roots(), len(w))
        pair_weights = self.with_noise(np.tile(w, (roots, 1)))

        def step(pairs: np.ndarray) -> np.ndarray:
            nodes[pairs] = self.children(nodes[pairs], self.choose(nodes[pairs], pair_weights[pairs]))
            return pairs[~self.is_leaf(nodes[pairs])]

        self.run(np.arange(len(nodes)), lambda pairs: nodes[pairs], step)
        return nodes.reshape(roots, len(w))

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

    def prompt_of(self, nodes: np.ndarray) -> np.ndarray:
        """The prompts (from 0) that these nodes reply to."""
        return self._root[nodes] // max(1, self.samples)

    def root_of(self, nodes: np.ndarray) -> np.ndarray:
        """Their roots, prompt * S + sample."""
        return self._root[nodes]

    @property
    def passes(self) -> int:
        """Forward passes so far."""
        return self.model.passes

    # -- growing: what a decoder of points or of regions needs

    def run(self, items: Any, node_of: Callable[[Any], np.ndarray], step: Callable[[Any], Any]) -> None:
        """Read the nodes of all items (an array), call `step` on them, and go on with the items that it returns, until none are left.

        All items start at roots. Where the cache has no room for all, they are taken part by part.
        """
        pending = [items] if len(items) else []
        with self.model.reading():
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
                        raise UserError(f"max_rows {self.max_rows}: too few for a single reply")

    def _have_read(self, nodes: np.ndarray) -> bool:
        """Read nodes of one depth that have not been read. If the cache is too full for them all, it is emptied."""
        try:
            self._read(nodes[self._candidate_list[nodes] < 0])
        except _RowsFullError:
            self._drop_rows()
            return False
        return True

    def choose(self, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The next token [n] at each node under its weights [n, N]; of equal ones the first in the vocabulary."""
        tokens = np.empty(len(nodes), dtype=np.int64)
        for part in self._candidates.parts(self._candidate_list[nodes]):
            owner, entry = self._candidates.entries(self._candidate_list[nodes[part]])
            scores = (self._candidates.scores[entry] * weights[part][owner]).sum(1)
            tokens[part] = self._candidates.tokens[entry[first_best(scores, owner, len(nodes[part]))]]
        return tokens

    def candidates(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens [c] that can win at a node, and their scores [c, N] (with the noise in a last column, if there are samples)."""
        entry = self._candidates.of(int(self._candidate_list[node]))
        return self._candidates.tokens[entry], self._candidates.scores[entry]

    def with_noise(self, weights: np.ndarray) -> np.ndarray:
        """Weights [n, N] with the noise's own weight of 1 in a last column, if there are samples."""
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
            for name in ("_parent", "_token", "_depth", "_root", "_slot", "_candidate_list"):
                setattr(self, name, np.pad(getattr(self, name), (0, padding)))
        self._parent[nodes], self._token[nodes], self._depth[nodes] = parents, tokens, self._depth[parents] + 1
        self._root[nodes], self._slot[nodes], self._candidate_list[nodes] = self._root[parents], 0, -1
        self._children.update(zip(keys.tolist(), nodes.tolist(), strict=True))

    def _read_prompts(self, prompts: np.ndarray) -> Tensor:
        """Put prompts into the cache; hidden states [.., N, d] at their ends."""
        lengths = np.ones(len(prompts), dtype=np.int64) if self.lm.seq2seq else self.model.prompt_tokens[prompts]
        rows = np.asarray(self._reserve(int(lengths.sum())))
        hidden = self.model.read_prompts(prompts, torch.as_tensor(rows, device=self.lm.device))
        self._prompt_rows.update(zip(prompts.tolist(), np.split(rows, np.cumsum(lengths)[:-1]), strict=True))
        return hidden

    def _read(self, nodes: np.ndarray, keep: bool = True) -> None:
        """Forward passes for nodes of one depth. `keep`: decide their candidates; if not, only their cache rows had been dropped."""
        if not len(nodes):
            return
        depth, which = int(self._depth[nodes[0]]), self.prompt_of(nodes)
        above = np.unique(self._parent[nodes])
        self._read(above[(self._depth[above] > 0) & (self._slot[above] == 0)] if depth else above[:0], keep=False)
        prompts = np.unique(which)
        absent = np.array([p for p in prompts.tolist() if p not in self._prompt_rows], dtype=np.int64)
        for part in _batches(absent):
            hidden = self._read_prompts(part)
            if not depth:
                roots = self._roots()  # of all samples of these prompts, asked for or not
                roots = roots[np.isin(self.prompt_of(roots), part)]
                self._add_candidates(roots, hidden[torch.as_tensor(np.searchsorted(part, self.prompt_of(roots)), device=hidden.device)])
        for part in _batches(nodes) if depth else []:
            rows = np.asarray(self._reserve(len(part)))
            self._slot[part] = rows
            which = self.prompt_of(part)
            positions = self.model.prompt_tokens[which] + depth - 1
            hidden = self.model.read_tokens(which, self._token[part], positions, self._paths(part, depth), rows)
            if keep:
                self.rows_read += len(part)
                self._add_candidates(part, hidden)
            else:
                self.rows_read_again += len(part)

    def _paths(self, nodes: np.ndarray, depth: int) -> np.ndarray:
        """Cache rows of whole prefixes [R, L], 0 before shorter prompts."""
        steps = np.empty((len(nodes), depth), dtype=np.int64)
        ancestors = nodes
        for step in range(depth - 1, -1, -1):
            steps[:, step] = self._slot[ancestors]
            ancestors = self._parent[ancestors]
        prompts = [self._prompt_rows[p] for p in self.prompt_of(nodes).tolist()]
        width = max(len(rows) for rows in prompts)
        before = np.zeros((len(nodes), width), dtype=np.int64)
        for line, rows in zip(before, prompts, strict=True):
            line[width - len(rows) :] = rows
        return np.hstack([before, steps])

    def _reserve(self, rows: int) -> range:
        if self.model.cache.used + rows > self.max_rows + 1:
            raise _RowsFullError
        reserved = self.model.cache.reserve(rows)
        self.peak_rows = max(self.peak_rows, self.model.cache.used - 1)
        return reserved

    def _drop_rows(self) -> None:
        self.model.cache.clear()
        self._prompt_rows.clear()
        self._slot[: self._nodes] = 0

    def _add_candidates(self, nodes: np.ndarray, hidden: Tensor) -> None:
        """Decide which tokens can win at these nodes, from their hidden states [R, N, d]."""
        scores = self.model.logits(hidden)
        if self.mix == "probabilities":
            scores = scores.softmax(-1, dtype=torch.float32)
        if self.samples:
            noise = np.stack([self._noise(self._root[node], self._depth[node], scores.shape[-1]) for node in nodes])
            noise_scores = torch.as_tensor(noise, device=scores.device, dtype=torch.float32)
            scores = torch.cat([scores.float() / self.temperature, noise_scores[:, None]], 1)
        self._candidate_list[nodes] = self._candidates.append(*not_dominated(scores))

    def _noise(self, root: int, position: int, words: int) -> np.ndarray:
        """Gumbel noise [V] that depends on seed, prompt, sample and position, not on what was decoded before or beside it."""
        prompt, sample = divmod(int(root), self.samples)
        return np.random.default_rng([self.seed, prompt, sample, int(position)]).gumbel(size=words)


def _batches(nodes: np.ndarray) -> list[np.ndarray]:
    return np.array_split(nodes, -(-len(nodes) // PASS_ROWS)) if len(nodes) else []


def not_dominated(scores: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words of R rows that could win for some non-negative weights, from their scores [R, N, V].

    Returns counts [R], tokens [C] row after row in the vocabulary's order, and their scores [C, N] in double precision. Words are
    compared with a few strong ones only, so some that can never win may remain; none that can is left out.
    """
    leaders = torch.cat([scores.mean(1).argmax(-1, keepdim=True), scores.argmax(-1)], 1)  # [R, 1 + N]
    best = scores.gather(2, leaders[:, None, :].expand(-1, scores.shape[1], -1))  # [R, N, 1 + N]
    row, token = (scores >= best[:, :, :1]).any(1).nonzero(as_tuple=True)
    candidates = scores[row, :, token]  # [C, N]
    undominated = (candidates[:, :, None] >= best[row, :, 1:]).any(1).all(1)
    counts = torch.bincount(row[undominated], minlength=len(scores))
    return counts.cpu().numpy(), token[undominated].cpu().numpy(), cpu_double(candidates[undominated]).numpy()
