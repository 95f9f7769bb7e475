"""What would stop on a GPU or an Apple laptop stops here: what computes runs on a pretended device, and gives the CPU's numbers."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from pretended_device import pretended
from test_methods import QUICK, bench
from test_text_classifier import save as save_encoder
from tiny import ADAPTERS, PROMPTS, kinds, language_model
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig, Preset, SmallWorldRewards, TextRewards
from emorl_lite.base.scores import as_scores
from emorl_lite.base.weights import check_weights, weight_rows
from emorl_lite.data.datasets import Dataset
from emorl_lite.ensemble import EnsembleLM, LayerEnsemble, PrefixTree
from emorl_lite.ensemble.tree_cache import TreeCache
from emorl_lite.exact import exact_map
from emorl_lite.exercises.plain import plain
from emorl_lite.lm import LanguageModel, average_parameters, choose_device, lora_layers
from emorl_lite.lm.forward import folded
from emorl_lite.methods import make_method
from emorl_lite.methods.conditioning import Conditioning
from emorl_lite.rewards.metrics import evaluation_metrics
from emorl_lite.rewards.objectives import Fluency
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.probes import equal_form
from emorl_lite.rewards.small_world_judge import labelled, read_pairs, train_classifier
from emorl_lite.rewards.text_judge import TextClassifier, train_text_classifier
from emorl_lite.search.statistics import confirm
from emorl_lite.study.divergence import sampled_replies
from emorl_lite.training import PPOTrainer
from emorl_lite.tutorial import notebook

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WEIGHTS = (0.2, 0.5, 0.3)
REPLIES = ["w1 w2 w3", "w4", "", "w5 w6 […]"]


# -- the pretended device itself

MIXED: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "a sum": lambda x, c: x + c,
    "weights": lambda x, c: torch.einsum("n,nb->b", c[:, 0], x),
    "a choice": lambda x, c: torch.where(x > 0, c, x),
    "a mask": lambda x, c: x.masked_fill(c > 0, 0.0),
    "rows together": lambda x, c: torch.cat([x, c]),
    "a lookup": lambda x, c: x.gather(1, c.long()),
    "an embedding": lambda x, c: F.embedding(c.long(), x),
    "a product": lambda x, c: x @ c.T,
    "a layer": lambda x, c: nn.Linear(4, 2)(x),
    "values put in": lambda x, c: x.index_put((torch.tensor([0]),), c[:1]),
    "an index on the device": lambda x, c: c[torch.zeros(1, dtype=torch.long, device=x.device)],
    "a number on the device": lambda x, c: c * x.sum(),
    "an array": lambda x, c: np.asarray(x),
    "an array's own": lambda x, c: x.numpy(),
    "a generator": lambda x, c: torch.rand(2, device=x.device, generator=torch.Generator()),
    "a gradient": lambda x, c: F.mse_loss(nn.Linear(4, 2).to(x.device)(x), c[:, :2]),
}
ALLOWED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "a single number": lambda x, c: x + c.sum(),
    "an index on the CPU": lambda x, c: x[torch.tensor([0, 1])],
    "a mask as index": lambda x, c: x[c > 0],
    "a copy": lambda x, c: x.copy_(c),
    "moved": lambda x, c: x + c.to(x.device),
    "like another": lambda x, c: x + c.to(x),
    "made there": lambda x, c: x + torch.eye(3, 4, device=x.device) + torch.zeros_like(x) + x.new_ones(4),
    "a constant": lambda x, c: torch.where(x > 0, 0.0, x),
}


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_device_refuses_what_a_real_one_refuses_and_nothing_else(device):
    with pretended(device) as place:
        for name, meet in MIXED.items():
            with pytest.raises((RuntimeError, TypeError), match=r"device|cpu"):
                meet(torch.ones(3, 4, device=place), torch.ones(3, 4))
                pytest.fail(f"{name} is allowed", pytrace=False)
        for name, meet in ALLOWED.items():
            assert meet(torch.ones(3, 4, device=place), torch.ones(3, 4)).device == place, name
        assert torch.ones(2, device=place).cpu().numpy().tolist() == [1.0, 1.0]


def test_gradients_and_optimizers_run_there():
    with pretended("cuda") as place:
        layer = nn.Linear(4, 2).to(place)
        before, optimizer = layer.weight.tolist(), torch.optim.AdamW(layer.parameters(), fused=True)
        F.cross_entropy(layer(torch.ones(3, 4, device=place)), torch.zeros(3, dtype=torch.long, device=place)).backward()
        optimizer.step()
        assert layer.weight.grad.device == place and layer.weight.tolist() != before


@pytest.mark.parametrize(
    "widen",
    [
        lambda x: x.double().cpu(),
        lambda x: x.to("cpu", torch.float64),
        lambda x: torch.tensor([0.5], dtype=torch.float64, device=x.device),
        lambda x: torch.as_tensor(np.ones(2), device=x.device),
        lambda x: torch.ones(2, dtype=torch.float64).to(x.device),
    ],
)
def test_an_apple_gpu_has_no_double_precision(widen):
    with pretended("mps") as place:
        x = torch.ones(2, device=place)
        assert x.cpu().double().dtype == torch.float64
        with pytest.raises(TypeError, match="float64"):
            widen(x)


# -- the package: each step gives what it gives on the CPU


def reply_logits(lm: LanguageModel, ask: Callable[..., Any]) -> torch.Tensor:
    """Logits of given replies."""
    return ask(lm.encode(PROMPTS), *lm.encode_replies(REPLIES))[0]


def averaged(lm: LanguageModel, how: str) -> list[str]:
    average_parameters(lm, ADAPTERS, WEIGHTS, name="average", how=how)
    lm.use("average")
    with folded(lm):
        return lm.reply(PROMPTS)


def tree(lm: LanguageModel, weights: Any = WEIGHTS, **options: Any) -> list[list[str]]:
    return PrefixTree(lm, ADAPTERS, PROMPTS, max_new_tokens=4, **options).replies(weights)


def there(lm: LanguageModel, weights: Any) -> torch.Tensor:
    """Weights that somebody computed on the device."""
    return torch.tensor(weights, device=lm.device)


STEPS: dict[str, Callable[[LanguageModel], Any]] = {
    "reply": lambda lm: lm.reply(PROMPTS),
    "log-probabilities": lambda lm: lm.score_texts(PROMPTS, REPLIES)[0],
    "hidden states": lambda lm: lm.forward_reply(lm.encode(PROMPTS), *lm.encode_replies(REPLIES), hidden=True)[1],
    "ensemble": lambda lm: EnsembleLM(lm, ADAPTERS, WEIGHTS).reply(PROMPTS),
    "ensemble, weights there": lambda lm: EnsembleLM(lm, ADAPTERS, there(lm, WEIGHTS)).reply(PROMPTS, there(lm, [WEIGHTS] * len(PROMPTS))),
    "ensemble, beams": lambda lm: EnsembleLM(lm, ADAPTERS, WEIGHTS).reply(PROMPTS[:2], num_beams=2),
    "logits": lambda lm: reply_logits(lm, EnsembleLM(lm, ADAPTERS, WEIGHTS, mix="logits").forward_reply),
    "probabilities": lambda lm: reply_logits(lm, EnsembleLM(lm, ADAPTERS, WEIGHTS, mix="probabilities").forward_reply),
    "layers": lambda lm: LayerEnsemble(lm, ADAPTERS, 1, WEIGHTS).reply(PROMPTS),
    "exact average": lambda lm: averaged(lm, "exact"),
    "soup": lambda lm: averaged(lm, "soup"),
    "tree": tree,
    "tree, weights there": lambda lm: tree(lm, there(lm, WEIGHTS)),
    "tree, probabilities": lambda lm: tree(lm, mix="probabilities"),
    "tree, samples": lambda lm: tree(lm, samples=2),
    "tree, few rows": lambda lm: tree(lm, max_rows=40),
    "map": lambda lm: exact_map(PrefixTree(lm, ADAPTERS[:2], PROMPTS[:2], max_new_tokens=3)).shares().to_dict("list"),
    "metrics": lambda lm: {name: metric(PROMPTS, REPLIES) for name, metric in evaluation_metrics(lm).items()},
    "fluency": lambda lm: Fluency(lm, 3.0)(PROMPTS, REPLIES),
}


def on(device: str, kind: str, work: Callable[[LanguageModel], Any]) -> Any:
    """What `work` gives with a random tiny model on this device."""
    with pretended(device) if device != "cpu" else contextlib.nullcontext():
        lm = language_model(kind, adapters=len(ADAPTERS))
        lm.model.to(device)
        result = work(lm)
        assert lm.device.type == device
    return result


def same(one: Any, two: Any) -> None:
    """Raises AssertionError unless both are equal; numbers up to rounding."""
    if isinstance(two, dict):
        assert list(one) == list(two)
        for key in two:
            same(one[key], two[key])
    elif isinstance(two, torch.Tensor):
        assert_close(one, two, rtol=1e-3, atol=1e-4)
    else:
        assert one == two


@kinds("llama", "t5", "gpt2")
@pytest.mark.parametrize("step", STEPS)
def test_a_step_on_a_device_is_the_step_on_the_cpu(step, kind):
    if kind == "t5" and step == "layers":
        pytest.skip("for decoder-only models")
    here = on("cpu", kind, STEPS[step])
    for device in ("cuda", "mps"):
        same(on(device, kind, STEPS[step]), here)


@pytest.mark.parametrize("step", ["log-probabilities", "probabilities", "tree", "soup"])
def test_half_precision_runs_there(step):
    def halved(lm: LanguageModel) -> Any:
        lm.model.to(torch.bfloat16)
        return STEPS[step](lm)

    same(on("cuda", "llama", halved), on("cpu", "llama", halved))


def test_auto_takes_the_device_that_is_there():
    for kind, dtype in (("cuda", torch.bfloat16), ("mps", torch.float32)):
        with pretended(kind):
            assert choose_device() == (torch.device(kind), dtype)
            (other,) = {"cuda", "mps"} - {kind}
            with pytest.raises(UserError, match=f"--model.device {other}: this machine has no"):
                choose_device(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_read_from_any_device_and_type(dtype):
    with pretended("mps") as place:
        x = torch.tensor([0.25, 0.5, 0.75], dtype=dtype, device=place)
        assert check_weights(x, 3).tolist() == weight_rows(x, 3)[0].tolist() == weight_rows(list(x), 3)[0].tolist() == [0.25, 0.5, 0.75]
        assert weight_rows([x[0], 0.5, 0.75], 3)[0].tolist() == [0.25, 0.5, 0.75]
        assert as_scores(x, REPLIES[:3], "r").tolist() == [0.25, 0.5, 0.75]
        assert confirm({"a": 0.5}, {"a": x}).fresh[0] == 0.5
        assert plain(x) == [0.25, 0.5, 0.75], "an exercise's answer"


# -- training


def trained(lm: LanguageModel, folder: Path, **options: Any) -> dict[str, Any]:
    """The log and the replies of two steps: the second by another trainer, which goes on from the first one's checkpoint."""
    steps: dict[str, Any] = {"batch_size": 4, "minibatch_size": 4, "epochs": 1, "k": 2, "validate_every": 1, "checkpoint_every": 1}
    config = PPOConfig(episodes=8, **steps | options)

    def reward(prompts: list[str], replies: list[str]) -> torch.Tensor:
        return torch.tensor([len(reply) / 50 for reply in replies], device=lm.device, requires_grad=True)

    def trainer() -> PPOTrainer:
        return PPOTrainer(lm, "new", reward, PROMPTS, config, folder=folder, validation_prompts=PROMPTS[:2], progress=False)

    def stop() -> dict[str, float]:
        raise KeyboardInterrupt

    first = trainer()
    one_step = first.step
    first.step = lambda: stop() if first.steps else one_step()
    with pytest.raises(KeyboardInterrupt):
        first.train()
    log = trainer().train().drop(columns="seconds")
    assert len(log) == 2
    lm.remove_adapter("new")
    lm.load_adapter(folder, "again")
    return {"replies": lm.reply(PROMPTS), **{name: torch.tensor(log[name].astype(float)).nan_to_num() for name in log}}


