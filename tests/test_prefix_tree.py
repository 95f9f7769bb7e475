"""The prefix tree against decoding each weight vector on its own, on random llama, gpt2 and t5 models."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from itertools import product

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ADAPTERS, PROMPTS

from emorl_lite.base import sizes
from emorl_lite.base.errors import UserError
from emorl_lite.ensemble import prefix_tree
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PAIR_BYTES, PrefixTree, not_dominated
from emorl_lite.ensemble.ragged import Ragged, first_best
from emorl_lite.ensemble.rounding import Rounding, rounding

GRID = [w for w in product((0.0, 0.5, 1.0), repeat=3) if any(w)]
kinds = tiny.kinds()


@cache
def double(kind: str):
    lm = tiny.language_model(kind, adapters=3)
    lm.model.double()
    return lm


@cache
def one_by_one(kind: str, mix: str = "hidden") -> list[list[str]]:
    """[W][B], by transformers' generate()."""
    ensemble = EnsembleLM(double(kind), ADAPTERS, mix=mix)
    return [ensemble.reply(PROMPTS, weights=w) for w in GRID]


def transposed(replies):
    return [list(column) for column in zip(*replies, strict=True)]


@kinds
@pytest.mark.parametrize("mix", ["hidden", "probabilities"])
@pytest.mark.parametrize("engine", [nullcontext, tiny.peft_batches])
def test_replies_are_those_of_one_by_one(kind, mix, engine):
    expected = one_by_one(kind, mix)
    with engine():
        tree = PrefixTree(double(kind), ADAPTERS, PROMPTS, mix=mix)
        assert transposed(tree.replies(GRID)) == expected
    assert len({reply for row in tree.replies(GRID) for reply in row}) > len(PROMPTS)  # else it would say nothing


