"""Held-out pairs that examine a reward before a policy does: equal form, another client, and the shortcuts."""

from __future__ import annotations

import random
from collections.abc import Callable

import pandas as pd

from emorl_lite.data.small_world import Client, Grammar
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.rewards.small_world_judge import shortcut

SHORTCUTS = {
    "question mark": "asked",
    "long but empty": "padded",
    "client copied": "copied",
    "phrase looped": "looped",
    "words shuffled": "shuffled",
}


def equal_form(world: Grammar, n: int, split: str = "test", seed: int = 0, min_words: int = 12) -> pd.DataFrame:
    """Plain reflections of equal form, that only reading the client can tell apart.

    For each of n clients a full reflection of this client, one of another client, and one with a wrong element; replies shorter than
    `min_words` are left out. Columns: prompt, reply, kind ("this client", "another client", "one wrong element").
    """
    rng = random.Random(f"form-{seed}")
    rows = []
    for client in world.clients(n, split, seed + 100):
        replies = {
            "this client": world.reply(rng, client, "full", "none"),
            "another client": world.reply(rng, world.stranger(rng, client), "full", "none"),
            "one wrong element": world.reply(rng, client, "flawed", "none"),
        }
        rows += [{"prompt": client.text, "reply": r.text, "kind": kind} for kind, r in replies.items() if len(r.text.split()) >= min_words]
    return pd.DataFrame(rows)


def handed_on(world: Grammar, n: int, split: str = "test", seed: int = 0) -> pd.DataFrame:
    """Full reflections, warm or not, given to the next client instead of their own. Columns: prompt, reply."""
    rng = random.Random(f"handed-{seed}")
    clients = world.clients(n, split, seed + 200)
    replies = [world.reply(rng, c, "full").text for c in clients]
    return pd.DataFrame({"prompt": [c.text for c in clients[1:] + clients[:1]], "reply": replies})


def shortcut_replies(world: Grammar, n: int, split: str = "test", seed: int = 0) -> tuple[list[str], dict[str, list[str]]]:
    """(prompts, replies by shortcut): full reflections "as they are", each shortcut's version of them, and the same replies cut off."""
    rng = random.Random(f"shortcuts-{seed}")
    clients = world.clients(n, split, seed + 300)
    full = [world.reply(rng, c, "full", "none") for c in clients]
    versions = {"as they are": [r.text for r in full]}
    for name, how in SHORTCUTS.items():
        versions[name] = [shortcut(world, c, r, how, rng).text for c, r in zip(clients, full, strict=True)]
    versions["cut off"] = [" ".join(r.text.split()[:-4]) + UNFINISHED for r in full]
    return [c.text for c in clients], versions


def shortcut_pays(
    rewards: RewardSet, world: Grammar, change: Callable[[Client, str], str], n: int = 64, content: str = "full", split: str = "test"
) -> pd.DataFrame:
    """What a change of replies earns, beside what it is worth by the rule of the labels.

    `change(client, reply)` gives the changed text; it is tried on plain replies of one `content` to n clients. Columns: measure (the
    rewards, and "wrong elements"), reward before, reward after, truth before, truth after; means, NaN where there is no such thing.
    """
    rng = random.Random("change")
    clients = world.clients(n, split, 400)
    before = [world.reply(rng, client, content, "none").text for client in clients]
    after = [change(client, reply) for client, reply in zip(clients, before, strict=True)]
    table: dict[str, dict[str, float]] = {}
    for when, replies in (("before", before), ("after", after)):
        told = [world.truth(client, reply) for client, reply in zip(clients, replies, strict=True)]
        wrong = [world.elements(client, reply).wrong for client, reply in zip(clients, replies, strict=True)]
        table[f"reward {when}"] = rewards.means([client.text for client in clients], replies)
        table[f"truth {when}"] = {
            "reflection": sum(reflection for reflection, _ in told) / n,
            "empathy": sum(empathy for _, empathy in told) / n,
            "wrong elements": sum(wrong) / n,
        }
    columns = ["reward before", "reward after", "truth before", "truth after"]
    return pd.DataFrame(table)[columns].reindex([*rewards, "wrong elements"]).rename_axis("measure").reset_index()
