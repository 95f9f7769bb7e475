"""Every way to serve several objectives, side by side. A method is one file here and its line in the registry.

The study and the figures know a method by its `family`, `knob` and `needs` alone. (A new kind of knob, or further shared runs, are more
than a method: they are read in `base`, `study` and `comparison`.)
"""

from __future__ import annotations

from importlib import import_module

from emorl_lite.base.errors import UserError
from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.base import Bench, Cost, Method, WeightedSum
from emorl_lite.methods.dera import add_reference
from emorl_lite.methods.dynaopt import EXPLORATION, DynaOptPPO

METHODS = {
    "base": "base_model:BaseModel",
    "uniform": "uniform:Uniform",
    "uniform-short": "uniform:UniformShort",
    "uniform-wide": "uniform:UniformWide",
    "dynaopt": "dynaopt:DynaOpt",
    "c-dynaopt": "c_dynaopt:CDynaOpt",
    "grpo": "grpo:GRPO",
    "emorl": "emorl:EMORL",
    "emorl-long": "emorl:EMORLLong",
    "mod-reverse": "mod:MODReverse",
    "mod-forward": "mod:MODForward",
    "exact-average": "rewarded_soups:ExactAverage",
    "exact-average-long": "rewarded_soups:ExactAverageLong",
    "rewarded-soups": "rewarded_soups:RewardedSoups",
    "rewarded-soups-long": "rewarded_soups:RewardedSoupsLong",
    "personalized-soups": "personalized_soups:PersonalizedSoups",
    "dera": "dera:DeRa",
    "prompted": "prompted:Prompted",
    "clp-full": "clp:FullCLP",
    "clp-attention": "clp:AttentionCLP",
    "clp-logit": "clp:LogitCLP",
    "clp-kl": "clp_kl:CLPOverKL",
    "panacea": "panacea:Panacea",
    "panacea-tchebycheff": "panacea:PanaceaTchebycheff",
    "rewards-in-context": "rewards_in_context:RewardsInContext",
}
"""Name of each method, its file and its class; imported when asked for, because some need optional packages."""

__all__ = [
    "EXPLORATION",
    "METHODS",
    "Bench",
    "Cost",
    "DynaOptPPO",
    "Exp3",
    "Method",
    "WeightedSum",
    "add_reference",
    "make_method",
    "method_class",
]


def method_class(name: str) -> type[Method]:
    """The class of this method. Raises UserError for an unknown name."""
    if name not in METHODS:
        raise UserError(f"method {name!r} is unknown: expected one of {', '.join(METHODS)}")
    file, cls = METHODS[name].split(":")
    found: type[Method] = getattr(import_module(f"emorl_lite.methods.{file}"), cls)
    return found


def make_method(name: str, bench: Bench) -> Method:
    """This method on a bench: nothing is trained or loaded before `prepare`. Raises UserError for an unknown name."""
    return method_class(name)(bench)
