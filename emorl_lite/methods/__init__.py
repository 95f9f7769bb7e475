"""Every way to serve several objectives, side by side, behind one interface (notebooks 06 and 07)."""

from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.base import Method
from emorl_lite.methods.bench import Bench, Cost
from emorl_lite.methods.dera import add_reference
from emorl_lite.methods.dynaopt import EXPLORATION, DynaOptWeights
from emorl_lite.methods.registry import METHODS, make_method
from emorl_lite.methods.scores import WeightedSum

__all__ = [
    "EXPLORATION",
    "METHODS",
    "Bench",
    "Cost",
    "DynaOptWeights",
    "Exp3",
    "Method",
    "WeightedSum",
    "add_reference",
    "make_method",
]
