"""Supervised warm start: teach a decoder-only base model the form of a reply before RL, with TRL's SFTTrainer.

The tiny model and the paper's T5 start without one; a general pretrained model needs it, else RL wanders in text that no reward knows.
"""

from __future__ import annotations

import copy
import os
import random
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import write_folder, write_json
from emorl_lite.base.presets import ALL_LAYERS, WarmStartConfig
from emorl_lite.base.provenance import made_at
from emorl_lite.base.texts import check_examples
from emorl_lite.data.datasets import Dataset
from emorl_lite.lm.adapters import check_unmerged, examine_neighbours
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.text_pairs import empathy_pairs

RECORD = "warm_start.json"
"""File of a warm-started base that says how it was made."""


QUALITIES = {"high": 1, "medium": 1, "low": 2}
"""Replies of each quality to a statement that a base model is fine-tuned on."""
BEFORE = {"without_high": False}
"""How warm starts were made before there was such an option."""


def warm_start_examples(dataset: Dataset, epitome: Path | None, seed: int = 0, without_high: bool = False) -> list[tuple[str, str]]:
    """What a base model is fine-tuned on before RL: PAIR's replies of all qualities, about 1 : 1 : 2, and short kind replies of EPITOME.

    Bad replies are among them on purpose: RL needs a policy that does different things. Kind ones are, because a policy that never says
    anything kind finds no reward for it. `without_high`: those of high quality are left out, since a base that has learned to reflect as
    people do leaves RL nothing to win.
    """
    rng = random.Random(f"warm-start-{seed}")
    chosen: list[tuple[str, str]] = []
    for prompt in dataset.prompts("train"):
        examples = [e for e in dataset.examples("train") if e.prompt == prompt]
        for quality, n in QUALITIES.items():
            if quality == "high" and without_high:
                continue
            replies = [e.reply for e in examples if e.quality == quality and len(e.reply.split()) >= 3]
            chosen += [(prompt, reply) for reply in rng.sample(replies, min(n, len(replies)))]
    if epitome is not None:
        kind = [p for p in empathy_pairs(epitome, "train", made=False) if p.empathy and _is_short(p, 30) and len(p.prompt.split()) <= 80]
        chosen += [(p.prompt, p.reply) for p in rng.sample(kind, min(len(kind), len(chosen) // 4))]
    rng.shuffle(chosen)
    return chosen


def _is_short(pair: Pair, words: int) -> bool:
    return 4 <= len(pair.reply.split()) <= words


def tokenise_examples(lm: LanguageModel, examples: Sequence[tuple[str, str]]) -> list[dict[str, list[int]]]:
    """Each (prompt, reply) pair as `input_ids` (filled template, reply, one EOS) and `completion_mask` (1 on reply and EOS).

    The ids are those that rollouts and rewards use; TRL's own tokenisation could add a second BOS or EOS.
    Raises UserError for a pair that does not fit the model's context.
    """
    examples = check_examples(examples)
    prompts = lm.prompt_ids([prompt for prompt, _ in examples])
    eos, end = lm.end_ids[0], lm.tokenizer.convert_ids_to_tokens(lm.end_ids[0])
    rows = []
    for number, (prompt, (_, text)) in enumerate(zip(prompts, examples, strict=True), start=1):
        while text.rstrip().endswith(end):  # an end that is written out is the one that is added
            text = text.rstrip().removesuffix(end).rstrip()
        reply = [*lm.words.ids([text])[0], eos]
        if len(prompt) + len(reply) > lm.context:
            raise UserError(f"example {number}: {len(prompt) + len(reply)} tokens, longer than the model's context of {lm.context}")
        rows.append({"input_ids": prompt + reply, "completion_mask": [0] * len(prompt) + [1] * len(reply)})
    return rows


def warm_start(
    lm: LanguageModel,
    examples: Sequence[tuple[str, str]],
    steps: int,
    batch_size: int = 16,
    lr: float = 5e-4,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    record: Mapping[str, Any] | None = None,
) -> LanguageModel:
    """Train a LoRA adapter on (prompt, reply) pairs, loss on the reply alone, and merge it: returns a new base without adapters.

    `lm` is left unchanged; its own adapters play no part. With `folder` the result is also written there (safetensors and tokenizer), for
    `LanguageModel.load(ModelConfig(path=folder))`, whole or not at all, with a `record` of what it was made of; nothing else is left on
    disk. `batch_size` is in pairs, `lr` the peak of a cosine schedule. Raises UserError for an encoder-decoder model, no examples, a pair
    that is too long, or a missing `trl`.
    """
    rows = _rows(lm, examples)
    model = copy.deepcopy(lm.model)
    student = LanguageModel(model.unload() if lm.adapters else model, lm.tokenizer, lm.config)
    student.base.requires_grad_(False)
    student.add_adapter("warmstart", seed=seed, layers=ALL_LAYERS)  # a base is made, whatever layers its adapters will have
    if steps > 0:
        supervise(student, rows, steps, batch_size, lr, seed)
    merged = student.model.merge_and_unload().eval()
    config = lm.config if folder is None else replace(lm.config, path=str(folder))
    if folder is not None:

        def write(place: Path) -> None:
            merged.save_pretrained(place)
            lm.tokenizer.save_pretrained(place)
            write_json(place / RECORD, {**(record or {}), "steps": steps, "seed": seed, "made_at": made_at()})

        write_folder(Path(folder), write)
    return LanguageModel(merged, lm.tokenizer, config)


def warm_start_adapter(lm: LanguageModel, examples: Sequence[tuple[str, str]], options: WarmStartConfig, folder: Path) -> None:
    """Train a LoRA adapter on (prompt, reply) pairs and keep it in a folder: small enough to hand on, folded into the base on loading."""
    rows = _rows(lm, examples)
    lm.base.requires_grad_(False)
    lm.add_adapter("warmstart", rank=options.lora_r, layers=ALL_LAYERS)
    started = time.perf_counter()
    supervise(lm, rows, options.steps, options.batch_size, options.lr, 0)
    lm.round_adapter("warmstart")
    lm.save_adapter("warmstart", folder)
    record = {"examples": len(rows), "seconds": round(time.perf_counter() - started, 1), **asdict(options)}
    write_json(folder / "done.json", record | {"made_at": made_at()})


def _rows(lm: LanguageModel, examples: Sequence[tuple[str, str]]) -> list[dict[str, list[int]]]:
    """The examples as `tokenise_examples` gives them. Raises UserError for none, and for a model that cannot be warm-started."""
    if lm.seq2seq:
        raise UserError(f"{lm.config.path}: the warm start is for decoder-only models, this is an encoder-decoder")
    check_unmerged(lm.model)
    examine_neighbours(lm.model, [])
    if not (rows := tokenise_examples(lm, examples)):
        raise UserError("warm start: no examples")
    return rows


def supervise(student: LanguageModel, rows: list[dict[str, list[int]]], steps: int, batch_size: int, lr: float, seed: int) -> None:
    """Train the active adapter on tokenised examples with TRL's SFTTrainer, loss on the replies; `lr` is the peak of a cosine schedule."""
    try:
        from datasets import Dataset, disable_progress_bars
        from transformers import PrinterCallback
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise UserError("supervised fine-tuning needs TRL: pip install trl") from error
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL and transformers rename each other's options
        config = SFTConfig(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            learning_rate=lr,
            lr_scheduler_type="cosine",
            warmup_steps=min(10, steps // 10),
            completion_only_loss=True,
            max_length=None,
            gradient_checkpointing=False,
            bf16=student.mixed and student.base.dtype != torch.float16,
            use_cpu=student.device.type == "cpu",
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        tokenizer = copy.deepcopy(student.tokenizer)  # the trainer may change its padding side
        trainer = SFTTrainer(student.model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # its autocast wrapper would stay on the model
