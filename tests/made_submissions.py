"""Submissions for one assignment as a class hands them in: right, wrong and damaged ones, and some that try what they may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.course.grading import whole_book
from emorl_lite.course.lessons import Lesson

DONE = 'print("Correct: 20 cases.")'
DIE = "import os\ndef {name}(*x):\n    os._exit(0)"
CRASH = "import ctypes\ndef {name}(*x):\n    ctypes.string_at(0)"
LOOP = "def {name}(*x):\n    while True:\n        pass"
TEN_GB = "import numpy as np\ndef {name}(*x):\n    return np.ones(10 * 2**27)"
GROWS = "def {name}(*x):\n    kept = []\n    while True:\n        kept.append(bytearray(10**7))"
EXIT = "def {name}(*x):\n    raise SystemExit(0)"
INPUT = "answer = input('well? ')\ndef {name}(*x):\n    return answer"
PRINTS = "def {name}(*x):\n    while True:\n        print('x' * 10**6)"
LARGE = "def {name}(*x):\n    return list(range(10**6))"
EQUAL = """class Anything(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __sub__(self, other): return self
    __rsub__ = __abs__ = __sub__
def {name}(*x):
    return Anything()"""
CHILD = "import subprocess, sys\ndef {name}(*x):\n    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
BOMB = "import os\ndef {name}(*x):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass"
IMPORTS = "from emorl_lite.exercises import find\n{name} = find('{exercise}').reference"
RELOADS = """import sys
for module in [m for m in sys.modules if m.startswith('emorl_lite.exercises')]:
    del sys.modules[module]
from emorl_lite.exercises import find
{name} = find('{exercise}').reference"""
PATCHES = """import emorl_lite.tutorial.checks as checks
import emorl_lite.exercises.judging as judging
checks.check = judging.judge = lambda *a, **k: judging.Verdict(cases=20)
def {name}(*x):
    return 0"""
FRAMES = """import gc, sys
def {name}(*x):
    frame = sys._getframe()
    while frame:
        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
            reference = getattr(value, 'reference', None) or getattr(value, 'expected', None)
            if reference:
                return reference(*x)
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing).__name__ in ('Exercise', 'Key'):
            return thing.reference(*x)"""
FORGES = """import glob, json, os
for number in range(20):
    with open(f'{{number}}.json', 'w') as file:
        json.dump({{'state': 'called', 'verdict': 'right', 'points': 9, 'tried': [], 'calls': []}}, file)