@kinds("llama", "t5", "gpt2")
@pytest.mark.parametrize("estimator", ["ppo", "rloo"])
def test_training_goes_on_and_is_kept_there(estimator, kind, tmp_path):
    here = on("cpu", kind, lambda lm: trained(lm, tmp_path / "cpu", estimator=estimator))
    for device in ("cuda", "mps"):
        same(on(device, kind, lambda lm: trained(lm, tmp_path / device, estimator=estimator)), here)  # noqa: B023


METHODS = ["clp-full", "panacea", "dera"]
SLOW_METHODS = ["clp-attention", "clp-logit", "clp-kl", "prompted", "uniform-wide", "dynaopt", "c-dynaopt", "linear-pool", "mod-reverse"]
SLOW_METHODS += ["mod-forward", "linear-pool-long", "mod-reverse-long", "mod-forward-long", "personalized-soups-long"]
SLOW_METHODS += ["exact-average", "rewarded-soups", "personalized-soups", "emorl-long", "panacea-tchebycheff"]


@pytest.mark.parametrize("name", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_METHODS)])
def test_a_method_trains_and_replies_there(name):
    config = replace(QUICK, episodes=8, epochs=1)
    with pretended("mps" if name in METHODS[:1] else "cuda") as place:
        lm = language_model("llama")
        lm.model.to(place)
        method = make_method(name, bench(lm, config=config))
        method.prepare()
        setting = None if method.knob == "none" else method.settings(1)[0]
        texts, divergence = sampled_replies(method, PROMPTS, setting)
        assert len(method.reply(PROMPTS, setting)) == len(texts) == len(PROMPTS)
        assert divergence.isfinite().all()


