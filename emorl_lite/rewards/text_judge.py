"""Reward classifiers of real text: a pretrained encoder reads client statement and reply together and gives one score in [0, 1].

Ours is fine-tuned by LoRA, so that what is kept is small: the encoder itself (MiniLM, RoBERTa, ...) is loaded from where it is. A
classifier from a hub is used as it is. Shapes: N pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.fingerprint import tensors_digest
from emorl_lite.base.paths import how_to_get, resolve
from emorl_lite.base.presets import TextRewards
from emorl_lite.base.quiet import quietly
from emorl_lite.base.texts import check_pairs
from emorl_lite.lm.devices import choose_device, half_precision
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.lm.text import Words
from emorl_lite.rewards.classifier_store import check_fits, need, read_classifier, save_classifier
from emorl_lite.rewards.pairs import Pair, fit, steps


class PairHead(nn.Module):
    """Score of a pair from an encoder's last hidden states: their means over statement and reply, the product of both, and the first state.

    Sentence encoders such as MiniLM keep a text's meaning in the mean of its states; the first state alone would have to be taught anew.
    """

    def __init__(self, width: int, hidden: int = 128):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4 * width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, states: Tensor, prompt: Tensor, reply: Tensor) -> Tensor:
        """Logits [N] from states [N, T, d] and the masks [N, T] of the two texts."""

        def mean(mask: Tensor) -> Tensor:
            return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)

        p, r = mean(prompt), mean(reply)
        return self.layers(torch.cat([p, r, 10 * p * r, states[:, 0]], 1)).squeeze(-1)


class TextClassifier:
    """score(prompts, replies) -> [N] in [0, 1].

    With a `head`: an encoder and our head, trained here. Without: a finished classifier. Its one output becomes a score by a sigmoid or, if
    the model calls itself a regression, by clamping it to [0, 1] (as the paper does with its empathy classifier); of two outputs the
    second's probability is the score. Raises UserError for any other number of labels.
    """

    def __init__(self, model: Any, tokenizer: Any, encoder: str, max_tokens: int = 256, head: PairHead | None = None):
        self.model, self.tokenizer, self.encoder, self.head = model, tokenizer, encoder, head
        self.words = Words(tokenizer, [])
        room = getattr(model.config, "max_position_embeddings", None) or max_tokens
        self.max_tokens = int(min(tokenizer.model_max_length, room - 2, max_tokens))
        self.labels = 1 if head is not None else int(model.config.num_labels)
        if self.labels not in (1, 2):
            raise UserError(f"classifier {encoder!r} has {self.labels} labels: a reward needs one (a score) or two (no, yes)")
        self.regression = head is None and self.labels == 1 and model.config.problem_type in ("regression", None)

    @classmethod
    def load(cls, path: str, max_tokens: int = 256, device: str = "auto") -> TextClassifier:
        """A finished classifier from a local folder or the hub. No remote code, safetensors only."""
        model, tokenizer = _pretrained(AutoModelForSequenceClassification, path, device, whole=True)
        return cls(model, tokenizer, path, max_tokens)

    @classmethod
    def fresh(cls, encoder: str, r: int, alpha: int, max_tokens: int, seed: int = 0, device: str = "auto") -> TextClassifier:
        """A pretrained encoder with LoRA on every linear layer, and a new head."""
        base_model, tokenizer = _pretrained(AutoModel, encoder, device)
        torch.manual_seed(seed)
        lora = LoraConfig(r=r, lora_alpha=alpha, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
        head = PairHead(base_model.config.hidden_size).to(next(base_model.parameters()).device)
        return cls(quietly(get_peft_model)(base_model, lora), tokenizer, encoder, max_tokens, head)

    @property
    def device(self) -> torch.device:
        """Where the encoder lies."""
        return next(self.model.parameters()).device

    def logits(self, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
        """The output [N] whose sigmoid (regression: the output itself) is the score. Of a pair that is too long, the longer text is cut."""
        prompts, replies = check_pairs(prompts, replies, "classifier")
        statements, texts = self.words.plain(prompts), self.words.plain([reply.removesuffix(UNFINISHED) for reply in replies])
        batch = self.tokenizer(statements, texts, truncation="longest_first", max_length=self.max_tokens, padding=True, return_tensors="pt")
        inputs = {key: value.to(self.device) for key, value in batch.items()}
        with half_precision(self.device):
            outputs = self.model(**inputs)
        if self.head is None:
            logits = outputs.logits.float()
            return logits[:, 0] if self.labels == 1 else logits[:, 1] - logits[:, 0]
        sequence_ids = [[-1 if part is None else part for part in batch.sequence_ids(i)] for i in range(len(texts))]  # 0 statement, 1 reply
        parts = torch.tensor(sequence_ids, device=self.device)
        return self.head(outputs.last_hidden_state.float(), (parts == 0).float(), (parts == 1).float())

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 32) -> Tensor:
        """Scores [N] in [0, 1], on the CPU."""
        logits = self.all_logits(prompts, replies, batch_size)
        return logits.clamp(0, 1) if self.regression else torch.sigmoid(logits)

    @torch.no_grad()
    def all_logits(self, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 32) -> Tensor:
        """`logits` [N] of any number of pairs, on the CPU: in batches of similar length."""
        prompts, replies = check_pairs(prompts, replies, "classifier")
        self.model.eval()
        found = torch.zeros(len(replies))
        order = sorted(range(len(replies)), key=lambda i: len(prompts[i]) + len(replies[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            found[rows] = self.logits([prompts[i] for i in rows], [replies[i] for i in rows]).cpu()
        return found

    def trained(self) -> list[nn.Parameter]:
        """What training changes: LoRA matrices and head."""
        assert self.head is not None
        return [p for p in self.model.parameters() if p.requires_grad] + list(self.head.parameters())

    def state(self) -> dict[str, Tensor]:
        """What was trained: LoRA matrices and head; of a finished classifier everything."""
        if self.head is None:
            return dict(self.model.state_dict())
        return get_peft_model_state_dict(self.model) | {f"head.{name}": x for name, x in self.head.state_dict().items()}

    def made_of(self) -> dict[str, Any]:
        """What tells this classifier from another."""
        return {"encoder": self.encoder, "max_tokens": self.max_tokens, "weights": tensors_digest(self.state())}

    def save(self, folder: Path, losses: pd.DataFrame | None = None, **facts: Any) -> None:
        """Write what was trained, in float16, and which encoder it belongs to."""
        save_classifier(folder, self.state(), self.shape() | facts, losses)

    def shape(self) -> dict[str, Any]:
        """Which encoder what was trained belongs to, and how it is built. For a classifier with a head of ours."""
        lora = self.model.peft_config["default"]
        return {"encoder": self.encoder, "r": lora.r, "alpha": lora.lora_alpha, "max_tokens": self.max_tokens, "probe": self.probe()}

    def probe(self) -> list[float]:
        """A few numbers that tell one encoder from another."""
        matrices = [p for name, p in self.model.named_parameters() if p.dim() == 2 and "lora_" not in name]
        return [round(float(x), 4) for m in (matrices[0], matrices[-1]) for x in m.detach()[:4, 0].float()]

    @classmethod
    def restore(cls, folder: Path, device: str = "auto", **options: Any) -> TextClassifier:
        """Read what `save` wrote. Raises UserError if there is none, if it is damaged, if it was trained with other `options`, or if the
        encoder is another one."""
        facts, tensors = read_classifier(folder, options)
        return cls.of_state(facts, tensors, folder, device)

    @classmethod
    def of_state(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path, device: str = "auto") -> TextClassifier:
        """A classifier of the kept shape (`facts`) and tensors. Raises UserError, with the folder that they lie in, if they do not fit."""
        need(facts, {"encoder": str, "r": int, "alpha": int, "max_tokens": int, "probe": list}, folder)
        classifier = cls.fresh(facts["encoder"], facts["r"], facts["alpha"], facts["max_tokens"], device=device)
        probe = classifier.probe()
        if len(probe) != len(facts["probe"]) or any(abs(a - b) > 1e-3 for a, b in zip(probe, facts["probe"], strict=True)):
            raise UserError(f"{folder}: this classifier was trained on another encoder than {facts['encoder']!r}")
        check_fits(classifier.state(), tensors, folder)
        state = {name: x.float() for name, x in tensors.items()}
        assert classifier.head is not None
        classifier.head.load_state_dict({name.removeprefix("head."): x for name, x in state.items() if name.startswith("head.")})
        set_peft_model_state_dict(classifier.model, {name: x for name, x in state.items() if not name.startswith("head.")})
        classifier.model.eval()
        return classifier


def _pretrained(kind: Any, path: str, device: str, whole: bool = False) -> tuple[Any, Any]:
    """(model, tokenizer) from a local folder or the hub; `whole`: weights that it lacks are an error, not drawn at random."""
    name_or_path = resolve(path)
    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # weights that are left over are announced as a warning
    try:
        target, _ = choose_device(device, "float32")
        torch.manual_seed(0)  # RoBERTa comes without a pooler: its random one must be the same when it is loaded again
        options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
        model, loaded = kind.from_pretrained(name_or_path, **options)
        if whole and loaded["missing_keys"]:
            raise UserError(f"classifier {path!r}: has no trained head ({sorted(loaded['missing_keys'])[0]} is missing)")
        return model.to(target).eval(), AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"classifier {path!r}: {how_to_get(path)} ({one_line(error, 200)})") from error
    finally:
        logging.set_verbosity(level)


def train_text_classifier(
    encoder: str,
    pairs: Sequence[Pair],
    labels: Sequence[float],
    config: TextRewards,
    seed: int = 0,
    device: str = "auto",
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[TextClassifier, float]:
    """Fine-tune an encoder on pairs and their labels [N] in [0, 1]. Returns (classifier, seconds)."""
    classifier = TextClassifier.fresh(encoder, config.text_lora_r, 2 * config.text_lora_r, config.text_tokens, seed, device)
    classifier.model.train()
    seconds = fit(
        classifier.trained(),
        lambda rows: classifier.logits([pairs[i].prompt for i in rows], [pairs[i].reply for i in rows]),
        labels,
        [len(p.prompt) + len(p.reply) for p in pairs],
        epochs=config.text_epochs,
        batch=config.text_batch,
        lr=config.text_lr,
        weight_decay=0.01,
        warm_up=0.1 * steps(len(pairs), config.text_epochs, config.text_batch) + 1,
        floor=0.02,
        seed=seed,
        on_step=on_step,
    )
    classifier.model.eval()
    return classifier, seconds
