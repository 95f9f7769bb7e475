"""GRPO with several rewards: TRL's GRPOTrainer and its `reward_weights`."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from transformers import BatchEncoding

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig
from emorl_lite.lm.forward import half_products
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Knob, Method, Setting, active
from emorl_lite.methods.bench import Cost
from emorl_lite.training.ppo import ESTIMATORS

GROUP = 4
"""Replies to one prompt that are compared with each other."""


class GRPO(Method):
    """Group-relative policy optimisation (arXiv 2402.03300) on sum_i w_i r_i, w = 1/d, by the `trl` library.

    A reply's advantage is its reward less the mean of its group of 4 replies to the same prompt. The paper divides it by the group's
    standard deviation; that would weaken the KL term, which stands in the loss instead of the reward, and make the trade-off another
    than the other methods'. The estimator is TRL's own, and scores enter as they are, without weight decay, whatever the other methods do.
    The budget is counted in replies: GRPO answers a quarter of the prompts, four times each. Learning rate, passes over a batch and replies
    of a gradient step are those of the other policies for equal weights; nothing stops a run early (`kl_stop`, `early_stop`). A run is
    short and starts again if it is stopped. Decoder-only models only (TRL).
    """

    name = "grpo"
    version = 2  # 1: a gradient step a pass over a batch, at the rate of objectives without one of their own
    family = "single policy"
    knob: Knob = "none"
    reference = "arXiv 2402.03300, TRL"
    trains = "one adapter on the mean reward, groups of 4 replies"
    decodes = "one adapter"

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        self.check_possible(self.bench.lm)
        self.check_options(self.bench.ppo)
        return self.bench.kept(self.name, self.marks(), self._train)

    def marks(self) -> dict[str, Any]:
        """What makes a run of this method this run, beside what all methods have in common."""
        return {"group": GROUP} | self.bench.own_rates()

    def aggregation(self) -> dict[str, Any]:
        """Options of TRL's trainer: how rewards become advantages, and the KL's weight in the loss."""
        return {"scale_rewards": "none", "beta": self.bench.kl_coef(self.bench.uniform)}

    @classmethod
    def check_options(cls, ppo: PPOConfig) -> None:
        """Raise UserError for a batch that cannot be cut into groups, or into equal gradient steps."""
        if ppo.batch_size % GROUP:
            raise UserError(f"method {cls.name}: a batch of {ppo.batch_size} replies cannot be cut into groups of {GROUP}")
        _, minibatch, accumulation = gradient_steps(ppo)
        if ppo.batch_size % (minibatch * accumulation):
            raise UserError(
                f"method {cls.name}: a batch of {ppo.batch_size} replies cannot be cut into equal gradient steps: "
                f"minibatch_size {ppo.minibatch_size}, gradient_accumulation {ppo.gradient_accumulation}"
            )

    @classmethod
    def check_possible(cls, lm: LanguageModel) -> None:
        """Raise UserError for an encoder-decoder model, or without TRL."""
        if lm.seq2seq:
            raise UserError(f"method {cls.name}: TRL's trainer is for decoder-only models, {lm.config.path} is an encoder-decoder")
        if find_spec("trl") is None:
            raise UserError(f"method {cls.name} needs TRL: pip install trl")

    def policy(self, setting: Setting = None) -> AbstractContextManager[LanguageModel]:
        """The adapter."""
        return active(self.bench.lm, self.name)

    def _train(self) -> tuple[int, int]:
        from datasets import Dataset, disable_progress_bars
        from transformers import PrinterCallback
        from trl import GRPOConfig, GRPOTrainer

        bench, ppo = self.bench, self.bench.scalarised(self.bench.uniform)
        lm, steps = bench.lm, max(1, ppo.episodes // ppo.batch_size)
        passes, minibatch, accumulation = gradient_steps(ppo)
        there, needed = len(bench.train_prompts), ppo.batch_size // GROUP
        if there < needed:
            raise UserError(f"method {self.name}: a batch of {ppo.batch_size} replies needs {needed} training prompts, there are {there}")
        disable_progress_bars()
        # the trainer's own reference handling wants a model that it made itself: it gets a plain copy of the base
        base = copy.deepcopy(lm.model).unload()
        base.generation_config = copy.deepcopy(lm.decoding.own)  # the trainer takes from it what it does not set
        rows = [{"prompt": p, "client": p} for p in bench.train_prompts]
        d = len(bench.names)
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TRL and transformers rename each other's options
            config = GRPOConfig(
                output_dir=scratch,
                max_steps=steps * passes * ppo.batch_size // (minibatch * accumulation),
                num_iterations=passes,
                generation_batch_size=ppo.batch_size,
                per_device_train_batch_size=minibatch,
                gradient_accumulation_steps=accumulation,
                num_generations=GROUP,
                max_completion_length=lm.config.max_new_tokens,
                learning_rate=ppo.lr,
                lr_scheduler_type="linear" if ppo.anneal_lr else "constant",
                epsilon=ppo.clip,
                temperature=ppo.temperature,
                max_grad_norm=ppo.max_grad_norm,
                reward_weights=[1 / d] * d,
                loss_type="grpo",
                weight_decay=0.0,
                gradient_checkpointing=False,
                disable_dropout=True,  # as the other trainers: the first ratio is 1
                bf16=lm.base.dtype == torch.bfloat16,
                use_cpu=lm.device.type == "cpu",
                seed=bench.seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
                **self.aggregation(),
            )
            trainer = GRPOTrainer(
                base,
                [self._reward(name) for name in bench.names],
                config,
                train_dataset=Dataset.from_list(rows),
                processing_class=filling(lm),
                peft_config=copy.deepcopy(lm.model.peft_config[self.name]),
            )
            trainer.remove_callback(PrinterCallback)
            if set(getattr(trainer, "eos_token_ids", lm.end_ids[:1])) != set(lm.end_ids):  # a release that knows one end only
                raise UserError(
                    f"method {self.name}: this TRL ends replies at one token, {lm.config.path} has {len(lm.end_ids)}: upgrade trl"
                )
            with half_products(LanguageModel(trainer.model, lm.tokenizer, lm.config)):  # where other trainers read in 16 bits
                trainer.train()
            assert trainer.state.global_step == config.max_steps, "TRL made other steps than it was asked for"
        set_peft_model_state_dict(lm.model, get_peft_model_state_dict(trainer.model), adapter_name=self.name)
        lm.model.eval()
        samples = steps * ppo.batch_size
        return samples // GROUP, samples

    def _reward(self, name: str) -> Callable[..., list[float]]:
        """One objective as TRL calls it."""
        bench, column = self.bench, self.bench.names.index(name)

        def reward(completion_ids: list[list[int]], client: list[str], **_: Any) -> list[float]:
            width = max(map(len, completion_ids))
            pad = bench.lm.tokenizer.pad_token_id
            tokens = torch.tensor([ids + [pad] * (width - len(ids)) for ids in completion_ids])
            with torch.autocast("cpu", enabled=False):  # judges read as they always do
                return bench.objectives(client, bench.lm.decode(tokens))[:, column].tolist()

        reward.__name__ = name
        return reward


def gradient_steps(ppo: PPOConfig) -> tuple[int, int, int]:
    """(passes over a batch, replies of a minibatch, minibatches of an optimizer step): those of `PPOTrainer` with the same options, for a
    batch of as many replies; a minibatch is the largest that cuts a step into equal ones."""
    passes, size = ESTIMATORS[ppo.estimator](ppo).steps(ppo.batch_size)
    size = min(size, ppo.batch_size)
    minibatch = max(n for n in range(1, min(ppo.minibatch_size, size) + 1) if size % n == 0)
    return passes, minibatch, size // minibatch


def filling(lm: LanguageModel) -> Any:
    """A copy of the tokenizer that reads a client's words in the template, as every other method reads them: marks in them are letters."""
    tokenizer = copy.deepcopy(lm.tokenizer)  # the trainer may change its padding side
    tokenizer.eos_token_id = lm.end_ids[0]

    def read(_: Any, text: list[str], **__: Any) -> BatchEncoding:
        return BatchEncoding({"input_ids": lm.prompt_ids(text)})

    tokenizer.__class__ = type("Filling", (type(tokenizer),), {"__call__": read})
    return tokenizer
