"""What a PPO step, a search and an exact map cost in seconds and memory: measured on random models of several sizes, fitted, and predicted.

    python benchmarks/cost_model.py [--quick]

Random Llama models never end a reply early, so tokens are what is asked for. Every case runs in a process of its own, float32, one thread,
and seconds are its CPU time, which is wall time on an idle machine and stays meaningful on a busy one; memory is what the process needs
beyond what it had when the case began. Three parts:

1. Fits on this CPU, by non-negative least squares on relative errors (so that small cases count as much as large ones). N: parameters of
   the layers and the head; L: layers; B: prompts; P and T: tokens of a prompt and of a reply; E: epochs; d: adapters; R: token rows that a
   search reads (its tree's nodes, which depend on how often weights disagree; measured, and fitted on their own).
2. A GPU: a step is launching kernels (layer calls x seconds a call, the two figures taken from the two float32 runs in
   data/results/gpu.json), plus multiplying (FLOP / (peak x utilisation)), plus reading all weights once a generated token.
3. A study: its jobs with those durations on so many GPUs, started in the scheduler's order.

What parts 2 and 3 assume stands in `ASSUMED` and is printed. Nothing in them was measured on the models they are about. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import ModelConfig, PPOConfig, Preset, get_preset
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.lm.model import LanguageModel
from emorl_lite.search.simplex_grid import compositions
from emorl_lite.study.run import LEVELS, RUNS, Study
from emorl_lite.training.ppo import CPU_ROWS, PPOTrainer

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", *(f"w{i}" for i in range(508))]
RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
GPU_FIGURES, GPU_COST = RESULTS / "gpu.json", RESULTS / "gpu_cost.json"


@dataclass(frozen=True)
class Case:
    """One measurement."""

    hidden: int = 128
    layers: int = 4
    prompts: int = 16
    prompt_tokens: int = 16
    tokens: int = 16
    objectives: int = 3
    epochs: int = 1
    minibatch: int = 8
    """Of PPO: rows that go through the model together with their gradients; CPU_ROWS at most on a CPU."""

    @property
    def parameters(self) -> int:
        """Of the layers' matrices and the head: what every token is multiplied with."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * 2 * self.hidden) + len(WORDS) * self.hidden


def tokenizer_of(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Texts word by word; the first four words are the marks for padding, beginning, end and unknown words."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, padding_side="left", **special)


def add_random_adapters(lm: LanguageModel, n: int, size: float) -> list[str]:
    """Add n adapters that change something: B from a normal distribution of that standard deviation. Returns their names."""
    names = [f"a{i}" for i in range(n)]
    for i, name in enumerate(names):
        lm.add_adapter(name, seed=i)
    for key, parameter in lm.model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=size)
    lm.model.eval()
    return names


def random_model(case: Case, adapters: int) -> LanguageModel:
    """A random model that never ends a reply, with that many random adapters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=case.hidden, intermediate_size=2 * case.hidden, num_hidden_layers=case.layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=False, initializer_range=0.1,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    network = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        network.lm_head.weight[:4] = 0  # marks are far less likely than the best words: a reply has all its tokens
        network.lm_head.weight[4:] *= 3
    options: dict[str, Any] = {"max_prompt_tokens": 256, "max_new_tokens": case.tokens, "lora_r": 8, "lora_alpha": 16, "device": "cpu"}
    lm = LanguageModel(network, tokenizer_of(WORDS), ModelConfig(path="random", template="{prompt}", **options))
    add_random_adapters(lm, adapters, 0.1)
    return lm


def prompts_of(case: Case, n: int) -> list[str]:
    """Random prompts of `prompt_tokens` words."""
    words = np.random.default_rng(0).integers(4, len(WORDS), (n, case.prompt_tokens))
    return [" ".join(WORDS[w] for w in row) for row in words]


def ppo_step(case: Case, rounds: int) -> dict[str, float]:
    """Median CPU seconds of a step, the first left out."""
    config = PPOConfig(episodes=10**6, batch_size=case.prompts, minibatch_size=case.minibatch, epochs=case.epochs, validate_every=0)
    lm, prompts = random_model(case, 0), prompts_of(case, 256)
    trainer = PPOTrainer(lm, "bench", lambda _, replies: torch.rand(len(replies)), prompts, config, progress=False)
    times, lengths = [], []
    for _ in range(rounds + 1):
        began = time.process_time()
        lengths.append(trainer.step()["length"])
        times.append(time.process_time() - began)
    return {"seconds": float(np.median(times[1:])), "length": float(np.mean(lengths))}


def search(case: Case, rounds: int) -> dict[str, float]:
    """Seconds of greedy replies at the 1/5 grid's weights by the prefix tree."""
    lm = random_model(case, case.objectives)
    weights = np.array(compositions(case.objectives, 5)) / 5
    names = [f"a{i}" for i in range(case.objectives)]
    PrefixTree(lm, names, prompts_of(case, 2)).leaves(weights)  # warm
    began = time.process_time()
    tree = PrefixTree(lm, names, prompts_of(case, case.prompts))
    tree.leaves(weights)
    return {
        "seconds": time.process_time() - began,
        "rows": float(tree.rows_read),
        "passes": float(tree.passes),
        "points": float(len(weights)),
    }


