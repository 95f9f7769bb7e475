"""Whatever is mixed linearly has an exact map: each kind of corners against a plain decoder of whole texts, one weight vector at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from tiny import PROMPTS, WORDS
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Gemma2Config, Gemma2ForCausalLM, GenerationConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from emorl_lite.base.domains import box_domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE
from emorl_lite.base.presets import ModelConfig
from emorl_lite.ensemble import corners as makers
from emorl_lite.ensemble.corners import Corners, Source
from emorl_lite.ensemble.prefix_tree import PrefixTree, _near_highest, not_dominated
from emorl_lite.exact.checking import check_replies
from emorl_lite.exact.exact_map import ExactMap, check_map, exact_map
from emorl_lite.lm.model import LanguageModel

POINTS = 1000
LIMIT = 8
ASKED = "w50 {prompt} w51"
"""An instruction."""
SETTINGS = ["{prompt}", ASKED, "{prompt} w52", "w53 w54 {prompt}", "w55 {prompt}", "w56 w57 {prompt} w58"]


MANY = [("llama", n) for n in (4, 5, 6)]


# -- models


@cache
def model(kind: str, seed: int = 0) -> LanguageModel:
    """A random tiny model with three random adapters, in double precision."""
    lm = tiny.language_model(kind, adapters=3, seed=seed)
    lm.model.double()
    return lm


@cache
def small(kind: str) -> LanguageModel:
    """One of the same tokenizer and another size."""
    network = tiny.network(kind, seed=5)
    sizes = {
        "llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1},
        "gpt2": {"n_embd": 16, "n_layer": 1},
        "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_decoder_layers": 1},
    }[kind]
    for name, value in sizes.items():
        setattr(network.config, name, value)
    torch.manual_seed(5)
    whole = type(network)(network.config).eval().double()
    lm = LanguageModel(whole, model(kind).tokenizer, model(kind).config)
    assert lm.width == 16
    return lm


# -- the plain decoder


Score = Callable[[np.ndarray], np.ndarray]
"""Weights [d], or the knobs' values [k], as the user gives them -> factors [N] of the sources' scores."""


MIXED = {"probabilities": lambda z: z.softmax(-1), "harmonic": lambda z: -1 / z.softmax(-1)}
"""What of a source's logits is added up; of a harmonic mean, what its reciprocal is a sum of."""


@dataclass
class Plain:
    """Greedy decoding as anyone would write it: the whole text through the model for every word, scores mixed in double precision.

    Nothing of the package's but tokenizers and templates. What a model said of a text is kept, so that it is asked once.
    """

    sources: Sequence[tuple[LanguageModel, str | None, str]]
    limit: int = LIMIT
    mix: str = "logits"
    experts: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()
    """(A [r, width], B [V, r]) of each expert on the head."""
    noise: Callable[[str, int], np.ndarray] | None = None
    """Of a prompt and a position, [V]."""
    known: dict[tuple[int, str, tuple[int, ...]], np.ndarray] = field(default_factory=dict)

    def reply(self, prompt: str, factors: np.ndarray) -> str:
        """The reply when the sources' scores have these factors [N]."""
        lm, tokens = self.sources[0][0], []
        while len(tokens) < self.limit and not (tokens and tokens[-1] in lm.end_ids):
            z = np.concatenate([self.scores(i, prompt, tuple(tokens)) for i in range(len(self.sources))])
            mixed = factors @ z
            if self.noise is not None:
                mixed = mixed + self.noise(prompt, len(tokens))
            tokens.append(int(mixed.argmax()))
        return lm.decode(torch.tensor([tokens]))[0]

    def scores(self, i: int, prompt: str, tokens: tuple[int, ...]) -> np.ndarray:
        """What a source says of the next word, [1 or E, V]."""
        if (i, prompt, tokens) not in self.known:
            lm, adapter, template = self.sources[i]
            z, h = heard(lm, adapter, template.replace("{prompt}", prompt), tokens)
            if self.experts:
                z = torch.stack([z[0] + B @ (A @ h) for A, B in self.experts])
            self.known[i, prompt, tokens] = MIXED.get(self.mix, lambda z: z)(z).numpy()
        return self.known[i, prompt, tokens]