# -- rewards


def judged(lm: LanguageModel) -> torch.Tensor:
    """Scores of a small-world classifier that was trained here."""
    read = read_pairs(lm, PROMPTS * 2, REPLIES * 2)
    config = replace(SmallWorldRewards(), classifier_epochs=1, classifier_batch=4)
    classifier, _ = train_classifier(lm, read, [0.0, 1.0, 0.5, 1.0] * 2, config)
    return classifier.scores(PROMPTS, REPLIES)


def test_the_small_world_classifiers_learn_and_judge_there():
    here = on("cpu", "llama", judged)
    for device in ("cuda", "mps"):
        same(on(device, "llama", judged), here)


def test_text_classifiers_learn_and_judge_there(tmp_path):
    pairs = [Pair("i feel sad .", reply, "made") for reply in ("you feel sad .", "what is it ?")]
    config = replace(TextRewards(), text_epochs=2, text_batch=2, text_tokens=32)

    def scores(device: str) -> torch.Tensor:
        classifier, _ = train_text_classifier(save_encoder(tmp_path / device), pairs, [1.0, 0.0], config, device=device)
        classifier.save(tmp_path / f"{device} trained")
        again = TextClassifier.restore(tmp_path / f"{device} trained", device)
        assert classifier.device.type == again.device.type == device
        return again.scores([pair.prompt for pair in pairs], [pair.reply for pair in pairs])

    here = scores("cpu")
    for device in ("cuda", "mps"):
        with pretended(device):
            assert_close(scores(device), here)


