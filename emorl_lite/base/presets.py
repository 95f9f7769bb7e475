"""What a run is made of: frozen dataclasses, one per part, and the named presets. The command line is made from these same classes.

Beside each field stands what it may be; `Options` checks that whenever one is made. Upper ends are where a run would never end, or where a
number means nothing any more: a rate that no optimizer takes, more prompts or replies than memory holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Annotated, ClassVar, Literal

import tyro

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Called, Distinct, Names, Options, Within, checked
from emorl_lite.base.sizes import MOST_POINTS, check_points

OBJECTIVES = ("reflection", "empathy", "fluency")
"""The paper's objectives."""
MORE_OBJECTIVES = ("brevity", "specificity", "diversity")
"""What the benchmarks measure besides, none with a classifier: few words, words about what the client said, few words said twice."""
Device = Literal["auto", "cpu", "cuda", "mps"]
DataName = Literal["small_world", "pair", "psych8k", "counsel-chat", "table"]
Mix = Literal["hidden", "logits", "probabilities", "harmonic", "parameters"]
"""What of several adapters is mixed: last hidden states, logits (the same under a linear head), probabilities by their mean or by their
harmonic mean, or the parameters."""
OF_PROBABILITIES: tuple[Mix, ...] = ("probabilities", "harmonic")
"""Mixtures that are distributions themselves: weights count by their direction alone, and none is negative."""
SearchMethod = Literal["hierarchical", "hierarchical-simplex", "grid", "random", "bayesian", "ucb", "exact"]

ALL_LAYERS = "all"
"""What `ModelConfig.layers` is unless somebody says otherwise."""
SHARES_OF_LAYERS = {"upper-half": 1 / 2, "upper-third": 1 / 3}
"""Its other names, and which share of a model's layers they are."""

Count = Annotated[int, Within(1, 10**6)]
"""Of things that are all in memory at once: prompts, labelled pairs, points of a search."""
Batch = Annotated[int, Within(1, 10**4)]
"""Replies that go through a model together."""
Passes = Annotated[int, Within(1, 1000)]
"""Over the data."""
Rate = Annotated[float, Within(0, 10, above=True)]
"""A learning rate. Adam's step is about so long in every parameter: 10 destroys any model."""
Factor = Annotated[float, Within(0, 10**6)]
"""A weight, or a threshold that 0 turns off."""
Pause = Annotated[int, Within(0, 10**9)]
"""Steps between two of something; 0: never."""
MOST_STATEMENTS = 50_000
"""Distinct statements of the small world's smallest split that are found within a minute."""
MOST_LEVELS = 52
"""Levels of the published search: at the next one a weight is no exact number any more."""
MOST_BAYESIAN = 1000
"""Points of a Bayesian search: its time grows with their third power."""


@dataclass(frozen=True)
class ModelConfig(Options):
    """The base model and the shape of its adapters."""

    part: ClassVar[str] = "model"

    path: str = "tiny_lm"
    """Base model (safetensors only): the package's own tiny_lm, a local folder, or a hub id."""
    template: str = "<bos>{prompt}<sep>"
    """How a client statement becomes the model's input."""
    max_prompt_tokens: Count = 256
    """Longest input accepted, in tokens of the filled template."""
    max_new_tokens: Annotated[int, Within(1, 10**5)] = 44
    """Longest reply, in tokens. A reply that reaches it without ending is unfinished."""
    lora_r: Annotated[int, Within(1, 1024)] = 8
    """Rank of the LoRA adapters."""
    lora_alpha: Annotated[int, Within(1, 10**5)] = 16
    """LoRA scale numerator (scale = alpha / r)."""
    lora_dropout: Annotated[float, Within(0, 1, below=True)] = 0.0
    """Dropout on the adapter's input (the paper's code: .05)."""
    layers: str = ALL_LAYERS
    """Layers that get adapters: all, upper-half, upper-third, or how many from the top. The lower ones are then the same for the base and
    all adapters, and are read once for them."""
    device: Device = "auto"
    """Where to run; auto prefers a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type; auto is float32 on a CPU, and bfloat16 on a GPU that has it."""
    autocast: bool = False
    """On a CPU with bfloat16 products: read prompts and given replies, and sample an episode's, in bfloat16 (three times as fast); weights
    and other decoding stay float32."""
    store: Literal["float32", "float16"] = "float32"
    """Type in which trained adapters are rounded and kept: half the size, and the same replies before and after."""
    warm_start: str = ""
    """Folder of an adapter that is folded into the base model when it is loaded."""

    def check_together(self) -> None:
        if not self.path.strip():
            raise UserError("--model.path is empty: expected a folder with a model, or a hub id")
        check_template(self.template, self.where("template", self.template))
        if self.layers not in (ALL_LAYERS, *SHARES_OF_LAYERS) and not (self.layers.isdecimal() and 0 < int(self.layers) <= 10**4):
            choices = ", ".join((ALL_LAYERS, *SHARES_OF_LAYERS))
            raise UserError(f"{self.where('layers', self.layers)}: expected {choices}, or a number of layers from the top")


