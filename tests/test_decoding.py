"""Decoding is the package's own whatever a model ships, replies end at any of its end tokens, and what people write is words."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from tiny import ADAPTERS, PROMPTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import cache_root
from emorl_lite.base.presets import ModelConfig, PPOConfig, get_preset
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.lm import decoding
from emorl_lite.lm.model import UNFINISHED, LanguageModel
from emorl_lite.lm.text import Template, Words
from emorl_lite.methods.registry import make_method
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import collect
from emorl_lite.training.warm_start import tokenise_examples

ALL = ["llama", "gpt2", "t5", "qwen2", "gemma"]
kinds = tiny.kinds(*ALL)
SHIPPED = {
    "penalty": {"repetition_penalty": 1.8},
    "n-grams": {"no_repeat_ngram_size": 1},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "lookup": {"prompt_lookup_num_tokens": 2},
    "stop": {"stop_strings": ["w"]},
    "sampling": {"do_sample": True, "temperature": 0.2, "top_k": 1, "top_p": 0.5, "min_p": 0.3},
    "length": {"min_length": 40, "min_new_tokens": 8},
    "forced": {"forced_eos_token_id": 7, "forced_bos_token_id": 8},
    "banned": {"bad_words_ids": [[i] for i in range(5, 30)], "sequence_bias": [[[40], -9.0]]},
    "outputs": {"return_dict_in_generate": True, "output_scores": True},
}


def shipping(kind: str, shipped: dict, adapters: int = 0) -> LanguageModel:
    """A tiny model that ships these entries in its generation config."""
    network = tiny.network(kind)
    for key, value in shipped.items():
        setattr(network.generation_config, key, value)
    plain = tiny.language_model(kind)
    lm = LanguageModel(network, plain.tokenizer, plain.config)
    for i, name in enumerate(ADAPTERS[:adapters]):
        lm.add_adapter(name, seed=i)
    return tiny.with_random_adapters(lm)


@cache
def clean(kind: str) -> tuple[list[str], list[str]]:
    """Greedy and sampled replies of the model that ships nothing."""
    return greedy_and_sampled(tiny.language_model(kind))


def greedy_and_sampled(lm: LanguageModel) -> tuple[list[str], list[str]]:
    torch.manual_seed(3)
    return lm.reply(PROMPTS), lm.reply(PROMPTS, do_sample=True)


# -- what a model ships


@kinds
@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_model_ships_changes_no_reply_and_is_kept(kind, name):
    lm = shipping(kind, SHIPPED[name])
    assert greedy_and_sampled(lm) == clean(kind)
    assert lm.set_aside == SHIPPED[name]


FIELDS = {
    "assistant_early_exit": 1, "bad_words_ids": [[i] for i in range(5, 30)], "cache_implementation": "static", "constraints": [1],
    "custom_generate": "some/where", "diversity_penalty": 0.5, "do_sample": True, "dola_layers": "high", "early_stopping": True,
    "encoder_no_repeat_ngram_size": 1, "encoder_repetition_penalty": 1.8, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1,
    "exponential_decay_length_penalty": (1, 1.5), "force_words_ids": [[7]], "forced_bos_token_id": 8, "forced_eos_token_id": 7,
    "guidance_scale": 1.5, "is_assistant": True, "length_penalty": 2.0, "low_memory": True, "max_time": 1e-4, "min_length": 40,
    "min_new_tokens": 8, "min_p": 0.3, "no_repeat_ngram_size": 1, "num_beam_groups": 2, "num_beams": 3, "num_return_sequences": 2,
    "output_attentions": True, "output_hidden_states": True, "output_logits": True, "output_scores": True, "penalty_alpha": 0.6,
    "prefill_chunk_size": 1, "prompt_lookup_num_tokens": 2, "remove_invalid_values": True, "renormalize_logits": True,
    "repetition_penalty": 1.8, "return_dict_in_generate": True, "sequence_bias": [[[40], -9.0]], "stop_strings": ["w"], "temperature": 0.2,
    "token_healing": True, "top_h": 0.3, "top_k": 1, "top_p": 0.3, "typical_p": 0.5, "use_cache": False, "use_mtp": True,
    "watermarking_config": {"greenlist_ratio": 0.3},
}  # fmt: skip
"""Fields of a generation config, with values that change replies, or stop generate() altogether."""


def all_replies(lm: LanguageModel) -> list[list[str]]:
    """Greedy, sampled, of an ensemble, of a tree, and of a rollout."""
    w = [0.3, 0.7]
    found = [*greedy_and_sampled(lm), EnsembleLM(lm, ADAPTERS[:2], w).reply(PROMPTS)]
    found.append([row[0] for row in PrefixTree(lm, ADAPTERS[:2], PROMPTS).replies(w)])
    lm.use(ADAPTERS[0])
    torch.manual_seed(4)
    return [*found, collect(lm, lm.encode(PROMPTS), 2, 1.0, 64).texts]


@kinds
def test_no_field_set_at_any_place_changes_what_is_replied(kind, capsys):
    """Shipped, in the model's own config, or set after loading: on the base, on peft's wrapper, or there as a config of its own."""

    def shipped(lm, field, value):
        return shipping(kind, {field: value}, adapters=2)

    def on_the_base(lm, field, value):
        setattr(lm.base.generation_config, field, value)

    def on_the_wrapper(lm, field, value):
        lm.model.generation_config = GenerationConfig()
        setattr(lm.model.generation_config, field, value)

    def in_the_config(lm, field, value):
        if field != "output_attentions":  # refused by transformers itself
            setattr(lm.base.config, field, value)

    places = [shipped, on_the_base, on_the_wrapper, in_the_config]
    read = {full: full(tiny.language_model(kind, adapters=2)) for full in (all_replies, greedy_and_sampled)}
    for number, (field, value) in enumerate(FIELDS.items()):
        lm = tiny.language_model(kind, adapters=2)
        place = places[number % len(places)]  # every field at one place, every place with a dozen fields
        lm = place(lm, field, value) or lm
        capsys.readouterr()
        replies = all_replies if number % 9 == 0 else greedy_and_sampled  # what does not decode by generate() reads no such field
        assert replies(lm) == read[replies], (field, place.__name__)
        told = capsys.readouterr().err
        if place is shipped:
            assert lm.set_aside == {field: value}
        if place in (on_the_base, on_the_wrapper):
            assert told.count(f"{field}=") == 1 and "set aside" in told, (field, told)


def test_what_is_set_later_stays_there_and_is_told_once(capsys):
    lm = tiny.language_model("llama", adapters=1)
    lm.base.generation_config.repetition_penalty = 1.8
    lm.base.generation_config.eos_token_id = [2, 9]
    lm.reply(PROMPTS)
    lm.reply(PROMPTS)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tiny-llama: ") and "repetition_penalty=1.8, eos_token_id=[2, 9]" in line
    assert lm.base.generation_config.repetition_penalty == 1.8
    assert lm.reply(PROMPTS, generation_config=GenerationConfig(no_repeat_ngram_size=1)) == lm.reply(PROMPTS, no_repeat_ngram_size=1)


@kinds
def test_ensemble_and_tree_reply_alike_whatever_is_shipped(kind):
    everything = SHIPPED["penalty"] | SHIPPED["n-grams"] | SHIPPED["beams"] | SHIPPED["length"]
    lm = shipping(kind, everything, adapters=2)
    w = [0.3, 0.7]
    theirs = EnsembleLM(lm, ADAPTERS[:2], w).reply(PROMPTS)
    assert theirs == EnsembleLM(tiny.language_model(kind, adapters=2), ADAPTERS[:2], w).reply(PROMPTS)
    assert theirs == [row[0] for row in PrefixTree(lm, ADAPTERS[:2], PROMPTS).replies(w)]


def test_entries_in_the_models_own_config_are_set_aside_too():
    network, plain = tiny.network("llama"), tiny.language_model("llama")
    network.config.repetition_penalty = 1.8
    lm = LanguageModel(network, plain.tokenizer, plain.config)
    assert lm.set_aside == {"repetition_penalty": 1.8}
    assert greedy_and_sampled(lm) == clean("llama")


@kinds
def test_explicit_options_work(kind):
    lm = shipping(kind, SHIPPED["penalty"])
    inputs, greedy = lm.encode(PROMPTS), lm.generate(lm.encode(PROMPTS))
    assert lm.reply(PROMPTS, no_repeat_ngram_size=1) != clean(kind)[0]
    assert torch.equal(lm.generate(inputs, do_sample=True, top_k=1), greedy)
    assert len(lm.generate(inputs, num_beams=3, num_return_sequences=2)) == 2 * len(PROMPTS)
    assert torch.equal(lm.generate(inputs, return_dict_in_generate=True), greedy)
    assert lm.generate(inputs, max_new_tokens=3).shape[1] == 3
    assert lm.reply(PROMPTS) == clean(kind)[0]  # and leave nothing behind


def test_loading_says_what_was_set_aside(tmp_path, capsys):
    shipped = shipping("llama", {})
    shipped.tokenizer.save_pretrained(tmp_path)
    shipped.base.save_pretrained(tmp_path)
    GenerationConfig(do_sample=True, temperature=0.7, repetition_penalty=1.1, eos_token_id=[2, 9], pad_token_id=0).save_pretrained(tmp_path)
    config = replace(shipped.config, path=str(tmp_path), device="cpu")
    lm = LanguageModel.load(config)
    assert capsys.readouterr().out == ""
    assert lm.set_aside == {"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.1}
    assert lm.end_ids == [2, 9]
    LanguageModel.load(config, quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "set aside" in lines[1] and "repetition_penalty=1.1" in lines[1] and "eos" not in lines[1]


def test_the_packages_own_model_ships_nothing(capsys):
    lm = LanguageModel.load(replace(get_preset("tiny").model, device="cpu"), quiet=False)
    assert lm.set_aside == {} and lm.template.split_marks == {} and lm.end_ids == [lm.tokenizer.eos_token_id]
    assert len(capsys.readouterr().out.splitlines()) == 1


# -- where a reply ends


def with_second_end(kind: str, adapters: int = 0, only: bool = False) -> tuple[LanguageModel, int]:
    """A model with a second end token, one that its replies often hold. `only`: the generation config does not name the tokenizer's."""
    plain = tiny.language_model(kind, adapters=adapters)
    plain.model.double()
    if adapters:
        plain.use(ADAPTERS[0])
    tokens = torch.cat([plain.generate(plain.encode(PROMPTS), do_sample=True, num_return_sequences=16)[:, 1:].flatten()])
    end = int(tokens[tokens > 4].mode().values)
    lm = shipping(kind, {"eos_token_id": [end] if only else [2, end]}, adapters)
    lm.model.double()
    return lm, end


