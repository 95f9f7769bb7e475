"""Ensemble multi-objective RL for language models, hands on (EMORL, arXiv 2505.02579).

The names below are the public ones; each is loaded when it is first used. A chapter of the tutorial is a folder, and gives what it teaches:
`from emorl_lite.training import gae`. What is reached only by a module's full name is allowed, and may change.
"""

from typing import TYPE_CHECKING

from emorl_lite.base.lazy import lazily

__version__ = "0.1.0"

_MODULES = {
    "base.errors": ["UserError"],
    "base.presets": ["Preset", "get_preset"],
    "base.types": ["Reward"],
    "data.datasets": ["Dataset", "load_dataset"],
    "data.small_world": ["grammar"],
    "lm.model": ["LanguageModel"],
    "lm.averaging": ["average_parameters"],
    "rewards.objectives": ["RewardSet"],
    "training.ppo": ["PPOTrainer"],
    "ensemble.ensemble": ["EnsembleLM"],
    "ensemble.prefix_tree": ["PrefixTree"],
    "search.grid": ["full_grid", "hierarchical_grid_search"],
    "search.samplers": ["find_weights"],
    "exact.exact_map": ["exact_map"],
    "exact.scored_map": ["scored_map"],
    "exact.overlay": ["overlay"],
    "exact.optimum": ["best_weights"],
    "exact.weightings": ["suprema"],
    "exact.worth": ["held_out", "optimism", "rademacher"],
    "exact.learning_curve": ["learning_curve"],
    "exact.support": ["convex_front"],
    "methods.base": ["Method"],
    "methods.bench": ["Bench"],
    "methods.registry": ["METHODS", "make_method"],
    "experiment.experiment": ["Experiment"],
    "study.run": ["Study"],
    "study.tables": ["study_tables"],
}

if TYPE_CHECKING:
    from emorl_lite.base.errors import UserError
    from emorl_lite.base.presets import Preset, get_preset
    from emorl_lite.base.types import Reward
    from emorl_lite.data.datasets import Dataset, load_dataset
    from emorl_lite.data.small_world import grammar
    from emorl_lite.ensemble.ensemble import EnsembleLM
    from emorl_lite.ensemble.prefix_tree import PrefixTree
    from emorl_lite.exact.exact_map import exact_map
    from emorl_lite.exact.learning_curve import learning_curve
    from emorl_lite.exact.optimum import best_weights
    from emorl_lite.exact.overlay import overlay
    from emorl_lite.exact.scored_map import scored_map
    from emorl_lite.exact.support import convex_front
    from emorl_lite.exact.weightings import suprema
    from emorl_lite.exact.worth import held_out, optimism, rademacher
    from emorl_lite.experiment.experiment import Experiment
    from emorl_lite.lm.averaging import average_parameters
    from emorl_lite.lm.model import LanguageModel
    from emorl_lite.methods.base import Method
    from emorl_lite.methods.bench import Bench
    from emorl_lite.methods.registry import METHODS, make_method
    from emorl_lite.rewards.objectives import RewardSet
    from emorl_lite.search.grid import full_grid, hierarchical_grid_search
    from emorl_lite.search.samplers import find_weights
    from emorl_lite.study.run import Study
    from emorl_lite.study.tables import study_tables
    from emorl_lite.training.ppo import PPOTrainer

__all__ = [
    "METHODS",
    "Bench",
    "Dataset",
    "EnsembleLM",
    "Experiment",
    "LanguageModel",
    "Method",
    "PPOTrainer",
    "PrefixTree",
    "Preset",
    "Reward",
    "RewardSet",
    "Study",
    "UserError",
    "average_parameters",
    "best_weights",
    "convex_front",
    "exact_map",
    "find_weights",
    "full_grid",
    "get_preset",
    "grammar",
    "held_out",
    "hierarchical_grid_search",
    "learning_curve",
    "load_dataset",
    "make_method",
    "optimism",
    "overlay",
    "rademacher",
    "scored_map",
    "study_tables",
    "suprema",
]

__getattr__, __dir__ = lazily(__name__, {name: module for module, names in _MODULES.items() for name in names})
