"""What the real rewards are trained on: PAIR for reflection, EPITOME for empathy, each with made examples that close shortcuts.

A classifier learns whatever tells the good replies from the bad ones. In PAIR that is also the question mark (low-quality replies ask) and
never the client (a high-quality reply to ANOTHER client would pass); in EPITOME it is also the word "sorry". A policy trained on such a
reward finds these out within a few hundred episodes. Sources: PAIR (Min et al., EMNLP 2022); EPITOME (Sharma et al., EMNLP 2020).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.data.datasets import Example, clean, split_by_hash
from emorl_lite.data.tables import records
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.warmth import REACTION, warm_copies

PAIR_REFLECTION = {"high": 1.0, "medium": 0.4, "low": 0.0}
"""Labels of PAIR's quality levels."""
EPITOME_EMPATHY = {0: 0.0, 1: REACTION, 2: 1.0}
"""Labels of EPITOME's emotional reactions: none, weak, strong."""
STOCK = (
    "You're sorry.",
    "I'm sorry.",
    "I'm sorry to hear that.",
    "You feel bad.",
    "You are struggling.",
    "That must be hard for you.",
    "It sounds like you are going through a lot.",
    "You are feeling a lot of things right now.",
    "I understand how you feel.",
    "You have a lot on your mind.",
    "You want things to be better.",
    "Thank you for sharing this with me.",
)
"""Replies that fit any client: no reflections. Only the ones that say something kind are empathic."""
EMPTY_WARMTH = (
    "You're sorry.",
    "You are sorry for that.",
    "You feel sorry for them.",
    "Sorry sorry sorry.",
    "You're so sorry you're sorry.",
    "You love you.",
    "Hope hope and love.",
    "You hope you feel better.",
    "You're sorry to hear that you're sorry.",
    "You are so sad and sorry.",
    "Love you, hugs, sorry.",
)
"""Strings of warm words that say nothing kind to anybody: what a policy finds if "sorry" alone pays."""
KIND = (
    "I'm so sorry you're going through this, and I'm glad you told me.",
    "That sounds really painful, and my heart goes out to you.",
    "I can hear how much this hurts, and I care about how you are doing.",
    "I feel for you: this is a lot to carry, and you don't have to carry it alone.",
    "It makes me sad that you had to go through that; I'm here with you.",
    "I'm really glad you are reaching out, and I hope things get gentler soon.",
    "This must be frightening for you, and I'm with you in it.",
    "I'm happy for you, that took a lot of courage.",
)
PLAIN = (
    "You are thinking about what to do next.",
    "You have tried a few things already.",
    "You should talk to your doctor about that.",
    "What have you tried so far?",
    "You want to know how this works.",
    "It is a matter of making a plan and keeping to it.",
    "You don't think that this is going to change.",
)


def reflection_pairs(examples: Sequence[Example], seed: int = 0, warmth: float = 0.0) -> list[Pair]:
    """PAIR's replies with labels by level, and as many made ones: mismatched, copied, stock, cut, joined, shuffled, asked.

    `warmth`: the share of them that get a warm copy besides (`warm_copies`); all others are the same with any warmth.
    """
    rng = random.Random(f"reflection-{seed}")
    by_prompt: dict[str, list[Example]] = {}
    for example in examples:
        by_prompt.setdefault(example.prompt, []).append(example)
    if len(by_prompt) < 2 or not {"high", "low"} <= {e.quality for e in examples}:
        raise UserError("reflection classifier: the data needs replies of high and of low quality to two prompts or more")
    pairs = []
    for prompt, group in by_prompt.items():
        for e in group:
            reply = plain_question(e.reply) if "?" in e.reply and rng.random() < 0.5 else e.reply
            pairs.append(Pair(prompt, reply, e.quality, reflection=PAIR_REFLECTION[e.quality]))
        elsewhere = [p for p in by_prompt if by_prompt[p][0].topic != group[0].topic] or [p for p in by_prompt if p != prompt]
        high, low = ([e.reply for e in group if e.quality == quality] for quality in ("high", "low"))
        for reply in high:
            pairs += _variants(reply, prompt, rng.choice(elsewhere), rng)
        if len(low) > 1 and rng.random() < 0.6:
            pairs.append(Pair(prompt, plain_question(" ".join(rng.sample(low, 2))), "joined", reflection=0.0))
        if rng.random() < 0.5:
            pairs.append(Pair(prompt, copied(prompt, rng), "copied", reflection=0.0))
        pairs.append(Pair(prompt, rng.choice(STOCK), "stock", reflection=0.0))
    topics = {prompt: group[0].topic for prompt, group in by_prompt.items()}
    return pairs + (warm_copies(pairs, topics, warmth, seed) if warmth else [])


