"""Rebuild the tiny language model of the embedded small world: `python scripts/build_tiny_lm.py [--steps N] [--out FOLDER]`.

A Llama of about a million parameters with a word-level tokenizer, trained from scratch on (client, reply) pairs of the training split.
Client tokens weigh little in the loss, and some pairs come without their client, so that the model can also tell how likely a reply is
on its own (the fluency reward needs that).
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emorl_lite.small_world import grammar

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<sep>"]
CLIENT_WEIGHT = 0.2
WITHOUT_CLIENT = 0.15


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words carry their leading space, punctuation has none: decoding gives back the text exactly."""
    words = [f" {w}" for w in grammar().vocabulary()]
    vocabulary = {w: i for i, w in enumerate(SPECIAL + [".", ",", "?"] + words)}
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


def batches(lengths: list[int], size: int, rng: random.Random, chunk: int = 20):
    """Batches of similar length in random order."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    for start in range(0, len(order), size * chunk):
        part = sorted(order[start : start + size * chunk], key=lambda i: lengths[i])
        groups = [part[i : i + size] for i in range(0, len(part), size)]
        rng.shuffle(groups)
        yield from groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "tiny_lm")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), args.width, args.layers, args.seed)
    print(f"vocabulary {len(tokenizer)}, {model.num_parameters():,} parameters")

    rng = random.Random(args.seed)
    pairs = grammar().pairs(min(120_000, args.steps * args.batch), "train", seed=args.seed, per_client=2)
    lines = [f"<bos>{c.text if rng.random() > WITHOUT_CLIENT else ''}<sep>{r.text}<eos>" for c, r in pairs]
    ids = tokenizer(lines).input_ids
    unknown = sum(x.count(tokenizer.unk_token_id) for x in ids)
    print(f"{len(ids):,} pairs, {len(set(lines)):,} distinct, {unknown} unknown tokens, longest {max(map(len, ids))}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05, betas=(0.9, 0.98))
    model.train()
    step, start, recent = 0, time.time(), []
    lengths = [len(x) for x in ids]
    while step < args.steps:
        for rows in batches(lengths, args.batch, rng):
            if step >= args.steps:
                break
            warm = min(1.0, step / 50)
            for group in optimizer.param_groups:
                group["lr"] = args.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
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
            recent.append(float(loss[(target != -100) & reply].mean()))
            step += 1
            if step % 100 == 0:
                print(f"step {step}: reply loss {sum(recent[-100:]) / 100:.3f}, {time.time() - start:.0f} s", flush=True)
    model.generation_config.do_sample = False
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
