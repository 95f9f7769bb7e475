"""emorl_lite: Ensemble Multi-Objective RL (EMORL, arXiv 2505.02579) as a small readable package."""

__version__ = "0.1.0"