@kinds
@pytest.mark.parametrize("only", [False, True])
def test_every_end_token_ends_a_reply_everywhere(kind, only):
    lm, end = with_second_end(kind, adapters=2, only=only)
    word = tiny.WORDS[end]
    assert lm.end_ids == [2, end]
    lm.use(ADAPTERS[0])
    torch.manual_seed(0)
    tokens = lm.generate(lm.encode(PROMPTS), do_sample=True, num_return_sequences=16)
    mask, texts = lm.reply_mask(tokens), lm.decode(tokens)
    assert (tokens == end).any() and (tokens[mask == 0] == lm.tokenizer.pad_token_id).all()
    for row, line, text in zip(tokens.tolist(), mask.tolist(), texts, strict=True):
        first = next((i for i, token in enumerate(row) if token in (2, end)), None)
        assert sum(line) == (len(row) if first is None else first + 1)
        assert text.endswith(UNFINISHED) == (first is None)
        assert word not in text.split()
    ensemble, tree = EnsembleLM(lm, ADAPTERS[:2]), PrefixTree(lm, ADAPTERS[:2], PROMPTS)
    grid = [[0.1, 0.9], [0.5, 0.5], [0.9, 0.1], [1.0, 0.0]]
    replies = tree.replies(grid)
    assert [list(row) for row in zip(*replies, strict=True)] == [ensemble.reply(PROMPTS, w) for w in grid]
    paths = [tree.tokens(int(leaf)) for leaf in np.unique(tree.leaves(grid))]
    assert not any(token in lm.end_ids for path in paths for token in path[:-1])  # nothing is read beyond an end
    assert kind != "llama" or any(path[-1] == end for path in paths)
    lm.use(ADAPTERS[0])
    assert [row[3] for row in replies] == lm.reply(PROMPTS)
    assert word not in " ".join(text for row in replies for text in row).split()


