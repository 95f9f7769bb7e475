"""Files: whole or as they were, read in one place a kind, checked, locked; and what tells one result from another."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import save_file

import emorl_lite
from emorl_lite.base.checked_rows import CheckedRows
from emorl_lite.base.errors import UserError
from emorl_lite.base.files import (
    load_state,
    move_whole,
    read_json,
    read_table,
    read_tensors,
    save_state,
    sweep,
    write_atomically,
    write_folder,
    write_json,
    write_table,
    write_via,
    write_whole,
)
from emorl_lite.base.fingerprint import describe_reward
from emorl_lite.base.locks import alone, if_free
from emorl_lite.base.presets import PPOConfig, SearchConfig, get_preset
from emorl_lite.base.workspace import Workspace, claim
from emorl_lite.search.evaluation import ReplyScores
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.search.kept_scores import KeptScores
from emorl_lite.search.score_table import EvaluationError
from emorl_lite.training import run_folder
from emorl_lite.training.ppo import PPOTrainer

posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes as here are POSIX's")

# -- one writer


WRITERS = {
    "text": lambda path: write_atomically(path, "new\n"),
    "json": lambda path: write_json(path, {"a": 1}),
    "table": lambda path: write_table(path, pd.DataFrame({"a": [1.5]})),
    "tensors": lambda path: write_whole(path, {"a": torch.ones(2)}),
    "state": lambda path: save_state(path, {"a": torch.ones(2)}, {"step": 1}),
}


@posix
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_files_have_the_permissions_of_the_umask_and_leave_nothing_beside(tmp_path, kind, umask):
    before = os.umask(umask)
    try:
        WRITERS[kind](tmp_path / "new" / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.listdir(tmp_path / "new") == ["file"]


@pytest.mark.plain
def test_tensors_are_written_by_this_packages_own_writer_alone():
    """safetensors' own makes a file of another name first, which stays where a process is killed and which nothing sweeps up."""
    package = Path(emorl_lite.__file__).resolve().parent
    assert not [path for path in package.rglob("*.py") if "save_file(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("when", ["write", "fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, error, when):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise OSError(error, os.strerror(error))

    def half(file):
        file.write_bytes(b"ha")
        if when == "write":
            fail()

    if when != "write":
        monkeypatch.setattr(os, when, fail)
    with pytest.raises(UserError, match=f"file: cannot write there.*{os.strerror(error)}") as caught:
        write_via(path, half)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.plain
def test_who_is_stopped_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(KeyboardInterrupt):
        write_via(tmp_path / "file", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "folder", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    assert (tmp_path / "file").read_text() == "old" and os.listdir(tmp_path) == ["file"]


@posix
@pytest.mark.plain
def test_places_that_are_no_files(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path / "folder", "a folder"),
        (tmp_path / ("n" * 300), "name too long"),
        (tmp_path / "plain" / "below", "Not a directory|File exists"),
        (tmp_path / "pipe", "a device"),
        (tmp_path / "a\0b", "no name of a file"),
    ]:
        with pytest.raises(UserError, match=f"(?i){message}") as caught:
            write_atomically(path, "text")
        assert "\n" not in str(caught.value)
    write_atomically(tmp_path / ("n" * 250), "a long name")
    write_atomically(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "plain").read_text() == "through"


@pytest.mark.plain
def test_a_folder_is_there_with_all_its_files_or_not_at_all(tmp_path):
    def write(place):
        save_file({"a": torch.zeros(1)}, place / "model.safetensors")
        (place / "inner").mkdir()
        (place / "inner" / "x").write_text("x")
        assert place != tmp_path / "base"

    write_folder(tmp_path / "base", write)
    assert sorted(p.name for p in (tmp_path / "base").rglob("*")) == ["inner", "model.safetensors", "x"]
    assert (tmp_path / "base" / "model.safetensors").stat().st_mode == (tmp_path / "base" / "inner" / "x").stat().st_mode
    with pytest.raises(UserError, match="base: cannot write there"):
        write_folder(tmp_path / "base", write)
    assert os.listdir(tmp_path) == ["base"]
    (tmp_path / ".emorl-1-2.tmp").mkdir()
    (tmp_path / ".emorl-1-3.tmp").write_text("")
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["base"]


@pytest.mark.plain
def test_another_librarys_file_is_moved_from_any_disk(tmp_path, monkeypatch):
    (tmp_path / "scratch").write_text("whole")
    move_whole(tmp_path / "scratch", tmp_path / "there" / "file")
    assert (tmp_path / "there" / "file").read_text() == "whole" and not (tmp_path / "scratch").exists()


