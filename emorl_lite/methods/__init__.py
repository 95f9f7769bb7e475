"""Every way to serve several objectives, side by side, behind one interface (notebooks 06 and 07)."""

from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.base import Method
from emorl_lite.methods.bench import Bench, Cost
from emorl_lite.methods.bone_soups import backbone_rewards, merging_weights
from emorl_lite.methods.dera import add_reference
from emorl_lite.methods.dynamic_weights import EXPLORATION
from emorl_lite.methods.dynaopt import DynaOptWeights
from emorl_lite.methods.gdpo import gdpo_advantages
from emorl_lite.methods.genarm import BETA_R, draw_pairs, log_probability, preference_loss
from emorl_lite.methods.registry import METHODS, make_method
from emorl_lite.methods.scores import WeightedSum

__all__ = [
    "BETA_R",
    "EXPLORATION",
    "METHODS",
    "Bench",
    "Cost",
    "DynaOptWeights",
    "Exp3",
    "Method",
    "WeightedSum",
    "add_reference",
    "backbone_rewards",
    "draw_pairs",
    "gdpo_advantages",
    "log_probability",
    "make_method",
    "merging_weights",
    "preference_loss",
]