def test_the_exact_map_ends_where_the_ensemble_ends():
    lm, end = with_second_end("llama", adapters=2)
    found = exact_map(PrefixTree(lm, ADAPTERS[:2], PROMPTS))
    grid = [[0.13, 0.87], [0.5, 0.5], [0.87, 0.13]]
    ensemble = EnsembleLM(lm, ADAPTERS[:2])
    assert [list(row) for row in zip(*found.replies(grid), strict=True)] == [ensemble.reply(PROMPTS, w) for w in grid]
    assert tiny.WORDS[end] not in " ".join(region.reply for region in found.regions).split()


@kinds
def test_ppo_stops_at_every_end_and_counts_it_as_finished(kind):
    lm, end = with_second_end(kind)
    lm.model.float()
    config = PPOConfig(episodes=8, batch_size=8, minibatch_size=8, epochs=1)
    trainer = PPOTrainer(lm, "policy", lambda p, r: torch.zeros(len(r)), PROMPTS, config, progress=False)
    torch.manual_seed(0)
    rollout = collect(lm, lm.encode(PROMPTS), 16, 1.0, 64)
    ends = (rollout.tokens == end) & rollout.mask.bool()
    assert ends.any()
    after = ends.cumsum(1) - ends.long() > 0
    assert not rollout.mask[after].any() and not rollout.logp[after].any()
    finished = [not text.endswith(UNFINISHED) for text in rollout.texts]
    assert all(done for done, has_end in zip(finished, ends.any(1).tolist(), strict=True) if has_end)
    assert any(done and 2 not in row for done, row in zip(finished, rollout.tokens.tolist(), strict=True))
    assert trainer._row(rollout, *torch.zeros(2, len(rollout)))["finished"] == pytest.approx(sum(finished) / len(finished))


