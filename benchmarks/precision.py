"""What half precision changes: greedy replies, logits and the exact map in bfloat16 and float16 against float32, on four models.

    python benchmarks/precision.py [--quick] [--out FILE.json]

The weights are really of two bytes, on the CPU. Beside what is seen stands what the map says by itself: the share of choices whose two best
words are nearer than rounding, and on what share of the weights some choice on the way is. And whether its bound on rounding is right: how
many leads, of the best word over the second, differ from double precision by no more. The models: the packaged tiny model with the
reference adapters; a random Qwen2 and a random T5 (float16 gives NaN in real ones, so it is left out); and SmolLM2-135M with the adapters
in `data/smollm2`, if `make real-models` has been run. A readable table comes first; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, T5Config, T5ForConditionalGeneration

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OBJECTIVES, get_preset
from emorl_lite.base.provenance import provenance
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.ensemble.rounding import rounding
from emorl_lite.exact.exact_map import ExactMap, exact_map
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.model import LanguageModel
from emorl_lite.search.simplex_grid import compositions

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Model = tuple[LanguageModel, list[str], list[str], int, list[str]]
"""Model, adapters, prompts, reply tokens, number types."""


def packaged(quick: bool) -> Model:
    """The tiny model with the reference run's adapters, on clients of its small world."""
    experiment = Experiment(get_preset("tiny"), progress=False, source="reference")
    experiment.load_adapters()
    return (
        experiment.lm,
        list(experiment.preset.objectives),
        experiment.validation()[: 3 if quick else 16],
        12 if quick else 32,
        list(TYPES),
    )


def random_model(kind: str, quick: bool) -> Model:
    """A model without training, with random adapters and the packaged tokenizer: its words are nearly tied everywhere."""
    known = LanguageModel.load(get_preset("tiny").model, quiet=True)
    words, ids = len(known.tokenizer), known.tokenizer
    torch.manual_seed(0)
    special = {"pad_token_id": ids.pad_token_id, "bos_token_id": ids.bos_token_id, "eos_token_id": ids.eos_token_id}
    if kind == "qwen2":
        shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
        network: Any = Qwen2ForCausalLM(Qwen2Config(vocab_size=words, num_hidden_layers=4, initializer_range=0.2, **shape, **special))
    else:
        shape = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 4, "num_heads": 4, "dropout_rate": 0.0}
        network = T5ForConditionalGeneration(T5Config(vocab_size=words, decoder_start_token_id=ids.pad_token_id, **shape, **special))
    config = replace(get_preset("tiny").model, path=f"random-{kind}", template="{prompt}<sep>" if kind == "t5" else "<bos>{prompt}<sep>")
    if kind == "t5":
        ids.padding_side = "right"
    lm = LanguageModel(network.eval(), ids, config)
    names = list(OBJECTIVES)
    for i, name in enumerate(names):
        lm.add_adapter(name, seed=i)
    for key, parameter in lm.model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.model.eval()
    prompts = Experiment(get_preset("tiny"), progress=False).dataset.prompts("validation")
    return lm, names, prompts[: 2 if quick else 8], 6 if quick else 12, ["float32", "bfloat16"] if kind == "t5" else list(TYPES)


def smollm2() -> Model:
    """SmolLM2-135M-Instruct, warm-started, with the adapters of seed 0, on clients of the small world."""
    preset = get_preset("smollm2")
    experiment = Experiment(replace(preset, model=replace(preset.model, autocast=False)), progress=False, source="reference")
    experiment.load_adapters()
    prompts = Experiment(get_preset("tiny"), progress=False).dataset.prompts("validation")
    return experiment.lm, list(preset.objectives), prompts[:3], 20, list(TYPES)


@contextmanager
def in_type(lm: LanguageModel, dtype: torch.dtype) -> Iterator[None]:
    """The model with its weights in another number type; afterwards they are the old ones, to the bit."""
    kept = {name: value.clone() for name, value in lm.model.state_dict().items()}
    before = lm.base.dtype
    try:
        lm.model.to(dtype)
        yield
    finally:
        lm.model.to(before)
        lm.model.load_state_dict(kept)


@torch.no_grad()
def logits(lm: LanguageModel, adapters: list[str], prompt: str, reply: list[int]) -> Tensor:
    """[N, T, V] in double precision: every adapter's, before each token of a given reply."""
    tokens, found = torch.tensor([reply]), []
    for name in adapters:
        lm.use(name)
        found.append(lm.forward_reply(lm.encode([prompt]), tokens, torch.ones_like(tokens))[0][0].double())
    return torch.stack(found)


def greedy(lm: LanguageModel, adapters: list[str], prompts: list[str], weights: np.ndarray, tokens: int) -> tuple[list[str], list[str]]:
    """(replies of each adapter alone, replies of the ensemble at each weight vector)."""
    single = []
    for name in adapters:
        lm.use(name)
        single += lm.reply(prompts, max_new_tokens=tokens)
    ensemble = EnsembleLM(lm, adapters)
    return single, [reply for w in weights for reply in ensemble.reply(prompts, weights=torch.from_numpy(w), max_new_tokens=tokens)]


def equal(one: list[str], other: list[str]) -> float:
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))