@kinds
def test_every_distinct_prefix_is_read_once(kind):
    lm = double(kind)
    tree = PrefixTree(lm, ADAPTERS, PROMPTS)
    leaves = tree.leaves(GRID)
    whole = {(int(tree.prompt_of(np.array([leaf]))[0]), tuple(tree.tokens(leaf))) for leaf in np.unique(leaves)}
    read = {(prompt, tokens[:i]) for prompt, tokens in whole for i in range(1, len(tokens))}
    assert tree.rows_read == len(read)
    prompt_rows = len(PROMPTS) if lm.seq2seq else int(lm.encode(PROMPTS).mask.sum())
    assert tree.readers.all[0].model.cache.used - 1 == tree.peak_rows == len(read) + prompt_rows
    assert tree.passes <= lm.config.max_new_tokens * -(-len(read) // 32)
    before = tree.passes
    tree.leaves([[2 * x for x in w] for w in GRID])  # the same directions
    assert tree.passes == before


@kinds
@pytest.mark.parametrize(("fewest", "most"), [(1, 1), (3, 10**6)])
def test_replies_do_not_depend_on_the_size_of_passes(kind, fewest, most, monkeypatch):
    monkeypatch.setattr(prefix_tree, "PASS_ROWS", fewest)
    monkeypatch.setattr(prefix_tree, "MOST_PASS_ROWS", most)
    tree = PrefixTree(double(kind), ADAPTERS, PROMPTS)
    assert transposed(tree.replies(GRID)) == one_by_one(kind, "hidden")
    assert tree.passes > tree.rows_read if most == 1 else tree.passes < tree.rows_read / 2


@kinds
def test_points_asked_for_later_share_what_is_known(kind):
    together = PrefixTree(double(kind), ADAPTERS, PROMPTS)
    together.leaves(GRID)
    level_by_level = PrefixTree(double(kind), ADAPTERS, PROMPTS)
    parts = [level_by_level.replies(GRID[i : i + 7]) for i in range(0, len(GRID), 7)]
    assert [[reply for part in rows for reply in part] for rows in zip(*parts, strict=True)] == transposed(one_by_one(kind))
    assert level_by_level.rows_read == together.rows_read


@kinds
@pytest.mark.parametrize("rows", [17, 30, 60])
def test_a_row_cap_splits_the_work(kind, rows):
    tree = PrefixTree(double(kind), ADAPTERS, PROMPTS, max_rows=rows)
    assert transposed(tree.replies(GRID)) == one_by_one(kind)
    assert tree.peak_rows <= rows
    free = PrefixTree(double(kind), ADAPTERS, PROMPTS)
    free.leaves(GRID)
    assert tree.rows_read == free.rows_read and tree.rows_read_again > 0 and free.rows_read_again == 0
    assert tree.readers.all[0].model.cache.capacity <= rows + 1
    assert len(tree.readers.all[0].model._encoded) == (len(PROMPTS) if kind == "t5" else 0)


@tiny.kinds("llama", "gpt2")
@pytest.mark.parametrize("max_rows", [None, 12])
@pytest.mark.slow
def test_prompts_of_one_token(kind, max_rows):
    lm = tiny.language_model(kind, adapters=3, template="{prompt}")
    lm.model.double()
    for prompts in (["w1"], ["w1", "w2", "w3"], ["w1", "w2 w3 w4"]):
        tree = PrefixTree(lm, ADAPTERS, prompts, max_rows=max_rows)
        ensemble = EnsembleLM(lm, ADAPTERS)
        assert transposed(tree.replies(GRID)) == [ensemble.reply(prompts, weights=w) for w in GRID]


@kinds
def test_a_head_wider_than_the_tokenizer(kind):
    """As of models whose embedding is padded: ids above the tokenizer's must not be taken for another prefix's."""
    lm = double(kind)
    leaves = PrefixTree(lm, ADAPTERS, PROMPTS).leaves(GRID)

    class Short:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __len__(self):
            return 40

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def __call__(self, *args, **kwargs):
            return self.tokenizer(*args, **kwargs)

    short = type(lm)(lm.model, Short(lm.tokenizer), lm.config)
    tree = PrefixTree(short, ADAPTERS, PROMPTS)
    again = tree.leaves(GRID)
    assert np.array_equal(again, leaves)
    assert np.array_equal(tree.prompt_of(again), np.repeat(np.arange(len(PROMPTS))[:, None], len(GRID), 1))


def test_half_precision_differs_only_near_ties():
    lm = tiny.language_model("llama", adapters=3)
    lm.model.to(torch.bfloat16)
    tree, prompts = PrefixTree(lm, ADAPTERS, PROMPTS), lm.encode(PROMPTS)
    leaves = tree.leaves(GRID)
    for at, w in enumerate(GRID):
        ensemble = EnsembleLM(lm, ADAPTERS, w)
        for row, theirs in enumerate(ensemble.generate(prompts).tolist()):
            ours = tree.tokens(leaves[row, at])
            parting = next((t for t, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
            if parting is None:
                continue
            read = torch.tensor([ours[: parting + 1]])
            logits = ensemble.forward_reply(prompts[[row]], read, torch.ones_like(read))[0][0, parting].float()
            lead = float(logits[theirs[parting]] - logits[ours[parting]])
            # eight bits behind the point: neither word leads by more than the rounding of a few products
            assert abs(lead) < 0.05 * float(logits.abs().max()), (w, row, parting)


def test_a_cap_below_one_reply_is_refused():
    with pytest.raises(UserError, match="max_rows 6: too few for a single reply"):
        PrefixTree(double("llama"), ADAPTERS, PROMPTS, max_rows=6).leaves(GRID)


@kinds
def test_one_hot_weights_are_that_adapter(kind):
    lm = double(kind)
    replies = PrefixTree(lm, ADAPTERS, PROMPTS).replies(torch.eye(3))
    for i, name in enumerate(ADAPTERS):
        lm.use(name)
        assert [row[i] for row in replies] == lm.reply(PROMPTS)


def test_the_model_is_left_as_it_was():
    lm = tiny.language_model("llama", adapters=3)
    lm.use("empathy")
    lm.model.train()
    before = lm.reply(PROMPTS)
    PrefixTree(lm, ADAPTERS, PROMPTS).leaves(GRID)
    assert lm.model.training and lm.reply(PROMPTS) == before
    assert "forward" not in vars(lm.head)


# -- sampling


@kinds
def test_sampling_follows_the_mixture(kind):
    lm = double(kind)
    w, temperature, samples = [0.7, 0.6, 0.1], 1.3, 4000
    tree = PrefixTree(lm, ADAPTERS, PROMPTS[:1], samples=samples, temperature=temperature, max_new_tokens=1, seed=3)
    counts = np.bincount([tree.tokens(leaf)[0] for leaf in tree.leaves(w)[:, 0]], minlength=len(lm.tokenizer))
    logits, _ = EnsembleLM(lm, ADAPTERS, w).forward_reply(
        lm.encode(PROMPTS[:1]), torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1).long()
    )
    expected = (logits[0, 0] / temperature).softmax(-1).numpy()
    assert np.abs(counts / samples - expected).max() < 4 * np.sqrt(0.25 / samples)


def test_positions_are_sampled_independently():
    """Two tokens: the second one's noise is not the first one's."""
    lm, samples = double("llama"), 4000
    tree = PrefixTree(lm, ADAPTERS, PROMPTS[:1], samples=samples, max_new_tokens=2, temperature=3.0)
    seen = [tree.tokens(leaf) for leaf in tree.leaves([0.4, 0.3, 0.3])[:, 0]]
    first = max({tokens[0] for tokens in seen}, key=lambda token: sum(tokens[0] == token for tokens in seen))
    seconds = [tokens[1] for tokens in seen if tokens[0] == first]
    ensemble = EnsembleLM(lm, ADAPTERS, [0.4, 0.3, 0.3])
    given_first = torch.tensor([[first, first]])
    logits, _ = ensemble.forward_reply(lm.encode(PROMPTS[:1]), given_first, torch.ones(1, 2).long())
    expected = (logits[0, 1] / 3.0).softmax(-1).numpy()
    counts = np.bincount(seconds, minlength=len(expected)) / len(seconds)
    assert len(seconds) > 100 and np.abs(counts - expected).max() < 4 * np.sqrt(0.25 / len(seconds))


@pytest.mark.slow
def test_common_random_numbers():
    """A weight vector's samples do not depend on what is decoded beside it; near weights agree more often than their own samples do."""
    lm, options = double("llama"), {"samples": 40, "seed": 5, "temperature": 2.0}
    alone = PrefixTree(lm, ADAPTERS, PROMPTS, **options).replies([0.5, 0.3, 0.2])
    beside = PrefixTree(lm, ADAPTERS, PROMPTS, max_rows=100, **options).replies([[0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [0.5, 0.31, 0.2]])
    assert [row[0] for row in alone] == [row[1] for row in beside]
    near = np.mean([row[1] == row[2] for row in beside])
    own = np.mean([beside[i][1] == beside[i + 1][1] for i in range(39)])
    assert near > 0.8 > own
    assert PrefixTree(lm, ADAPTERS, PROMPTS, **options | {"seed": 6}).replies([0.5, 0.3, 0.2]) != alone


def test_a_larger_weight_is_a_lower_temperature():
    lm, w = double("llama"), [0.5, 0.3, 0.2]
    one = PrefixTree(lm, ADAPTERS, PROMPTS, samples=5, temperature=0.5).replies(w)
    two = PrefixTree(lm, ADAPTERS, PROMPTS, samples=5, temperature=1.0).replies([2 * x for x in w])
    assert one == two


# -- which tokens can win

scores = st.integers(0, 2**32 - 1).map(lambda seed: torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 4, 30)).round(1)))


