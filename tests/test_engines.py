"""Jobs that retry: the scheduler on an engine made up, then the real engines on trivial jobs, then equal tables of a study from each."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import trivial_jobs
from filelock import FileLock

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.jobs import EngineConfig, Here, Job, LocalEngine, Outcome, Progress, make_engine, run_jobs, scheduler
from emorl_lite.jobs.job import Work, output_to, perform
from emorl_lite.jobs.progress import table
from emorl_lite.jobs.scheduler import require_done

plain = pytest.mark.plain
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")
DONE = Outcome("done")


def nothing() -> None:
    """What a job of the engine made up would do."""


@dataclass
class Scripted:
    """An engine that does nothing: each attempt ends as its job's script says (done, when there is no more of it)."""

    capacity: int = 2
    script: dict[str, list[Outcome]] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    most: int = 0
    closed: bool = False

    def submit(self, job: Job) -> None:
        self.submitted.append(job.name)
        self.running.append(job)
        self.most = max(self.most, len(self.running))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        job = self.running.pop(0)
        left = self.script.get(job.name, [])
        return [(job, left.pop(0) if left else DONE)]

    def close(self) -> None:
        self.closed = True


def jobs(text: str) -> list[Job]:
    """`a b:a c:a,b`: c needs a and b."""
    parts = [part.partition(":") for part in text.split()]
    return [Job(name, Work(nothing), tuple(filter(None, needs.split(",")))) for name, _, needs in parts]


# -- the scheduler


@plain
def test_a_job_starts_after_those_it_needs_and_never_too_many_at_once():
    engine = Scripted(2)
    board = run_jobs(jobs("c:a,b a d:c b e"), engine)
    order = engine.submitted.index
    assert {status.state for status in board.values()} == {"done"} and sorted(engine.submitted) == list("abcde")
    assert order("c") > max(order("a"), order("b")) and order("d") > order("c") and engine.most == 2 and engine.closed


@plain
@pytest.mark.parametrize(("tries", "retries", "state", "attempts"), [(2, 2, "done", 3), (3, 2, "failed", 3), (1, 0, "failed", 1)])
def test_a_killed_job_is_begun_again_and_the_others_go_on(tries, retries, state, attempts):
    engine = Scripted(2, {"a": [Outcome("killed", "by somebody")] * tries})
    board = run_jobs(jobs("a b:a c:b d"), engine, retries)
    assert (board["a"].state, board["a"].attempts) == (state, attempts) == (state, engine.submitted.count("a"))
    assert board["d"].state == "done" and board["d"].attempts == 1
    assert board["b"].state == board["c"].state == ("done" if state == "done" else "not run")
    if state == "failed":
        with pytest.raises(UserError, match=r"1 of 4 jobs failed: a: by somebody.*; 2 more not run, which need it;") as told:
            require_done(board)
        assert "\n" not in str(told.value)
    else:
        require_done(board)


@plain
def test_a_users_mistake_is_not_tried_again():
    engine = Scripted(1, {"a": [Outcome("mistake", "row 3")], "b": [Outcome("error", "RuntimeError")]})
    board = run_jobs(jobs("a b"), engine)
    assert [board[name].attempts for name in "ab"] == [1, 2] and board["a"].state == "failed" and board["b"].state == "done"


@plain
def test_what_another_process_is_at_is_left_to_it(tmp_path, monkeypatch):
    """It counts as no attempt, the others come first, and what that process has done by then is not done again."""
    monkeypatch.setattr(scheduler, "PATIENCE", 0.0)
    monkeypatch.setattr(scheduler, "TICK", 0.01)
    lock, looked = FileLock(tmp_path / "lock"), []

    def done_by_the_other() -> bool:
        looked.append(len(looked))
        if len(looked) == 3:
            lock.release()
        return len(looked) == 3

    engine = Scripted(1, {"b": [Outcome("elsewhere"), Outcome("elsewhere")]})
    first = Job("a", Work(nothing, lock=tmp_path / "lock"), finished=done_by_the_other)
    with lock:
        board = run_jobs([first, *jobs("b c d:a")], engine, retries=0)
    assert {status.state for status in board.values()} == {"done"} and engine.submitted == ["b", "b", "b", "c", "d"]
    assert [board[name].attempts for name in "abcd"] == [0, 1, 1, 1] and len(looked) == 3