def test_sampling_goes_no_further_than_an_end(monkeypatch):
    """The rollout's loop drops a reply at its end, whichever it is: no forward pass for the rest."""
    lm, _ = with_second_end("llama")
    monkeypatch.setattr(lm, "is_end", lambda tokens: torch.ones_like(tokens, dtype=torch.bool))
    assert collect(lm, lm.encode(PROMPTS), 4, 1.0, 64).tokens.shape[1] == 1


@kinds
def test_given_replies_end_with_the_tokenizers_own(kind):
    lm, end = with_second_end(kind)
    ids, mask = lm.encode_replies(["w1 w2", "w1" + UNFINISHED])
    assert ids[0].tolist() == [6, 7, 2] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    logp, _ = lm.score_texts(PROMPTS[:1], ["w1 w2"])
    assert torch.allclose(logp, lm.logprobs(lm.encode(PROMPTS[:1]), ids[:1], mask[:1]).float())
    assert end not in ids


def test_a_generation_config_that_is_cut_off_is_told(tmp_path):
    lm = tiny.language_model()
    lm.base.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    config = replace(lm.config, path=str(tmp_path), device="cpu")
    LanguageModel.load(config)
    file = tmp_path / "generation_config.json"
    file.write_text(file.read_text()[:20])
    with pytest.raises(UserError, match=r"generation_config\.json: .*cut off, or no JSON"):
        LanguageModel.load(config)


def test_an_end_that_only_the_generation_config_names_is_enough():
    network, tokenizer = tiny.network("llama"), tiny.tokenizer()
    tokenizer.eos_token = None
    lm = LanguageModel(network, tokenizer, tiny.language_model("llama").config)
    assert lm.end_ids == [2] and lm.encode_replies(["w1"])[0].tolist() == [[6, 2]]
    network.generation_config.eos_token_id = network.config.eos_token_id = None
    with pytest.raises(UserError, match="end-of-text token"):
        LanguageModel(network, tokenizer, lm.config)


CHATS = {
    "<|im_end|>": "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "<|eot_id|>": "<|head|>user<|/head|>\n\n{prompt}<|eot_id|><|head|>assistant<|/head|>\n\n",
    "<end_of_turn>": "{prompt}",
    "<|end|>": "<|user|>\n{prompt}<|end|>\n<|assistant|>\n",
    "</user>": "<user>{prompt}</user><assistant>",
}


@pytest.mark.parametrize("end", CHATS)
def test_what_closes_a_turn_ends_a_reply_though_no_file_says_so(end, tmp_path, capsys):
    network, core = tiny.network("llama"), tiny.tokenizer()
    marks = [mark for mark in dict.fromkeys(re.findall(r"<[^<>]+>", CHATS[end] + end)) if mark]
    core.add_special_tokens({"additional_special_tokens": marks})
    network.resize_token_embeddings(len(core), mean_resizing=False)
    config = replace(tiny.language_model("llama").config, template=CHATS[end], path=str(tmp_path), device="cpu")
    lm = LanguageModel(network, core, config)
    number = core.convert_tokens_to_ids(end)
    assert lm.end_ids == [2, number] and lm.base.generation_config.eos_token_id == [2, number]
    assert lm.decode(torch.tensor([[6, 7, number, 8]])) == ["w1 w2"]
    network.save_pretrained(tmp_path)
    core.save_pretrained(tmp_path)
    network.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    network.generation_config.save_pretrained(tmp_path)
    LanguageModel.load(config, quiet=False)
    assert f"replies end at {end} too" in capsys.readouterr().out


