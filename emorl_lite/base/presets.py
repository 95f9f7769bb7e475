"""What a run is made of: frozen dataclasses, one per part, and the named presets. The command line is made from these same classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from emorl_lite.base.errors import UserError

OBJECTIVES = ("reflection", "empathy", "fluency")
"""The paper's objectives."""
MORE_OBJECTIVES = ("brevity", "specificity", "diversity")
"""What the benchmarks measure besides, none with a classifier: few words, words about what the client said, few words said twice."""
Device = Literal["auto", "cpu", "cuda", "mps"]
DataName = Literal["small_world", "pair", "psych8k", "counsel-chat", "table"]
Mix = Literal["hidden", "logits", "probabilities", "parameters"]
"""What of several adapters is mixed: last hidden states, logits (the same under a linear head), probabilities, or the parameters."""
SearchMethod = Literal["hierarchical", "hierarchical-simplex", "grid", "random", "bayesian", "ucb", "exact"]


@dataclass(frozen=True)
class ModelConfig:
    """The base model and the shape of its adapters."""

    path: str = "tiny_lm"
    """Base model (safetensors only): the package's own tiny_lm, a local folder, or a hub id."""
    template: str = "<bos>{prompt}<sep>"
    """How a client statement becomes the model's input."""
    max_prompt_tokens: int = 256
    """Longest input accepted, in tokens of the filled template."""
    max_new_tokens: int = 44
    """Longest reply, in tokens. A reply that reaches it without ending is unfinished."""
    lora_r: int = 8
    """Rank of the LoRA adapters."""
    lora_alpha: int = 16
    """LoRA scale numerator (scale = alpha / r)."""
    lora_dropout: float = 0.0
    """Dropout on the adapter's input (the paper's code: .05)."""
    device: Device = "auto"
    """Where to run; auto prefers a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type; auto is float32 on a CPU, and bfloat16 on a GPU that has it."""
    autocast: bool = False
    """On a CPU with bfloat16 products: read given replies in bfloat16 (three times as fast); weights and decoding stay float32."""
    store: Literal["float32", "float16"] = "float32"
    """Type in which trained adapters are rounded and kept: half the size, and the same replies before and after."""
    warm_start: str = ""
    """Folder of an adapter that is folded into the base model when it is loaded."""


@dataclass(frozen=True)
class RewardConfig:
    """How replies are scored, whoever judges them."""

    fluency_cap: float = 3.0
    """Perplexity at which fluency reaches 0: fluency = (cap - perplexity) / cap, clipped to [0, 1]."""
    brevity_cap: int = 40
    """Words at which brevity reaches 0: brevity = (cap - words) / cap, clipped to [0, 1]."""
    repeat_ngram: int = 4
    """A `Guarded` reward is multiplied by the share of distinct n-grams of this length (1 for a reply without repetition)."""

    def ready_made(self, objective: str) -> bool:
        """Whether the objective's classifier is one that somebody else trained."""
        return False


@dataclass(frozen=True)
class SmallWorldRewards(RewardConfig):
    """Classifiers of the small world, on what its frozen language model makes of a reply."""

    classifier_examples: int = 6000
    """Labelled pairs that the classifiers are trained on."""
    classifier_epochs: int = 4
    """Passes over them."""
    classifier_batch: int = 64
    """Pairs in a classifier's training step."""
    classifier_lr: float = 2e-3
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
    text_epochs: int = 3
    """Passes over the labelled pairs."""
    empathy_epochs: int = 2
    """The same for empathy, which has more pairs."""
    text_batch: int = 16
    """Pairs in a training step."""
    text_lr: float = 1e-3
    """Peak learning rate of a classifier's LoRA matrices and head."""
    text_lora_r: int = 16
    """Rank of a classifier's LoRA matrices."""
    text_tokens: int = 160
    """Longest pair a classifier reads, in tokens; of a longer one, the longer text is cut."""

    def ready_made(self, objective: str) -> bool:
        """Whether the objective's classifier is one that somebody else trained."""
        return objective == "empathy" and self.empathy_ready


