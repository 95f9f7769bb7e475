"""The EMORL paper's training as the presets `t5-paper` and `tiny-paper` have it, and every difference that remains.

The paper's side was read in its public code (el_training.py, utils_*.py, dynaopt_lib/ at commit 6b85da3), and where that leaves something
to a library, in the library's defaults; such rows say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from emorl_lite.base.presets import T5_PAPER, TINY_PAPER, Preset
from emorl_lite.methods.dynamic_weights import HISTORY
from emorl_lite.study.comparison import search_replies
from emorl_lite.study.consumed import labelled, spending

PARTS = ("model", "rewards", "ppo", "search", "data", "study")
"""Parts of a preset that its training and its study are made of."""


@dataclass(frozen=True)
class Step:
    """One thing that the paper's training does, and the options that do it here."""

    paper: str
    options: tuple[str, ...]
    """As `part.field` of a preset."""


RECIPE = (
    Step("T5-base, no supervised start", ("model.path", "warm_start.steps")),
    Step("the client's statement, then “ [SEP] ”", ("model.template",)),
    Step("LoRA on every linear layer but the head: r 8, alpha 32", ("model.lora_r", "model.lora_alpha")),
    Step("replies of at most 64 new tokens, in single precision", ("model.max_new_tokens", "model.dtype")),
    Step("3 sampled replies a prompt, each less the mean of the 3 (k-SCST)", ("ppo.estimator", "ppo.k")),
    Step("a score enters as log(clip(score, .0001, .9999))", ("ppo.log_rewards",)),
    Step("fluency: (50 - perplexity) / 50 of statement and reply as one text", ("rewards.fluency_both", "rewards.fluency_cap")),
    Step("16 prompts a step, one step a rollout", ("ppo.batch_size", "study.batch_size")),
    Step("AdamW at a constant rate, with PyTorch's weight decay", ("ppo.lr", "ppo.anneal_lr", "ppo.weight_decay")),
    Step("gradients cut to norm 2", ("ppo.max_grad_norm",)),
    Step("a KL term that has no effect", ("ppo.kl_coef",)),
    Step("every 8 steps 3 sampled replies to each validation prompt", ("ppo.validate_every", "ppo.validation_samples")),
    Step("stop when std / mean of the last 20 validations is below .015", ("ppo.early_stop", "study.patience", "ppo.tolerance")),
    Step("135 points of the search on 32 validation prompts", ("search.method", "search.levels", "search.validation_prompts")),
)
"""What is the same in the paper and in `t5-paper`."""


@dataclass(frozen=True)
class Difference:
    """One thing that `t5-paper` does otherwise than the paper's code."""

    what: str
    paper: str
    here: str
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that the row speaks of, as `part.field`, and their values in the preset."""


DIFFERENCES = (
    Difference(
        "dropout",
        "on all the time, also in rollouts and validations: .05 on the adapters' inputs, and T5's own (.1 by its configuration)",
        "off all the time",
        "a reply must come from the policy that is updated; another mask is another policy",
        {"model.lora_dropout": 0.0},
    ),
    Difference(
        "which words are sampled",
        "the 50 most probable (the default of transformers' generate()), with log-probabilities of all words",
        "all words",
        "else the gradient is not that of the policy that sampled",
        {"ppo.temperature": 1.0},
    ),
    Difference(
        "what the gradient is of",
        "the reply's text read anew, with “[CLS]” put behind it, without the end token",
        "the sampled tokens, the end token among them",
        "a policy that is not told when to end does not learn it; words that were not sampled have no advantage",
    ),
    Difference(
        "the KL term",
        "coefficient .05, but without gradient and times an advantage of mean 0",
        "none",
        "this is what it does",
        {"ppo.kl_coef": 0.0},
    ),
    Difference(
        "when training ends",
        "at the end of the pass over the data in which the rule holds, up to 14 steps later; those steps are not counted",
        "at the validation at which it holds",
        "the count and the adapter belong together",
        {"ppo.early_stop": True},
    ),
    Difference(
        "the most data points",
        "an option of its command; its default, 16 steps, is too few for 20 validations",
        f"{T5_PAPER.study.budget:,}",
        "one standard deviation above what its hungriest method took; a run that reaches it counts as censored",
        {"study.budget": T5_PAPER.study.budget, "ppo.episodes": T5_PAPER.ppo.episodes},
    ),
    Difference(
        "split of the data",
        "the first 80 % of PAIR's prompts, then 10 % and 10 %; a pass leaves out what fills no batch",
        "by a digest of each prompt; passes without a gap",
        "no prompt changes its split when the file does",
        {"data.name": "pair", "data.validation_prompts": 32},
    ),
    Difference(
        "long statements",
        "cut at 128 tokens",
        f"read whole, up to {T5_PAPER.model.max_prompt_tokens} tokens",
        "what the judges read, the policy should read too",
        {"model.max_prompt_tokens": 256},
    ),
    Difference(
        "guards",
        "none",
        "an unfinished reply scores 0, repetition lowers a score",
        "without them a score can be won by running on; both are 1 for an ordinary reply",
        {"rewards.repeat_ngram": 4},
    ),
    Difference(
        "bounds of what is validated",
        "scores are cut to [.0001, .9999] there, too",
        "scores are in [0, 1]; only their logarithms are of cut ones",
        "what is compared is the score; the two differ by .0001 at most",
        {"ppo.log_rewards": True},
    ),
    Difference(
        "reflection's judge",
        "RoBERTa-base trained on PAIR; its weights are not in the repository",
        "the same encoder, fine-tuned with LoRA on PAIR here",
        "the weights cannot be had",
        {"rewards.reflection_model": "FacebookAI/roberta-base"},
    ),
    Difference(
        "what the baselines train",
        "uniform weighting and DynaOpt all parameters, EMORL LoRA",
        "all methods the same LoRA",
        "methods are compared, not numbers of parameters",
        {"model.lora_r": 8},
    ),
    Difference(
        "DynaOpt's weights",
        "1 each until the first raise; a drawn arm is raised at every step until the next validation, eight times",
        "1 / d each; a drawn arm is raised once",
        "its authors' own code raises once",
    ),
    Difference(
        "DynaOpt's improvement",
        "over five measures (coherence and specificity too), against the last 8 scores",
        f"over the objectives, against the last {HISTORY} scores",
        "as its authors' own code has it; coherence's judge has a head of random weights",
    ),
    Difference(
        "what is reported",
        "EMORL greedy, all others sampled",
        "greedy and sampled for all",
        "else decoding is compared with training",
    ),
    Difference(
        "the weights' domain",
        "the cube, 27 points a level, each decoded",
        "the same points; those of one direction are decoded once",
        "the size of weights changes no greedy reply",
        {"search.method": "hierarchical", "search.levels": 5, "search.points_per_axis": 3},
    ),
)
"""Every difference between `t5-paper` and the paper's code that we know of."""


