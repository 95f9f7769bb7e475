"""The embedded small world: a grammar of counselling talk, read from `emorl_lite/assets/small_world/`.

A client statement has three elements: a situation S, a feeling F and a third one T (a goal or a consequence). A reply varies along two
independent dimensions: its content (how many of the client's elements it restates: the reflection label) and its warmth (the empathy
label). Both labels are known by construction, so every learned reward can be checked against the truth.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import ASSETS
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.data.tables import json_object

ELEMENTS = "SFT"
REFLECTION = {0: 0.0, 1: 0.4, 2: 0.75, 3: 1.0}  # label by the number of the client's elements that a reply restates
WRONG_COSTS = 0.15  # off the reflection label for an element that is not this client's: worse than a missing one
EMPATHY = {"cold": 0.0, "none": 0.2, "warm1": 0.65, "warm2": 1.0}
QUALITY = {"full": "high", "two": "medium", "one": "medium"}  # every other kind of content is of low reflection quality
SPLITS = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}  # percentiles of the statement's hash
FEELING_LEADS = ("you feel", "you are", "leaves you")  # a feeling counts behind these: "your parcels are stuck" states none

_SECOND_PERSON = {
    "I": "you", "my": "your", "me": "you", "am": "are", "myself": "yourself", "mine": "yours", "our": "your", "us": "you", "we": "you both",
}  # fmt: skip


@dataclass(frozen=True)
class Client:
    """What one client says, and the elements it is made of."""

    text: str
    topic: str
    situation: str
    feeling_group: int
    third: str
    third_kind: str  # "goal" or "consequence"


@dataclass(frozen=True)
class Reply:
    """A counsellor's reply with its labels by construction, both in [0, 1]."""

    text: str
    content: str  # full, two, one, generic, advice, question, wrong (about another client), flawed (one wrong element)
    warmth: str  # cold, none, warm1, warm2
    reflection: float
    empathy: float

    @property
    def quality(self) -> str:
        """PAIR's three levels of reflection quality."""
        return QUALITY.get(self.content, "low")


class Elements(NamedTuple):
    """Elements that a reply says back: the client's own, and others."""

    right: int
    wrong: int


def to_second_person(text: str) -> str:
    """Turn "my boss ignores me" into "your boss ignores you", word by word."""
    words = text.split()
    second_person = []
    for i, word in enumerate(words):
        if word == "was" and i and words[i - 1] == "I":
            second_person.append("were")
        else:
            second_person.append(_SECOND_PERSON.get(word, word))
    return " ".join(second_person)