@pytest.mark.parametrize("template", ["<bos> {prompt} <sep>", "{prompt}", "<bos>{prompt}<sep><bos>", "{prompt} </reply>"])
def test_other_marks_of_a_template_end_no_reply(template):
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["</reply>"]})
    assert decoding.turn_end_ids(tokenizer, template) == []


@pytest.mark.parametrize(
    ("kind", "entry", "message"),
    [
        ("llama", {"eos_token_id": "</s>"}, "eos_token_id: expected one token id or several, got '</s>'"),
        ("llama", {"eos_token_id": [2, None]}, r"eos_token_id: .* got \[2, None\]"),
        ("llama", {"eos_token_id": -1}, "eos_token_id: .* got -1"),
        ("llama", {"suppress_tokens": ["a"]}, r"suppress_tokens: .* got \['a'\]"),
        ("t5", {"decoder_start_token_id": [0, 1]}, r"decoder_start_token_id: expected one token id, got \[0, 1\]"),
    ],
)
def test_a_field_that_makes_no_sense_is_one_line(kind, entry, message):
    with pytest.raises(UserError, match=f"^tiny-{kind}: its generation config, {message}"):
        shipping(kind, entry)


@kinds
def test_outputs_have_names_whatever_the_configuration_says(kind):
    network, plain = tiny.network(kind), tiny.language_model(kind)
    for module in network.modules():
        if hasattr(module, "config"):
            module.config.return_dict = False
    lm = LanguageModel(network, plain.tokenizer, plain.config)
    assert greedy_and_sampled(lm) == clean(kind) and lm.score_texts(PROMPTS, PROMPTS)[0].isfinite().all()


def test_a_start_token_in_a_list_is_that_token():
    assert shipping("t5", {"decoder_start_token_id": [0]}).reply(PROMPTS) == clean("t5")[0]


@pytest.mark.parametrize("field", ["suppress_tokens", "begin_suppress_tokens"])
def test_forbidden_tokens_are_refused_by_name(field):
    with pytest.raises(UserError, match=rf"tiny-llama.*{field}: 5 \(w0\), 9 \(w4\)"):
        shipping("llama", {field: [5, 9]})
    assert shipping("llama", {field: []}).set_aside == {}


# -- text is text

SENTENCES = ["I lost my job, and I feel sad.", "my friend is angry with me", "What should I do?  I cannot sleep!"] * 4
MARKS = ["<pad>", "<bos>", "</s>", "<unk>", "<sep>", "<|im_end|>"]


def wrapped(core: Tokenizer) -> PreTrainedTokenizerFast:
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token", "sep_token"), MARKS, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=core, additional_special_tokens=["<|im_end|>"], **names)


@cache
def tokenizers(kind: str) -> PreTrainedTokenizerFast:
    """words: one id a word, which marks are too; bytes: as GPT-2's and Llama 3's; pieces: as T5's, whose vocabulary holds its marks."""
    if kind == "words":
        words = {word: i for i, word in enumerate([*MARKS, *sorted({w for s in SENTENCES for w in s.split()})])}
        core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "bytes":
        core = Tokenizer(models.BPE())
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        core.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=340, special_tokens=MARKS, initial_alphabet=alphabet))
    else:
        core = Tokenizer(models.Unigram())
        core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(prepend_scheme="always"), decoders.Metaspace()
        letters = list("</>|_abdeimnopsu")
        trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=MARKS, unk_token="<unk>", initial_alphabet=letters)
        core.train_from_iterator(SENTENCES, trainer)
    return wrapped(core)


TEMPLATES = [
    "<bos>{prompt}<sep>",
    "<bos> {prompt} <sep>",
    "{prompt} <sep>",
    "{prompt}",
    "<sep>user\n{prompt}<|im_end|>\n<bos>said {prompt}:",
]
every_tokenizer = pytest.mark.parametrize("kind", ["words", "bytes", "pieces"])
ODD = ["", " ", "\n\t ", "😀👩‍👩‍👧", "我很难过。", "אני עצוב", "أنا حزين", "a\u200bb\u200d\ufeff", "\u202eabc", "{prompt}", "{0} %s \\"]