# -- the breaks that these tests are for


def train(lm: LanguageModel) -> None:
    config = replace(QUICK, episodes=4, epochs=1)
    PPOTrainer(lm, "new", lambda prompts, replies: [0.5] * len(replies), PROMPTS, config, progress=False).train()


def train_gates(lm: LanguageModel) -> None:
    make_method("clp-full", bench(lm, config=replace(QUICK, episodes=4, epochs=1))).prepare()


def left_behind(lm: LanguageModel) -> None:
    """One matrix of the newest adapter on the CPU."""
    lora_layers(lm)[-1].lora_B[lm.adapters[-1]].cpu()


BREAKS: dict[str, tuple[Any, str, Callable[..., Any], Callable[[LanguageModel], Any]]] = {
    "weights": (EnsembleLM, "_rows_of_weights", lambda plain, *args: plain(*args).cpu(), STEPS["ensemble"]),
    "replies": (LanguageModel, "encode_replies", lambda plain, *args: [x.cpu() for x in plain(*args)], STEPS["log-probabilities"]),
    "paths": (TreeCache, "read_tokens", lambda plain, cache, rows, paths: plain(cache, rows, paths.cpu()), STEPS["tree"]),
    "gates": (Conditioning, "current", lambda plain, *args: plain(*args).cpu(), train_gates),
    "critic": (PPOTrainer, "_take_parameters", lambda plain, trainer: (plain(trainer), trainer.value_head.cpu()), train),
    "old values": (PPOTrainer, "_old_values", lambda plain, *args: plain(*args).cpu(), train),
    "adapter": (LanguageModel, "add_adapter", lambda plain, lm, *args, **more: (plain(lm, *args, **more), left_behind(lm)), train),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_tensor_left_on_the_cpu_is_found(name, monkeypatch):
    owner, function, broken, work = BREAKS[name]
    plain = getattr(owner, function)
    monkeypatch.setattr(owner, function, lambda *args, **more: broken(plain, *args, **more))
    with pytest.raises((RuntimeError, UserError), match="device"):
        on("cuda", "llama", work)


# -- the notebooks' own cells

CELLS = {
    "01": [
        *("client = world.clients(1", "views = {", "mine = world.reply(", "parts = []", "states = lm.model(", "Encoder(lm).to("),
        *("def cross_entropy(", "def read(", "(lm, support)", "ablation = ", "rewards = experiment.rewards", "score_of = {"),
        *("reflection = experiment", 'same_form["score"]', "ppl = "),
    ],
    "02": [
        "five_steps = replace(",
        "TOLERANCE = ",
        "def read(rollout",
        "all_ref_logp = ",
        "at_each = ",
        "critic = student",
        "later = t[None",
        "moved = values",
        "white = (adv",
        "measures = [logp",
        "kept_weights = ",
        "first = ratios()",
        "class Options",
        "last_replies = train(",
        "def dropout(rollout",
        "def rollout_of(",
        "logs = experiment.train_all()",
        "replies = {name: experiment.policy_replies",
    ],
    "03": [
        "def states(",
        "def equal(",
        "def likeliest(",
        "mixed = W @ f",
        "weights=(1 / 3",
        "torch.einsum(",
        "def reply_by_hand(",
        "torch.eye(",
        "(c * mixed).softmax",
        "lora_layers(lm)[0]",
        "def merged_scores(",
    ],
    "06": [
        "client, k = prompts[0], 4",
        "grpo = mean",
        "group_reading(",
        "mean_a, mean_b",
        "def change(name",
        "by_logits =",
        ".mean(1).numpy()",
        "of_words = ",
    ],
    "07": [
        "gates = torch.cat(",
        "head.prepare()",
        "clp.prepare()",
        "scores.numpy()",
        "by_gates =",
        "torch.tensor(some)",
        "torch.diag(g[0])",
        "def first_word(",
        "scores[:, names.index(",
        "np.fill_diagonal(mix, own)",
        "soups.prepare()",
        "backbone, merged = ",
        "drawn = draw_pairs(",
        "guided.prepare()",
        "guided.replies_at(",
    ],
}
"""Cells of each notebook that compute with a model's tensors, by what stands in them."""
ON_THE_CPU = ["direction = torch.tensor(", "torch.tensor(EXPLORATION", "level_comparison(", "curves = []"]
"""Cells whose tensors no model made: weights to try, scores of rewards."""


def cells(book: str) -> list[str]:
    """The code of a notebook, without Colab's cell and the exercises."""
    (path,) = NOTEBOOKS.glob(f"{book}_*.ipynb")
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [cell.source for cell in code if not {"colab", "exercise", "check"} & set(cell.metadata.get("tags", []))]


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Notebooks in short: four texts at a time, eight prompts of training, and everything that is written goes to a folder of its own."""
    prompts = Dataset.prompts
    monkeypatch.setattr(Dataset, "prompts", lambda self, split: prompts(self, split)[:8])
    monkeypatch.setattr("emorl_lite.tutorial.size", lambda preset, tiny, real: 4)
    monkeypatch.setattr("emorl_lite.rewards.labelled", lambda world, n, split: labelled(world, min(n, 48), split))
    monkeypatch.setattr("emorl_lite.rewards.equal_form", lambda world, n: equal_form(world, min(n, 8)))
    for name in ("display", "Markdown", "HTML"):
        monkeypatch.setattr(f"IPython.display.{name}", lambda *shown: None)
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path))
    monkeypatch.setenv("EMORL_RUN", "reference")
    monkeypatch.setenv("TQDM_DISABLE", "1")


def read(book: str, device: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a notebook's set-up and its cells in CELLS with the model on this device; returns its variables."""
    plain = notebook.get_preset

    def there(name: str) -> Preset:
        preset = plain(name)
        return replace(preset, model=replace(preset.model, device=device, dtype=dtype))

    monkeypatch.setattr(notebook, "get_preset", there)
    space: dict[str, Any] = {"__name__": "__main__", "sys": sys, "display": lambda *shown: None}
    chosen = [cell for cell in cells(book) if "open_run(" in cell or any(mark in cell for mark in CELLS[book])]
    assert len(chosen) == len(CELLS[book]) + 1
    for cell in chosen:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(cell, f"<notebook {book}>", "exec"), space)
        if "open_run(" in cell and "bench" in space:
            space["bench"] = replace(space["bench"], ppo=replace(space["bench"].ppo, episodes=8, batch_size=8, minibatch_size=8))
    return space


SHORT, LONG = [("01", "bfloat16"), ("02", "float32"), ("03", "bfloat16")], [("06", "float32"), ("07", "float32")]


@pytest.mark.parametrize(("book", "dtype"), [*SHORT, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)])
def test_a_notebooks_own_tensors_lie_where_the_model_does(book, dtype, few, monkeypatch):
    with pretended("cuda"):
        space = read(book, "cuda", dtype, monkeypatch)
        assert space["experiment"].lm.device.type == "cuda"


def test_no_cell_with_tensors_is_left_out():
    with_tensors = re.compile(r"(?<!from )\btorch\.(?!manual_seed|no_grad)\w|\.numpy\(\)|forward_reply|lm\.head|lora_layers\(")
    for book, marks in CELLS.items():
        left = [cell for cell in cells(book) if with_tensors.search(cell) and not any(mark in cell for mark in [*marks, *ON_THE_CPU])]
        assert not left, left[0]