@settings(max_examples=60, deadline=None)
@given(scores, st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.01))
def test_no_token_that_can_win_is_left_out(z, w):
    counts, tokens, kept = not_dominated(z)
    for row, own in enumerate(np.split(np.arange(len(tokens)), np.cumsum(counts)[:-1])):
        best = (torch.tensor(w).double() @ z[row]).argmax()
        assert int(best) in tokens[own]
        assert np.array_equal(kept[own], z[row][:, tokens[own]].T.numpy())
        assert len(own) < 30 and (np.diff(tokens[own]) > 0).all()


def test_scores_are_mixed_by_their_owners_weights():
    rng, ragged = np.random.default_rng(0), Ragged(3)
    scores, weights = rng.normal(size=(9, 3)).astype(np.float32), rng.normal(size=(4, 3))
    numbers = ragged.append(np.array([2, 3, 1, 3]), np.arange(9), scores)
    owner, entry = ragged.entries(numbers)
    assert np.array_equal(ragged.mixed(entry, owner, weights), (scores * weights[owner]).sum(1))


def test_ragged_lists():
    lists = Ragged(2)
    numbers = lists.append(np.array([2, 1]), np.array([5, 7, 9]), np.arange(6.0).reshape(3, 2))
    more = lists.append(np.array([3]), np.array([1, 2, 3]), np.zeros((3, 2)))
    assert numbers.tolist() == [0, 1] and more.tolist() == [2]
    owner, entry = lists.entries(np.array([2, 0, 2]))
    assert owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 2] and lists.tokens[entry].tolist() == [1, 2, 3, 5, 7, 1, 2, 3]
    assert first_best(np.array([1.0, 3.0, 3.0, 2.0, 2.0]), np.array([0, 0, 0, 1, 1]), 2).tolist() == [1, 3]
    assert [(p.start, p.stop) for p in lists.parts(np.array([0, 1, 2]))] == [(0, 3)]