@every_tokenizer
@pytest.mark.parametrize("template", TEMPLATES)
def test_ordinary_text_is_read_as_the_tokenizer_reads_the_filled_template(kind, template):
    tokenizer = tokenizers(kind)
    texts = SENTENCES[:3] + ODD
    ours = Template(template, Words(tokenizer, [2]), add_special_tokens=False).ids(texts)
    assert ours == [tokenizer(template.format(prompt=text), add_special_tokens=False).input_ids for text in texts]


@every_tokenizer
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("mark", MARKS)
def test_control_tokens_in_a_statement_stay_words(kind, template, mark):
    tokenizer = tokenizers(kind)
    words = Words(tokenizer, [2])
    filled = Template(template, words, add_special_tokens=False)
    own = [i for i in filled.ids(["I"])[0] if i in words.control]
    for text in (mark, f"I feel {mark} sad.", f"{mark}{mark}I{mark} my", f"</s> {mark} <sep>"):
        [ids] = filled.ids([text])
        assert [i for i in ids if i in words.control] == own  # the template's marks, in order, and no others
        if kind == "bytes" and mark != "<unk>":
            assert tokenizer.decode(ids) == template.format(prompt=text)  # nothing is lost
        if kind != "words" and mark != "<unk>":
            assert len(ids) > len(filled.ids([text.replace(mark, "")])[0]) + 2 * text.count(mark)  # several letters each


@every_tokenizer
@pytest.mark.parametrize("mark", MARKS)
def test_control_tokens_in_a_reply_stay_words(kind, mark):
    tokenizer, plain = tokenizers(kind), tiny.language_model("llama")
    lm = LanguageModel(plain.base, tokenizer, replace(plain.config, template="<bos>{prompt}<sep>"))
    ids, mask = lm.encode_replies([f"I {mark} sad", mark, "I feel sad"])
    for row, kept in zip(ids.tolist(), mask.tolist(), strict=True):
        line = [i for i, keep in zip(row, kept, strict=True) if keep]
        assert line[-1] == lm.end_ids[0] and not lm.words.count(line[:-1]) and len(line) > 1
    ordinary = tokenizer("I feel sad", add_special_tokens=False).input_ids
    assert ids[2].tolist()[: len(ordinary)] == ordinary


@pytest.mark.parametrize("name", ["<unk>", "<0x0A>"])
def test_names_of_the_unknown_word_and_of_bytes_are_letters(name):
    """Unigram vocabularies hold them as words; what they stand for is still read as it is."""
    plain = tokenizers("pieces")
    pieces = [(piece, -2.0) for piece in [*MARKS, *sorted(set(plain.get_vocab()) - set(MARKS))]] + [
        ("<0x0A>", 0.0),
        *((letter, -3.0) for letter in "k0xA"),
    ]
    core = Tokenizer(models.Unigram(pieces, unk_id=MARKS.index("<unk>"), byte_fallback=False))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(prepend_scheme="always"), decoders.Metaspace()
    tokenizer = wrapped(core)
    named = tokenizer.convert_tokens_to_ids(name)
    assert named in tokenizer(f"I feel {name} sad", add_special_tokens=False).input_ids  # as the tokenizer itself reads it
    words = Words(tokenizer, [2])
    filled = Template("{prompt}<sep>", words, add_special_tokens=False)
    for [ids] in (words.ids([f"I feel {name} sad{name}"]), filled.ids([f"I feel {name} sad{name}"])):
        assert named not in ids and len(ids) > 12
    assert words.ids(["I feel 😀 sad"]) == tokenizer(["I feel 😀 sad"], add_special_tokens=False).input_ids  # an unknown letter


def test_added_tokens_that_look_like_marks_are_letters_and_others_are_words():
    tokenizer = wrapped(tokenizers("bytes").backend_tokenizer.from_str(tokenizers("bytes").backend_tokenizer.to_str()))
    tokenizer.add_tokens(["<think>", "emorl"])
    thought, word = tokenizer.convert_tokens_to_ids(["<think>", "emorl"])
    [ids] = Words(tokenizer, [2]).ids(["I <think> emorl"])
    assert thought not in ids and word in ids and tokenizer.decode(ids) == "I <think> emorl"
    template = Template("{prompt}<think>", Words(tokenizer, [2]), add_special_tokens=False)
    assert template.ids(["<think>I"])[0].count(thought) == 1


LETTERS = ["a" * 20000, "\x00", "a\r\nb", "e\u0301 n\u0303", "▁a▁b", "<0x0A>", "<se", "p>", "<|im_e", "x<sep", "\ufffd", "<extra_id_0>"]