def check_template(template: str, where: str) -> None:
    """Raise UserError for a template without {prompt}, with other fields, or one that cannot be filled."""
    try:
        fields = [(field, spec or "", conversion) for _, field, spec, conversion in Formatter().parse(template) if field is not None]
        if all(field == "prompt" and not conversion and len(spec) <= 4 for field, spec, conversion in fields):
            template.format(prompt="")
        else:
            raise KeyError
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"{where}: the only field is {{prompt}} (a brace is written twice)") from error
    if not fields:
        raise UserError(f"{where}: it has no {{prompt}}, so all replies would be to the same text")


@dataclass(frozen=True)
class RewardConfig(Options):
    """How replies are scored, whoever judges them."""

    part: ClassVar[str] = "rewards"

    fluency_cap: Annotated[float, Within(1, 10**9, above=True)] = 3.0
    """Perplexity at which fluency reaches 0: fluency = (cap - perplexity) / cap, clipped to [0, 1]."""
    brevity_cap: Count = 40
    """Words at which brevity reaches 0: brevity = (cap - words) / cap, clipped to [0, 1]."""
    fluency_both: bool = False
    """Perplexity of the client's statement and the reply, read as one text (the paper's code), instead of the reply alone."""
    repeat_ngram: Passes = 4
    """A `Guarded` reward is multiplied by the share of distinct n-grams of this length (1 for a reply without repetition)."""

    def ready_made(self, objective: str) -> bool:
        """Whether the objective's classifier is one that somebody else trained."""
        return False


@dataclass(frozen=True)
class SmallWorldRewards(RewardConfig):
    """Classifiers of the small world, on what its frozen language model makes of a reply."""

    classifier_examples: Count = 6000
    """Labelled pairs that the classifiers are trained on."""
    classifier_epochs: Passes = 4
    """Passes over them."""
    classifier_batch: Batch = 64
    """Pairs in a classifier's training step."""
    classifier_lr: Rate = 2e-3
    """Classifier's peak learning rate (cosine schedule with warm-up)."""


@dataclass(frozen=True)
class TextRewards(RewardConfig):
    """Classifiers of real counselling replies: pretrained encoders, fine-tuned."""

    reflection_model: str = ""
    """Encoder (hub id or local folder) that is fine-tuned on PAIR's quality levels."""
    empathy_model: str = ""
    """Encoder that is fine-tuned on EPITOME, or, with --rewards.empathy-ready, a classifier used as it is."""
    empathy_ready: bool = False
    """The empathy model is a finished classifier."""
    fluency_model: str = ""
    """Language model whose perplexity measures fluency (empty: the preset's own, before any training)."""
    fluency_context: bool = False
    """Perplexity of the reply given the client's statement, instead of the reply alone."""
    text_epochs: Passes = 3
    """Passes over the labelled pairs."""
    empathy_epochs: Passes = 2
    """The same for empathy, which has more pairs."""
    text_batch: Batch = 16
    """Pairs in a training step."""
    text_lr: Rate = 1e-3
    """Peak learning rate of a classifier's LoRA matrices and head."""
    text_lora_r: Annotated[int, Within(1, 1024)] = 16
    """Rank of a classifier's LoRA matrices."""
    text_tokens: Annotated[int, Within(1, 10**5)] = 160
    """Longest pair a classifier reads, in tokens; of a longer one, the longer text is cut."""
    reflection_warmth: Annotated[float, Within(0, 1)] = 0.0
    """Share of reflection's labelled pairs that are learned with a warm sentence, too, at the same label (0: none, so that a warm reply is
    no reflection)."""
    reflection_members: Annotated[int, Within(1, 100)] = 1
    """Reflection classifiers of different random starts, whose mean logit gives the score."""
    reflection_offset: Annotated[float, Within(-20, 20)] = 0.0
    """Added to that logit: of the training pairs a fifth is good, and what a policy says is judged at better odds."""
    empathy_warmth: Annotated[float, Within(0, 1)] = 0.0
    """Share of PAIR's replies of high quality that empathy's classifier learns from, each with a warm sentence (kind) and without (not;
    0: none, it learns from EPITOME alone)."""

    def check_together(self) -> None:
        if self.empathy_ready and not self.empathy_model:
            raise UserError("--rewards.empathy-ready: needs --rewards.empathy-model, the finished classifier")
        if self.empathy_ready and self.empathy_warmth:
            raise UserError(
                "--rewards.empathy-warmth: with --rewards.empathy-ready the classifier is finished, and learns nothing; choose one"
            )
        if self.fluency_context and self.fluency_both:
            raise UserError("--rewards.fluency-both: with --rewards.fluency-context only the reply counts; choose one of the two")

    def ready_made(self, objective: str) -> bool:
        """Whether the objective's classifier is one that somebody else trained."""
        return objective == "empathy" and self.empathy_ready


