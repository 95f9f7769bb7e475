"""Every method by its name. Another one is a file in this folder and its line here.

The study and the figures know a method by its `family`, `knob` and what it needs alone. (A new kind of knob, or further shared runs, are
more than a method: they are read in `methods.base`, `methods.bench`, `study.run` and `study.comparison`.)
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.methods.base import Method
from emorl_lite.methods.bench import Bench

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("base_model:BaseModel", {}),
    "uniform": ("uniform:Uniform", {}),
    "uniform-short": ("uniform:Uniform", {"share": "1/d"}),
    "uniform-wide": ("uniform:Uniform", {"ranks": "d"}),
    "dynaopt": ("dynaopt:DynaOpt", {}),
    "c-dynaopt": ("c_dynaopt:CDynaOpt", {}),
    "grpo": ("grpo:GRPO", {}),
    "gdpo": ("gdpo:GDPO", {}),
    "emorl": ("emorl:EMORL", {}),
    "emorl-long": ("emorl:EMORL", {"budget": "own"}),
    "mod-reverse": ("mod:MODReverse", {}),
    "mod-reverse-long": ("mod:MODReverse", {"budget": "own"}),
    "mod-forward": ("mod:MODForward", {}),
    "mod-forward-long": ("mod:MODForward", {"budget": "own"}),
    "linear-pool": ("mod:LinearPool", {}),
    "linear-pool-long": ("mod:LinearPool", {"budget": "own"}),
    "exact-average": ("rewarded_soups:ExactAverage", {}),
    "exact-average-long": ("rewarded_soups:ExactAverage", {"budget": "own"}),
    "rewarded-soups": ("rewarded_soups:RewardedSoups", {}),
    "rewarded-soups-long": ("rewarded_soups:RewardedSoups", {"budget": "own"}),
    "bone-soups": ("bone_soups:BoneSoups", {}),
    "bone-soups-long": ("bone_soups:BoneSoups", {"budget": "own"}),
    "personalized-soups": ("personalized_soups:PersonalizedSoups", {}),
    "personalized-soups-long": ("personalized_soups:PersonalizedSoups", {"budget": "own"}),
    "dera": ("dera:DeRa", {}),
    "genarm": ("genarm:GenARM", {}),
    "prompted": ("prompted:Prompted", {}),
    "clp-full": ("clp:FullCLP", {}),
    "clp-attention": ("clp:AttentionCLP", {}),
    "clp-logit": ("clp:LogitCLP", {}),
    "clp-kl": ("clp_kl:CLPOverKL", {}),
    "panacea": ("panacea:Panacea", {}),
    "panacea-tchebycheff": ("panacea:PanaceaTchebycheff", {}),
    "rewards-in-context": ("rewards_in_context:RewardsInContext", {}),
}
"""Name of each method, its file and class, and what the class is called with beside a bench. Imported when asked for, because some need
optional packages."""
PACKAGED = MappingProxyType(dict(METHODS))
"""Those that come with the package: all that a fresh process knows."""


def registered(name: str) -> tuple[type[Method], dict[str, Any]]:
    """A method's class and parameters. Raises UserError for an unknown name."""
    if name not in METHODS:
        raise UserError(f"method {name!r} is unknown: expected one of {', '.join(METHODS)}")
    target, parameters = METHODS[name]
    file, cls = target.split(":")
    method: type[Method] = getattr(import_module(f"emorl_lite.methods.{file}"), cls)
    return method, parameters


def needs(name: str) -> tuple[str, ...]:
    """What else must be trained for this method: methods, or single-objective runs ("objectives", "objectives-long")."""
    cls, parameters = registered(name)
    return cls.needed(**parameters)


def version(name: str) -> int:
    """Which method of this name it is: see `Method.version`; 1 for a study's other jobs, which have never changed."""
    return registered(name)[0].version if name in METHODS else 1


def make_method(name: str, bench: Bench) -> Method:
    """This method on a bench: nothing is trained or loaded before `prepare`. Raises UserError for an unknown name."""
    cls, parameters = registered(name)
    return cls(bench, **parameters)