# -- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "parameters"}, "mix 'parameters'"),
        ({"samples": -1}, "samples -1"),
        ({"samples": 2, "temperature": 0.0}, "temperature 0.0"),
        ({"samples": 2, "mix": "probabilities"}, "mix hidden only"),
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"max_new_tokens": 64}, "max_new_tokens 64: the model reads 64 tokens"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        PrefixTree(double("llama"), ADAPTERS, PROMPTS, **options)


@pytest.mark.parametrize(
    ("w", "message"), [([0, 0, 0], "all zero"), ([1, -1, 1], "negative"), ([1, float("nan"), 1], "NaN"), ([1, 1], "3 numbers")]
)
def test_wrong_weights(w, message):
    with pytest.raises(UserError, match=message):
        PrefixTree(double("llama"), ADAPTERS, PROMPTS).leaves(w)


# -- memory


@tiny.kinds("llama", "t5")
def test_an_estimate_is_an_upper_bound(kind):
    tree = PrefixTree(double(kind), ADAPTERS, PROMPTS)
    expected, prompt_rows = tree.estimate(len(GRID)), tree.readers.all[0].prompt_tokens()
    tree.leaves(GRID)
    assert expected.seconds is None and tree.estimate(1).seconds > 0
    assert tree.rows_read + prompt_rows <= expected.rows and tree.kept_bytes + tree.row_bytes <= expected.bytes
    one = PrefixTree(double(kind), ADAPTERS, PROMPTS, max_new_tokens=4)
    expected = one.estimate(1)
    one.leaves(GRID[0])
    ended = sum(len(one.tokens(leaf)) < 4 for leaf in one.leaves(GRID[0])[:, 0])
    assert one.rows_read + prompt_rows == expected.rows or ended  # of one weight vector no two replies begin alike
    assert f"{one.rows_read:,} prefixes read" in repr(one) and "\n" not in repr(one)


