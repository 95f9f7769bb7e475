"""Warm sentences around replies: so that a reply can be a reflection and kind, and neither reward excludes the other.

In PAIR no reflection of high quality says anything warm. A judge that is trained on it learns that warm words are no reflection, and two
rewards that could be had together exclude each other by construction. Copies of the pairs with a warm sentence before or after the reply,
at the labels that they had, take that away; replies of all levels and replies given to another client get them alike, so that warmth by
itself tells nothing. Empathy's judge, which otherwise never meets a reflection, learns good ones with a warm sentence and without.

Sentences are of three kinds, as clients are: for training, for choosing options (validation), and held out for the gate. No four words in
a row are in two of them, nor in a training text of another kind and in one that no judge may know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from emorl_lite.data.datasets import Example
from emorl_lite.rewards.pairs import Pair

REACTION = 0.8
"""Label of a weak emotional reaction."""

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
    "Oh no, that is awful.",
    "This sounds like such a painful place to be in.",
    "I'm sad that it has come to this for you.",
    "It takes courage to say this out loud.",
    "You matter, and what you feel matters.",
    "I'm rooting for you.",
    "I admire how you keep going.",
    "How frightening that must have been!",
    "It breaks my heart to read this.",
    "I worry about you and want you to be well.",
    "No one should have to feel so alone with it.",
    "I'm really happy for you.",
    "I'm deeply touched by what you say.",
    "My thoughts are with you.",
    "You have all my sympathy.",
    "I'm relieved that you are talking about it.",
    "I would feel just as hurt in your place.",
    "Take good care of yourself, please.",
    "I'm holding you in my thoughts today.",
    "That is a heavy load, and I feel it with you.",
)
"""What judges learn to read as kind and as no reflection."""
WARM_VALIDATION = (
    "I am truly sorry that this is so difficult.",
    "That sounds heartbreaking.",
    "I feel sad hearing what life has put before you.",
    "Please know that I am with you in this.",
    "I really appreciate you opening up about it.",
    "It moves me how deeply this is hurting you.",
    "Sending you a big hug.",
    "I am so proud of you for talking about this.",
)
"""What options of judges are chosen by, with validation clients: no judge is trained on them."""
WARM_HELD_OUT = (
    "I'm sorry about all of this.",
    "How sad and exhausting for you.",
    "You have my full support, always.",
    "I'm grateful that you let me know.",
    "Hearing this makes my heart ache.",
    "I want so much for you to feel better.",
    "What you carry is terribly hard, poor you.",
    "Bravo, that was brave of you!",
)
"""What judges are examined with: no judge is trained on them, and no option is chosen by them."""


def warmed(reply: str, sentence: str, before: bool) -> str:
    """The reply with a warm sentence before or after it."""
    return f"{sentence} {reply}" if before else f"{reply} {sentence}"


def warm_copies(pairs: Sequence[Pair], topics: dict[str, str], share: float, seed: int = 0) -> list[Pair]:
    """Copies of this share of reflection's pairs, each with a warm sentence before or after its reply, at its label.

    A reply of high quality also goes to another client, as a mismatched one, so that only whose words they are tells: with its warm
    sentence (half the time to a client of the same topic), and always once without one, to a client of the same topic ("mismatched, near").
    As many warm sentences as a share of the prompts stand alone and reflect nothing. Stock phrases are not copied. `topics`: of each
    prompt. Kinds are those of the pairs, followed by ", warm".
    """
    rng, clients = random.Random(f"warmth-{seed}"), sorted(topics)
    copies = []

    def another(pair: Pair, near: bool) -> str:
        others = [client for client in clients if client != pair.prompt]
        alike = [client for client in others if topics[client] == topics[pair.prompt]]
        return rng.choice(alike if near and alike else others)

    for pair in pairs:
        if pair.kind == "high":
            copies.append(Pair(another(pair, near=True), pair.reply, "mismatched, near", reflection=0.0))
        if pair.kind == "stock" or rng.random() >= share:
            continue
        reply = warmed(pair.reply, rng.choice(WARM_TRAINING), rng.random() < 0.5)
        copies.append(Pair(pair.prompt, reply, f"{pair.kind}, warm", reflection=pair.reflection))
        if pair.kind == "high":
            copies.append(Pair(another(pair, near=rng.random() < 0.5), reply, "mismatched, warm", reflection=0.0))
    alone = [client for client in clients if rng.random() < share]
    return copies + [Pair(client, rng.choice(WARM_TRAINING), "stock, warm", reflection=0.0) for client in alone]


def kind_copies(examples: Sequence[Example], share: float, seed: int = 0) -> list[Pair]:
    """Empathy's side of it: of this share of the replies of high quality two pairs each, with a warm sentence before or after the reply
    (a weak emotional reaction, as EPITOME calls it) and without (none).

    EPITOME's own replies hardly ever reflect; without such pairs what a judge makes of a reflection that is kind is left to chance.
    """
    rng, pairs = random.Random(f"kindness-{seed}"), []
    for e in examples:
        if e.quality == "high" and rng.random() < share:
            warm = warmed(e.reply, rng.choice(WARM_TRAINING), rng.random() < 0.5)
            pairs += [Pair(e.prompt, warm, "reflection, warm", empathy=REACTION), Pair(e.prompt, e.reply, "reflection", empathy=0.0)]
    return pairs
