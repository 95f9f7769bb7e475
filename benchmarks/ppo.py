"""PPO's cost per episode: this package, a plain implementation, and TRL 1.12.0 (the last release with PPO) on one model in one run.

    python benchmarks/ppo.py [--quick] [--install-trl]

A two-million-parameter Llama is built and trained for a few seconds, so that replies end by themselves at different lengths. All
sides then get the same weights, LoRA shape, text reward, prompts, batch, epochs, token limit and thread count, and take turns, one
step each; the first step is not counted. Times are medians of the process's CPU time, which on one thread is wall time on an idle
machine, and stays meaningful on a busy one. TRL runs in a process of its own, because a newer trl may be installed, and waits for its
turn too. It is given the cheaper form of its critic: a separate value model with a frozen backbone. A readable table comes first; the
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import ModelConfig, PPOConfig
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.ppo import PPOTrainer

TRL = Path(__file__).resolve().parent.parent / ".bench" / "trl-1.12.0"
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", *(f"good{i}" for i in range(20)), *(f"w{i}" for i in range(1976))]
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
TEMPLATE = "<bos> {prompt}"
"""What all sides read. The package fills it itself: a mark in a client's own words would be letters to it."""
LR, KL = 1e-4, 0.02  # a small step, so that the length of replies stays the same on all sides


@dataclass(frozen=True)
class Setting:
    name: str
    batch: int
    minibatch: int
    epochs: int
    tokens: int


SETTINGS = [
    Setting("defaults", PPOConfig.batch_size, PPOConfig.minibatch_size, PPOConfig.epochs, ModelConfig.max_new_tokens),
    Setting("short replies, more epochs", 32, 16, 4, 16),
]


def sentence(rng: random.Random) -> str:
    """A topic of eighteen words, and good words now and then."""
    topic = rng.randrange(100)
    length = rng.randint(10, 18)
    return " ".join(f"good{rng.randrange(20)}" if rng.random() < 0.07 else f"w{topic * 18 + rng.randrange(18)}" for _ in range(length))


def prompt_texts(n: int) -> list[str]:
    rng = random.Random(1)
    return [" ".join(sentence(rng).split()[: rng.randint(2, 5)]) for _ in range(n)]


def reward(texts: list[str]) -> Tensor:
    """Share of good words in twenty."""
    return torch.tensor([sum(word.startswith("good") for word in text.split()) / 20 for text in texts])