@kinds
def test_memory_bounds_the_cache_rows(kind):
    free = PrefixTree(double(kind), ADAPTERS, PROMPTS)
    tree = PrefixTree(double(kind), ADAPTERS, PROMPTS, memory=2 * 40 * free.readers.row_bytes)
    assert transposed(tree.replies(GRID)) == one_by_one(kind)
    assert tree.peak_rows * tree.readers.row_bytes <= tree.memory // 2 and tree.rows_read_again > 0
    with pytest.raises(UserError, match="max_rows 6: too few for a single reply"):
        PrefixTree(double(kind), ADAPTERS, PROMPTS[:1] * 9, memory=13 * free.readers.row_bytes).leaves(GRID)


def test_weights_are_decoded_in_blocks(monkeypatch):
    whole = PrefixTree(double("llama"), ADAPTERS, PROMPTS)
    expected = whole.replies(GRID)
    monkeypatch.setattr(sizes, "BLOCK", 7 * len(PROMPTS) * PAIR_BYTES)
    tree, asked = PrefixTree(double("llama"), ADAPTERS, PROMPTS), []
    run = tree.run
    monkeypatch.setattr(tree, "run", lambda pairs, *rest: (asked.append(len(pairs)), run(pairs, *rest)))
    assert tree.replies(GRID) == expected and tree.rows_read == whole.rows_read and tree.rows_read_again == 0
    assert max(asked) == 7 * len(PROMPTS) and sum(asked) == len(GRID) * len(PROMPTS)


# -- rounding


@kinds
@pytest.mark.parametrize("mix", ["hidden", "probabilities"])
def test_leads_are_known_wherever_they_are_below_rounding(kind, mix):
    """Against the logits of all words: the second best word is among the candidates wherever it is near, dominated or not."""
    lm = double(kind)
    tree = PrefixTree(lm, ADAPTERS, PROMPTS, mix=mix)
    tree.readers.all[0].rounding = Rounding(0.03, 1.0)  # as of a number type of five bits
    leaves, w = tree.leaves(GRID), np.array(GRID)
    near = decisions = 0
    for row, line in enumerate(leaves):
        for leaf, weights in zip(line.tolist(), w, strict=True):
            reply = tree.tokens(leaf)
            each = []
            for name in ADAPTERS:
                lm.use(name)
                each.append(
                    lm.forward_reply(lm.encode(PROMPTS[row : row + 1]), torch.tensor([reply]), torch.ones(1, len(reply)).long())[0][0]
                )
            z = torch.stack(each).detach()  # [N, T, V]
            room = 0.03 * (z.std(-1) + z.amax(-1).abs()).amax(0)
            if mix == "probabilities":
                z = z.softmax(-1)
                room = room * z.amax((0, 2))
            best = torch.einsum("n,ntv->tv", torch.from_numpy(weights), z).topk(2).values
            near += int((best[:, 0] - best[:, 1] < room * weights.sum()).sum())
            decisions += len(reply)
    ties = tree.near_ties(GRID)
    assert (ties.decisions, ties.near) == (decisions, near) and 0 < near < decisions