# -- one reader a kind


DAMAGES = {
    "empty": b"",
    "zeros": bytes(2000),
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    "not UTF-8": b'{"a": "\xe9"}',
}
READERS = {
    "json": (partial(read_json, what="a record", keys=("a",)), {"cut": b'{"a": 1', "list": b"[1]", "deep": b"[" * 10**5, "no key": b"{}"}),
    "table": (partial(read_table, what="a table", columns=("a",)), {"other": b"b,c\n1,2\n", "ragged": b"a,b\n1,2\n1,2,3,4\n"}),
    "tensors": (partial(read_tensors, what="weights"), {"text": b"hello", "cut": b"\x40\0\0\0\0\0\0\0{"}),
}


@pytest.mark.plain
@pytest.mark.parametrize(("kind", "damage"), [(k, d) for k, (_, own) in READERS.items() for d in [*DAMAGES, *own, "missing", "folder"]])
def test_damaged_files_are_one_line(tmp_path, kind, damage):
    read, own = READERS[kind]
    path = tmp_path / "file"
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({**DAMAGES, **own}[damage])
    with pytest.raises(UserError, match="file: cannot be read as") as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value) and str(caught.value).count("cannot be read as") == 1


@pytest.mark.plain
def test_tables_hold_the_very_floats(tmp_path):
    x = np.random.default_rng(0).random(500) * 10.0 ** np.arange(-250, 250)
    write_table(tmp_path / "t.csv", pd.DataFrame({"x": x}))
    assert [float(line) for line in (tmp_path / "t.csv").read_text().split()[1:]] == x.tolist()
    assert read_table(tmp_path / "t.csv", "a table").x.to_numpy() == pytest.approx(x, rel=1e-15)


def test_a_state_that_was_changed_is_not_read(tmp_path):
    path = tmp_path / "state"
    tensors = {"a": torch.arange(3.0), "b": torch.zeros(0), "c": torch.tensor(1.0, dtype=torch.bfloat16)}
    save_state(path, tensors, {"step": 3})
    read, state = load_state(path)
    assert state == {"step": 3} and all(torch.equal(read[key], x) for key, x in tensors.items())
    _, metadata = read_tensors(path, "a state")
    for changed in ({"a": tensors["a"]}, tensors | {"a": torch.tensor([0.0, 1.0, 2.5])}, tensors | {"a": torch.arange(3)}):
        save_file(changed, path, metadata)
        with pytest.raises(UserError, match="checksum"):
            load_state(path)
    save_file(tensors, path, metadata | {"state": json.dumps({"step": 2})})
    with pytest.raises(UserError, match="checksum"):
        load_state(path)
    save_file(tensors, path, {"state": metadata["state"]})  # of before there were checksums
    assert load_state(path)[1] == {"step": 3}