@dataclass(frozen=True)
class PPOConfig(Options):
    """One single-objective run. Names and defaults follow cleanrl where it has them."""

    part: ClassVar[str] = "ppo"

    episodes: Annotated[int, Within(1, 10**8)] = 1536
    """Prompts answered in training: the paper's "data points" (its samples are k times as many)."""
    batch_size: Batch = 64
    """Replies in one rollout."""
    minibatch_size: Batch = 32
    """Replies in one gradient step."""
    epochs: Passes = 2
    """Passes over a rollout."""
    lr: Rate = 2e-3
    """Adapter's learning rate."""
    value_lr: Rate = 5e-3
    """Value head's learning rate."""
    anneal_lr: bool = True
    """Lower both learning rates linearly to 0 over the episodes: late steps on near-equal rewards otherwise shake a good policy."""
    clip: Annotated[float, Within(0, 10**6, above=True)] = 0.2
    """Clip range of the probability ratio."""
    value_clip: Annotated[float, Within(0, 10**6, above=True)] = 0.2
    """Clip range of the value's change."""
    vf_coef: Factor = 0.5
    """Weight of the value loss."""
    gamma: Annotated[float, Within(0, 1)] = 1.0
    """Discount."""
    lam: Annotated[float, Within(0, 1)] = 0.95
    """GAE's lambda."""
    kl_coef: Factor = 0.03
    """Weight of the per-token KL to the adapter-free base, inside the reward."""
    temperature: Annotated[float, Within(0.01, 100)] = 1.0
    """Sampling temperature of the rollouts."""
    max_grad_norm: Annotated[float, Within(0, 10**12, above=True)] = 1.0
    """Gradient clipping."""
    gradient_accumulation: Count = 1
    """Minibatches per optimizer step."""
    weight_decay: Factor = 0.0
    """AdamW's weight decay (the paper's code: .01, PyTorch's default)."""
    estimator: Literal["ppo", "rloo", "kscst"] = "ppo"
    """ppo: critic, GAE, clipped losses. Without a critic, k samples a prompt: rloo, whose baseline is the mean of the others; kscst, the
    paper's, the mean of all k."""
    k: Passes = 3
    """Samples a prompt with the estimators rloo and kscst."""
    log_rewards: bool = False
    """Train on log(clip(score, .0001, .9999)), as the paper does (of a weighted sum, on the weighted sum of the logarithms). Logs of
    rewards, validations and comparisons keep the scores themselves."""
    kl_stop: Factor = 0.0
    """Stop when a reply's KL to the base, the mean of three steps, exceeds this many nats (0: never): a guard against hacking."""
    validate_every: Pause = 8
    """Steps between validations (0: never)."""
    validation_samples: Annotated[int, Within(0, 1000)] = 0
    """Replies sampled for each validation prompt (the paper's code: 3); 0: one greedy reply."""
    early_stop: bool = False
    """Stop by the paper's rule: std / mean of the last `patience` validation means below `tolerance`."""
    patience: Count = 20
    """Validations that the rule looks at."""
    tolerance: Factor = 0.015
    """The rule's threshold."""
    checkpoint_every: Pause = 8
    """Steps between checkpoints (0: only at the end)."""
    log_samples: Pause = 2
    """Replies of each step that go into the samples table."""

    def check_together(self) -> None:
        if self.estimator != "ppo" and self.k < 2:
            raise UserError(f"--ppo.k {self.k}: the baseline of {self.estimator} needs at least 2 samples a prompt")
        if self.early_stop and self.patience < 2:
            raise UserError(f"--ppo.patience {self.patience}: the rule of --ppo.early-stop needs at least 2 validations")

    def check(self, validation: bool) -> None:
        """Raise UserError for options that do not go with the data. `validation`: whether there are validation prompts."""
        if self.early_stop and not (validation and self.validate_every):
            raise UserError("--ppo.early-stop: needs validation prompts and --ppo.validate-every above 0")


