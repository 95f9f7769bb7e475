"""Labelled pairs of a client statement and a reply, and how a classifier is trained on them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pair:
    """An example of a classifier: texts, the kind of reply for analysis, and labels in [0, 1], None where it has none."""

    prompt: str
    reply: str
    kind: str
    reflection: float | None = None
    empathy: float | None = None


def steps(examples: int, epochs: int, batch: int) -> int:
    """Steps of a whole training."""
    return epochs * -(-examples // batch)


def fit(
    parameters: Sequence[nn.Parameter],
    logits: Callable[[list[int]], Tensor],
    labels: Sequence[float],
    lengths: Sequence[int],
    *,
    epochs: int,
    batch: int,
    lr: float,
    weight_decay: float,
    warm_up: float,
    floor: float,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
) -> float:
    """Train on N examples with a soft binary cross-entropy on their labels [N], by AdamW. Returns the seconds that it took.

    `logits`: those of some examples, by their numbers. `lengths` [N]: batches are of similar length. The learning rate rises over
    `warm_up` steps and falls by a cosine to the share `floor` of its peak. At the end the parameters are rounded to float16, as they are
    saved, so that they score the same before and after.
    """
    rng, started, step, total = random.Random(seed), time.perf_counter(), 0, steps(len(labels), epochs, batch)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    target = torch.tensor(list(labels), device=parameters[0].device)
    for _ in range(epochs):
        for rows in similar_lengths(lengths, batch, rng):
            warm = min(1.0, (step + 1) / warm_up)
            for group in optimizer.param_groups:
                group["lr"] = lr * warm * (floor + (1 - floor) / 2 * (1 + math.cos(math.pi * step / total)))
            loss = nn.functional.binary_cross_entropy_with_logits(logits(rows), target[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            if on_step:
                on_step(step, float(loss.detach()))
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(parameter.half())
    return time.perf_counter() - started


def similar_lengths(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """One epoch of batches of examples of similar length, in random order: less padding."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    groups = []
    for start in range(0, len(order), size * 20):
        part = sorted(order[start : start + size * 20], key=lambda i: lengths[i])
        groups += [part[i : i + size] for i in range(0, len(part), size)]
    rng.shuffle(groups)
    return groups