@plain
def test_whatever_happens_the_engine_is_closed():
    class Broken(Scripted):
        def wait(self, timeout):
            raise KeyboardInterrupt

    engine = Broken()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs("a"), engine)
    assert engine.closed


@plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "--retries -1"),
        ({"address": "auto"}, "--address"),
        ({"gpus": 1.0}, "--gpus"),
        ({"engine": "ray", "gpus": float("nan")}, "--gpus nan"),
        ({"engine": "ray", "gpus": 1.5}, "--gpus 1.5"),
        ({"engine": "slurm", "gpus": 0.5}, "--gpus 0.5"),
        ({"engine": "ray", "cpus": 0}, "--cpus 0"),
        ({"engine": "ray", "partition": "long"}, "--partition"),
        ({"engine": "slurm", "minutes": 0}, "--minutes 0"),
        ({"engine": "slurm", "memory": -1}, "--memory -1"),
        ({"engine": "slurm", "sbatch": ("account",)}, "--sbatch account"),
    ],
)
def test_options_that_make_no_sense_are_told(options, message):
    with pytest.raises(UserError, match=message):
        EngineConfig(**options)


# -- one job


@plain
def test_a_jobs_output_goes_to_its_log_and_its_lock_is_its_own(tmp_path, capfd):
    work = Work(partial(trivial_jobs.write, str(tmp_path), "a"), tmp_path / "a.log", tmp_path / "a.lock")
    with FileLock(tmp_path / "a.lock"):
        assert perform(work).kind == "elsewhere" and Job("a", work).busy() and not (tmp_path / "a.log").exists()
    assert perform(work) == DONE and not Job("a", work).busy() and (tmp_path / "a.done").exists()
    with output_to(tmp_path / "a.log"):
        os.write(2, b"from a library in C\n")
    log = (tmp_path / "a.log").read_text()
    assert "a prints this" in log and "from a library in C" in log and log.count("== ") == 2
    os.write(1, b"and this goes where it went before")
    assert capfd.readouterr().out == "and this goes where it went before"


@plain
def test_errors_are_told_in_one_line_and_the_log_has_the_rest(tmp_path):
    mistake = perform(Work(partial(trivial_jobs.fail, "mistake"), tmp_path / "log"))
    assert mistake == Outcome("mistake", "file x.csv: row 3 is empty") and not mistake.worth_another_try
    error = perform(Work(partial(trivial_jobs.fail, "error"), tmp_path / "log"))
    assert error == Outcome("error", "RuntimeError: one line and another") and error.worth_another_try
    assert "Traceback" in (tmp_path / "log").read_text()
    with pytest.raises(RuntimeError):
        run_jobs([Job("a", Work(partial(trivial_jobs.fail, "error"), tmp_path / "log"))], Here())


# -- the engines


def four(folder: Path, killed: int = 0) -> list[Job]:
    """a, b, c, and d that needs a. The process that does b kills itself on its first `killed` tries."""
    made = []
    for name in "abcd":
        call = partial(trivial_jobs.write, str(folder), name, killed=killed * (name == "b"))
        work = Work(call, folder / "logs" / f"{name}.log", folder / f"{name}.lock")
        made.append(Job(name, work, ("a",) * (name == "d"), (folder / f"{name}.done").is_file))
    return made


@pytest.fixture(scope="module")
def two_ray_workers():
    """A Ray of two cores, which engines use instead of starting one each."""
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed: no ray")
    engine = make_engine(EngineConfig("ray"), 2, Path(os.environ["EMORL_RUNS"]))
    yield ray
    engine.close()


def need(name: str, request: pytest.FixtureRequest) -> str:
    """The engine of this name can be had, or the test is skipped."""
    if name == "ray":
        request.getfixturevalue("two_ray_workers")
    if name == "slurm-local":
        pytest.importorskip("submitit", reason="the extra `cluster` is not installed: no submitit")
    return name


ENGINES = ["local", pytest.param("ray", marks=pytest.mark.slow), pytest.param("slurm-local", marks=pytest.mark.slow)]