def area_of_equal_replies(one: ExactMap, other: ExactMap) -> float:
    """Share of the weights, the mean over prompts, at which two maps have the same reply: exactly, piece by piece."""
    shared = 0.0
    for row in range(len(one.prompts)):
        for region in one.of(row):
            for i in other.touching(region.piece.vertices, [row])[row].tolist():
                if other.regions[i].reply == region.reply and (part := region.piece.cut(other.regions[i].piece.facets)):
                    shared += part.measure
    return shared / len(one.prompts)


def lead_errors(lm: LanguageModel, adapters: list[str], replies: list[tuple[str, list[int]]], exact: list[Tensor]) -> dict[str, float]:
    """How far logits, and leads under uniform weights, are from double precision, and how many leads are within the bound."""
    within, errors, largest = [], [], 0.0
    for (prompt, reply), truth in zip(replies, exact, strict=True):
        ours = logits(lm, adapters, prompt, reply)
        largest = max(largest, float((ours - truth).abs().max()))
        two = truth.mean(0).topk(2).indices  # [T, 2]
        error = (ours.mean(0).gather(1, two).diff() - truth.mean(0).gather(1, two).diff())[:, 0].abs()
        room = rounding(lm).of(ours.transpose(0, 1))
        within += (error <= room).tolist()
        errors += (error / room).tolist()
    return {
        "logit_error": largest,
        "leads_within_rounding": float(np.mean(within)),
        "lead_error_median_over_rounding": float(np.median(errors)),
    }


def other_words(tree: PrefixTree, weights: np.ndarray, lm: LanguageModel) -> float:
    """Share of a tree's choices (a prefix and a weight vector) where the model in float32 would choose another word."""
    leaves, cache = tree.leaves(weights), {}
    differ = total = 0
    for row, line in enumerate(leaves):
        for leaf, w in zip(line.tolist(), weights, strict=True):
            reply = tree.tokens(leaf)
            if leaf not in cache:
                cache[leaf] = logits(lm, tree.corners.names, tree.prompts[row], reply)
            chosen = torch.einsum("n,ntv->tv", torch.from_numpy(w), cache[leaf]).argmax(-1)
            differ += int((chosen != torch.tensor(reply)).sum())
            total += len(reply)
    return differ / total


def measure(name: str, make: Callable[[], Model], weights: np.ndarray) -> list[dict[str, Any]]:
    """A row for each number type."""
    lm, adapters, prompts, tokens, types = make()
    rows: list[dict[str, Any]] = []
    base: dict[str, Any] = {}
    uniform = np.ones((1, len(adapters))) / len(adapters)
    with in_type(lm, torch.float64):
        tree = PrefixTree(lm, adapters, prompts, max_new_tokens=tokens)
        replies = [(prompt, tree.tokens(int(leaf))) for prompt, leaf in zip(prompts, tree.leaves(uniform)[:, 0], strict=True)]
        truth = [logits(lm, adapters, prompt, reply) for prompt, reply in replies]
    for dtype in types:
        started = time.perf_counter()
        with in_type(lm, TYPES[dtype]):
            single, mixed = greedy(lm, adapters, prompts, np.vstack([uniform, weights]), tokens)
            tree = PrefixTree(lm, adapters, prompts, max_new_tokens=tokens)
            found, errors = exact_map(tree), lead_errors(lm, adapters, replies, truth)
            predicted = tree.near_ties(weights).share
        base = base or {"single": single, "mixed": mixed, "map": found}
        n = len(prompts)
        rows.append(
            {
                "model": name,
                "dtype": dtype,
                "single_equal": equal(single, base["single"]),
                "uniform_equal": equal(mixed[:n], base["mixed"][:n]),
                "ensemble_equal": equal(mixed[n:], base["mixed"][n:]),
                **errors,
                "words_predicted": predicted,
                "words_differ": other_words(tree, weights, lm),
                "map_predicted_choices": found.ties.share,
                "map_predicted_area": found.at_risk,
                "map_area_differs": 1 - area_of_equal_replies(base["map"], found),
                "regions": len(found.regions),
                "prompts": n,
                "tokens": tokens,
                "seconds": time.perf_counter() - started,
            }
        )
        print(f"{name}, {dtype}: {found.summary()}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the packaged and the random models with few prompts, in less than a minute")
    parser.add_argument("--out", type=Path, help="write the JSON object here, with what made it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = np.array(compositions(3, 2 if args.quick else 5)) / (2 if args.quick else 5)
    models: dict[str, Callable[[], Model]] = {
        "packaged": lambda: packaged(args.quick),
        "random Qwen2": lambda: random_model("qwen2", args.quick),
        "random T5": lambda: random_model("t5", args.quick),
    }
    if not args.quick:
        models["SmolLM2-135M"] = smollm2
    rows: list[dict[str, Any]] = []
    for name, make in models.items():
        try:
            rows += measure(name, make, weights)
        except UserError as error:
            print(f"{name}: left out ({error})")
    table = pd.DataFrame(rows)
    print(table.T.to_string(float_format="{:.5g}".format))
    results: dict[str, Any] = {"quick": args.quick, "weights": len(weights), "rows": rows}
    if args.out:
        record = provenance(command="python benchmarks/precision.py", seed=0, **results)
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    run_script(main)
