"""Text as token ids: a template's own marks are control tokens, what people wrote is words, even where it looks like a mark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import Formatter
from typing import Any

from emorl_lite.base.errors import UserError

MARK = re.compile(r"<[^<>\s]{1,40}>|\[[A-Z_]{2,}\]")
"""What looks like a control token in a template: <sep>, <|im_end|>, </s>, [SEP]."""


def check_texts(texts: Any, kind: str) -> list[str]:
    """The texts as a list. Raises UserError, naming the position, unless all are strings; `kind`: what one is called, "prompt"."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        plural = {"reply": "replies"}.get(kind, kind + "s")
        raise UserError(f"{plural}: expected a list of texts, got {type(texts).__name__}")
    listed = list(texts)
    for number, text in enumerate(listed, start=1):
        if not isinstance(text, str):
            raise UserError(f"{kind} {number}: expected a text, got {type(text).__name__}")
    return listed


class Words:
    """A tokenizer that reads control tokens in a text as the letters they are written with."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]):
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = [tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id]
        special += [tokenizer.sep_token_id, tokenizer.cls_token_id, *end_ids]
        control = {i for i, token in added.items() if token.special} | set(tokenizer.all_special_ids) | (set(end_ids) & set(added))
        if tokenizer.unk_token_id not in special:  # an unknown word is a word
            control.discard(tokenizer.unk_token_id)
        self.control = frozenset(control)
        self._letters: dict[int, list[int]] = {}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain texts, none of them control tokens."""
        if not texts:
            return []
        lines = self.encode(texts, add_special_tokens=False)
        return [self.as_letters(line) if self.count(line) else line for line in lines]

    def encode(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """As the tokenizer itself reads them. Raises UserError for text that cannot be encoded (half of a surrogate pair)."""
        try:
            return self.tokenizer(list(texts), **options).input_ids  # type: ignore[no-any-return]
        except (UnicodeEncodeError, TypeError) as error:
            for number, text in enumerate(texts, start=1):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise UserError(f"text {number}: not valid Unicode: {text[:40]!a}") from error
            raise

    def count(self, ids: Sequence[int]) -> int:
        """How many control tokens."""
        return sum(i in self.control for i in ids)

    def as_letters(self, ids: Sequence[int]) -> list[int]:
        """The same ids, each control token replaced by those of the letters it is written with."""
        out: list[int] = []
        for i in ids:
            if i in self.control and i not in self._letters:
                self._letters[i] = self._spelled(self.tokenizer.convert_ids_to_tokens(i))
            out += self._letters[i] if i in self.control else [i]
        return out

    def _spelled(self, mark: str) -> list[int]:
        """Ids of a control token's letters."""
        ids: list[int] = self.tokenizer(mark, add_special_tokens=False, split_special_tokens=True).input_ids
        if not self.count(ids):
            return ids
        if len(mark) > 1:  # the vocabulary has it as a word too (T5's </s>): it is taken apart
            return self._spelled(mark[:1]) + self._spelled(mark[1:])
        return [] if self.tokenizer.unk_token_id in (None, *self.control) else [self.tokenizer.unk_token_id]


class Template:
    """How a statement becomes a model's input. Its marks are control tokens, those in the statement are words.

    Raises UserError for a template without {prompt}, or with other fields.
    """

    def __init__(self, text: str, words: Words, add_special_tokens: bool):
        self.text, self.words, self.add_special_tokens = text, words, add_special_tokens
        try:
            parts = list(Formatter().parse(text))
            text.format(prompt="")
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise UserError(f"template {text!r}: the only field is {{prompt}} (a brace is written twice)") from error
        if not any(field == "prompt" for _, field, _, _ in parts):
            raise UserError(f"template {text!r}: it has no {{prompt}}, so all replies would be to the same text")
        literals = [literal for literal, _, _, _ in parts] + ([""] if parts[-1][1] is not None else [])
        self.marks = [words.count(ids) for ids in words.encode(literals, add_special_tokens=False)]
        """Control tokens before each {prompt}, and after the last one."""
        if add_special_tokens:
            tokenizer = words.tokenizer
            plain, whole = (tokenizer("a", add_special_tokens=special).input_ids for special in (False, True))
            before = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
            self.marks[0] += words.count(whole[:before])
            self.marks[-1] += words.count(whole[before + len(plain) :])
        split = {mark: len(words.tokenizer(mark, add_special_tokens=False).input_ids) for mark in MARK.findall("".join(literals))}
        unknown = words.tokenizer.unk_token_id
        self.split_marks = {
            mark: n for mark, n in split.items() if n != 1 or words.tokenizer(mark, add_special_tokens=False).input_ids == [unknown]
        }
        """What looks like a control token but is none for this tokenizer, and how many tokens it is."""

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of the filled templates."""
        if not prompts:
            return []
        texts = [self.text.format(prompt=prompt) for prompt in prompts]
        lines = self.words.encode(texts, add_special_tokens=self.add_special_tokens)
        return [self._own_marks_only(line) for line in lines]

    def _own_marks_only(self, ids: list[int]) -> list[int]:
        """Control tokens of the statement as letters. It stands between the template's own, so they are told apart by counting."""
        foreign = self.words.count(ids) - sum(self.marks)
        if foreign <= 0:
            return ids
        fields = len(self.marks) - 1
        own: list[bool] = []
        for marks in self.marks[:-1]:
            own += [True] * marks + [False] * (foreign // fields)
        own += [True] * (self.words.count(ids) - len(own))
        kept = iter(own)
        out: list[int] = []
        for i in ids:
            out += self.words.as_letters([i]) if i in self.words.control and not next(kept) else [i]
        return out
