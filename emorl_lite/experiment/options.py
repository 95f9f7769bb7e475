"""What a preset's options mean for one run: an experiment's own, or one of the study, where every method has the same budget."""

from __future__ import annotations

from dataclasses import replace

from emorl_lite.base.presets import PPOConfig, Preset


def own_run(preset: Preset, objective: str) -> PPOConfig:
    """Options of an experiment's run on one objective."""
    return replace(preset.ppo, kl_coef=kl_coefs(preset)[objective], lr=preset.lr.get(objective, preset.ppo.lr))


def study_run(preset: Preset) -> PPOConfig:
    """PPO's options in the study; `episodes` is the budget of a method.

    Runs that stop by the paper's rule look at as many validations as its table of convergence does.
    """
    study = preset.study
    options = replace(preset.ppo, episodes=study.budget, batch_size=study.batch_size, validate_every=study.validate_every)
    return replace(options, patience=study.patience) if options.early_stop else options


def kl_coefs(preset: Preset) -> dict[str, float]:
    """KL weight of each objective's own run."""
    return {name: preset.kl_coef.get(name, preset.ppo.kl_coef) for name in preset.objectives}