def whole_map(case: Case, rounds: int) -> dict[str, float]:
    """Seconds of the exact map."""
    lm = random_model(case, case.objectives)
    names = [f"a{i}" for i in range(case.objectives)]
    began = time.process_time()
    tree = PrefixTree(lm, names, prompts_of(case, case.prompts))
    made = exact_map(tree)
    return {
        "seconds": time.process_time() - began,
        "rows": float(tree.rows_read),
        "passes": float(tree.passes),
        "regions": float(len(made.regions)),
    }


WORK = {"ppo": ppo_step, "search": search, "map": whole_map}


def in_a_process(kind: str, case: Case, rounds: int) -> dict[str, float]:
    """A case in a forked process, with the bytes that it needed at most."""

    def child(answer: Any) -> None:
        torch.set_num_threads(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = WORK[kind](case, rounds)
        unit = 1 if sys.platform == "darwin" else 1024
        answer.send(found | {"bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit})

    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)
    process = fork.Process(target=child, args=(send,))
    process.start()
    send.close()
    try:
        found: dict[str, float] = receive.recv()
    except EOFError:
        raise RuntimeError(f"{kind} of {case} ended without an answer") from None
    process.join()
    return found


def cases(quick: bool) -> dict[str, list[Case]]:
    """What is measured: one thing changed at a time, and some together."""
    c = Case()
    ppo = [c, replace(c, hidden=256), replace(c, layers=8), replace(c, tokens=48), replace(c, prompts=48), replace(c, prompt_tokens=64)]
    searches = [c, replace(c, hidden=256), replace(c, tokens=32), replace(c, prompts=32), replace(c, objectives=4)]
    maps = [replace(x, tokens=8, prompts=4) for x in (c, replace(c, hidden=256), replace(c, objectives=2))]
    if quick:
        return {"ppo": ppo[:4], "search": searches[:4], "map": maps}
    ppo += [replace(c, epochs=4), replace(c, hidden=512), replace(c, hidden=384, layers=6, tokens=32), replace(c, hidden=64, prompts=64)]
    ppo += [
        replace(c, hidden=512, layers=8, tokens=32, prompt_tokens=32),
        replace(c, minibatch=2),
        replace(c, hidden=256, epochs=2, prompts=32),
    ]
    searches += [replace(c, objectives=2), replace(c, hidden=512), replace(c, layers=8), replace(c, hidden=384, prompts=48, tokens=24)]
    maps += [replace(maps[0], prompts=8), replace(maps[0], tokens=12), replace(maps[0], hidden=512), replace(maps[0], layers=8)]
    maps += [replace(maps[0], objectives=4, tokens=6)]
    return {"ppo": ppo, "search": searches, "map": maps}


# -- what is fitted


def flop(parameters: float, rows: float) -> float:
    """Of one forward pass over so many token rows: two for each parameter (attention's own products are left out)."""
    return 2 * parameters * rows


def features(kind: str, case: Case, found: Mapping[str, float]) -> dict[str, float]:
    """What seconds are a sum of, in units that make the coefficients seconds a GFLOP, a layer call, and so on."""
    n, b, length = case.parameters, case.prompts, case.prompt_tokens + case.tokens
    if kind != "ppo":
        parts = {"GFLOP, reading": flop(n, found["rows"]) / 1e9, "row": found["rows"], "layer call": case.layers * found["passes"]}
        return parts | ({"region": found["regions"]} if kind == "map" else {"point and prompt": found["points"] * b})
    passes = -(-b // min(CPU_ROWS, case.minibatch)) * case.epochs
    return {
        "GFLOP, sampling": flop(n, b * length) / 1e9,
        "GFLOP, reference and update": flop(n, b * length) * (1 + 2 * case.epochs) / 1e9,
        "layer call": case.layers * (case.tokens + 2 + 3 * passes),
        "reply": b,
    }


def memory_features(kind: str, case: Case, found: Mapping[str, float]) -> dict[str, float]:
    """What bytes are a sum of, in MB: weights, cached keys and values, and what the gradient needs of a pass."""
    length = case.prompt_tokens + case.tokens
    cache = 2 * case.layers * case.hidden * 4 / 1e6
    weights = {"MB of weights": 4 * (case.parameters + len(WORDS) * case.hidden) / 1e6, "1 (fixed)": 1.0}
    if kind != "ppo":
        return weights | {"MB of keys and values": cache * found["rows"]}
    rows = min(CPU_ROWS, case.minibatch) * length
    return weights | {
        "MB of keys and values": cache * case.prompts * length,
        "MB of activations": rows * case.layers * case.hidden * 4 / 1e6,
    }


def fit(rows: Sequence[Mapping[str, float]], measured: Sequence[float]) -> tuple[dict[str, float], list[float]]:
    """(coefficients, relative residuals) of non-negative least squares on relative errors."""
    matrix, y = pd.DataFrame(list(rows)), np.array(measured)
    found, _ = nnls(matrix.to_numpy() / y[:, None], np.ones(len(y)))
    return dict(zip(matrix.columns, found, strict=True)), list(matrix.to_numpy() @ found / y - 1)


def fit_rows(table: pd.DataFrame) -> dict[str, float]:
    """Exponents of the token rows that a search reads: rows = c * prompts^a * tokens^b * points^e, by least squares of logarithms."""
    columns = [np.log(table[name]) for name in ("prompts", "tokens", "points" if "points" in table else "objectives")]
    solution, *_ = np.linalg.lstsq(np.column_stack([np.ones(len(table)), *columns]), np.log(table["rows"]), rcond=None)
    return dict(zip(("log c", "prompts", "tokens", columns[2].name), solution.round(3).tolist(), strict=True))


def measured(quick: bool) -> dict[str, Any]:
    """Part 1: every case, the fits and how far they are off."""
    found: dict[str, Any] = {}
    for kind, listed in cases(quick).items():
        results = [in_a_process(kind, case, 2 if quick else 4) for case in listed]
        table = pd.DataFrame([vars(case) | {"parameters": case.parameters} | result for case, result in zip(listed, results, strict=True)])
        pairs = list(zip(listed, results, strict=True))
        seconds, off = fit([features(kind, *pair) for pair in pairs], table["seconds"].tolist())
        megabytes, memory_off = fit([memory_features(kind, *pair) for pair in pairs], (table["bytes"] / 1e6).tolist())
        table["off"], table["memory off"] = off, memory_off
        print(f"\n{kind}: measured, and how far the fit is off (a share)\n{_varying(table).round(3).to_string(index=False)}")
        found[kind] = {"seconds": seconds, "MB": megabytes, "largest residual": float(np.abs(off).max()), "cases": len(listed)}
        found[kind] |= {"median residual": float(np.median(np.abs(off))), "largest memory residual": float(np.abs(memory_off).max())}
        if kind == "search":
            found[kind]["rows"] = fit_rows(table)
        print("seconds = " + " + ".join(f"{value:.3g} a {name}" for name, value in seconds.items()))
        print("MB = " + " + ".join(f"{value:.3g} x {name}" for name, value in megabytes.items()))
    return found


def _varying(table: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that say the same in all rows."""
    return table.loc[:, [name for name in table if table[name].nunique() > 1]]


# -- what is predicted


@dataclass(frozen=True)
class Model:
    """A real model and its study."""

    name: str
    parameters: float
    layers: int
    """Of the decoder, which is called once a token; an encoder's are called once a prompt."""
    encoder_layers: int
    hidden: int
    vocabulary: int
    bytes: int
    """Of a weight."""
    preset: Preset
    prompt_tokens: int = 64


@dataclass(frozen=True)
class Gpu:
    """What is assumed of a GPU."""

    name: str
    memory: float
    """GB"""
    peak: float
    """TFLOP/s, dense, in the weights' type."""
    bandwidth: float
    """TB/s"""


T5 = get_preset("t5")
LARGE = replace(T5, ppo=replace(T5.ppo, minibatch_size=4), model=replace(T5.model, max_new_tokens=64))
MODELS = {
    "t5-base": Model("t5-base", 223e6, 12, 12, 768, 32128, 4, T5),
    "7B": Model("7B", 7e9, 32, 0, 4096, 32000, 2, LARGE),
}
ASSUMED: dict[str, Any] = {
    "t5-base": Gpu("an 80 GB GPU, float32 weights, TF32 products", 80, 100, 2.0),
    "7B": Gpu("an 80 GB GPU, bfloat16", 80, 600, 2.0),
    "share of the peak that products reach": 0.3,
    "share of the bandwidth that generation reaches": 0.6,
    "parameters of the reward models, read once a reply": 375e6,
    "bytes of activations a token, layer and hidden unit, without recomputing": 34,
    "bytes of a LoRA parameter with gradient, moments and master copy": 16,
    "share of each training run added by validation and by the closing evaluation": 0.25,
    "seeds": 5,
    "method": "every job takes one GPU; nothing is lost to preemption; jobs start as GPUs come free",
}


def launch_costs() -> tuple[float, float]:
    """(seconds a step, seconds a layer call) on a GPU: the line through the two float32 runs in data/results/gpu.json."""
    rows = {r["preset"]: r for r in json.loads(GPU_FIGURES.read_text(encoding="utf-8"))["timings"]["rows"] if r["dtype"] == "float32"}
    steps = {name: float(np.median(row["ppo_step_seconds"][1:])) for name, row in rows.items()}
    calls = {}
    for name, layers in (("tiny", 4), ("smollm2", 30)):
        ppo = get_preset(name).ppo
        calls[name] = layers * (rows[name]["length"] + 2 + 3 * ppo.epochs * -(-32 // ppo.minibatch_size))
    each = (steps["smollm2"] - steps["tiny"]) / (calls["smollm2"] - calls["tiny"])
    return max(0.0, steps["tiny"] - each * calls["tiny"]), each


def step_seconds(model: Model) -> dict[str, float]:
    """What a PPO step of a model takes on its GPU, by part."""
    gpu, ppo, tokens = ASSUMED[model.name], model.preset.study, model.preset.model.max_new_tokens
    epochs, minibatch = model.preset.ppo.epochs, model.preset.ppo.minibatch_size
    fixed, each = launch_costs()
    passes = epochs * -(-ppo.batch_size // minibatch)
    calls = model.layers * (tokens + 2 + 3 * passes) + model.encoder_layers * (2 + 3 * passes)
    rows = ppo.batch_size * (model.prompt_tokens + tokens)
    work = flop(model.parameters, rows) * (2 + 2 * epochs) + flop(ASSUMED["parameters of the reward models, read once a reply"], rows)
    reading = tokens * model.parameters * model.bytes / (gpu.bandwidth * 1e12 * ASSUMED["share of the bandwidth that generation reaches"])
    products = work / (gpu.peak * 1e12 * ASSUMED["share of the peak that products reach"])
    return {"launching": fixed + each * calls, "products": products, "reading weights": reading}


def memory_gb(model: Model) -> dict[str, float]:
    """What a job needs of its GPU: one base for policy and reference (the adapter is switched off), d adapters, and the larger of what
    sampling takes (a copy of the adapted layers with the adapter folded in; keys and values) and what an update does (a pass's graph)."""
    preset = model.preset
    tokens, layers = model.prompt_tokens + preset.model.max_new_tokens, model.layers + model.encoder_layers
    lora = 2 * preset.model.lora_r * model.hidden * 7 * layers  # seven matrices a layer, about square
    rows = preset.ppo.minibatch_size * tokens
    activations = rows * layers * model.hidden * ASSUMED["bytes of activations a token, layer and hidden unit, without recomputing"]
    folded = (model.parameters - model.vocabulary * model.hidden) * model.bytes
    cache = preset.study.batch_size * tokens * 2 * model.layers * model.hidden * model.bytes
    parts = {
        "weights": model.parameters * model.bytes,
        "adapters": len(preset.objectives) * lora * 4 + lora * ASSUMED["bytes of a LoRA parameter with gradient, moments and master copy"],
        "the larger of sampling and update": max(folded + cache, activations + rows * model.vocabulary * 4 * 3),
        "reward models": ASSUMED["parameters of the reward models, read once a reply"] * 4,
    }
    return {name: value / 1e9 for name, value in parts.items()}


def measured_step(model: Model) -> dict[str, float]:
    """What `benchmarks/gpu_cost.py` measured of a random model of this size (seconds of a step, peak GB), without reward models."""
    found = json.loads(GPU_COST.read_text(encoding="utf-8"))[model.name]["measured"]
    return {"seconds": found["step"], "GB": found["peak GB"]}


def durations(model: Model, study: Study, step: float) -> dict[str, float]:
    """Seconds of each job: its training runs at so many seconds a step, and what is added for validation and evaluation."""
    run = study.preset.study.budget / study.preset.study.batch_size * step
    share = ASSUMED["share of each training run added by validation and by the closing evaluation"]
    found = {}
    for job in study.jobs():
        name = job.name.split(": ")[1]
        if name in RUNS:
            found[job.name] = run * (len(study.preset.objectives) if RUNS[name] == "own" else 1)
        elif name in LEVELS or name == "base" or job.needs:
            found[job.name] = run * share  # it trains nothing of its own
        else:
            found[job.name] = run * (1 + share)
    return found


def makespan(study: Study, seconds: Mapping[str, float], gpus: int) -> float:
    """When the last job ends, if jobs start in the study's order, after those they need, as soon as a GPU is free."""
    jobs = list(study.jobs())
    waiting, ended, running, now = jobs, set[str](), list[tuple[float, str]](), 0.0
    while waiting or running:
        for job in [job for job in waiting if set(job.needs) <= ended][: gpus - len(running)]:
            heapq.heappush(running, (now + seconds[job.name], job.name))
            waiting = [other for other in waiting if other is not job]
        now, name = heapq.heappop(running)
        ended.add(name)
    return now


def predicted() -> dict[str, Any]:
    """Parts 2 and 3."""
    fixed, each = launch_costs()
    print(f"\nGPU, from data/results/gpu.json: {fixed:.3f} s a step and {1000 * each:.2f} ms a layer call")
    found: dict[str, Any] = {"seconds a step": fixed, "seconds a layer call": each}
    for model in MODELS.values():
        study = Study(model.preset, ASSUMED["seeds"], progress=False)
        parts, memory, seen = step_seconds(model), memory_gb(model), measured_step(model)
        found[model.name] = {"step": parts, "GB": memory, "GB, all": sum(memory.values()), "measured": seen, "jobs": len(study.jobs())}
        print(f"\n{model.name} on {ASSUMED[model.name].name}")
        told = ", ".join(f"{name} {x:.3f} s" for name, x in parts.items())
        print(f"a step of {model.preset.study.batch_size} replies: {told}; measured {seen['seconds']:.3f} s without reward models")
        total = f"all {sum(memory.values()):.1f} GB; measured {seen['GB']:.1f} GB without reward models"
        print("memory: " + ", ".join(f"{name} {x:.2f} GB" for name, x in memory.items()) + f"; {total}")
        for name, step in (("by the formula", sum(parts.values())), ("by the measured step", seen["seconds"])):
            seconds = durations(model, study, step)
            hours = {f"hours on {gpus} GPUs": makespan(study, seconds, gpus) / 3600 for gpus in (1, 64)}
            hours["hours of the longest chain"] = makespan(study, seconds, len(seconds)) / 3600
            found[model.name][name] = hours
            print(f"{len(seconds)} jobs, {name}: " + ", ".join(f"{key}: {x:.1f}" for key, x in hours.items()))
    print("\nassumed: " + "; ".join(f"{name}: {value}" for name, value in ASSUMED.items()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases, under a minute")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps({"quick": options.quick, "measured": measured(options.quick), "predicted": predicted()}))


if __name__ == "__main__":
    run_script(main)