@every_tokenizer
@pytest.mark.parametrize("text", LETTERS)
def test_odd_letters_make_no_marks(kind, text):
    words = Words(tokenizers(kind), [2])
    [ids] = Template("<bos>{prompt}<sep>", words, add_special_tokens=False).ids([text])
    assert [i for i in ids if i in words.control] == [MARKS.index("<bos>"), MARKS.index("<sep>")]


def test_a_warm_start_learns_the_ids_that_are_scored():
    lm = tiny.language_model("llama")
    for text in ("w1 <sep> w2", "<bos> w1 <eos> w2"):
        [row] = tokenise_examples(lm, [("w1 <eos>", text)])
        learned = [i for i, kept in zip(row["input_ids"], row["completion_mask"], strict=True) if kept]
        assert learned == lm.encode_replies([text])[0][0].tolist() and lm.words.count(learned) == 1
        assert lm.words.count(row["input_ids"]) == 3  # the template's two, and the end


@kinds
def test_a_statement_full_of_marks_has_one_reply_and_the_templates_own_marks(kind):
    lm = tiny.language_model(kind)
    [ids] = lm.prompt_ids(["<sep> w1 <eos><bos>w2"])
    marks = [i for i in ids if i in lm.words.control]
    assert marks == ([4] if lm.seq2seq else [1, 4])
    assert len(lm.reply(["<sep> w1 <eos><bos>w2"])) == 1


def test_marks_that_an_encoders_tokenizer_adds_stay_where_they_are():
    from tokenizers.processors import TemplateProcessing

    core = tokenizers("bytes").backend_tokenizer.from_str(tokenizers("bytes").backend_tokenizer.to_str())
    core.post_processor = TemplateProcessing(single="<bos> $A </s>", special_tokens=[("<bos>", 1), ("</s>", 2)])
    words = Words(wrapped(core), [2])
    template = Template("{prompt} <sep>", words, add_special_tokens=True)
    assert [i for i in template.ids(["I </s> <bos> <sep> x"])[0] if i in words.control] == [1, 4, 2]


NO_TEMPLATES = ["<bos><sep>", "", "{statement}", "{prompt} {", "{prompt.x}", "{}", "{prompt}{prompt.x}", "{prompt!r}", "{prompt:>9}"]


@pytest.mark.parametrize("template", NO_TEMPLATES)
def test_a_template_without_a_prompt_is_refused(template):
    with pytest.raises(UserError, match=r"template .*prompt"):
        tiny.language_model("llama", template=template)


def test_marks_that_are_no_tokens_are_told(tmp_path, capsys):
    lm = tiny.language_model("llama", template="<bos> {prompt} [SEP] <|im_start|><sep>")
    assert set(lm.template.split_marks) == {"[SEP]", "<|im_start|>"}
    lm.base.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    LanguageModel.load(replace(lm.config, path=str(tmp_path), device="cpu"), quiet=False)
    line = capsys.readouterr().out.splitlines()[-1]
    assert "[SEP] (" in line and "<|im_start|> (" in line and "<sep>" not in line


WRONG = [
    ("hello", r"expected a list of texts, got str"),
    (b"hello", r"expected a list of texts, got bytes"),
    (None, r"expected a list of texts, got NoneType"),
    (3, r"expected a list of texts, got int"),
    (["w1", None], r" 2: expected a text, got NoneType"),
    (["w1", "w2", 3.5], r" 3: expected a text, got float"),
    ([b"w1"], r" 1: expected a text, got bytes"),
    ([["w1"]], r" 1: expected a text, got list"),
    (["w1", "w2", "\ud800"], r" 3: not valid Unicode"),
]


@pytest.mark.parametrize(("texts", "message"), WRONG)
def test_what_is_no_list_of_texts_is_one_line(texts, message):
    lm = tiny.language_model("llama", adapters=2)
    calls = {
        "prompts?": [lm.reply, lm.encode, lm.prompt_ids, EnsembleLM(lm, ADAPTERS[:2]).reply, lambda p: PrefixTree(lm, ADAPTERS[:2], p)],
        "(replies|reply)": [lm.encode_replies, lambda r: lm.score_texts(["w1"] * 3, r)],
    }
    calls["prompts?"].append(lambda p: lm.score_texts(p, ["w1"] * 3))
    for kind, functions in calls.items():
        for function in functions:
            with pytest.raises(UserError, match=f"^({kind}|text)s?:?{message}" if message[0] == " " else f"^{kind}: {message}"):
                function(texts)