@pytest.mark.plain
def test_rows_continue_where_the_good_ones_end(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    rows = CheckedRows(path, ["a", "b"], "seed")
    rows.append([{"a": 1, "b": "x,y"}, {"a": 0.1, "b": 'say "z"'}])
    rows.append([{"a": 3, "b": ""}])
    whole = path.read_bytes()
    assert CheckedRows(path, ["a", "b"], "seed").rows == [{"a": "1", "b": "x,y"}, {"a": "0.1", "b": 'say "z"'}, {"a": "3", "b": ""}]
    for cut in range(whole.index(b"\n") + 1, len(whole)):  # a writer was killed in the middle of a row
        path.write_bytes(whole[:cut])
        again = CheckedRows(path, ["a", "b"], "seed")
        assert capsys.readouterr().err == ""
        again.append([{"a": 1, "b": "x,y"}, {"a": 0.1, "b": 'say "z"'}, {"a": 3, "b": ""}][len(again.rows) :])
        assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert len(CheckedRows(path, ["a", "b"], "seed").rows) == 3
    assert CheckedRows(path, ["a", "b"], "another seed").rows == [] and "row 1 is not" in capsys.readouterr().err


@pytest.mark.plain
def test_rows_go_on_after_a_full_disk(tmp_path, monkeypatch):
    rows = CheckedRows(tmp_path / "rows.csv", ["a"], "seed")
    rows.append([{"a": 1}])
    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(UserError, match="full"):
            rows.append([{"a": 2}])
    rows.append([{"a": 3}])
    assert CheckedRows(tmp_path / "rows.csv", ["a"], "seed").rows == rows.rows == [{"a": "1"}, {"a": "3"}]


# -- one process at a time


@pytest.mark.plain
def test_a_second_one_says_so_and_waits(tmp_path, capsys):
    inside, order = threading.Event(), []

    def first():
        with alone(tmp_path, "training"):
            inside.set()
            for _ in range(1000):
                if "another process is training there" in capsys.readouterr().err:
                    order.append("waiting")
                    break
                time.sleep(0.05)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with if_free(tmp_path) as free:
        assert not free
    with alone(tmp_path, "training"):
        order.append("second")
    thread.join()
    assert order == ["waiting", "first", "second"]
    with if_free(tmp_path) as free:
        assert free


@pytest.mark.plain
def test_what_fails_before_it_writes_leaves_no_folder(tmp_path):
    def failing(folder: Path, *files: str) -> None:
        with pytest.raises(UserError), alone(folder, "training"):
            for file in files:
                (folder / file).touch()
            raise UserError("no model")

    failing(tmp_path / "runs" / "tiny" / "study")
    assert not list(tmp_path.iterdir())
    failing(tmp_path / "runs" / "tiny" / "study", "kept")
    assert (tmp_path / "runs/tiny/study/kept").is_file()
    failing(tmp_path / "runs" / "tiny" / "study")  # it was there before
    failing(tmp_path / "runs" / "other")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"] and (tmp_path / "runs/tiny/study/kept").is_file()


@pytest.mark.plain
def test_who_waited_for_one_that_failed_works_in_a_folder_of_its_own(tmp_path):
    folder, inside, done = tmp_path / "new", threading.Event(), []

    def second():
        inside.wait(60)
        with alone(folder, "training"):
            (folder / "made").touch()
            done.append((folder / ".lock").is_file())

    thread = threading.Thread(target=second)
    thread.start()
    with pytest.raises(UserError), alone(folder, "training"):
        inside.set()
        time.sleep(0.3)
        raise UserError("no model")
    thread.join()
    assert done == [True] and (folder / "made").is_file()


# -- training


QUICK = PPOConfig(episodes=24, batch_size=8, minibatch_size=8, epochs=1, lr=5e-3, validate_every=2, checkpoint_every=1)


def wordy(prompts: list[str], replies: list[str]) -> torch.Tensor:
    return torch.tensor([len(set(reply.split())) / 8 for reply in replies])


def trainer(folder: Path, reward=wordy, **options) -> PPOTrainer:
    options = {"config": QUICK, "validation_prompts": tiny.PROMPTS, "progress": False} | options
    lm = options.pop("lm", None) or tiny.language_model("llama", max_new_tokens=4)
    return PPOTrainer(lm, "reflection", reward, tiny.PROMPTS, options.pop("config"), folder=folder, **options)


class Killed(BaseException):
    """What ends a process."""


HOOK: dict[str, object] = {"folder": None, "left": 0, "count": 0}
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}


def _hook(event: str, arguments: tuple) -> None:
    if HOOK["folder"] is None or not (event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 3)):
        return
    if str(arguments[0]).startswith(str(HOOK["folder"])):
        HOOK["count"] += 1
        if HOOK["count"] == HOOK["left"]:
            raise Killed


def disturbed(folder: Path, at: int) -> int:
    """Train, and die at the file operation with this number. Returns how many there were."""
    if not HOOK.get("installed"):
        sys.addaudithook(_hook)  # there is no way to take it out again: it does nothing while there is no folder
        HOOK["installed"] = True
    run = trainer(folder)
    HOOK.update(folder=folder, left=at, count=0)
    try:
        run.train()
    except Killed:
        pass
    finally:
        HOOK["folder"] = None
    return int(HOOK["count"])


def left(folder: Path) -> dict[str, object]:
    """What a run left, without its seconds."""
    files: dict[str, object] = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    record = json.loads(files.pop("done.json"))
    record["files"].pop("log.csv")
    return files | {"log.csv": pd.read_csv(folder / "log.csv").drop(columns="seconds").to_csv(), "done": record | {"seconds": 0}}


def test_training_that_dies_at_any_file_operation_ends_as_if_it_had_not(tmp_path):
    operations = disturbed(tmp_path / "whole", 0)
    expected = left(tmp_path / "whole")
    assert operations > 50
    for at in range(1, operations + 1, 4):
        folder = tmp_path / str(at)
        disturbed(folder, at)
        trainer(folder).train()
        assert left(folder) == expected, f"killed at operation {at}"


