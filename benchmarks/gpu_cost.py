"""Is what `benchmarks/cost_model.py` predicts of a GPU what a GPU takes? Random models of the predicted sizes, measured on it.

    python benchmarks/gpu_cost.py [--quick] [--only t5-base 7B]

Weights are random, so nothing is downloaded and replies never end early: every step has all the tokens that the prediction counts. For each
model: PPO steps with the preset's own batch, minibatch and epochs (the median without the first), their peak memory, a prefix tree at 21
weight vectors, and an exact map. The reward is a random number: the prediction's reward models are left out on both sides. `--quick`: two
small models on whatever device there is, to see that the script runs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import cost_model  # beside this file
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import ModelConfig, PPOConfig
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.lm.model import LanguageModel
from emorl_lite.search.simplex_grid import compositions
from emorl_lite.training.ppo import PPOTrainer

TYPES = {"t5-base": torch.float32, "7B": torch.bfloat16}


def random_model(name: str, device: str, quick: bool) -> LanguageModel:
    """A random model of the predicted one's shape, on the device, that never ends a reply."""
    asked = cost_model.MODELS[name]
    width, layers, words = (64, 2, 512) if quick else (asked.hidden, asked.layers, asked.vocabulary)
    marks = {"pad_token_id": 0, "eos_token_id": 2}
    torch.manual_seed(0)
    torch.set_default_dtype(TYPES[name])
    try:
        with torch.device(device):
            if asked.encoder_layers:
                shape: dict[str, Any] = {"d_model": width, "d_ff": 4 * width, "num_layers": layers, "num_heads": 12, "d_kv": 64}
                network: Any = T5ForConditionalGeneration(T5Config(vocab_size=words, decoder_start_token_id=0, **marks, **shape))
                head = network.shared.weight
            else:
                shape = {"hidden_size": width, "intermediate_size": 11008 if not quick else 128, "num_hidden_layers": layers}
                network = LlamaForCausalLM(
                    LlamaConfig(vocab_size=words, num_attention_heads=32, max_position_embeddings=512, bos_token_id=1, **marks, **shape)
                )
                head = network.lm_head.weight
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        head[:4] = 0  # far less likely than the best words
        head[4:] *= 3
    model = asked.preset.model
    options: dict[str, Any] = {"max_prompt_tokens": 256, "max_new_tokens": 8 if quick else model.max_new_tokens, "device": device}
    options |= {"dtype": str(TYPES[name]).removeprefix("torch."), "lora_r": model.lora_r, "lora_alpha": model.lora_alpha}
    config = ModelConfig(path=name, template="{prompt}", **options)
    names = [*cost_model.WORDS[:4], *(f"w{i}" for i in range(words - 4))]
    return LanguageModel(network.eval(), cost_model.tokenizer_of(names), config)


def settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(device: str, work: Any) -> tuple[Any, float]:
    """(result, seconds)."""
    settle(device)
    began = time.perf_counter()
    result = work()
    settle(device)
    return result, time.perf_counter() - began


def ppo(name: str, lm: LanguageModel, prompts: list[str], device: str, rounds: int) -> dict[str, float]:
    """Seconds and peak GB of PPO steps as the preset's study has them."""
    preset = cost_model.MODELS[name].preset
    chosen = PPOConfig(
        episodes=10**6, batch_size=preset.study.batch_size, minibatch_size=preset.ppo.minibatch_size, epochs=preset.ppo.epochs,
        lr=preset.ppo.lr, validate_every=0,
    )  # fmt: skip
    trainer = PPOTrainer(lm, "bench", lambda _, replies: torch.rand(len(replies)), prompts, chosen, progress=False)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = [timed(device, trainer.step) for _ in range(rounds + 1)]
    found = {"first step": steps[0][1], "step": float(np.median([seconds for _, seconds in steps[1:]]))}
    found |= {"tokens a reply": float(np.mean([row["length"] for row, _ in steps])), "first ratio off 1": steps[0][0]["first_ratio"]}
    if device == "cuda":
        found["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def mixing(lm: LanguageModel, prompts: list[str], device: str, quick: bool) -> dict[str, float]:
    """Seconds and token rows of a tree at 21 weight vectors, and of an exact map."""
    names = cost_model.add_random_adapters(lm, 3, 0.02)
    lm.config = replace(lm.config, max_new_tokens=8)
    weights = np.array(compositions(3, 5)) / 5
    tree = PrefixTree(lm, names, prompts[: 2 if quick else 16])
    _, searched = timed(device, lambda: tree.leaves(weights))
    few = PrefixTree(lm, names, prompts[:2])
    made, mapped = timed(device, lambda: exact_map(few))
    return {
        "tree seconds, 21 weights x 16 prompts x 8 tokens": searched, "tree rows": float(tree.rows_read), "tree passes": float(tree.passes),
        "map seconds, 2 prompts x 8 tokens": mapped, "map rows": float(few.rows_read), "map regions": float(len(made.regions)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small models, on whatever device there is")
    parser.add_argument("--only", nargs="+", choices=list(TYPES), default=list(TYPES))
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.quick:
        raise UserError("models of these sizes need a CUDA device; --quick runs small ones here")
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__}
    for name in options.only:
        (lm, loading), words = (
            timed(device, lambda name=name: random_model(name, device, options.quick)),
            1000 if not options.quick else 400,
        )
        numbers = np.random.default_rng(0).integers(0, words, (64, cost_model.MODELS[name].prompt_tokens))
        prompts = [" ".join(f"w{i}" for i in row) for row in numbers]
        found = {"parameters": float(sum(p.numel() for p in lm.model.parameters())), "seconds to make": loading}
        found |= ppo(name, lm, prompts, device, 2 if options.quick else 4)
        lm.remove_adapter("bench")
        found |= mixing(lm, prompts, device, options.quick)
        parts, memory = cost_model.step_seconds(cost_model.MODELS[name]), cost_model.memory_gb(cost_model.MODELS[name])
        memory.pop("reward models")
        told = {"predicted step": sum(parts.values()), **{f"predicted {part}": value for part, value in parts.items()}}
        figures[name] = {"measured": found, "predicted": told | {"predicted GB": sum(memory.values())}}
        print(f"\n{name}, {TYPES[name]}, on {figures['device']}")
        for key, value in (found | figures[name]["predicted"]).items():
            print(f"{key:50} {value:,.3f}", flush=True)
        del lm
        if device == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(figures))


if __name__ == "__main__":
    run_script(main)
