"""Rebuild the tiny language model of the embedded small world: `python scripts/build_tiny_lm.py [--out FOLDER]`.

A Llama of about a million parameters with a word-level tokenizer, trained from scratch on (client, reply) pairs of the training split, in
two stages. Copying a client's words is what such a small model learns last, and it needs many reflections to learn it: the first stage has
them. The second, short one uses the world's own mixture, in which most replies are mediocre: so is the base model that reinforcement
learning starts from. Client tokens weigh little in the loss, and some pairs come without their client, so that the model can also tell how
likely a reply is on its own (the fluency reward needs that).
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emorl_lite.base.entry import run_script
from emorl_lite.base.paths import ASSETS
from emorl_lite.data.small_world import grammar

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<sep>"]
CLIENT_WEIGHT = 0.2
WITHOUT_CLIENT = 0.15
PRACTICE = {"full": 0.14, "two": 0.16, "one": 0.16, "generic": 0.22, "advice": 0.15, "question": 0.12, "wrong": 0.05}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words carry their leading space, punctuation has none: decoding gives back the text exactly."""
    words = [f" {w}" for w in grammar().vocabulary()]
    vocabulary = {w: i for i, w in enumerate([*SPECIAL, ".", ",", "?", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Prepend(" ")])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[\w']+|[^\w\s]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        sep_token="<sep>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_model(vocabulary: int, width: int, layers: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def batches(lengths: list[int], size: int, rng: random.Random, chunk: int = 20) -> Iterator[list[int]]:
    """Batches of similar length in random order, without end."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for start in range(0, len(order), size * chunk):
            part = sorted(order[start : start + size * chunk], key=lambda i: lengths[i])
            groups = [part[i : i + size] for i in range(0, len(part), size)]
            rng.shuffle(groups)
            yield from groups


def train_stage(
    name: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, mixture: Mapping[str, float], steps: int, lr: float, seed: int
) -> None:
    """One pass of `steps` batches of 64 with a cosine schedule."""
    rng = random.Random(seed)
    pairs = grammar().pairs(min(120_000, steps * 64), "train", seed=seed, per_client=2, mixture=mixture)
    lines = [f"<bos>{c.text if rng.random() > WITHOUT_CLIENT else ''}<sep>{r.text}<eos>" for c, r in pairs]
    ids = tokenizer(lines).input_ids
    lengths = [len(x) for x in ids]
    print(f"{name}: {len(ids):,} pairs, {len(set(lines)):,} distinct, longest {max(lengths)} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, betas=(0.9, 0.98))
    model.train()
    start, recent, source = time.time(), [], batches(lengths, 64, rng)
    for step in range(1, steps + 1):
        rows = next(source)
        warm = min(1.0, step / 50)
        for group in optimizer.param_groups:
            group["lr"] = lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        width = max(lengths[i] for i in rows)
        x = torch.tensor([ids[i] + [0] * (width - lengths[i]) for i in rows])
        target = x[:, 1:].masked_fill(x[:, 1:] == 0, -100)
        logits = model(input_ids=x).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none", ignore_index=-100)
        reply = (x[:, :-1] == tokenizer.sep_token_id).cumsum(1) > 0
        weight = (target != -100) * torch.where(reply, 1.0, CLIENT_WEIGHT)
        ((loss * weight).sum() / weight.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(float(loss.detach()[(target != -100) & reply].mean()))
        if step % 100 == 0:
            print(f"{name} {step}/{steps}: reply loss {sum(recent[-100:]) / 100:.3f}, {time.time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--practice-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="skip the practice: start from the model in this folder")
    parser.add_argument("--out", type=Path, default=ASSETS / "tiny_lm")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    if args.start:
        model = LlamaForCausalLM.from_pretrained(args.start)
    else:
        model = build_model(len(tokenizer), args.width, args.layers, args.seed)
        train_stage("practice", model, tokenizer, PRACTICE, args.practice_steps, lr=4e-3, seed=args.seed)
    print(f"vocabulary {len(tokenizer)}, {model.num_parameters():,} parameters")
    train_stage("world", model, tokenizer, grammar().phrases["content_mixture"], args.steps, lr=1e-3, seed=args.seed + 1)
    model.generation_config.do_sample = False
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    run_script(main)