def test_rounding_is_by_the_spread_of_the_words():
    logits = 1000 + torch.randn(5, 3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = (0.5 * (2 * logits.std(-1) + logits.amax(-1))).amax(1)
    assert Rounding(0.5, 2.0).of(logits).numpy() == pytest.approx(expected.numpy(), rel=1e-6)
    assert (Rounding(0.5, 2.0).of(logits[..., :1]) > 0).all()  # one word has no spread


def test_near_ties_of_common_random_numbers():
    """Every sample has decisions of its own; colder replies hang on rounding less often."""
    shares = []
    for temperature in (0.2, 5.0):
        tree = PrefixTree(double("llama"), ADAPTERS, PROMPTS, samples=2, temperature=temperature)
        tree.readers.all[0].rounding = Rounding(0.03, 1.0)
        ties = tree.near_ties([[0.2, 0.3, 0.5]])
        assert ties.decisions == sum(len(tree.tokens(leaf)) for leaf in tree.leaves([0.2, 0.3, 0.5]).flatten())
        shares.append(ties.share)
    assert shares[1] < shares[0]  # what the noise decides, rounding does not


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@tiny.kinds("llama", "gpt2", "qwen2", "gemma")
def test_the_bound_on_rounding_holds(kind, dtype):
    """Of most leads, against double precision, even of random models, which round worse than trained ones; and it says something."""
    lm = tiny.language_model(kind, adapters=1)
    lm.use(ADAPTERS[0])
    prompts = [f"w{i} w{(7 * i) % 50} w{(3 * i) % 50}" for i in range(24)]
    reply = torch.tensor([[(5 * i + 11 * t) % 59 + 5 for t in range(8)] for i in range(24)])

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return lm.forward_reply(lm.encode(prompts), reply, torch.ones_like(reply))[0].double()

    lm.model.double()
    exact = logits()
    two = exact.topk(2).indices
    lm.model.to(dtype)
    ours = logits()
    error = (ours.gather(2, two).diff() - exact.gather(2, two).diff())[..., 0].abs()
    share = error / rounding(lm).of(ours.flatten(0, 1)[:, None]).reshape(error.shape)
    assert (share < 1).double().mean() > 0.7 and share.median() > 0.05


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 4), (-2.3, 6), (-1000, 1000)])
def test_far_along_a_line_the_words_near_the_highest_scores_stay(low, high, dtype):
    """Of words whose scores at the ends tell nothing: all that come within rounding of the highest somewhere, and few others."""
    rays = np.array([[1 - low, low], [1 - high, high]])
    t = np.concatenate([np.linspace(low, high, 2001), np.linspace(max(low, -4), min(high, 4), 20_001)])
    z = torch.tensor(np.random.default_rng(0).normal(size=(3, 2, 1000)) * 5).to(dtype)
    half = dtype.itemsize == 2
    room = torch.full((3,), 20 * torch.finfo(dtype).eps) if half else torch.tensor([0.0, 1e-6, 1e-5])
    slack = room * np.abs(rays).sum(1).max()
    counts, tokens, scores = not_dominated(z, slack, rays)
    starts = counts.cumsum()[:-1]
    for r, (words, own) in enumerate(zip(np.split(tokens, starts), np.split(scores, starts), strict=True)):
        of_all = z[r].double().numpy()
        assert np.array_equal(own, of_all.T[words])
        mixed = np.stack([1 - t, t], 1) @ of_all
        assert set(mixed.argmax(1)) <= set(words.tolist())
        near = (mixed >= mixed.max(1, keepdims=True) - float(slack[r])).any(0)
        assert half or (set(np.flatnonzero(near)) <= set(words.tolist()) and len(words) <= max(1.1 * near.sum(), prefix_tree.MANY_WORDS))


def test_missing_adapters_and_prompts():
    with pytest.raises(UserError, match="'warmth' is not loaded"):
        PrefixTree(double("llama"), ["empathy", "warmth"], PROMPTS)
    for adapters in (["empathy"], ["empathy", "empathy"]):
        with pytest.raises(UserError, match="at least 2 different ones"):
            PrefixTree(double("llama"), adapters, PROMPTS)
    with pytest.raises(UserError, match="no prompts"):
        PrefixTree(double("llama"), ADAPTERS, [])


def test_models_that_forget_are_refused(monkeypatch):
    lm = tiny.language_model("llama", adapters=3)
    monkeypatch.setattr(lm.base.config, "layer_types", ["full_attention", "sliding_attention"], raising=False)
    monkeypatch.setattr(lm.base.config, "sliding_window", 4, raising=False)
    with pytest.raises(UserError, match=r"keep no tokens|look back on|cannot answer"):
        PrefixTree(lm, ADAPTERS, PROMPTS)