@cache
def alone(lm: LanguageModel, adapter: str | None) -> PreTrainedModel:
    """A model of `transformers` with nothing beside it: one adapter is added to its weights, or none."""
    if not lm.adapters:
        return lm.base
    whole = copy.deepcopy(lm.model)
    return (whole.unload() if adapter is None else whole.merge_and_unload(adapter_names=[adapter])).eval()


@cache
@torch.no_grad()
def heard(lm: LanguageModel, adapter: str | None, text: str, tokens: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model says of the next word, [1, V], and the state that enters its head [width]: one pass over the whole text."""
    ids = torch.tensor(lm.prompt_ids([text]))
    if lm.seq2seq:
        read = {"input_ids": ids, "decoder_input_ids": torch.tensor([[0, *tokens]])}
    else:
        read = {"input_ids": torch.cat([ids, torch.tensor([tokens], dtype=torch.long)], 1)}
    network, entered = alone(lm, adapter), []
    hook = network.get_output_embeddings().register_forward_pre_hook(lambda head, given: entered.append(given[0]))
    z = network(**read, use_cache=False).logits[0, -1:]
    hook.remove()
    return z, entered[0][0, -1]


def same(corners: Corners, plain: Plain, factors: Score, prompts: Sequence[str] = PROMPTS[:2], **options) -> ExactMap:
    """The map says what plain decoding says, at random points and at the deepest point of every region."""
    tree = PrefixTree.of(corners, prompts, max_new_tokens=plain.limit, **options)
    found = exact_map(tree)
    check_map(found, thorough=True)
    assert len(found.regions) > len(prompts), "a map without borders proves nothing"
    domain = corners.domain
    w = domain.random(POINTS, np.random.default_rng(0))
    values = domain.values(w)
    looked_up, margins = found.replies(values), found.margins(values)
    for row, prompt in enumerate(prompts):
        said = [plain.reply(prompt, factors(x)) for x in values]
        differ = [i for i, (a, b) in enumerate(zip(said, looked_up[row], strict=True)) if a != b]
        assert all(margins[i, row] < 1e-6 for i in differ) and len(differ) < 3, (prompt, values[differ[:3]])

    def decode(texts: Sequence[str], at: np.ndarray, samples: object = None) -> list[str]:
        return [plain.reply(text, factors(x)) for text, x in zip(texts, domain.values(at), strict=True)]

    agreement = check_replies(found, decode)
    assert agreement.points == len(found.regions)
    assert agreement.near <= (0.02 * agreement.points if corners.mix == "harmonic" else 0)  # reciprocals make slivers
    return found


def as_it_is(w: np.ndarray) -> np.ndarray:
    return w


def on_line(t: np.ndarray) -> np.ndarray:
    """z_1 + t (z_2 - z_1)."""
    return np.array([1 - t[0], t[0]])


# -- each kind of corners


@tiny.kinds()
@pytest.mark.parametrize("mix", ["hidden", "logits", "probabilities", "harmonic"])
def test_adapters(kind, mix):
    """EMORL, MOD with its product, the mean of probabilities, and MOD with its harmonic mean."""
    lm = model(kind)
    plain = Plain([(lm, name, "{prompt}") for name in tiny.ADAPTERS], mix=mix)
    same(makers.adapter_corners(lm, tiny.ADAPTERS, mix), plain, as_it_is)


def test_the_harmonic_mean_of_sources_that_disagree_by_many_magnitudes():
    """Its scores are cut off where no weight of a piece's resolution can tell: the word that wins is the same, and none is too large."""
    logits = 15 * torch.randn(50, 3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = makers.of_harmonic_mean(logits)
    logp = logits.log_softmax(-1)
    assert (logp.amax(-1) - logp.amin(-1)).min() > 40, "probabilities of one source that differ by less prove little"
    assert scores.isfinite().all() and scores.min() >= -1.001 / TOLERANCE
    kept = not_dominated(scores[:, :2], 0.0)[1]
    for row in range(50):  # also of two sources, where many words are thinned out
        ends = scores[row, :2].T.numpy()
        assert np.array_equal(_near_highest(ends, 0.0), np.ones(64, dtype=bool)) and len(kept) < 50 * 64
    w = torch.distributions.Dirichlet(torch.full((3,), 0.3, dtype=torch.float64)).sample((1000,)).clamp(min=1e-7)
    w /= w.sum(1, keepdim=True)
    by_hand = (-torch.logsumexp(w.log()[:, None, :, None] - logp, 2)).argmax(-1)  # MOD's f_value
    assert torch.equal(torch.einsum("ni,riv->nrv", w, scores).argmax(-1), by_hand)


@tiny.kinds()
def test_dera(kind):
    """From the base (0) through an adapter (1) to four times as far: the base's weight goes down to -3."""
    lm = model(kind)
    corners = makers.line(Source(lm), Source(lm, "empathy"), 0.0, 4.0)
    found = same(corners, Plain([(lm, None, "{prompt}"), (lm, "empathy", "{prompt}")]), on_line, PROMPTS)
    assert found.corners == ["base", "empathy"] and found.domain.columns == ["strength"]
    assert min(region.piece.vertices.min() for region in found.regions) == -3


@tiny.kinds()
def test_experts_on_the_head_take_one_pass_a_word(kind):
    """CLP's logit variant: the hidden state does not depend on the weights."""
    lm, torch_random = model(kind), torch.Generator().manual_seed(3)
    experts = [
        (0.3 * torch.randn(4, lm.width, generator=torch_random).double(), 0.3 * torch.randn(len(WORDS), 4, generator=torch_random).double())
        for _ in range(3)
    ]

    def head(hidden: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return torch.stack([logits + hidden @ A.T @ B.T for A, B in experts], 1)

    source = Source(lm, "fluency", experts=head, outputs=3)
    plain = Plain([(lm, "fluency", "{prompt}")], experts=experts)
    found = same(makers.expert_corners(source, ["a", "b", "c"]), plain, as_it_is)
    assert found.rows_read <= len(plain.known)


@tiny.kinds()
@pytest.mark.parametrize("adapter", [None, "reflection"])
def test_guidance(kind, adapter):
    lm = model(kind)
    plain = Plain([(lm, adapter, "{prompt}"), (lm, adapter, ASKED)])
    same(makers.guidance(lm, ASKED, 0.0, 4.0, adapter), plain, on_line)


@tiny.kinds("llama", "gpt2")
def test_guidance_is_that_of_transformers(kind):
    """generate(guidance_scale=...) with the prompt without its instruction as the negative one, at each region's deepest point."""
    lm = model(kind)
    found = exact_map(PrefixTree.of(makers.guidance(lm, ASKED, 0.0, 3.0), PROMPTS[:2], max_new_tokens=LIMIT))

    def generated(prompts: Sequence[str], weights: np.ndarray) -> list[str]:
        said = []
        for prompt, t in zip(prompts, found.domain.values(weights)[:, 0].tolist(), strict=True):
            ids, negative = (torch.tensor(lm.prompt_ids([text.replace("{prompt}", prompt)])) for text in (ASKED, "{prompt}"))
            with lm.without_adapters():
                out = lm.base.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    negative_prompt_ids=negative,
                    negative_prompt_attention_mask=torch.ones_like(negative),
                    guidance_scale=t,
                    generation_config=GenerationConfig(max_new_tokens=LIMIT, eos_token_id=lm.end_ids, pad_token_id=0),
                )
            said += lm.decode(out[:, ids.shape[1] :])
        return said

    agreement = check_replies(found, generated)
    assert agreement.points == len(found.regions) > 20 and agreement.near == 0


@tiny.kinds()
def test_a_strong_model_against_a_weak_one(kind):
    strong, weak = model(kind), small(kind)
    corners = makers.contrast(Source(strong, "empathy"), Source(weak), high=2.0)
    plain = Plain([(strong, "empathy", "{prompt}"), (weak, None, "{prompt}")])
    found = same(corners, plain, lambda t: np.array([1 + t[0], -t[0]]))
    assert found.domain.columns == ["beta"]


@pytest.mark.parametrize(
    ("kind", "n"), [("llama", 2), ("llama", 3), *(pytest.param(*c, marks=pytest.mark.slow) for c in [("gpt2", 3), ("t5", 3), *MANY])]
)
def test_two_to_six_prompts(kind, n):
    lm = model(kind)
    settings = SETTINGS[:n]
    corners = makers.simplex_corners([Source(lm, "empathy", text) for text in settings], [f"p{i}" for i in range(n)])
    plain = Plain([(lm, "empathy", text) for text in settings], limit=LIMIT if n < 4 else 4)
    same(corners, plain, as_it_is, PROMPTS[: 2 if n < 4 else 1])


@tiny.kinds()
def test_two_whole_models(kind):
    """Of another size, the one with an adapter: no pass is shared, and each has a cache of its own."""
    one, other = model(kind), small(kind)
    corners = makers.simplex_corners([Source(one, "fluency"), Source(other)], ["one", "other"])
    same(corners, Plain([(one, "fluency", "{prompt}"), (other, None, "{prompt}")]), as_it_is)


@pytest.mark.slow
def test_models_of_two_families_and_adapters_of_each():
    """Whatever has the same words: a Llama with two adapters, a GPT-2, and an instruction to it."""
    one, other = model("llama"), model("gpt2")
    of = [(one, "empathy", "{prompt}"), (other, "fluency", ASKED), (one, "fluency", "{prompt}"), (other, None, "{prompt}")]
    corners = makers.simplex_corners([Source(*source) for source in of], list("abcd"))
    same(corners, Plain(of, limit=4), as_it_is)


@tiny.kinds()
def test_a_box_of_two_knobs_cut_by_a_half_space(kind):
    """How much of an adapter, and how much of an instruction, both beyond 1 and below 0, but not both large."""
    lm = model(kind)
    of = [(lm, None, "{prompt}"), (lm, "reflection", "{prompt}"), (lm, None, ASKED)]
    corners = makers.affine(
        [Source(*source) for source in of], ["base", "adapter", "instruction"], ["much", "told"], [-0.5, 0.0], [1.5, 1.5], [(1.0, 1.0, 2.0)]
    )
    found = same(corners, Plain(of), lambda t: np.array([1 - t.sum(), *t]), PROMPTS[1:2])
    t = np.concatenate([region.piece.vertices[:, 1:] for region in found.regions])
    assert t.sum(1).max() == pytest.approx(2) and t[:, 0].min() == -0.5 and found.measure(0) == pytest.approx(1)


@tiny.kinds()
def test_temperature_is_a_corner_of_sampled_replies(kind):
    """The size of the weights is an inverse temperature: (T_low / T) w, and the rest on scores that are all zero."""
    lm, low, high = model(kind), 0.5, 2.0
    corners = makers.with_temperature(makers.adapter_corners(lm, tiny.ADAPTERS[:2], "logits"), low, high)
    plain = Plain([(lm, name, "{prompt}") for name in tiny.ADAPTERS[:2]], noise=noise)
    found = same(corners, plain, lambda w: w[:2] / low, PROMPTS[:2], samples=1, seed=4)
    sizes = np.concatenate([region.piece.vertices for region in found.regions])[:, :2].sum(1)  # T_low / T
    assert sizes.min() == pytest.approx(low / high) and sizes.max() == pytest.approx(1)


def noise(prompt: str, position: int) -> np.ndarray:
    """What the tree's documentation promises: Gumbel noise of seed, prompt, sample and position alone."""
    return np.random.default_rng([4, PROMPTS.index(prompt), 0, position]).gumbel(size=len(WORDS))


@tiny.kinds()
def test_sampled_replies_of_knobs_beyond_the_simplex(kind):
    lm = model(kind)
    corners = makers.line(Source(lm), Source(lm, "empathy"), -1.0, 2.0)
    same(corners, Plain([(lm, None, "{prompt}"), (lm, "empathy", "{prompt}")], noise=noise), on_line, samples=1, seed=4)


# -- rounding


@pytest.mark.parametrize(
    ("make", "factors"),
    [
        (lambda lm: makers.line(Source(lm), Source(lm, "empathy"), 0, 4), lambda w: w),
        (lambda lm: makers.contrast(Source(lm, "empathy"), Source(lm), 2.0), lambda w: np.array([w[0] + 2 * w[1], -w[1]])),
    ],
    ids=["line", "contrast"],
)
def test_rounding_grows_with_the_factors_of_the_sources_and_not_with_their_sum(make, factors):
    """At -3 and 4 it is seven times that of one source: there, near ties are as many more."""
    tree = PrefixTree.of(make(plain_model()), PROMPTS, max_new_tokens=4)
    vertices = tree.domain.piece.vertices
    tree.leaves(tree.domain.values(vertices))
    node = next(i for i in range(len(tree._candidate_list)) if tree._candidate_list[i] >= 0 and len(tree.candidates(i)[0]) > 2)
    tokens, scores = tree.candidates(node)
    for w in [*vertices, vertices.mean(0)]:
        values = scores @ w
        order = np.argsort(values)
        lead = tree.leads(np.array([node]), tokens[order[-1:]], w[None])[0]
        room = float(tree._rounding[node]) * np.abs(factors(w)).sum()
        assert lead == pytest.approx((values[order[-1]] - values[order[-2]]) / room, rel=1e-5)
    assert max(np.abs(factors(w)).sum() for w in vertices) > 4 > 1 == pytest.approx(min(np.abs(factors(w)).sum() for w in vertices))


def test_single_precision_is_told_where_a_knob_goes_far():
    """Twice the same word, in a head's rows: the second never wins, and the first never leads by anything."""
    lm = tiny.language_model("llama", adapters=1)
    corners = makers.line(Source(lm), Source(lm, "reflection"), 0, 4)
    words = [lm.tokenizer(region.reply).input_ids for region in exact_map(PrefixTree.of(corners, PROMPTS)).regions]
    twin = len(WORDS) - 1
    token = max((t for t in {t for line in words for t in line} if 5 <= t < twin), key=lambda t: sum(line.count(t) for line in words))
    with torch.no_grad():
        table = lm.base.get_input_embeddings().weight
        table[twin] = table[token]
    found = exact_map(PrefixTree.of(corners, PROMPTS))
    pair = {WORDS[token], WORDS[twin]}
    risky = [bool(pair & set(region.reply.split())) for region in found.regions]
    assert 0 < sum(risky) < len(risky) and all(region.lead < 1 for region, twice in zip(found.regions, risky, strict=True) if twice)
    assert (
        found.ties.near > 0
        and found.at_risk >= sum(r.piece.measure for r, twice in zip(found.regions, risky, strict=True) if twice) / 4 - 1e-9
    )


# -- what cannot be mixed


@cache
def plain_model() -> LanguageModel:
    return tiny.language_model("llama", adapters=2)


def other_model(words: Sequence[str] = WORDS, rows: int = 0, ends: Sequence[int] = (), path: str = "other") -> LanguageModel:
    """A Llama of these words, its head of so many rows, its replies ended by these words too."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk", "sep")}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, padding_side="left", model_input_names=["input_ids", "attention_mask"], **marks
    )
    config = copy.deepcopy(tiny.network("llama").config)
    config.vocab_size = rows or len(words)
    torch.manual_seed(3)
    options = {"template": "<bos> {prompt} <sep>", "max_prompt_tokens": 24, "max_new_tokens": 8}
    lm = LanguageModel(LlamaForCausalLM(config).eval(), tokenizer, ModelConfig(path=path, **options))
    lm.end_ids = [*lm.end_ids, *ends]
    return lm


def beside(**options) -> Corners:
    """A model of other words, or another head, beside the usual one."""
    return makers.line(Source(plain_model()), Source(other_model(**options)), 0, 1, ["usual", "other"])


def box(low=(0, 0), high=(1, 1), knobs=("s", "t"), **options) -> Corners:
    lm = plain_model()
    sources = [Source(lm), Source(lm, "reflection"), Source(lm, "empathy")]
    return makers.affine(sources, ["base", "reflection", "empathy"], list(knobs), low, high, **options)


def two(**options) -> Corners:
    return makers.simplex_corners([Source(plain_model(), "reflection"), Source(plain_model(), "empathy")], ["a", "b"], **options)


def usual(adapter: str | None = None, template: str = "{prompt}", **options) -> Source:
    return Source(plain_model(), adapter, template, **options)


def nothing_finite(hidden: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.stack([logits, logits * float("nan")], 1)


NAN = float("nan")
WRONG = {
    "a word that differs": (lambda: beside(words=[*WORDS[:-1], "zz"]), r"tiny-llama and other: their vocabularies differ.* word 63"),
    "two words exchanged": (lambda: beside(words=[*WORDS[:-2], WORDS[-1], WORDS[-2]]), "vocabularies differ, the first time at word 62"),
    "fewer words": (lambda: beside(words=WORDS[:-5]), "vocabularies differ, the first time at word 59"),
    "a head narrower than its tokenizer": (lambda: beside(rows=57), "other: scores 57 words, and the tokenizer has 64"),
    "other ends": (lambda: beside(ends=[7]), "they end their replies with different words"),
    "a range the wrong way round": (lambda: makers.line(usual(), usual("empathy"), 4, 0), "strength: the range 4 to 0"),
    "a range of nothing": (lambda: makers.line(usual(), usual("empathy"), 1, 1), "strength: the range 1 to 1"),
    "a range without end": (lambda: makers.line(usual(), usual("empathy"), 0, float("inf")), "the range 0 to inf"),
    "a range of no number": (lambda: makers.line(usual(), usual("empathy"), 0, NAN), "the range 0 to nan"),
    "a range of a text": (lambda: makers.line(usual(), usual("empathy"), "low", 1), "the range of strength: expected numbers"),
    "a range beyond rounding": (lambda: makers.line(usual(), usual("empathy"), 0, 1e9), "expected -1,000 to 1,000 at most"),
    "half-spaces that leave nothing": (lambda: box(limits=[(1, 1, -1)]), "nothing of the box of s, t is left"),
    "half-spaces that leave a point": (lambda: box(limits=[(1, 1, 0)]), "nothing of the box of s, t is left"),
    "a half-space of no number": (lambda: box(limits=[(1, NAN, 1)]), "limits: expected rows of 3 finite numbers"),
    "a half-space of too few numbers": (lambda: box(limits=[(1, 1)]), "limits: expected rows of 3 finite numbers"),
    "too few knobs": (lambda: box(knobs=["s"]), "3 corners have 2 knobs"),
    "a knob twice": (lambda: box(knobs=["s", "s"]), "knobs: expected different names"),
    "a combination of too many sources": (lambda: box(combination=np.eye(4)), "expected 3 rows of 3 finite numbers"),
    "a combination of no numbers": (lambda: box(combination=[["x"]]), "corners' combination: expected numbers"),
    "a source twice": (
        lambda: makers.simplex_corners([usual("empathy"), usual("empathy")], ["a", "b"]),
        "empathy of tiny-llama is there twice",
    ),
    "the base against itself": (lambda: makers.line(usual(), usual(), 0, 4, ["a", "b"]), "base of tiny-llama is there twice"),
    "an instruction that is none": (lambda: makers.guidance(plain_model(), "{prompt}"), "base of tiny-llama is there twice"),
    "a name twice": (lambda: makers.simplex_corners([usual("empathy"), usual()], ["a", "a"]), "expected different names, got a, a"),
    "too few names": (lambda: makers.simplex_corners([usual("empathy"), usual()], ["a", "b", "c"]), "expected 3 rows of 2 finite numbers"),
    "seven corners": (
        lambda: makers.simplex_corners([usual(None, f"w{i} {{prompt}}") for i in range(7)], list("abcdefg")),
        "2 to 6 can be mixed, got 7",
    ),
    "one corner": (lambda: makers.simplex_corners([usual()], ["a"]), "2 to 6 can be mixed, got 1"),
    "an unknown adapter": (lambda: makers.line(usual(), usual("nobody"), 0, 1), "adapter 'nobody' is not loaded"),
    "an instruction without a prompt": (lambda: makers.guidance(plain_model(), "w50"), r"template 'w50': expected \{prompt\} once"),
    "an instruction with two": (lambda: makers.guidance(plain_model(), "{prompt} {prompt}"), r"expected \{prompt\} once"),
    "an instruction that is no text": (lambda: makers.line(usual(), usual(None, 7), 0, 1, ["a", "b"]), "template: expected str, got int"),  # type: ignore[arg-type]
    "no source": (lambda: makers.line(plain_model(), usual(), 0, 1, ["a", "b"]), "expected sources .* got LanguageModel"),  # type: ignore[arg-type]
    "no model": (lambda: makers.line(Source("gpt2"), usual(), 0, 1, ["a", "b"]), "lm: expected LanguageModel, got str"),  # type: ignore[arg-type]
    "an unknown mixture": (lambda: two(mix="states"), "mix 'states': choose hidden"),
    "states of two models": (
        lambda: makers.simplex_corners([usual(), Source(other_model())], ["a", "b"], "hidden"),
        "states of different models have no head in common",
    ),
    "negative shares of probabilities": (lambda: Corners(box().sources, box().domain, np.eye(3), "probabilities"), "no negative weights"),
    "temperatures the wrong way round": (lambda: makers.with_temperature(two(), 2, 1), "temperature: 2 to 1: expected the lower one first"),
    "a temperature of zero": (lambda: makers.with_temperature(two(), 0, 1), "temperature 0: must be positive"),
    "a temperature of probabilities": (lambda: makers.with_temperature(two(mix="probabilities"), 1, 2), "where logits are mixed"),
    "a temperature of a harmonic mean": (lambda: makers.with_temperature(two(mix="harmonic"), 1, 2), "where logits are mixed"),
    "negative shares of a harmonic mean": (lambda: Corners(box().sources, box().domain, np.eye(3), "harmonic"), "no negative weights"),
    "a temperature of a line": (
        lambda: makers.with_temperature(makers.line(usual(), usual("empathy"), 0, 4), 1, 2),
        "a further corner of a simplex",
    ),
    "contrast backwards": (lambda: makers.contrast(usual(), usual("empathy"), -1), "must be positive"),
    "no experts": (lambda: makers.expert_corners(usual(), ["a", "b"]), "2 corners need a source with as many experts on its head"),
    "experts that say nothing": (
        lambda: makers.expert_corners(usual(experts=nothing_finite, outputs=2), ["a", "b"]),
        "experts of base: .* got a NaN or an infinity",
    ),
    "several outputs of nobody": (
        lambda: Corners((usual("empathy", outputs=2),), two().domain, np.eye(2)),
        "2 outputs, but no experts that make them",
    ),
    "no number of experts": (lambda: makers.expert_corners(usual(experts=nothing_finite, outputs=2.5), ["a", "b"]), "outputs 2.5"),
    "experts of another shape": (
        lambda: makers.expert_corners(usual(experts=lambda h, z: z[:, None], outputs=2), ["a", "b"]),
        r"got \[1, 1, 64\]",
    ),
    "an instruction too long": (lambda: makers.guidance(plain_model(), "w1 " * 40 + "{prompt}"), "longer than the model's limit"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_mixed_is_told_in_one_line(wrong):
    make, message = WRONG[wrong]
    with pytest.raises(UserError, match=message) as told:
        exact_map(PrefixTree.of(make(), PROMPTS[:1], max_new_tokens=2))
    assert "\n" not in str(told.value) and len(str(told.value)) < 250


def test_logits_behind_a_cap_are_refused():
    """A cap bends them, so that no mixture of logits is linear in the weights; states are mixed before it."""
    config = Gemma2Config(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, final_logit_softcapping=2.0, max_position_embeddings=64, sliding_window=64, pad_token_id=0,
    )  # fmt: skip
    usual_one = plain_model()
    lm = LanguageModel(Gemma2ForCausalLM(config).eval(), usual_one.tokenizer, ModelConfig(path="capped", template="<bos> {prompt} <sep>"))
    with pytest.raises(UserError, match="capped: caps its logits after the head"):
        PrefixTree.of(makers.guidance(lm, ASKED), PROMPTS, max_new_tokens=4)


def test_knobs_outside_their_domain_are_told_by_name():
    corners = box(limits=[(1, 1, 1.5)])
    tree = PrefixTree.of(corners, PROMPTS[:1], max_new_tokens=2)
    found = exact_map(tree)
    inside = [0.5, 0.25]
    assert found.replies(inside) == tree.replies(inside) == found.replies([0.25, 0.5, 0.25])
    for wrong, message in [
        ([2, 0], "s 2, t 0: outside of the domain, s 0 to 1, t 0 to 1 .and its further limits."),
        ([0.9, 0.9], "s 0.9, t 0.9: outside"),
        ([0.5, NAN], "holds a NaN"),
        ([0.5], "s, t: expected 2 numbers a point, or 3 weights"),
        ([0.1, 0.1, 0.1], "outside of the domain"),
        ("much", "expected numbers"),
    ]:
        for asked in (found.replies, found.margins, tree.replies):
            with pytest.raises(UserError, match=message):
                asked(wrong)


def test_the_widest_range_has_a_map():
    for low, high in (([-1e3, 0.0], [1e3, 1.0]), ([-1e3, -1e3], [1e3, 1e3])):
        found = exact_map(PrefixTree.of(box(low, high), PROMPTS[:1], max_new_tokens=4))
        check_map(found, thorough=True)
        assert len(found.regions) > 3


def test_a_wider_head_of_the_same_words_is_no_other_vocabulary():
    """Heads are padded to rows that no word has: what all sources score is mixed."""
    corners = beside(rows=len(WORDS) + 8)
    assert corners.words == len(WORDS)
    check_map(exact_map(PrefixTree.of(corners, PROMPTS, max_new_tokens=4)), thorough=True)


def test_of_two_models_none_loses_digits_whichever_comes_first():
    fine, coarse = plain_model(), other_model()
    coarse.model.bfloat16()
    of_both = []
    for pair in ([fine, coarse], [coarse, fine]):
        tree = PrefixTree.of(makers.line(*map(Source, pair), 0, 1, ["a", "b"]), PROMPTS[:1], max_new_tokens=1)
        tree.leaves([[0.0], [1.0]])
        of_both.append(tree.candidates(0))
    assert np.array_equal(of_both[0][0], of_both[1][0]) and np.array_equal(of_both[0][1], of_both[1][1][:, ::-1])
    alone = PrefixTree.of(makers.line(Source(fine), Source(fine, "empathy"), 0, 1), PROMPTS[:1], max_new_tokens=1)
    alone.leaves([[0.0], [1.0]])
    same_words = np.isin(of_both[0][0], alone.candidates(0)[0])
    of_fine = dict(zip(alone.candidates(0)[0].tolist(), alone.candidates(0)[1][:, 0].tolist(), strict=True))
    mine = dict(zip(of_both[1][0][same_words].tolist(), of_both[1][1][same_words, 1].tolist(), strict=True))
    assert mine and all(abs(score - of_fine[word]) < 1e-5 for word, score in mine.items())


def test_random_weights_of_a_domain_that_hardly_anything_is_left_of():
    sliver = box_domain(["a", "b", "c"], ["s", "t"], [0, 0], [1, 1], [[1, -1, 1e-7], [-1, 1, 1e-7]])
    w = sliver.random(500, np.random.default_rng(0))
    assert w.shape == (500, 3) and sliver.piece.contains(w).all() and np.ptp(w[:, 1]) > 0.5
    assert sliver.rows(w) is not None