def build(folder: str, steps: int) -> None:
    """Train the base model for some steps and save it with its tokenizer."""
    torch.manual_seed(0)
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, padding_side="left", **special)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=128, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    rng = random.Random(0)
    for _ in range(steps):
        batch = tokenizer([f"<bos> {sentence(rng)} <eos>" for _ in range(32)], return_tensors="pt", padding=True, padding_side="right")
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Plain:
    """PPO as one would first write it: generate() through the adapter, separate forward passes, all padding computed."""

    def __init__(self, folder: str, setting: Setting, prompts: list[str]):
        self.setting, self.prompts, self.turn = setting, prompts, 0
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: PeftModel = get_peft_model(LlamaForCausalLM.from_pretrained(folder).eval(), LoraConfig(**LORA))
        self.value_head = nn.Linear(192, 1)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW([*self.parameters, *self.value_head.parameters()], LR, weight_decay=0.0)

    def forward(self, prompt: Tensor, prompt_mask: Tensor, reply: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log-probabilities, entropies and values of the reply, [B, T] each."""
        full_mask = torch.cat([prompt_mask, mask.long()], 1)
        out = self.model(
            input_ids=torch.cat([prompt, reply], 1),
            attention_mask=full_mask,
            position_ids=(full_mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=reply.shape[1] + 1,
            output_hidden_states=True,
            use_cache=False,
        )
        logp = F.log_softmax(out.logits[:, :-1].float(), -1)
        entropy = -(logp.exp() * logp).sum(-1)
        values = self.value_head(out.hidden_states[-1][:, -reply.shape[1] - 1 : -1]).squeeze(-1)
        return logp.gather(-1, reply[..., None]).squeeze(-1), entropy, values

    def step(self) -> float:
        """One rollout and its update; returns the mean reply length."""
        s = self.setting
        texts = [TEMPLATE.format(prompt=self.prompts[(self.turn * s.batch + i) % len(self.prompts)]) for i in range(s.batch)]
        self.turn += 1
        with torch.no_grad():
            batch = self.tokenizer(texts, return_tensors="pt", padding=True)
            prompt, prompt_mask = batch["input_ids"], batch["attention_mask"]
            out = self.model.generate(
                input_ids=prompt, attention_mask=prompt_mask, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=s.tokens
            )
            reply = out[:, prompt.shape[1] :]
            ended = reply == self.tokenizer.eos_token_id
            mask = (ended.cumsum(1) - ended.long() == 0).float()
            reply = reply.masked_fill(mask == 0, self.tokenizer.pad_token_id)
            score = reward(self.tokenizer.batch_decode(reply, skip_special_tokens=True))
            old_logp, _, old_values = self.forward(prompt, prompt_mask, reply, mask)
            with self.model.disable_adapter():
                ref_logp, _, _ = self.forward(prompt, prompt_mask, reply, mask)
            rewards = -KL * (old_logp - ref_logp) * mask
            rewards[torch.arange(s.batch), mask.sum(1).long() - 1] += score
            advantages, running = torch.zeros_like(rewards), torch.zeros(s.batch)
            for t in reversed(range(rewards.shape[1])):
                following = old_values[:, t + 1] * mask[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
                running = (rewards[:, t] + following - old_values[:, t] + 0.95 * running) * mask[:, t]
                advantages[:, t] = running
            returns = advantages + old_values * mask
            mean = (advantages * mask).sum() / mask.sum()
            variance = ((advantages - mean) ** 2 * mask).sum() / mask.sum()
            advantages = (advantages - mean) * torch.rsqrt(variance + 1e-8) * mask
        for _ in range(s.epochs):
            for rows in torch.randperm(s.batch).split(s.minibatch):
                m, adv = mask[rows], advantages[rows]
                logp, _, values = self.forward(prompt[rows], prompt_mask[rows], reply[rows], m)
                ratio = ((logp - old_logp[rows]) * m).exp()
                policy = torch.max(-adv * ratio, -adv * ratio.clamp(0.8, 1.2))
                clipped = old_values[rows] + (values - old_values[rows]).clamp(-0.2, 0.2)
                critic = 0.5 * torch.max((values - returns[rows]) ** 2, (clipped - returns[rows]) ** 2)
                loss = ((policy + 0.5 * critic) * m).sum() / m.sum()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.optimizer.step()
        return float(mask.sum(1).mean())


class Ours:
    def __init__(self, folder: str, setting: Setting, prompts: list[str]):
        config = ModelConfig(path=folder, template=TEMPLATE, max_new_tokens=setting.tokens, max_prompt_tokens=64, device="cpu")
        ppo = PPOConfig(
            episodes=10**6, batch_size=setting.batch, minibatch_size=setting.minibatch, epochs=setting.epochs,
            lr=LR, value_lr=LR, kl_coef=KL, validate_every=0,
        )  # fmt: skip
        self.trainer = PPOTrainer(LanguageModel.load(config), "bench", lambda _, replies: reward(replies), prompts, ppo, progress=False)

    def step(self) -> float:
        return self.trainer.step()["length"]


class Trl:
    """TRL's trainer in a process of its own; each line sent lets it take one step, and it answers with a line of JSON."""

    def __init__(self, folder: str, setting: Setting, rounds: int):
        command = [sys.executable, __file__, "--trl-child", json.dumps({"folder": folder, "rounds": rounds, **vars(setting)})]
        path = os.pathsep.join([str(TRL), str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "TRL_EXPERIMENTAL_SILENCE": "1"}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.version = self._answer()["version"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"trl-child"'):
                return json.loads(line)
        self.errors.seek(0)
        raise RuntimeError("TRL stopped:\n" + self.errors.read()[-2000:])

    def step(self) -> tuple[float, float]:
        """(CPU seconds, mean reply length) of one step."""
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        answer = self._answer()
        return answer["seconds"], answer["length"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


def trl_child(options: dict[str, Any], threads: int) -> None:
    """What runs in TRL's process."""
    import trl
    from datasets import Dataset
    from transformers import LlamaForSequenceClassification, TrainerCallback
    from trl.experimental.ppo import PPOConfig as TrlConfig
    from trl.experimental.ppo import PPOTrainer as TrlTrainer
    from trl.experimental.ppo import ppo_trainer

    torch.set_num_threads(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # TRL prints its logs: only answers go to the pipe
    folder, lengths = options["folder"], [0.0]
    tokenizer = AutoTokenizer.from_pretrained(folder)

    trl_get_reward = ppo_trainer.get_reward

    def text_reward(model: Any, ids: Tensor, pad: int, context: int) -> tuple[Tensor, Tensor, Tensor]:
        """TRL takes values and scores from models; here the text reward stands in for the second, at no cost."""
        if model is value_model:
            return trl_get_reward(model, ids, pad, context)
        replies = ids[:, context:]
        ended = (replies == tokenizer.eos_token_id).int()
        lengths[0] = float(torch.where(ended.any(1), ended.argmax(1) + 1, replies.shape[1]).float().mean())
        return torch.zeros(0), reward(tokenizer.batch_decode(replies, skip_special_tokens=True)), torch.zeros(0)

    ppo_trainer.get_reward = text_reward

    class Turn(TrainerCallback):
        """Wait for a turn; tell how long it took."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            print(json.dumps({"trl-child": 1, "version": trl.__version__}), file=answers, flush=True)
            self.wait()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seconds = time.process_time() - self.started
            print(json.dumps({"trl-child": 1, "seconds": seconds, "length": lengths[0]}), file=answers, flush=True)
            self.wait()

        def wait(self) -> None:
            if not sys.stdin.readline():
                os._exit(0)  # nobody waits for an answer
            self.started = time.process_time()

    value_model = LlamaForSequenceClassification.from_pretrained(folder, num_labels=1)
    value_model.model.requires_grad_(False)
    batch = options["batch"]
    with tempfile.TemporaryDirectory() as output:
        args = TrlConfig(
            output_dir=output, total_episodes=batch * (options["rounds"] + 1), response_length=options["tokens"], stop_token="eos",
            per_device_train_batch_size=batch, gradient_accumulation_steps=1, local_rollout_forward_batch_size=batch,
            num_mini_batches=batch // options["minibatch"], num_ppo_epochs=options["epochs"], temperature=1.0, learning_rate=LR, kl_coef=KL,
            vf_coef=0.5, missing_eos_penalty=None, num_sample_generations=0, gradient_checkpointing=False, bf16=False, use_cpu=True,
            report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        ids = tokenizer([TEMPLATE.format(prompt=prompt) for prompt in prompt_texts(256)]).input_ids
        TrlTrainer(
            args=args,
            processing_class=tokenizer,
            model=LlamaForCausalLM.from_pretrained(folder),
            ref_model=None,
            reward_model=LlamaForSequenceClassification.from_pretrained(folder, num_labels=1),
            value_model=value_model,
            train_dataset=Dataset.from_dict({"input_ids": ids * 8}),
            eval_dataset=Dataset.from_dict({"input_ids": ids[:2]}),
            callbacks=[Turn()],
            peft_config=LoraConfig(**LORA),
        ).train()


def measure(folder: str, setting: Setting, rounds: int, with_trl: bool) -> dict[str, Any]:
    """Medians over `rounds` steps of each side, in ms of CPU time an episode; sides take turns, in changing order."""
    prompts = prompt_texts(256)
    sides: dict[str, Any] = {"ours": Ours(folder, setting, prompts), "plain": Plain(folder, setting, prompts)}
    if with_trl:
        sides["trl"] = Trl(folder, setting, rounds)
    times: dict[str, list[float]] = {name: [] for name in sides}
    lengths: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name in list(sides) if turn % 2 else list(sides)[::-1]:
            if name == "trl":
                seconds, length = sides[name].step()
            else:
                started = time.process_time()
                length = sides[name].step()
                seconds = time.process_time() - started
            if turn:
                times[name].append(1000 * seconds / setting.batch)
                lengths[name].append(length)
    result: dict[str, Any] = {"setting": vars(setting)}
    for name in ("ours", "plain", "trl"):
        result[f"ms_per_episode_{name}"] = round(statistics.median(times[name]), 3) if name in sides else None
        result[f"reply_length_{name}"] = round(statistics.mean(lengths[name]), 2) if name in sides else None
    for name in ("plain", "trl"):
        ratios = [theirs / ours for theirs, ours in zip(times.get(name, []), times["ours"], strict=False)]
        result[f"speedup_over_{name}"] = round(statistics.median(ratios), 3) if ratios else None
    if with_trl:
        sides["trl"].close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute: one setting, few rounds")
    parser.add_argument("--rounds", type=int, default=12, help="counted steps of each side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--install-trl", action="store_true", help=f"install trl==1.12.0 aside, in {TRL.parent.name}/{TRL.name}")
    parser.add_argument("--trl-child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.trl_child:
        trl_child(json.loads(options.trl_child), options.threads)
        return
    if options.install_trl and not TRL.is_dir():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(TRL), "trl==1.12.0"], check=True)
    with_trl = TRL.is_dir()
    rounds = 2 if options.quick else options.rounds
    settings = SETTINGS[1:] if options.quick else SETTINGS
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(options.threads)
        build(folder, steps=40 if options.quick else 150)
        results = [measure(folder, setting, rounds, with_trl) for setting in settings]
        parameters = LlamaForCausalLM.from_pretrained(folder).num_parameters()

    print(f"PPO, {parameters:,} parameters, {options.threads} thread(s), {rounds} steps a side in turns; median ms of CPU time an episode")
    if not with_trl:
        print("TRL 1.12.0 is not here: --install-trl puts it aside, in .bench/, where it does not meet the installed trl")
    heads, widths = ("ours", "plain", "TRL", "plain/ours", "TRL/ours"), (8, 8, 8, 12, 10)
    print(
        f"{'batch / minibatch / epochs / tokens':<36}"
        + "".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True))
        + "   reply lengths"
    )
    for r in results:
        s = r["setting"]
        cells = [r[f"ms_per_episode_{name}"] for name in ("ours", "plain", "trl")] + [r["speedup_over_plain"], r["speedup_over_trl"]]
        row = "".join(f"{'-' if x is None else format(x, '.2f'):>{w}}" for x, w in zip(cells, widths, strict=True))
        shape = f"{s['batch']} / {s['minibatch']} / {s['epochs']} / {s['tokens']}"
        print(f"{shape:<36}{row}   " + " ".join(str(r[f"reply_length_{name}"]) for name in ("ours", "plain", "trl")))
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {"peft": peft.__version__, "trl": "1.12.0" if with_trl else None}
    head = {k: v for k, v in results[0].items() if k.startswith(("ms_", "speedup_"))}
    print(json.dumps(head | {"model_parameters": parameters, "threads": options.threads, "versions": versions, "settings": results}))


if __name__ == "__main__":
    run_script(main)
