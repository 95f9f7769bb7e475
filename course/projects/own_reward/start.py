"""Train on a reward of your own, with and without guards, and look at what the policy found.

Run it from the repository: python course/projects/own_reward/start.py [--seed 0]. Everything that is yours to change stands above `main`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import torch

from emorl_lite import LanguageModel, PPOTrainer, get_preset, grammar
from emorl_lite.rewards import Guarded, finished

EPISODES = 512
TRAINING, LOOKED_AT = 256, 64
"""Clients to train on, and others to look at afterwards."""


def my_reward(prompts: list[str], replies: list[str]) -> torch.Tensor:
    """Yours to change: how often a reply says "you" or "your", up to ten times. Returns one number in [0, 1] a reply."""
    said = [sum(word.strip(".,?!") in ("you", "your") for word in reply.lower().split()) for reply in replies]
    return torch.tensor([min(count, 10) / 10 for count in said])


def main() -> None:
    """Train twice and print, of greedy replies to other clients, the reward and four things that the reward did not ask."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seed", type=int, default=0)
    seed = asked.parse_args().seed
    preset, world = get_preset("tiny"), grammar()
    lm = LanguageModel.load(preset.model)
    prompts = [client.text for client in world.clients(TRAINING, "train")]
    others = world.clients(LOOKED_AT, "test")
    texts = [client.text for client in others]
    options = replace(preset.ppo, episodes=EPISODES, validate_every=0, lr=2 * preset.ppo.lr)
    said = {"base": lm.reply(texts)}
    for name, reward in {"bare": my_reward, "guarded": Guarded(my_reward, "mine")}.items():
        PPOTrainer(lm, name, reward, prompts, options, seed=seed, progress=False).train()
        lm.use(name)
        said[name] = lm.reply(texts)

    print(f"seed {seed}, {EPISODES} episodes, {LOOKED_AT} other clients")
    print("policy    reward  finished  true reflection  wrong elements  favourite reply, to so many")
    for name, replies in said.items():
        reward = float(my_reward(texts, replies).mean())
        ended = float(finished(replies).mean())
        truth = sum(world.truth(client, reply)[0] for client, reply in zip(others, replies, strict=True)) / len(others)
        wrong = sum(world.elements(client, reply)[1] > 0 for client, reply in zip(others, replies, strict=True))
        favourite, times = Counter(replies).most_common(1)[0]
        print(f"{name:8}  {reward:6.2f}  {ended:8.2f}  {truth:15.2f}  {wrong:14d}  {times}: {favourite[:60]}")
    print("\nFive replies of the guarded policy:", *said["guarded"][:5], sep="\n  ")


if __name__ == "__main__":
    main()