def interrupted(folder: Path, steps: int = 2) -> None:
    """A run that died after so many steps."""
    calls = []

    def dies(prompts, replies):
        calls.append(1)
        if len(calls) > steps + 1:  # one call validates
            raise Killed
        return wordy(prompts, replies)

    dies.__name__, dies.made_of = "wordy", lambda: {key.removeprefix("reward."): x for key, x in describe_reward(wordy).items()}
    with pytest.raises(Killed):
        trainer(folder, dies).train()


@pytest.mark.parametrize("damage", ["checkpoint cut", "checkpoint edited", "log edited", "log zeroed", "samples missing", "rows added"])
def test_the_last_good_state_is_used_and_said_so(tmp_path, capsys, damage):
    trainer(tmp_path / "whole").train()
    interrupted(tmp_path / "cut")
    state, log = tmp_path / "cut/checkpoint/state.safetensors", tmp_path / "cut/log.csv"
    if damage == "checkpoint cut":
        state.write_bytes(state.read_bytes()[:-100])
    elif damage == "checkpoint edited":
        tensors, metadata = read_tensors(state, "a checkpoint")
        name = next(name for name in tensors if "exp_avg_sq" in name)
        save_file({key: x for key, x in tensors.items() if key != name}, state, metadata)
    elif damage == "log edited":
        log.write_text(log.read_text().replace("0.", "0.9", 1))
    elif damage == "log zeroed":
        log.write_bytes(bytes(log.stat().st_size))
    elif damage == "samples missing":
        (tmp_path / "cut/samples.csv").unlink()
    else:
        log.write_bytes(log.read_bytes() + log.read_bytes().splitlines(keepends=True)[-1] * 2)
    changed = log.read_bytes()
    capsys.readouterr()
    trainer(tmp_path / "cut").train()
    said, aside = capsys.readouterr().err, list(tmp_path.glob("cut/log.damaged-*"))
    assert (said.count("\n") == 1) is (damage not in ("samples missing", "rows added"))
    if damage.startswith("log"):
        assert [file.read_bytes() for file in aside] == [changed] and "log.damaged-1.csv" in said
        aside[0].unlink()
    elif damage.startswith("checkpoint"):
        assert "the run goes on from the checkpoint before it" in said
    assert left(tmp_path / "cut") == left(tmp_path / "whole")


def test_two_damaged_checkpoints_are_told_and_stay(tmp_path, capsys):
    interrupted(tmp_path)
    files = {file: file.read_bytes()[:-100] for file in (tmp_path / "checkpoint").iterdir()}
    for file, damaged in files.items():
        file.write_bytes(damaged)
    capsys.readouterr()
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint: .*delete it to start again"):
        trainer(tmp_path).train()
    assert len(files) == 2 and {file: file.read_bytes() for file in (tmp_path / "checkpoint").iterdir()} == files
    assert "goes on" not in capsys.readouterr().err


def test_a_finished_run_that_was_changed_is_told(tmp_path):
    trainer(tmp_path).train()
    weights = tmp_path / "adapter_model.safetensors"
    record = json.loads((tmp_path / "done.json").read_text())
    for file, change in [
        (weights, lambda data: data[:-4] + bytes(4)),
        (tmp_path / "log.csv", lambda data: data.replace(b"\r\n", b"\n")),
        (tmp_path / "samples.csv", lambda data: data[:-30]),
    ]:
        good = file.read_bytes()
        file.write_bytes(change(good))
        with pytest.raises(UserError, match=f"{file.name}: changed since its run was finished.*--restart"):
            trainer(tmp_path).train()
        file.write_bytes(good)
    for broken in ("", "[]", "{}", json.dumps(record)[:90], json.dumps(record | {"identity": 3}), json.dumps(record | {"episodes": "x"})):
        (tmp_path / "done.json").write_text(broken)
        with pytest.raises(UserError, match=r"done\.json"):
            trainer(tmp_path).train()
    assert set(record.pop("made_at")) == {"emorl_lite", "commit"}  # no part of what makes a run this run; earlier ones have none
    del record["files"], record["made_of"]  # of before there were checksums
    (tmp_path / "done.json").write_text(json.dumps(record))
    assert len(trainer(tmp_path).train()) == 3