@dataclass(frozen=True)
class PPOConfig:
    """One single-objective run. Names and defaults follow cleanrl where it has them."""

    episodes: int = 1536
    """Prompts answered in training: the paper's "data points" (its samples are k times as many)."""
    batch_size: int = 64
    """Replies in one rollout."""
    minibatch_size: int = 32
    """Replies in one gradient step."""
    epochs: int = 2
    """Passes over a rollout."""
    lr: float = 2e-3
    """Adapter's learning rate."""
    value_lr: float = 5e-3
    """Value head's learning rate."""
    anneal_lr: bool = True
    """Lower both learning rates linearly to 0 over the episodes: late steps on near-equal rewards otherwise shake a good policy."""
    clip: float = 0.2
    """Clip range of the probability ratio."""
    value_clip: float = 0.2
    """Clip range of the value's change."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    gamma: float = 1.0
    """Discount."""
    lam: float = 0.95
    """GAE's lambda."""
    kl_coef: float = 0.03
    """Weight of the per-token KL to the adapter-free base, inside the reward."""
    temperature: float = 1.0
    """Sampling temperature of the rollouts."""
    max_grad_norm: float = 1.0
    """Gradient clipping."""
    gradient_accumulation: int = 1
    """Minibatches per optimizer step."""
    estimator: Literal["ppo", "rloo"] = "ppo"
    """ppo: critic, GAE, clipped losses. rloo: no critic, k samples a prompt, leave-one-out baseline (the paper's, up to a factor)."""
    k: int = 3
    """Samples a prompt with the rloo estimator."""
    kl_stop: float = 0.0
    """Stop when a reply's KL to the base, the mean of three steps, exceeds this many nats (0: never): a guard against hacking."""
    validate_every: int = 8
    """Steps between validations (0: never)."""
    early_stop: bool = False
    """Stop by the paper's rule: std / mean of the last `patience` validation means below `tolerance`."""
    patience: int = 20
    """Validations that the rule looks at."""
    tolerance: float = 0.015
    """The rule's threshold."""
    checkpoint_every: int = 8
    """Steps between checkpoints (0: only at the end)."""
    log_samples: int = 2
    """Replies of each step that go into the samples table."""

    def check(self, validation: bool) -> None:
        """Raise UserError for options that make no sense. `validation`: whether there are validation prompts."""
        positive = ("episodes", "batch_size", "minibatch_size", "epochs", "gradient_accumulation", "temperature", "max_grad_norm")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UserError(f"--ppo.{name.replace('_', '-')} {getattr(self, name)}: must be positive")
        if self.estimator not in ("ppo", "rloo"):
            raise UserError(f"--ppo.estimator {self.estimator!r}: expected ppo or rloo")
        if self.estimator == "rloo" and self.k < 2:
            raise UserError(f"--ppo.k {self.k}: the leave-one-out baseline needs at least 2 samples a prompt")
        if self.kl_stop < 0:
            raise UserError(f"--ppo.kl-stop {self.kl_stop}: must not be negative")
        if self.early_stop and not (validation and self.validate_every):
            raise UserError("--ppo.early-stop: needs validation prompts and --ppo.validate-every above 0")


@dataclass(frozen=True)
class WarmStartConfig:
    """Supervised fine-tuning on the data's own replies before RL; the outcome is an adapter that is folded into the base of all runs."""

    steps: int = 0
    """Training steps (0: none)."""
    batch_size: int = 16
    """Replies in a step."""
    lr: float = 5e-4
    """Peak learning rate."""
    lora_r: int = 8
    """Rank of its adapter."""
    max_words: int = 90
    """Longest client statement, in words."""


@dataclass(frozen=True)
class SearchConfig:
    """The search for the ensemble's weights: hierarchical grid search (the paper, section 3.3), or a rival."""

    levels: int = 5
    """Levels; the spacing halves at each, 1 / 2**levels at the last."""
    points_per_axis: int = 3
    """Points per axis at each level (the paper's 3)."""
    validation_prompts: int = 32
    """Size of the fixed validation set on which every point is scored."""
    method: SearchMethod = "hierarchical"
    """The paper's search; the same on the simplex; a grid on the simplex; random; Bayesian optimisation (EI, UCB); the exact optimum."""
    mix: Mix = "hidden"
    """What the weights mix: last hidden states (the paper's method; the same as logits), parameters, or next-token probabilities."""
    evaluations: int = 135
    """Most points that a rival of the published search may list."""


@dataclass(frozen=True)
class StudyConfig:
    """The comparison of all methods, each with the same budget."""

    budget: int = 1536
    """Training prompts of a method, over all its runs (methods called "long": of each of their d runs)."""
    batch_size: int = 32
    """Replies in one rollout."""
    validate_every: int = 4
    """Steps between validations."""
    weight_steps: int = 5
    """The sweep's weights are the grid of spacing 1 / weight_steps on the simplex."""
    level_steps: int = 4
    """The same for the comparison of aggregation levels."""
    test_prompts: int = 192
    """Test prompts that chosen settings are scored on."""
    sweep_prompts: int = 64
    """Test prompts that every setting of a sweep is scored on."""
    watch: tuple[str, ...] = OBJECTIVES
    """Objectives that a single-objective run logs beside its own: leave out what is slow to score."""
    patience: int = 4
    """Validations that the paper's convergence rule looks at (its code: 20, about a fifth of a run; here a third, for want of more)."""

    def check(self) -> None:
        """Raise UserError for options that make no sense."""
        for name in ("budget", "batch_size", "validate_every", "weight_steps", "level_steps", "test_prompts", "sweep_prompts", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"--study.{name.replace('_', '-')} {getattr(self, name)}: must be positive")
        if self.budget < self.batch_size:
            raise UserError(f"--study.budget {self.budget}: must hold at least one batch of {self.batch_size}")