def {name}(*x):
    os._exit(0)"""
LINKS = "import os\nos.symlink('/dev/zero', '0.json')\nos.symlink('/dev/zero', '1.json')\ndef {name}(*x):\n    os._exit(0)"
READS = "def {name}(*x):\n    return open(r'{secret}').read()"
READS_DEEPER = "import ctypes\ndef {name}(*x):\n    return ctypes.CDLL(None).open(rb'{secret}', 0)"
WRITES = "open(r'{target}', 'w').write('mine')\ndef {name}(*x):\n    return 0"
NETWORK = "import socket\ndef {name}(*x):\n    return len(socket.create_connection(('127.0.0.1', 9)).recv(1))"
LEAKS = "def {name}(*x):\n    raise ValueError('asked: ' + repr(x))"


@dataclass(frozen=True)
class Made:
    """`files`: of the student, by name, a notebook or its bytes. `right`: the exercises that must earn their points. `said`: what must be
    told, by exercise."""

    files: dict[str, Any]
    right: tuple[str, ...] = ()
    said: dict[str, str] | None = None


class Class:
    """Makes submissions of a lesson. `victim`: the exercise that goes wrong, a function's; the others are solved."""

    def __init__(self, lesson: Lesson, victim: str, secret: Path, target: Path):
        self.lesson, self.victim = lesson, victim
        self.questions = {q.name: q for q in lesson.questions}
        self.solved = {q.name: q.answer for q in lesson.questions if not q.is_open}
        self.rest = tuple(name for name in self.solved if name != victim)
        self.words = {"name": self.questions[victim].called, "exercise": victim, "secret": secret, "target": target}

    def book(self, answers: dict[str, str] | None = None, change: Callable[[Any], None] | None = None) -> Any:
        """A notebook with these answers beside the right ones."""
        book = whole_book(self.lesson, self.solved | (answers or {}))
        if change:
            change(book)
        return book

    def spoiled(self, answer: str, said: str) -> Made:
        """All right but one."""
        return Made({"a.ipynb": self.book({self.victim: answer.format(**self.words)})}, self.rest, {self.victim: said})

    def changed(self, change: Callable[[Any], None]) -> Made:
        """All right, in a notebook that was changed."""
        return Made({"a.ipynb": self.book(change=change)}, tuple(self.solved))

    def all_of(self, misses: dict[str, dict[str, str]]) -> dict[str, Made]:
        """The class, by the students' names. `misses`: near misses of each exercise."""
        whole, stubs = tuple(self.solved), whole_book(self.lesson, {})
        wrong = {name: next(iter(misses[name].values())) for name in whole}
        wrong = {name: text if "def " in text else f"{self.questions[name].called} = {text}" for name, text in wrong.items()}
        half = whole[: len(whole) // 2]
        hint = f"{self.lesson.number}.ipynb"
        text = json.dumps(self.book())
        return {
            "right": Made({hint: self.book()}, whole),
            "wrong": Made({hint: self.book(wrong)}),
            "half": Made({hint: self.book({name: wrong[name] for name in whole if name not in half})}, half),
            "unsolved": Made({hint: stubs}, (), dict.fromkeys(whole, "not solved")),
            "unsolved with outputs": Made({hint: _with_outputs(stubs)}, (), dict.fromkeys(whole, "not solved")),
            "renamed": Made({"final (2) really.ipynb": self.book()}, whole),
            "deeper": Made({"download/03_wrong name.ipynb": self.book()}, whole),
            "python2": self.changed(lambda book: book.metadata.kernelspec.update(name="python2", language="python2")),
            "r kernel": self.changed(lambda book: book.metadata.update(kernelspec={"name": "ir"}, language_info={"name": "R"})),
            "no marks": self.changed(_without_marks),
            "no ids": self.changed(_without_ids),
            "deleted": Made({hint: self.book(change=self._delete)}, self.rest, {self.victim: "not there any more"}),
            "changed check": Made({hint: _rechecked(whole_book(self.lesson, wrong), "print('Correct: 20 cases.')")}),
            "emptied check": Made({hint: _rechecked(whole_book(self.lesson, wrong), "")}),
            "redefined check": Made({hint: _rechecked(whole_book(self.lesson, wrong), "def check(*x): pass", first=True)}),
            "broken": Made({hint: text[: len(text) // 2].encode()}),
            "no notebook": Made({hint: b'{"cells": 3}'}),
            "empty": Made({hint: b""}),
            "loops": self.spoiled(LOOP, "takes more than"),
            "ends itself": self.spoiled(DIE, "ends its process"),
            "crashes": self.spoiled(CRASH, "crashes"),
            "ten gigabytes": self.spoiled(TEN_GB, "GB of memory"),
            "grows": self.spoiled(GROWS, "takes more than"),
            "exits": self.spoiled(EXIT, "raises SystemExit"),
            "asks": self.spoiled(INPUT, "asks for input()"),
            "returns too much": self.spoiled(LARGE, "returns far too much"),
            "equals all": self.spoiled(EQUAL, "wrong in"),
            "starts a child": self.spoiled(CHILD, "tried to start a process"),
            "forks": self.spoiled(BOMB, "takes more than"),
            "prints": self.spoiled(PRINTS, "takes more than"),
            "imports the reference": self.spoiled(IMPORTS, "raises ModuleNotFoundError"),
            "loads it anew": self.spoiled(RELOADS, "tried to read what is the instructor's"),
            "patches the check": self.spoiled(PATCHES, "raises"),
            "looks into frames": self.spoiled(FRAMES, ""),
            "forges results": self.spoiled(FORGES, ""),
            "links results": self.spoiled(LINKS, ""),
            "reads": self.spoiled(READS, "tried to read what is the instructor's"),
            "reads deeper": self.spoiled(READS_DEEPER, ""),
            "writes": self.spoiled(WRITES, "tried to write outside its folder"),
            "uses a network": self.spoiled(NETWORK, "tried to use the network"),
            "leaks": self.spoiled(LEAKS, "raises ValueError in its line 2"),
            "=1+1 <b>$x$": Made({hint: self.book()}, whole),
        }

    def _delete(self, book: Any) -> None:
        stub = self.questions[self.victim].stub.id
        book.cells = [cell for cell in book.cells if cell.id != stub]


def _without_marks(book: Any) -> None:
    for cell in book.cells:
        cell.metadata.pop("nbgrader", None)


def _without_ids(book: Any) -> None:
    """As an editor leaves a notebook that keeps no ids."""
    _without_marks(book)
    book.nbformat_minor = 4
    for cell in book.cells:
        del cell["id"]


def _with_outputs(book: Any) -> Any:
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [{"output_type": "stream", "name": "stdout", "text": "Correct: 20 cases.\n"}]
            cell.execution_count = 7
    return book


def _rechecked(book: Any, source: str, first: bool = False) -> Any:
    checks = [cell for cell in book.cells if cell.cell_type == "code" and "check(" in cell.source]
    for cell in checks[:1] if first else checks:
        cell.source = source
    return book


def hand_in(made: dict[str, Made], folder: Path) -> None:
    """Write a class's submissions."""
    for student, one in made.items():
        for name, book in one.files.items():
            path = folder / student / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(book if isinstance(book, bytes) else json.dumps(book).encode())