def test_a_finished_run_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    expected = trainer(tmp_path).train()

    def refuse(*args, **kwargs):
        raise UserError("cannot write there")

    for name in ("alone", "check_writable", "write_json", "write_whole", "save_state"):
        monkeypatch.setattr(run_folder, name, refuse)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    pd.testing.assert_frame_equal(trainer(tmp_path).train(), expected)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(UserError, match="cannot write there"):
        trainer(tmp_path).train(resume=False)


def test_another_reward_dropout_or_type_is_another_run(tmp_path):
    def scaled(by):
        def wordy(prompts, replies):
            return torch.tensor([by * len(set(reply.split())) / 8 for reply in replies])

        return wordy

    trainer(tmp_path, scaled(0.5)).train()
    assert len(trainer(tmp_path, scaled(0.5)).train()) == 3
    for options, named in [
        ({"reward": scaled(0.75)}, "reward.code"),
        ({"lm": tiny.language_model("llama", max_new_tokens=4, lora_dropout=0.5)}, "model.lora_dropout"),
    ]:
        with pytest.raises(UserError, match=named):
            trainer(tmp_path, **{"reward": scaled(0.5)} | options).train()
    lm = tiny.language_model("llama", max_new_tokens=4, dtype="float32")
    lm.model.double()
    with pytest.raises(UserError, match=r"model\.dtype"):
        trainer(tmp_path, scaled(0.5), lm=lm).train()


# -- what rewards are made of


WORDS = ["one", "two"]


def _half(x: float) -> float:
    return x / 2


@dataclass
class Options:
    cap: int
    seen: int = 0

    def __call__(self, prompts, replies):
        self.seen += 1
        return [len(reply) / self.cap for reply in replies]


@pytest.mark.plain
def test_code_options_and_constants_tell_rewards_apart_and_state_does_not():
    def made(cap, seen):
        return lambda prompts, replies: (seen.append(cap), [min(cap, len(reply)) for reply in replies])[1]

    same = [
        (lambda p, r: [len(x) / 9 for x in r], lambda p, r: [len(x) / 9 for x in r]),
        (made(3, []), made(3, ["state"])),
        (Options(5), Options(5, seen=7)),
        (partial(wordy, prompts=[]), partial(wordy, prompts=[])),
        (torch.no_grad()(wordy), torch.no_grad()(wordy)),
    ]
    other = [
        (lambda p, r: [len(x) / 9 for x in r], lambda p, r: [len(x) / 8 for x in r]),
        (lambda p, r: [len(x) for x in r], lambda p, r: [len(x.split()) for x in r]),
        (lambda p, r: [x in {"a", "b"} for x in r], lambda p, r: [x in {"a", "c"} for x in r]),
        (made(3, []), made(4, [])),
        (Options(5), Options(6)),
        (partial(wordy, prompts=[]), partial(wordy, prompts=["x"])),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
    ]
    assert all(describe_reward(a) == describe_reward(b) for a, b in same)
    assert all(describe_reward(a) != describe_reward(b) for a, b in other)


@pytest.mark.plain
def test_what_code_uses_of_its_surroundings_counts(monkeypatch):
    def reward(prompts, replies):
        return [_half(sum(word in WORDS for word in reply.split())) for reply in replies]

    before = describe_reward(reward)
    monkeypatch.setitem(globals(), "WORDS", ["one", "three"])
    changed = describe_reward(reward)
    monkeypatch.setitem(globals(), "_half", lambda x: x / 3)
    assert len({json.dumps(x) for x in (before, changed, describe_reward(reward))}) == 3


# -- searches


class Company:
    """Scores that depend a little on what else is scored at the same time, as a classifier's do; and a decoder that counts."""

    def __init__(self, path: Path | None, dies_at: int = 0):
        self.scores = ReplyScores(self.score, KeptScores(path, "seed") if path else None)
        self.means: dict[tuple[float, ...], dict[str, float]] = {}
        self.calls, self.dies_at = 0, dies_at

    def score(self, prompts, replies):
        self.calls += 1
        if self.calls == self.dies_at:
            raise RuntimeError("killed")
        values = torch.tensor([float(reply) for reply in replies], dtype=torch.float64)
        return {"a": (values * 0.7) % 1 + 1e-9 * len(replies), "b": (1 - values) ** 2 - 1e-9 * len(replies)}

    def prepare(self, points):
        replies = [f"{round(w[0] / sum(w), 1)}" for w in points]
        for point, row in zip(points, self.scores(["p"] * len(points), replies), strict=True):
            self.means[tuple(point)] = dict(zip(self.scores.names, row.tolist(), strict=True))

    def __call__(self, weights):
        if tuple(weights) not in self.means:
            self.prepare([tuple(weights)])
        return self.means[tuple(weights)]


