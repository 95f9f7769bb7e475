"""Warm sentences around replies: so that a reply can be a reflection and kind, and neither reward excludes the other.

In PAIR no reflection of high quality says anything warm. A judge that is trained on it learns that warm words are no reflection, and two
rewards that could be had together exclude each other by construction. Copies of the pairs with a warm sentence before or after the reply,
at the labels that they had, take that away; replies of all levels and replies given to another client get them alike, so that warmth by
itself tells nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from emorl_lite.rewards.pairs import Pair

WARM_TRAINING = (
    "I'm so sorry you have to deal with this.",
    "My heart goes out to you.",
    "I really feel for you.",
    "That must be so painful.",
    "It hurts me to hear how hard this is for you.",
    "I'm glad that you told me.",
    "Thank you for trusting me with this.",
    "I care about what happens to you.",
    "I'm here for you, whatever comes.",
    "I can only imagine how heavy this feels.",
    "What a hard time you are having, I'm sorry.",
    "It's so good that you reached out.",
    "I hope that things get easier for you soon.",
    "I wish I could take some of this off your shoulders.",
    "You deserve to be treated with kindness.",
    "I'm happy that you are taking this step.",
)
"""What reflection's training pairs are warmed with."""
WARM_HELD_OUT = (
    "I am truly sorry that this is so difficult.",
    "That sounds heartbreaking.",
    "I feel sad hearing what life has put before you.",
    "Please know that I am with you in this.",
    "I really appreciate you opening up about it.",
    "It moves me how deeply this is hurting you.",
    "Sending you a big hug.",
    "I am so proud of you for talking about this.",
)
"""What judges are examined with: no judge is trained on them, and no option is chosen by them."""


def warmed(reply: str, sentence: str, before: bool) -> str:
    """The reply with a warm sentence before or after it."""
    return f"{sentence} {reply}" if before else f"{reply} {sentence}"


def warm_copies(pairs: Sequence[Pair], topics: dict[str, str], share: float, seed: int = 0) -> list[Pair]:
    """Copies of this share of reflection's pairs, each with a warm sentence before or after its reply, at its label.

    A warm reply of high quality also goes to another client, half the time one of the same topic, as a mismatched one: the same words, so
    that only whose they are tells. As many warm sentences as a share of the prompts stand alone and reflect nothing. Stock phrases are not
    copied. `topics`: of each prompt. Kinds are those of the pairs, followed by ", warm".
    """
    rng, clients = random.Random(f"warmth-{seed}"), sorted(topics)
    copies = []
    for pair in pairs:
        if pair.kind == "stock" or rng.random() >= share:
            continue
        reply = warmed(pair.reply, rng.choice(WARM_TRAINING), rng.random() < 0.5)
        copies.append(Pair(pair.prompt, reply, f"{pair.kind}, warm", reflection=pair.reflection))
        if pair.kind == "high":
            others = [client for client in clients if client != pair.prompt]
            near = [client for client in others if topics[client] == topics[pair.prompt]]
            other = rng.choice(near if near and rng.random() < 0.5 else others)
            copies.append(Pair(other, reply, "mismatched, warm", reflection=0.0))
    alone = [client for client in clients if rng.random() < share]
    return copies + [Pair(client, rng.choice(WARM_TRAINING), "stock, warm", reflection=0.0) for client in alone]