@plain
@posix
@pytest.mark.parametrize("name", ENGINES)
def test_one_killed_worker_costs_one_attempt_and_nothing_else(name, tmp_path, request):
    stream = io.StringIO()
    board = run_jobs(four(tmp_path, killed=1), make_engine(EngineConfig(need(name, request)), 2, tmp_path), show=Progress(stream=stream))
    assert {job: (status.state, status.attempts) for job, status in board.items()} == {
        "a": ("done", 1), "b": ("done", 2), "c": ("done", 1), "d": ("done", 1)
    }  # fmt: skip
    assert all((tmp_path / f"{job}.done").read_text() == job for job in "abcd")
    assert {job: (tmp_path / f"{job}.tries").stat().st_size for job in "abcd"} == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert (tmp_path / "logs" / "b.log").read_text().count("b prints this") == 2
    assert "b: begun, attempt 2" in stream.getvalue() and "4 done" in stream.getvalue().splitlines()[-1]
    engine = Scripted()
    run_jobs(four(tmp_path), engine)
    assert engine.submitted == [], "finished jobs are not begun again"


@plain
@posix
def test_a_job_that_is_killed_every_time_fails_with_its_log(tmp_path):
    board = run_jobs(four(tmp_path, killed=9), LocalEngine(2), retries=1)
    assert (board["b"].state, board["b"].attempts) == ("failed", 2) and {board[x].state for x in "acd"} == {"done"}
    with pytest.raises(UserError, match=r"b: its process was killed \(SIGKILL: out of memory\?\), 2 attempts \(log: .*b\.log\)"):
        require_done(board)


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
import trivial_jobs
from emorl_lite.jobs import Job, LocalEngine, run_jobs
from emorl_lite.jobs.job import Work
folder = Path({folder!r})
def main():
    names = ["a", "b"]
    call = partial(trivial_jobs.write, str(folder), seconds={seconds})
    work = [Work(partial(call, name=n), folder / (n + ".log"), folder / (n + ".lock")) for n in names]
    try:
        run_jobs([Job(n, w) for n, w in zip(names, work)], LocalEngine(2))
    except KeyboardInterrupt:
        print("stopped")
        sys.exit(130)
    except ValueError as error:
        sys.exit("error: " + str(error))
"""


def script(folder: Path, end: str, seconds: int = 300) -> subprocess.Popen:
    file = folder / "script.py"
    file.write_text(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), seconds=seconds) + end)
    return subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(true, seconds: float = 300) -> None:
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("waited in vain")


def ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().split()[2] == "Z"  # ended, and nobody has asked how


@plain
@posix
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_children_end_with_their_parent_however_it_ends(how, tmp_path):
    """They say nothing, and their locks are free."""
    process = script(tmp_path, "if __name__ == '__main__': main()")
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    until(lambda: all(log.is_file() and "process" in log.read_text().split("prints this")[-1] for log in logs))
    children = [int(log.read_text().split()[-1]) for log in logs]
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (("", "", -9) if how == signal.SIGKILL else ("stopped\n", "", 130))
    until(lambda: all(ended(child) for child in children))
    with FileLock(tmp_path / "a.lock", timeout=5):
        pass


@plain
def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path):
    process = script(tmp_path, "main()", seconds=0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "if __name__ == '__main__':" in err and len(err.splitlines()) == 1 and not out


@pytest.mark.slow
@plain
@posix
def test_a_job_that_slurm_interrupts_is_queued_again_by_itself(tmp_path, request):
    """Preemption and the time limit are no attempt of the scheduler's: submitit sends the same job again."""
    engine = make_engine(EngineConfig(need("slurm-local", request)), 1, tmp_path)
    engine.submit(Job("a", Work(partial(trivial_jobs.slow_at_first, str(tmp_path), "a"), tmp_path / "a.log", tmp_path / "a.lock")))
    until(lambda: (tmp_path / "a.tries").exists())
    os.kill(int((tmp_path / "a.log").read_text().split()[-1]), signal.SIGUSR2)  # what SLURM sends, by submitit's order
    found: list = []
    until(lambda: bool(found.extend(engine.wait(1)) or found))
    assert found[0][1] == DONE and (tmp_path / "a.tries").read_text() == "xx"
    engine.close()


@pytest.mark.slow
@plain
def test_what_a_ray_cluster_cannot_give_is_told(tmp_path, two_ray_workers):
    with pytest.raises(UserError, match=r"--cpus 1 --gpus 8: no node of the Ray cluster has that much"):
        make_engine(EngineConfig("ray", gpus=8), 1, tmp_path)