def company_search(evaluate, path):
    result = hierarchical_grid_search(evaluate, ["a", "b"], SearchConfig(levels=4), path, progress=False)
    return result.table.drop(columns="seconds"), result.best


def test_a_search_that_goes_on_finds_the_very_same(tmp_path):
    """Whatever was scored stays scored: to the last bit, at every point where it was broken off."""
    table, best = company_search(Company(None), None)
    whole = tmp_path / "whole.csv"
    company_search(Company(tmp_path / "whole.replies.csv"), whole)
    lines, replies = whole.read_bytes().splitlines(keepends=True), (tmp_path / "whole.replies.csv").read_bytes()
    blocks = [line.split(b",")[0] for line in replies.splitlines()[1:]]
    assert len(set(blocks)) > 2, "several calls"
    for dies_at in (1, 2, 3):
        path, kept = tmp_path / f"{dies_at}.csv", tmp_path / f"{dies_at}.replies.csv"
        with pytest.raises(EvaluationError):
            company_search(Company(kept, dies_at), path)
        again, choice = company_search(Company(kept), path)
        pd.testing.assert_frame_equal(again, table, check_exact=True)
        assert choice == best and kept.read_bytes() == replies
    for rows in range(1, len(lines), 5):  # killed between two rows of a level: its replies are kept already
        path, kept = tmp_path / f"rows{rows}.csv", tmp_path / f"rows{rows}.replies.csv"
        path.write_bytes(b"".join(lines[:rows]))
        path.with_suffix(".search.json").write_bytes(whole.with_suffix(".search.json").read_bytes())
        level = int(lines[rows - 1].split(b",")[0]) if rows > 1 else 1
        kept.write_bytes(b"".join(replies.splitlines(keepends=True)[: 1 + sum(int(b) <= level for b in blocks)]))
        again, choice = company_search(Company(kept), path)
        pd.testing.assert_frame_equal(again, table, check_exact=True)


@pytest.mark.plain
def test_a_half_written_block_of_scores_is_dropped(tmp_path):
    kept = KeptScores(tmp_path / "kept.csv", "seed")
    kept.add([("p", "one\ntwo"), ("p", "three")], [{"a": 0.1}, {"a": 1 / 3}])
    kept.add([("q", "one"), ("q", "two")], [{"a": 0.5}, {"a": 0.25}])
    lines = (tmp_path / "kept.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "kept.csv").write_bytes(b"".join(lines[:-1]))
    again = KeptScores(tmp_path / "kept.csv", "seed")
    assert again.get("p", "one\ntwo") == {"a": 0.1} and again.get("p", "three") == {"a": 1 / 3} and again.get("q", "one") is None
    again.add([("q", "one"), ("q", "two")], [{"a": 0.5}, {"a": 0.25}])
    assert (tmp_path / "kept.csv").read_bytes() == b"".join(lines)


# -- folders


@pytest.mark.plain
def test_two_data_files_of_one_stem_have_a_folder_each(tmp_path):
    preset = replace(get_preset("tiny"), name="tiny")
    workspace = Workspace(preset, tmp_path / "runs")
    files = [tmp_path / folder / "talk.csv" for folder in ("one", "two")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(f"prompt\n{number}\n")
    first = workspace.of_data(str(files[0]), 0)
    assert first.name == "talk-seed0" == workspace.of_data(str(files[1]), 0).name, "nobody has taken it yet"
    claim(first, str(files[0]))
    second = workspace.of_data(str(files[1]), 0)
    claim(second, str(files[1]))
    assert second != first and workspace.of_data(str(files[0]), 0) == first and workspace.of_data(str(files[1]), 0) == second
    files[0].write_text("prompt\nedited\n")
    assert workspace.of_data(str(files[0]), 0) not in (first, second), "an edited file is another one"


@pytest.mark.plain
def test_a_lock_alone_does_not_hide_what_comes_with_the_package(tmp_path):
    workspace = Workspace(get_preset("tiny"), tmp_path, "any")
    published = workspace.place("classifiers", "empathy")
    with alone(workspace.home / "classifiers" / "empathy", "training a classifier"):
        pass
    assert workspace.is_published(published) and workspace.place("classifiers", "empathy") == published