@dataclass(frozen=True)
class DataConfig:
    """Where prompts come from."""

    name: Annotated[DataName, tyro.conf.arg(name="data", prefix_name=False)] = "small_world"
    """small_world (embedded), pair, psych8k, counsel-chat (their files), or table (any CSV or JSON with prompt and reply columns)."""
    path: Annotated[str, tyro.conf.arg(name="data-path", prefix_name=False)] = ""
    """File, for all but the small world; a bare name is also looked for among the fetched data."""
    prompt_column: Annotated[str, tyro.conf.arg(prefix_name=False)] = "prompt"
    """Column that holds the client's statement (table)."""
    reply_column: Annotated[str, tyro.conf.arg(prefix_name=False)] = "reply"
    """Column that holds the counsellor's reply (table; empty: there is none)."""
    train_prompts: int = 2048
    """Training prompts."""
    validation_prompts: int = 32
    """Validation prompts during training."""
    test_prompts: int = 192
    """Held-out prompts, seen by neither training nor search."""
    max_words: int = 0
    """Leave out prompts of more words (0: none): long statements are slow to read."""


@dataclass(frozen=True)
class Preset:
    """A whole experiment."""

    name: str = "tiny"
    objectives: tuple[str, ...] = OBJECTIVES
    model: ModelConfig = field(default_factory=ModelConfig)
    rewards: SmallWorldRewards | TextRewards = field(default_factory=SmallWorldRewards)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    data: DataConfig = field(default_factory=DataConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    transfer: DataConfig | None = None
    """A second test set, from another source: nothing is trained or chosen on it."""
    kl_coef: dict[str, float] = field(default_factory=lambda: {"fluency": 0.06})
    """KL weights of single objectives, where they differ from `ppo.kl_coef`."""
    lr: dict[str, float] = field(default_factory=dict)
    """Learning rates of single objectives' own runs, where they differ from `ppo.lr`."""


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
    ),
    ppo=PPOConfig(
        episodes=320,
        batch_size=32,
        minibatch_size=4,
        epochs=1,
        lr=4e-4,
        value_lr=3e-3,
        kl_coef=0.03,
        kl_stop=20.0,
        validate_every=2,
        checkpoint_every=1,
    ),
    search=SearchConfig(validation_prompts=16),
    data=DataConfig(name="pair", path="pair.csv", validation_prompts=16, test_prompts=64, max_words=70),
    transfer=DataConfig(name="counsel-chat", path="counselchat-data.csv", test_prompts=32, max_words=60),
    study=StudyConfig(
        budget=960,
        batch_size=32,
        validate_every=2,
        weight_steps=2,
        test_prompts=64,
        sweep_prompts=16,
        watch=("reflection", "empathy"),
    ),
    warm_start=WarmStartConfig(steps=60),
    kl_coef={},
    lr={"empathy": 1e-3},  # the base hardly ever says anything kind: at the others' rate 320 prompts are too few to find out that it pays
)
"""SmolLM2-135M-Instruct on PAIR: runs on a CPU, trained adapters are in `data/smollm2`."""

T5 = Preset(
    name="t5",
    model=ModelConfig(
        path="google-t5/t5-base", template="{prompt} [SEP] ", max_prompt_tokens=256, max_new_tokens=64, lora_r=8, lora_alpha=32
    ),
    rewards=TextRewards(
        reflection_model="FacebookAI/roberta-base",
        empathy_model="MoaazZaki/bert-empathy",
        empathy_ready=True,
        fluency_model="openai-community/gpt2",
        fluency_cap=50.0,
        fluency_context=True,
        text_lr=3e-4,
        text_tokens=256,
    ),
    ppo=PPOConfig(episodes=12800, batch_size=16, minibatch_size=16, epochs=2, lr=1e-4, value_lr=3e-3, kl_coef=0.05, early_stop=True),
    search=SearchConfig(validation_prompts=32),
    data=DataConfig(name="pair", path="pair.csv", validation_prompts=32, test_prompts=64),
    transfer=DataConfig(name="psych8k", path="psych8k.json", test_prompts=64, max_words=120),
    study=StudyConfig(budget=12800, batch_size=16, validate_every=8, weight_steps=5, test_prompts=64, sweep_prompts=64, patience=20),
    kl_coef={},
)
"""The paper's own models: T5-base without a warm start, RoBERTa, GPT-2. Meant for a GPU and the model hub."""

TINY = Preset(model=ModelConfig(device="cpu", dtype="float32", store="float16"))  # a GPU gains nothing here, and draws other samples

PRESETS: dict[str, Preset] = {"tiny": TINY, "smollm2": SMOLLM2, "t5": T5}


def get_preset(name: str) -> Preset:
    """The preset of this name."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown: expected one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