def test_texts_may_come_in_any_container():
    lm = tiny.language_model("llama")
    assert lm.reply(tuple(PROMPTS)) == lm.reply(np.array(PROMPTS)) == lm.reply(iter(PROMPTS)) == lm.reply(PROMPTS)
    assert lm.reply([]) == []
    with pytest.raises(UserError, match="no prompts"):
        lm.encode([])
    with pytest.raises(UserError, match="2 prompts, 1 replies"):
        lm.score_texts(["w1", "w2"], ["w1"])


@kinds
def test_odd_texts_have_replies(kind):
    lm = tiny.language_model(kind, adapters=2)
    ensemble = EnsembleLM(lm, ADAPTERS[:2])
    replies = ensemble.reply(ODD)
    assert len(replies) == len(ODD)
    assert [row[0] for row in PrefixTree(lm, ADAPTERS[:2], ODD).replies([0.5, 0.5])] == replies
    lm.use(ADAPTERS[0])
    logp, mask = lm.score_texts(ODD, ODD)
    assert logp.isfinite().all() and (mask.sum(1) >= 1).all()


# -- real tokenizers


@pytest.fixture(params=["tiny_lm", "SmolLM2-135M-Instruct"])
def real(request) -> tuple[Template, ModelConfig]:
    from transformers import AutoTokenizer

    from emorl_lite.base.paths import resolve

    path = resolve("tiny_lm") if request.param == "tiny_lm" else cache_root() / "models" / request.param
    if not (path.exists() if hasattr(path, "exists") else True):
        pytest.skip("not made here: `python -m emorl_lite models`")
    config = get_preset("tiny" if request.param == "tiny_lm" else "smollm2").model
    tokenizer = AutoTokenizer.from_pretrained(path)
    return Template(config.template, Words(tokenizer, [tokenizer.eos_token_id]), add_special_tokens=False), config


def test_presets_templates_are_read_as_before_and_their_marks_stay_words(real):
    template, config = real
    tokenizer, control = template.words.tokenizer, template.words.control
    texts = SENTENCES[:3] + ODD
    filled = [config.template.format(prompt=text) for text in texts]
    assert template.ids(texts) == tokenizer(filled, add_special_tokens=False).input_ids
    assert template.split_marks == {}
    own = [i for i in template.ids(["I"])[0] if i in control]
    for mark in ("<sep>", "<bos>", "<eos>", "</s>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"):
        text = f"I am {mark} sad"
        [ids] = template.ids([text])
        assert [i for i in ids if i in control] == own
        if config.template.startswith("<|im_start|>"):
            assert tokenizer.decode(ids) == config.template.format(prompt=text)


@pytest.mark.slow
def test_grpo_ends_at_every_end_and_takes_no_option_from_the_model(monkeypatch):
    """TRL has its own way to generate: what it samples must end where ours ends, under the options that ours has."""
    from test_methods import bench
    from trl import GRPOTrainer

    seen: list[list[int]] = []
    lm, end = with_second_end("llama")
    lm.model.float()
    lm.base.generation_config.no_repeat_ngram_size = 1
    lm.base.generation_config.bad_words_ids = [[end]]
    generate = GRPOTrainer._generate_single_turn

    def spy(self, *args, **kwargs):
        found = generate(self, *args, **kwargs)
        seen.extend(found[0])
        return found

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", spy)
    make_method("grpo", bench(lm)).prepare()
    assert any(ids[-1] == end for ids in seen) and any(len(set(ids)) < len(ids) for ids in seen)
    assert not any(token in lm.end_ids for ids in seen for token in ids[:-1])


def test_a_policy_that_never_ends_is_told_once(capsys):
    """A chat model whose turn end nobody knows: every reply would score 0, and somebody should say why. Given replies are no policy's."""
    lm = tiny.language_model("llama", adapters=1)
    inputs = lm.encode(tiny.PROMPTS)
    collect(lm, inputs, 1, 1.0, 8)
    collect(lm, inputs, 4, 1.0, 8, limit=1)
    lm.end_ids = [len(tiny.WORDS)]  # no word of the model
    collect(lm, inputs, 2, 1.0, 8)
    assert not capsys.readouterr().err, "too few replies to tell"
    for _ in range(2):
        collect(lm, inputs, 4, 1.0, 8)
    [line] = capsys.readouterr().err.splitlines()
    assert "none of 16 replies ended" in line and "end tokens" in line