@plain
def test_an_engine_whose_package_is_missing_is_told(tmp_path, monkeypatch):
    for name, package in [("ray", "ray"), ("slurm", "submitit")]:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, "emorl_lite.jobs.slurm", raising=False)
        with pytest.raises(UserError, match=rf"--engine {name}: needs the package {package}: pip install emorl_lite\[cluster\]"):
            make_engine(EngineConfig(name), 1, tmp_path)


@plain
def test_the_table_of_a_terminal_shows_what_runs_and_what_failed_first():
    engine = Scripted(1, {"b": [Outcome("killed", "by somebody")]})
    drawn = []
    board = run_jobs(jobs("a b c:b d"), engine, retries=0, show=lambda board: drawn.append(table(board, 2)))
    lines = table(board, 2)
    assert lines[0].split() == ["job", "state", "attempts", "seconds"] and lines[1].split()[:3] == ["b", "failed", "1"]
    assert len(lines) == 4 and lines[-1] == "2 done, 1 failed, 1 not run"
    assert drawn[0][1].split()[:2] == ["a", "running"]

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    progress = Progress(stream=Terminal())
    for _ in range(2):
        progress(board)
    first, again = progress.stream.getvalue().split("\x1b[6F\x1b[J")
    assert first == again


# -- a study

TINY = get_preset("tiny")
SMALLEST = replace(
    TINY,
    rewards=replace(TINY.rewards, classifier_examples=64, classifier_epochs=1),
    ppo=replace(TINY.ppo, minibatch_size=8, epochs=1, checkpoint_every=1),
    model=replace(TINY.model, max_new_tokens=6),
    data=replace(TINY.data, train_prompts=16, validation_prompts=2, test_prompts=4),
    study=replace(TINY.study, budget=24, batch_size=8, validate_every=1, weight_steps=1, test_prompts=2, sweep_prompts=2, patience=2),
)


def scores(tables):
    return {name: table.drop(columns="seconds", errors="ignore") for name, table in tables.items() if len(table)}


def attempts(folder: Path) -> list[int]:
    return [json.loads(file.read_text())["attempts"] for file in sorted(folder.glob("seed*/results/*/result.json"))]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    from emorl_lite.study.run import Study

    study = Study(SMALLEST, 1, ["uniform", "dera"], tmp_path_factory.mktemp("here"), progress=False)
    return study, scores(study.run(engine=EngineConfig("here")))


def with_classifiers_of(study, root: Path) -> Path:
    shutil.copytree(study.folder.parent / "classifiers", root / "tiny" / "classifiers")
    return root


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "ray", "slurm-local"])
def test_a_study_has_the_same_tables_from_every_engine(name, studied, tmp_path, request):
    from emorl_lite.study.run import Study

    here, expected = studied
    study = Study(SMALLEST, 1, here.methods, with_classifiers_of(here, tmp_path), progress=False)
    found = scores(study.run(2, EngineConfig(need(name, request))))
    assert found.keys() == expected.keys() and all(found[table].equals(expected[table]) for table in expected)
    assert attempts(study.folder) == [1, 1]


@posix
@pytest.mark.slow
def test_a_killed_job_of_a_study_goes_on_and_two_equal_studies_share_the_work(studied, tmp_path):
    """One command twice at once, and its first job killed in training: both end with the whole tables, and one attempt is extra."""
    from emorl_lite.study.run import Study

    here, expected = studied
    study = Study(SMALLEST, 1, here.methods, with_classifiers_of(here, tmp_path), progress=False)
    code = "from test_engines import *\nfrom emorl_lite.study.run import Study\nif __name__ == '__main__':\n"
    code += f"    Study(SMALLEST, 1, {list(here.methods)!r}, Path({str(tmp_path)!r})).run(2)\n"
    (tmp_path / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(tmp_path / "script.py")]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    log = study.folder / "seed0" / "results" / "uniform" / "job.log"
    until(lambda: log.is_file() and "process" in log.read_text() and (log.parent / "attempts").is_file())
    os.kill(int(log.read_text().split("process")[1].split()[0]), signal.SIGKILL)
    told = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    found = scores(study.tables())
    assert all(found[table].equals(expected[table]) for table in expected) and sorted(attempts(study.folder)) == [1, 2]
