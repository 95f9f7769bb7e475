"""Text as token ids: a template's own marks are control tokens, what people wrote is words, even where it looks like a mark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Formatter
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.texts import check_texts

MARK = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,}\]")
"""What looks like a control token in a template: <sep>, <|im_end|>, </s>, [SEP], [/INST]."""
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""How a vocabulary calls the byte of a letter that it lacks."""

CUT = re.compile(r"(\.\d+)?")
"""{prompt:.20} are its first 20 letters."""


class Words:
    """A tokenizer that reads control tokens in a text as the letters they are written with.

    Control tokens are the special ones, and those added that look like one (<think>, <tool_call>); other added tokens are words. The
    unknown word and single bytes stand for letters that the vocabulary lacks, so they are none, unless somebody writes out their names.
    """

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]):
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = [tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id]
        special += [tokenizer.sep_token_id, tokenizer.cls_token_id, *end_ids]
        control = {i for i, token in added.items() if token.special or MARK.fullmatch(token.content)}
        control |= set(tokenizer.all_special_ids) | (set(end_ids) & set(added))
        if tokenizer.unk_token_id not in special:  # an unknown word is a word
            control.discard(tokenizer.unk_token_id)
        self.control = frozenset(control - {i for i, token in added.items() if BYTE.fullmatch(token.content)})
        names = [] if tokenizer.unk_token_id in (None, *self.control) else [re.escape(tokenizer.unk_token)]
        if "<0x0A>" in tokenizer.get_vocab():
            names.append(BYTE.pattern)
        self.named = re.compile("|".join(names)) if names else None
        """Names of the unknown word and of bytes, which somebody may have written out."""
        self._letters: dict[int, list[int]] = {}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain texts, none of them control tokens."""
        if not texts:
            return []
        return [self.as_letters(line) if self.count(line) else line for line in self.encode(texts, add_special_tokens=False)]

    def encode(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """As the tokenizer itself reads them, names of the unknown word and of bytes as letters."""
        lines: list[list[int]] = self.tokenizer(list(texts), **options).input_ids
        if self.named is not None and self.tokenizer.is_fast:
            for number, text in enumerate(texts):
                if self.named.search(text):
                    lines[number] = self._named_as_letters(text, options)
        return lines

    def _named_as_letters(self, text: str, options: dict[str, Any]) -> list[int]:
        read = self.tokenizer(text, return_offsets_mapping=True, **options)
        out: list[int] = []
        for i, (start, end) in zip(read.input_ids, read.offset_mapping, strict=True):
            written = text[start:end].strip()
            is_name = self.named is not None and self.named.fullmatch(written) and self.tokenizer.convert_ids_to_tokens(i) == written
            out += self._letters_of(i) if is_name else [i]
        return out

    def count(self, ids: Sequence[int]) -> int:
        """How many control tokens."""
        return sum(i in self.control for i in ids)

    def as_letters(self, ids: Sequence[int]) -> list[int]:
        """The same ids, each control token replaced by those of the letters it is written with."""
        out: list[int] = []
        for i in ids:
            out += self._letters_of(i) if i in self.control else [i]
        return out

    def plain(self, texts: Sequence[str]) -> list[str]:
        """The same texts for a tokenizer that reads marks as marks: those in them are taken apart by a space."""
        names = [*self.tokenizer.convert_ids_to_tokens(sorted(self.control)), self.tokenizer.unk_token]
        marks = re.compile("|".join(sorted((re.escape(name) for name in names if name), key=len, reverse=True)) or r"(?!)")
        return [marks.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text) for text in texts]

    def _letters_of(self, i: int) -> list[int]:
        if i not in self._letters:
            self._letters[i] = self._spelled(self.tokenizer.convert_ids_to_tokens(i), i)
        return self._letters[i]

    def _spelled(self, mark: str, named: int) -> list[int]:
        """Ids of the letters that the name of the token `named` is written with."""
        ids: list[int] = self.tokenizer(mark, add_special_tokens=False, split_special_tokens=True).input_ids
        if not self.count(ids) and (named not in ids or len(mark) == 1):
            return ids
        if len(mark) > 1:  # the vocabulary has it as a word too (T5's </s>): it is taken apart
            return self._spelled(mark[:1], named) + self._spelled(mark[1:], named)
        return [] if self.tokenizer.unk_token_id in (None, *self.control) else [self.tokenizer.unk_token_id]


class Template:
    """How a statement becomes a model's input. Its marks are control tokens, those in the statement are words.

    Raises UserError for a template without {prompt}, or with other fields.
    """

    def __init__(self, text: str, words: Words, add_special_tokens: bool):
        self.text, self.words, self.add_special_tokens = text, words, add_special_tokens
        check_texts([text], "template")
        try:
            parts = list(Formatter().parse(text))
        except ValueError:
            parts = [("", "?", "", None)]
        if any(field is not None and not (field == "prompt" and CUT.fullmatch(form or "") and not how) for _, field, form, how in parts):
            raise UserError(f"template {text!r}: the only field is {{prompt}} (a brace is written twice)")
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