def value(preset: Preset, option: str) -> Any:
    """What a preset says of an option, `part.field`."""
    part, name = option.split(".")
    return getattr(getattr(preset, part), name)


def paper_recipe() -> pd.DataFrame:
    """The paper's training step by step, with the options that do it: in the paper, option, t5-paper, tiny-paper (values as text)."""
    rows = [
        {"in the paper": step.paper, "option": option, **{p.name: shown(value(p, option)) for p in (T5_PAPER, TINY_PAPER)}}
        for step in RECIPE
        for option in step.options
    ]
    return pd.DataFrame(rows)


def remaining_differences() -> pd.DataFrame:
    """Every difference that remains between `t5-paper` and the paper's code: what, the paper, here, why."""
    return pd.DataFrame([{"what": d.what, "the paper": d.paper, "here": d.here, "why": d.why} for d in DIFFERENCES])


SAID_ALREADY = {"model.device", "model.store", "study.budget", "study.validate_every"}
"""Options that say where a model runs and how it is kept, or what another one says."""


def scaled_down() -> pd.DataFrame:
    """What `tiny-paper` sets otherwise: option, t5-paper, tiny-paper; a row for every option that both have, with other values (but those
    of SAID_ALREADY)."""
    rows = []
    for part in PARTS:
        large, small = getattr(T5_PAPER, part), getattr(TINY_PAPER, part)
        for name in (f.name for f in fields(large) if hasattr(small, f.name)):
            if (theirs := getattr(large, name)) != (ours := getattr(small, name)) and f"{part}.{name}" not in SAID_ALREADY:
                rows.append({"option": f"{part}.{name}", T5_PAPER.name: shown(theirs), TINY_PAPER.name: shown(ours)})
    rows.append({"option": "rewards", T5_PAPER.name: _judges(T5_PAPER), TINY_PAPER.name: _judges(TINY_PAPER)})
    return pd.DataFrame(rows)


def figure_2(tables: Mapping[str, pd.DataFrame], preset: Preset) -> pd.DataFrame:
    """The points of the paper's figure 2, of a study with its methods: method (and how its data points are counted), seeds, data_points,
    data_points_std, mean, mean_std; censored: seeds in which a run reached its budget before the rule held.

    `tables`: rows and convergence. Raises UserError without finished single-objective runs.
    """
    search = search_replies(tables["rows"], len(preset.objectives), preset)
    spent = labelled(spending(tables["rows"], tables["convergence"], preset.objectives, search))
    by_method = spent.groupby("method", sort=False)
    points, means = by_method["data_points"], by_method["mean"]
    columns = {"seeds": by_method["seed"].nunique(), "data_points": points.mean(), "data_points_std": points.std()}
    columns |= {"mean": means.mean(), "mean_std": means.std(), "censored": by_method["censored"].sum()}
    return pd.DataFrame(columns).reset_index()


def shown(setting: Any) -> str:
    """An option's value as a table shows it."""
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, tuple):
        return ", ".join(map(str, setting))
    return f"{setting:,}" if isinstance(setting, int) else f"{setting:g}" if isinstance(setting, float) else str(setting).strip() or "none"


def _judges(preset: Preset) -> str:
    """Who scores, in words."""
    models = [getattr(preset.rewards, f"{name}_model", "") for name in ("reflection", "empathy", "fluency")]
    return ", ".join(model for model in models if model) or "the tiny model, and one layer on top"