def _variants(reply: str, prompt: str, other_prompt: str, rng: random.Random) -> list[Pair]:
    """Pairs made of a good reply, for its own client and for another one.

    What is done to it for its own client is done as often for the other one: the change itself must tell nothing.
    """
    pairs = [Pair(other_prompt, reply, "mismatched", reflection=0.0)]
    for client, label in ((prompt, 1.0), (other_prompt, 0.0)):
        draw = rng.random()
        if draw < 0.2:
            pairs.append(Pair(client, asked(reply), "asked", reflection=label))
        elif draw < 0.4:
            pairs.append(Pair(client, cut(reply), "cut", reflection=0.6 * label))
    if rng.random() < 0.2:
        pairs.append(Pair(prompt, shuffled(reply, rng), "shuffled", reflection=0.0))
    return pairs


def empathy_pairs(file: Path, split: str, seed: int = 0, made: bool = True) -> list[Pair]:
    """EPITOME's replies with labels by level of emotional reaction and, if `made`, strings of empty warmth, plain and kind replies."""
    rng = random.Random(f"empathy-{seed}")
    columns = ["seeker_post", "response_post", "level"]
    rows = [{name: str(row[name] or "") for name in columns} for _, row in records(file, columns)]
    splits = split_by_hash((clean(row["seeker_post"]) for row in rows), str(file))
    pairs = []
    for number, row in enumerate(rows, 2):
        prompt, reply = clean(row["seeker_post"]), clean(row["response_post"])
        if row["level"] not in ("0", "1", "2"):
            raise UserError(f"{file}, row {number}: level {row['level']!r}, expected 0, 1 or 2")
        level = int(row["level"])
        if splits[prompt] != split or not reply:
            continue
        pairs.append(Pair(prompt, reply, f"level {level}", empathy=EPITOME_EMPATHY[level]))
        if not made:
            continue
        draw = rng.random()
        if level and draw < 0.3:
            pairs.append(Pair(prompt, shuffled(reply, rng), "shuffled", empathy=0.0))
        elif draw < 0.10:
            pairs.append(Pair(prompt, rng.choice(EMPTY_WARMTH), "empty warmth", empathy=0.0))
        elif draw < 0.18:
            pairs.append(Pair(prompt, rng.choice(PLAIN), "plain", empathy=0.0))
        elif draw < 0.24:
            pairs.append(Pair(prompt, rng.choice(KIND), "kind", empathy=0.9))
        elif draw < 0.28:
            pairs.append(Pair(prompt, copied(prompt, rng), "copied", empathy=0.0))
    return pairs


def asked(reply: str) -> str:
    """The reply with a question mark at its end."""
    return reply.rstrip(" .!?") + "?"


def plain_question(reply: str) -> str:
    """The reply with full stops for question marks."""
    return reply.replace("?", ".")


def cut(reply: str, words: int = 12) -> str:
    """The first words of a reply."""
    return " ".join(reply.split()[:words]).rstrip(",;:.") + "."


def shuffled(reply: str, rng: random.Random) -> str:
    """The reply's words in another order."""
    words = reply.split()
    rng.shuffle(words)
    return " ".join(words)


def copied(prompt: str, rng: random.Random) -> str:
    """A stretch of the client's own words."""
    words = prompt.split()
    start = rng.randrange(max(1, len(words) - 20))
    return " ".join(words[start : start + rng.randint(8, 25)])