def sentence_case(text: str) -> str:
    """Capitalise the first letter of every sentence."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)


def split_of(statement: str) -> str:
    """Which split a client statement belongs to. It depends on its text alone, so extending the grammar moves nothing."""
    percentile = int.from_bytes(hashlib.sha256(statement.encode()).digest()[:8], "big") % 100
    return next(name for name, (low, high) in SPLITS.items() if low <= percentile < high)


@dataclass
class Grammar:
    """The parts of the world, as the data files give them."""

    topics: dict[str, dict]
    phrases: dict
    _by_text: dict[str, Client] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path | None = None) -> Grammar:
        folder = Path(folder or ASSETS / "small_world")
        files = sorted((folder / "topics").glob("*.json"))
        if not files or not (folder / "phrases.json").is_file():
            raise UserError(f"{folder}: no grammar here (expected phrases.json and topics/*.json)")
        topics = {}
        for path in files:
            part = json_object(path)
            missing = {"topic", "situations", "goals", "advice", "questions"} - set(part)
            if missing:
                raise UserError(f"{path}: key {sorted(missing)[0]!r} is missing")
            topics[part["topic"]] = part
        return cls(topics, json_object(folder / "phrases.json"))

    # -- clients

    def client(self, rng: random.Random, topic: str | None = None) -> Client:
        """Draw a client statement."""
        phrases = self.phrases
        topic = topic or rng.choice(list(self.topics))
        part = self.topics[topic]
        situation = rng.choice(part["situations"])
        group = rng.randrange(len(phrases["feelings"]))
        kind = rng.choice(["goal", "consequence"])
        third = rng.choice(part["goals"] if kind == "goal" else phrases["consequences"])
        lead = rng.choice(phrases[f"{kind}_leads"])[0]
        feeling = rng.choice(phrases["client_feelings"]).format(f=rng.choice(phrases["feelings"][group]))
        text = rng.choice(phrases["client_templates"]).format(S=situation, F=feeling, T=f"{lead} {third}")
        return Client(sentence_case(text), topic, situation, group, third, kind)

    def clients(self, n: int, split: str, seed: int = 0) -> list[Client]:
        """n distinct client statements of one split, always the same for the same seed."""
        if split not in SPLITS:
            raise UserError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
        rng = random.Random(f"{split}-{seed}")
        clients: dict[str, Client] = {}
        for _ in range(400 * n + 1000):
            if len(clients) == n:
                return list(clients.values())
            client = self.client(rng)
            if split_of(client.text) == split:
                clients.setdefault(client.text, client)
        raise UserError(f"the grammar holds fewer than {n} statements in split {split!r}")

    def stranger(self, rng: random.Random, client: Client) -> Client:
        """Another client, who shares no element with this one; four in ten share the topic."""
        while True:
            other = self.client(rng, client.topic if rng.random() < 0.4 else None)
            if other.situation != client.situation and other.third != client.third and other.feeling_group != client.feeling_group:
                return other

    # -- replies

    def _element(self, rng: random.Random, client: Client, tag: str) -> str:
        phrases = self.phrases
        if tag == "S":
            return to_second_person(client.situation)
        if tag == "F":
            return rng.choice(phrases["reply_feelings"]).format(f=rng.choice(phrases["feelings"][client.feeling_group]))
        return f"{rng.choice(phrases[f'{client.third_kind}_leads'])[1]} {to_second_person(client.third)}"

    def _content(self, rng: random.Random, client: Client, kind: str) -> tuple[str, str, float]:
        """(text, kind, reflection label) of a reply's content; `flawed` gets one element of another client."""
        phrases = self.phrases
        if kind == "wrong":
            text, _, _ = self._content(rng, self.stranger(rng, client), rng.choice(["full", "two", "one"]))
            return text, kind, 0.0
        if kind == "generic":
            return _zipf(rng, phrases["generic"], 0.8), kind, 0.0
        if kind == "advice":
            return f"{rng.choice(phrases['advice_leads'])} {rng.choice(self.topics[client.topic]['advice'])}.", kind, 0.0
        if kind == "question":
            return f"{rng.choice(self.topics[client.topic]['questions'])}?", kind, 0.0
        flawed = kind == "flawed"
        template = rng.choice(phrases["reflections"][rng.choice(["full", "full", "two"]) if flawed else kind])
        present = [t for t in ELEMENTS if f"{{{t}}}" in template]
        wrong = rng.choice(present) if flawed else ""
        parts = {t: self._element(rng, self.stranger(rng, client) if t == wrong else client, t) for t in present}
        label = REFLECTION[len(present) - flawed]
        return rng.choice(phrases["reflection_leads"]) + template.format(**parts), kind, max(0.0, label - WRONG_COSTS * flawed)

    def reply(self, rng: random.Random, client: Client, content: str | None = None, warmth: str | None = None) -> Reply:
        """Draw a reply, by default from the world's mixture, in which most replies are mediocre."""
        phrases = self.phrases
        content = content or _pick(rng, phrases["content_mixture"])
        warmth = warmth or _pick(rng, phrases["warmth_mixture"])
        body, content, reflection = self._content(rng, client, content)
        opener = closer = None
        if warmth in ("warm1", "warm2"):
            both, first = warmth == "warm2", rng.random() < 0.5
            opener = _zipf(rng, phrases["openers"], 0.4) if both or first else None
            closer = _zipf(rng, phrases["closers"], 0.4) if both or not first else None
        elif warmth == "cold":
            if rng.random() < 0.5:
                opener = _zipf(rng, phrases["cold_openers"], 0.4)
            else:
                closer = _zipf(rng, phrases["cold_closers"], 0.4)
        text = " ".join(filter(None, [opener and f"{opener}.", body, closer and f"{closer}."]))
        return Reply(sentence_case(text), content, warmth, reflection, EMPATHY[warmth])

    def pairs(
        self, n: int, split: str, seed: int = 0, per_client: int = 4, mixture: Mapping[str, float] | None = None
    ) -> list[tuple[Client, Reply]]:
        """n (client, reply) pairs of one split, with contents drawn from the world's mixture (or another one)."""
        for what, value in (("n", n), ("per_client", per_client)):
            checked(value, int, [Within(1, 10**7)], f"pairs, {what} {shown(value)}")
        rng = random.Random(f"pairs-{split}-{seed}")
        clients = self.clients(-(-n // per_client), split, seed)
        mixture = mixture or self.phrases["content_mixture"]
        return [(c, self.reply(rng, c, _pick(rng, mixture))) for c in clients for _ in range(per_client)][:n]

    def vocabulary(self) -> list[str]:
        """Every word the grammar can say, with both cases where a sentence may start with it."""
        texts: list[str] = []

        def walk(x: object) -> None:
            if isinstance(x, str):
                texts.append(x)
            elif isinstance(x, dict):
                for v in x.values():
                    walk(v)
            elif isinstance(x, list):
                for v in x:
                    walk(v)

        walk([self.phrases, [{k: v for k, v in t.items() if k != "topic"} for t in self.topics.values()]])
        plain = [re.sub(r"\{\w\}", " ", t) for t in texts]
        words: set[str] = set()
        for text in plain + [to_second_person(t) for t in plain]:
            for form in (text, text[:1].upper() + text[1:], sentence_case(text)):
                words |= set(re.findall(r"[A-Za-z']+", form))
        starters = {w.capitalize() for t in plain for w in re.findall(r"^[a-z']+", to_second_person(t))}
        return sorted(words | starters)

    # -- truth about any reply

    @cached_property
    def _sayings(self) -> dict[str, str | int]:
        """Every element as a reply says it, with what it says: a situation, a goal or consequence, or the number of a feeling group."""
        phrases = self.phrases
        sayings: dict[str, str | int] = {}
        for clause in [clause for part in self.topics.values() for clause in part["situations"] + part["goals"]] + phrases["consequences"]:
            sayings[_bare(to_second_person(clause))] = clause
        for group, feelings in enumerate(phrases["feelings"]):
            sayings |= {_bare(f"{lead} {feeling}"): group for feeling in feelings for lead in FEELING_LEADS}
        return sayings

    def elements(self, client: Client, text: str) -> Elements:
        """How many elements of this client a text says back, and how many that are not this client's. Synonyms of a feeling are one."""
        bare = _bare(text)
        said = {what for saying, what in self._sayings.items() if saying in bare}
        right = said & {client.situation, client.third, client.feeling_group}
        return Elements(len(right), len(said) - len(right))

    def truth(self, client: Client, text: str) -> tuple[float, float]:
        """(reflection, empathy) of any text, by the rule of the labels: the yardstick against reward hacking, never a training signal.

        Reflection is `REFLECTION` of the client's elements said back, less `WRONG_COSTS` for each that is not the client's, and not below
        0. The client's own statement, copied, and four words said three times earn nothing. Matching is exact: a faithful paraphrase is
        not seen, nor a feeling in another frame than `FEELING_LEADS`, nor the order of words that say no element (empathy .2, not 0).
        """
        phrases, bare = self.phrases, _bare(text)
        words = bare.split()
        said_often = Counter(zip(words, words[1:], words[2:], words[3:], strict=False)).most_common(1)
        if _bare(client.text) in bare or (said_often and said_often[0][1] > 2):
            return 0.0, 0.0

        def says(*kinds: str) -> bool:
            return any(_bare(phrase) in bare for kind in kinds for phrase in phrases[kind])

        right, wrong = self.elements(client, text)
        cold = says("cold_openers", "cold_closers")
        warmth = EMPATHY[("none", "warm1", "warm2")[says("openers") + says("closers")]]
        empathy = 0.0 if cold and warmth < 0.5 else max(0.0, warmth - 0.4 * cold)
        return max(0.0, REFLECTION[right] - WRONG_COSTS * wrong), empathy


def _bare(text: str) -> str:
    """Lower-case letters between single blanks, one at each end: what is compared."""
    return f" {' '.join(re.sub(r'[^a-z ]', '', text.lower()).split())} "


def damaged(reply: Reply, how: str, rng: random.Random) -> Reply:
    """A broken copy of a reply that deserves no reward: `shuffled` words or a `looped` piece."""
    words = reply.text.split()
    if how == "shuffled":
        words = rng.sample(words, len(words))
    elif how == "looped":
        n = max(2, len(words) // 4)
        i = rng.randrange(max(1, len(words) - n))
        words = (words[i : i + n] * 8)[:40]
    else:
        raise ValueError(how)
    return replace(reply, text=" ".join(words), content=how, warmth=how, reflection=0.0, empathy=0.0)


@cache
def grammar() -> Grammar:
    """The grammar that comes with the package, read once."""
    return Grammar.load()


def _zipf(rng: random.Random, items: list[str], exponent: float) -> str:
    """Stock phrases have Zipf frequencies: the common ones are what a fluency reward falls for."""
    return rng.choices(items, [1 / (i + 1) ** exponent for i in range(len(items))])[0]


def _pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