@dataclass(frozen=True)
class WarmStartConfig(Options):
    """Supervised fine-tuning on the data's own replies before RL; the outcome is an adapter that is folded into the base of all runs."""

    part: ClassVar[str] = "warm_start"

    steps: Pause = 0
    """Training steps (0: none)."""
    batch_size: Batch = 16
    """Replies in a step."""
    lr: Rate = 5e-4
    """Peak learning rate."""
    lora_r: Annotated[int, Within(1, 1024)] = 8
    """Rank of its adapter."""
    max_words: Count = 90
    """Longest client statement, in words."""
    without_high: bool = False
    """Leave out replies of high quality: the base learns the form of a reply, and how to reflect is left for RL to find."""

    @classmethod
    def option(cls, name: str) -> str:
        return f"{cls.part}.{name}"


@dataclass(frozen=True)
class SearchConfig(Options):
    """The search for the ensemble's weights: hierarchical grid search (the paper, section 3.3), or a rival."""

    part: ClassVar[str] = "search"

    levels: Annotated[int, Within(1, MOST_LEVELS)] = 5
    """Levels; the spacing halves at each, 1 / 2**levels at the last."""
    points_per_axis: Annotated[int, Within(3, 10**6)] = 3
    """Points per axis at each level (the paper's 3)."""
    validation_prompts: Count = 32
    """Size of the fixed validation set on which every point is scored."""
    method: SearchMethod = "hierarchical"
    """The paper's search; the same on the simplex; a grid on the simplex; random; Bayesian optimisation (EI, UCB); the exact optimum."""
    mix: Mix = "hidden"
    """What the weights mix: last hidden states (the paper's method; the same as logits), parameters, or next-token probabilities."""
    evaluations: Annotated[int, Within(1, MOST_POINTS)] = 135
    """Most points that a rival of the published search may list."""
    memory: Annotated[float, Within(0, 10**5, above=True)] = 2.0
    """Gigabytes for decoding many weights at once and for an exact search's regions: part by part, so that they fit. Changes no result."""

    def check_together(self) -> None:
        if (self.points_per_axis - 1) ** self.levels > 2**MOST_LEVELS:
            raise UserError(f"--search.levels {self.levels}: the last of {self.points_per_axis} points an axis is finer than numbers are")
        if self.method in ("bayesian", "ucb") and self.evaluations > MOST_BAYESIAN:
            most = f"must be at most {MOST_BAYESIAN:,} for {self.method}, whose time grows with their third power"
            raise UserError(f"--search.evaluations {self.evaluations}: {most}")

    def check_objectives(self, d: int) -> None:
        """Raise UserError where a search by these options cannot be, or never ends, with d objectives; before anything is trained."""
        if d < 2:
            raise UserError(f"search: expected at least 2 objectives, got {d}; with one there is nothing to weigh")
        if self.method == "exact" and self.mix == "parameters":
            reason = "the scores of words are not linear in the weights of averaged parameters"
            raise UserError(f"--search.mix parameters: no exact search ({reason}); take hidden, logits, probabilities or harmonic")
        if self.method == "hierarchical":
            where = f"--search.levels {self.levels}, --search.points-per-axis {self.points_per_axis}"
            check_points(self.levels * self.points_per_axis**d, where, d)
        fewest = {"hierarchical-simplex": d * (d + 1) // 2, "grid": d * (d + 1) // 2}.get(self.method, 1)
        if self.evaluations < fewest:
            raise UserError(
                f"--search.evaluations {self.evaluations}: one level of the {self.method} search has {fewest} points with {d} objectives"
            )


@dataclass(frozen=True)
class StudyConfig(Options):
    """The comparison of all methods, each with the same budget."""

    part: ClassVar[str] = "study"

    budget: Annotated[int, Within(1, 10**8)] = 1536
    """Training prompts of a method, over all its runs (methods called "long": of each of their d runs)."""
    batch_size: Batch = 32
    """Replies in one rollout."""
    validate_every: Pause = 4
    """Steps between validations."""
    weight_steps: Passes = 5
    """The sweep's weights are the grid of spacing 1 / weight_steps on the simplex."""
    level_steps: Passes = 4
    """The same for the comparison of aggregation levels."""
    test_prompts: Count = 192
    """Test prompts that chosen settings are scored on."""
    sweep_prompts: Count = 64
    """Test prompts that every setting of a sweep is scored on."""
    second_judges: bool = False
    """Score a method's replies at its own setting, on all test sets, by judges that nothing is trained on, too (`<objective>_second`)."""
    watch: Annotated[tuple[str, ...], Names(), Distinct()] = OBJECTIVES
    """Objectives that a single-objective run logs beside its own: leave out what is slow to score."""
    samples: Count = 1
    """Replies sampled for each test prompt."""
    utility: Literal["mean", "geometric mean"] = "mean"
    """What makes one setting better than another on validation prompts: the mean of the objectives' mean scores, or their geometric mean,
    which no objective can be given up for. With the latter settings are chosen by the mean, too, in the second place."""
    kl_targets: Annotated[tuple[float, ...], Distinct()] = (0.5, 1.0)
    """KL to the base, in nats a reply, at which all methods are compared."""
    patience: Count = 4
    """Validations that the paper's convergence rule looks at (its code: 20, about a fifth of a run; here a third, for want of more)."""

    def check_together(self) -> None:
        for target in self.kl_targets:
            checked(target, float, [Within(0, 10**6, above=True)], f"--study.kl-targets {target:g}")

    def check(self) -> None:
        """Raise UserError for options that no study can have."""
        if self.validate_every < 1:
            raise UserError(f"--study.validate-every {self.validate_every}: must be positive")
        if self.budget < self.batch_size:
            raise UserError(f"--study.budget {self.budget}: must hold at least one batch of {self.batch_size}")

    def check_objectives(self, d: int) -> None:
        """Raise UserError for a sweep that never ends with d objectives."""
        for name in ("weight_steps", "level_steps"):
            steps = getattr(self, name)
            check_points(math.comb(steps + d - 1, d - 1), self.where(name, steps), d, "settings")


@dataclass(frozen=True)
class DataConfig(Options):
    """Where prompts come from."""

    part: ClassVar[str] = "data"

    name: Annotated[DataName, tyro.conf.arg(name="data", prefix_name=False), Called("--data")] = "small_world"
    """small_world (embedded), pair, psych8k, counsel-chat (their files), or table (any CSV or JSON with prompt and reply columns)."""
    path: Annotated[str, tyro.conf.arg(name="data-path", prefix_name=False), Called("--data-path")] = ""
    """File, for all but the small world; a bare name is also looked for among the fetched data."""
    prompt_column: Annotated[str, tyro.conf.arg(prefix_name=False), Called("--prompt-column")] = "prompt"
    """Column that holds the client's statement (table)."""
    reply_column: Annotated[str, tyro.conf.arg(prefix_name=False), Called("--reply-column")] = "reply"
    """Column that holds the counsellor's reply (table; empty: there is none)."""
    train_prompts: Count = 2048
    """Training prompts."""
    validation_prompts: Count = 32
    """Validation prompts during training."""
    test_prompts: Count = 192
    """Held-out prompts, seen by neither training nor search."""
    validation_from_train: Annotated[int, Within(0, 10**6)] = 0
    """Statements of a file's training split that count as validation's: a tenth of a small file can be too few to choose weights by."""
    max_words: Annotated[int, Within(0, 10**6)] = 0
    """Leave out prompts of more words (0: none): long statements are slow to read."""

    def check_together(self) -> None:
        if self.name == "small_world" and self.path:
            raise UserError(f"{self.where('path', self.path)}: the small world reads no file; say what it is with --data table, pair, ...")
        for split in ("train_prompts", "validation_prompts", "test_prompts"):
            if self.name == "small_world" and getattr(self, split) > MOST_STATEMENTS:
                raise UserError(f"{self.where(split, getattr(self, split))}: the small world has at most {MOST_STATEMENTS:,} to give")
        if self.name == "table" and not self.prompt_column.strip():
            raise UserError("--prompt-column is empty: expected the name of a column")
        if self.name == "table" and self.prompt_column == self.reply_column:
            raise UserError(f"--reply-column {self.reply_column!r}: is the prompts' column too")


@dataclass(frozen=True)
class Preset(Options):
    """A whole experiment."""

    name: Annotated[str, Names()] = "tiny"
    objectives: Annotated[tuple[str, ...], Names(), Distinct()] = OBJECTIVES
    model: ModelConfig = field(default_factory=ModelConfig)
    rewards: SmallWorldRewards | TextRewards = field(default_factory=SmallWorldRewards)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    data: DataConfig = field(default_factory=DataConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    transfer: DataConfig | None = None
    """A second test set, from another source: nothing is trained or chosen on it."""
    kl_coef: Annotated[dict[str, float], Within(0, 10**6)] = field(default_factory=lambda: {"fluency": 0.06})
    """KL weights of single objectives, where they differ from `ppo.kl_coef`."""
    lr: Annotated[dict[str, float], Within(0, 10, above=True)] = field(default_factory=dict)
    """Learning rates of single objectives' own runs, where they differ from `ppo.lr`."""
    methods: Annotated[tuple[str, ...], Names(), Distinct()] = ()
    """Methods that its study compares when none are named; empty: all."""

    @classmethod
    def option(cls, name: str) -> str:
        return "--objectives" if name == "objectives" else f"preset's {name}"

    def check_together(self) -> None:
        """Raise UserError for parts that do not go together."""
        if not self.objectives:
            raise UserError("--objectives is empty: expected at least one")
        self.ppo.check(validation=True)
        self.study.check_objectives(len(self.objectives))
        if self.ppo.early_stop and self.study.patience < 2:
            raise UserError(f"--study.patience {self.study.patience}: the rule of --ppo.early-stop needs at least 2 validations")
        if self.data.name == "small_world" and self.data.max_words:
            raise UserError(f"--data.max-words {self.data.max_words}: the small world's statements are all short")
        columns = (self.data.prompt_column, self.data.reply_column)
        if self.data.name != "table" and columns != (DataConfig.prompt_column, DataConfig.reply_column):
            raise UserError(f"--prompt-column, --reply-column: --data {self.data.name} has its own; they are for --data table")


SMOLLM2 = Preset(
    name="smollm2",
    model=ModelConfig(
        path="SmolLM2-135M-Instruct",
        template="<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
        max_prompt_tokens=160,
        max_new_tokens=32,
        lora_r=2,
        lora_alpha=32,
        autocast=True,
        store="float16",
    ),
    rewards=TextRewards(
        reflection_model="all-MiniLM-L6-v2",
        empathy_model="all-MiniLM-L6-v2",
        fluency_cap=50.0,
        fluency_context=True,
        text_epochs=4,
        reflection_warmth=0.8,
        reflection_members=2,
        reflection_offset=1.0,
        empathy_warmth=0.5,
    ),
    ppo=PPOConfig(
        episodes=512,
        batch_size=32,
        minibatch_size=4,
        epochs=1,
        lr=4e-4,
        value_lr=3e-3,
        kl_coef=0.03,
        kl_stop=20.0,
        validate_every=4,
        checkpoint_every=1,
    ),
    search=SearchConfig(validation_prompts=36),
    data=DataConfig(name="pair", path="pair.csv", validation_prompts=64, test_prompts=64, validation_from_train=16, max_words=70),
    transfer=DataConfig(name="counsel-chat", path="counselchat-data.csv", test_prompts=32, max_words=60),
    study=StudyConfig(
        budget=1536,
        batch_size=32,
        validate_every=4,
        weight_steps=4,
        test_prompts=64,
        sweep_prompts=24,
        second_judges=True,
        watch=("reflection", "empathy"),
        samples=4,
        utility="geometric mean",
        kl_targets=(2.0, 4.0),
    ),
    warm_start=WarmStartConfig(steps=60, without_high=True),
    kl_coef={},
    lr={"empathy": 1e-3},  # the base hardly ever says anything kind: at the others' rate the prompts are too few to find out that it pays
    methods=("base", "uniform", "uniform-short", "gdpo", "emorl", "exact-average", "rewarded-soups", "dera", "mod-forward"),
)
"""SmolLM2-135M-Instruct on PAIR: runs on a CPU, trained adapters are in `data/smollm2`."""

T5_REWARDS = TextRewards(
    reflection_model="FacebookAI/roberta-base",
    empathy_model="MoaazZaki/bert-empathy",
    empathy_ready=True,
    fluency_model="openai-community/gpt2",
    fluency_cap=50.0,
    fluency_context=True,
    text_lr=3e-4,
    text_tokens=256,
)
T5 = Preset(
    name="t5",
    model=ModelConfig(
        path="google-t5/t5-base", template="{prompt} [SEP] ", max_prompt_tokens=256, max_new_tokens=64, lora_r=8, lora_alpha=32
    ),
    rewards=T5_REWARDS,
    ppo=PPOConfig(episodes=12800, batch_size=16, minibatch_size=16, epochs=2, lr=1e-4, value_lr=3e-3, kl_coef=0.05, early_stop=True),
    search=SearchConfig(validation_prompts=32),
    data=DataConfig(name="pair", path="pair.csv", validation_prompts=32, test_prompts=64),
    transfer=DataConfig(name="psych8k", path="psych8k.json", test_prompts=64, max_words=120),
    study=StudyConfig(budget=12800, batch_size=16, validate_every=8, weight_steps=5, test_prompts=64, sweep_prompts=64, patience=20),
    kl_coef={},
)
"""The paper's own models: T5-base without a warm start, RoBERTa, GPT-2. Meant for a GPU and the model hub."""

FIGURE_2 = ("base", "uniform", "dynaopt", "exact-average-long", "emorl-long")
"""The methods of the paper's figure 2. Its soups average parameters exactly; each run of theirs and of EMORL's has a whole budget."""
DATA_POINTS = 48_128
"""The paper's runs have no budget: they go on until its rule stops them. Its hungriest method, DynaOpt, took 31,328 data points on average,
with a standard deviation of 16,736. This is one standard deviation more, rounded up to a validation."""

T5_PAPER = replace(
    T5,
    name="t5-paper",
    model=replace(T5.model, dtype="float32"),
    rewards=replace(T5_REWARDS, fluency_context=False, fluency_both=True),
    ppo=PPOConfig(
        estimator="kscst",
        k=3,
        log_rewards=True,
        episodes=DATA_POINTS,
        batch_size=16,
        minibatch_size=16,
        lr=1e-4,
        anneal_lr=False,
        weight_decay=0.01,
        kl_coef=0.0,  # the paper's .05 has no effect in its code
        max_grad_norm=2.0,
        validate_every=8,
        validation_samples=3,
        early_stop=True,
        patience=20,
        tolerance=0.015,
    ),
    study=replace(T5.study, budget=DATA_POINTS),
    methods=FIGURE_2,
)
"""The paper's own training, as its public code has it: k-SCST on logarithms of rewards, one step a rollout, no KL, and its stopping rule.
`study.recipe` lists every difference that remains."""

TINY = Preset(model=ModelConfig(device="cpu", dtype="float32", store="float16"))  # a GPU gains nothing here, and draws other samples

TINY_PAPER = replace(
    TINY,
    name="tiny-paper",
    model=replace(TINY.model, lora_r=T5_PAPER.model.lora_r, lora_alpha=T5_PAPER.model.lora_alpha),
    rewards=SmallWorldRewards(fluency_both=True),
    ppo=replace(T5_PAPER.ppo, episodes=3072, lr=2e-3, validate_every=2),
    study=replace(TINY.study, budget=3072, batch_size=16, validate_every=2, patience=20),
    kl_coef={},
    methods=FIGURE_2,
)
"""The same training on the tiny model: its size, data, learning rate, budget and the distance of its validations are scaled down, so that a
run takes two to three minutes on a CPU; all else is `t5-paper`. The rule, too: 96 sampled replies a validation scatter by 1 to 3 % of their
mean here, so that a run whose scores are all or nothing mostly ends at its budget before the rule holds."""

PRESETS: dict[str, Preset] = {"tiny": TINY, "tiny-paper": TINY_PAPER, "smollm2": SMOLLM2, "t5": T5, "t5-paper": T5_PAPER}


def get_preset(name: str) -> Preset:
    """The preset of this name. Raises UserError for another."""
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"preset {name!a} is unknown: expected one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
