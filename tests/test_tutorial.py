"""The tutorial runner, on throw-away notebooks: order, failures, summary, and committed files untouched."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.tutorial import execution
from emorl_lite.tutorial import runner as tutorial


def write_notebook(path: Path, *cells: str) -> Path:
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    book.cells = [nbformat.v4.new_markdown_cell("# A title"), *(nbformat.v4.new_code_cell(c) for c in cells)]
    nbformat.write(book, path)
    return path


@pytest.fixture
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("EMORL_RUNS", str(folder))
    return folder


def test_runs_in_order_and_leaves_the_files_alone(tmp_path, runs, monkeypatch, capsys):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("EMORL_FIGURES", raising=False)
    monkeypatch.setattr(tutorial, "REFERENCE", tmp_path / "policies.csv")
    (tmp_path / "policies.csv").write_text(
        "policy,seed,machine,reflection,empathy,fluency,mean\n"
        "ensemble,0,a,0.7,0.6,0.5,0.6\nensemble,0,b,0.8,0.9,0.5,0.733\nsoup,0,a,0.1,0.1,0.1,0.1\n"
    )
    save = """
import os, json, pathlib
tiny = pathlib.Path(os.environ["EMORL_RUNS"]) / "tiny"
tiny.mkdir(parents=True)
(tiny / "summary.csv").write_text("policy,seed,reflection,empathy,fluency,mean\\nbase,0,0.1,0.2,0.3,0\\nensemble,0,0.91234,0.8,0.7,0.8\\n")
(tiny / "search.json").write_text(json.dumps({"weights": {"reflection": 0.78125, "empathy": 0.5, "fluency": 0.0625}}))
"""
    first = write_notebook(tmp_path / "00_first.ipynb", save, "", "x = 1\nprint('noise')")
    second = write_notebook(
        tmp_path / "01_second.ipynb",
        "import os, pathlib\nassert 'x' not in globals(), 'kernels must be fresh'",
        "assert (pathlib.Path(os.environ['EMORL_RUNS']) / 'tiny' / 'summary.csv').exists(), 'notebooks must run in order'",
        f"assert pathlib.Path.cwd() == pathlib.Path({str(tmp_path)!r}), 'must run in the notebook folder'",
        "assert os.environ['HF_HUB_OFFLINE'] == '1'",
    )
    before = [p.read_bytes() for p in (first, second)]
    assert tutorial.run_tutorial([first, second]) == 0
    assert [p.read_bytes() for p in (first, second)] == before
    out = capsys.readouterr().out
    assert "00_first  cell 2/2" in out  # the empty cell does not count
    assert "01_second  cell 4/4" in out
    assert "noise" not in out
    assert "weights found, yours: reflection 0.781, empathy 0.5, fluency 0.0625" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["policy", "reflection", "empathy", "fluency", "mean"] in lines
    assert ["ensemble", "0.912", "0.800", "0.700", "0.800"] in lines
    assert f"figures: {runs / 'figures'}/" in out
    assert "the reference, lowest to highest of 2 runs" in out
    assert ["ensemble", "0.700-0.800", "0.600-0.900", "0.500-0.500", "0.600-0.733"] in lines
    record = json.loads((runs / "tutorial.json").read_text())
    assert [n["name"] for n in record["notebooks"]] == ["00_first", "01_second"]
    assert record["peak_mb"] == max(n["peak_mb"] for n in record["notebooks"]) > 10
    assert record["seconds"] == pytest.approx(sum(n["seconds"] for n in record["notebooks"]), abs=0.2)  # each is rounded
    executed = nbformat.read(runs / "notebooks" / "00_first.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0]["text"] == "noise\n"


def choices(run: str = "", seed: int = 0, only: list[str] | None = None, preset: str = "") -> list[str | None]:
    """EMORL_RUN and EMORL_SEED as a notebook of the repository saw them."""
    assert tutorial.run_tutorial(only, preset=preset, run=run, seed=seed) == 0
    return json.loads((Path(os.environ["EMORL_RUNS"]) / "seen.json").read_text())


@pytest.mark.slow
def test_all_notebooks_go_on_with_what_they_trained_and_single_ones_read_what_they_name(tmp_path, runs, monkeypatch):
    for name in ("EMORL_RUN", "EMORL_SEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tutorial, "REPOSITORY", tmp_path)
    (tmp_path / "notebooks").mkdir()
    look = """PRESET = "tiny"
import json, os, pathlib
seen = [os.environ.get(name) for name in ("EMORL_RUN", "EMORL_SEED")]
pathlib.Path(os.environ["EMORL_RUNS"], "seen.json").write_text(json.dumps(seen))"""
    write_notebook(tmp_path / "notebooks" / "00_look.ipynb", look)
    assert choices() == ["mine", None]
    assert choices("reference") == ["reference", None]
    assert choices(only=["00"]) == [None, None]
    assert choices("mine", seed=2, only=["00"]) == ["mine", "2"]
    assert choices(preset="smollm2") == [None, None], "a real preset takes an hour: the repository's adapters stand in"
    with pytest.raises(UserError, match="--run yours: expected mine or reference"):
        tutorial.run_tutorial(run="yours")
    with pytest.raises(UserError, match="--seed -1: must not be negative"):
        tutorial.run_tutorial(seed=-1)


def test_an_error_names_notebook_cell_and_reason(tmp_path, runs, capsys):
    bad = write_notebook(tmp_path / "00_bad.ipynb", "y = 1", "raise KeyError('no such thing')", "print('not reached')")
    never = write_notebook(tmp_path / "01_never.ipynb", "open('reached', 'w')")
    assert tutorial.run_tutorial([bad, never]) == 1
    captured = capsys.readouterr()
    assert captured.err.strip() == "00_bad.ipynb, cell 2: KeyError: 'no such thing'"
    assert "FAILED" in captured.out
    assert not (tmp_path / "reached").exists()
    assert [n["name"] for n in json.loads((runs / "tutorial.json").read_text())["notebooks"]] == ["00_bad"]


def test_a_dead_kernel_is_told(tmp_path, runs, capsys):
    path = write_notebook(tmp_path / "00_dies.ipynb", "import os\nos._exit(9)")
    assert tutorial.run_tutorial([path]) == 1
    assert "00_dies.ipynb, cell 1: DeadKernelError: the kernel died" in capsys.readouterr().err


@pytest.mark.slow
def test_peak_memory_is_the_kernels(tmp_path, runs):
    path = write_notebook(
        tmp_path / "00_big.ipynb", "block = b'x' * 300_000_000", f"import time\ntime.sleep({20 * tutorial.SAMPLE_SECONDS})"
    )
    tutorial.run_tutorial([path])
    assert json.loads((runs / "tutorial.json").read_text())["peak_mb"] > 300


def test_results_of_an_earlier_run_are_marked(tmp_path, runs, capsys):
    (runs / "tiny").mkdir(parents=True)
    summary = runs / "tiny" / "summary.csv"
    summary.write_text("policy,mean\nbase,0.5\n")
    os.utime(summary, (0, 0))
    tutorial.run_tutorial([write_notebook(tmp_path / "00_nothing.ipynb", "1")])
    assert "(from an earlier run)" in capsys.readouterr().out


def test_names_choose_among_the_repositorys_notebooks(tmp_path, runs, monkeypatch):
    monkeypatch.setattr(tutorial, "REPOSITORY", tmp_path)
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(UserError, match="no notebooks here"):
        tutorial.run_tutorial()
    for name in ("00_part", "01_part", "02_part", "draft"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", "1")
    assert [p.stem for p in tutorial._choose(None)] == ["00_part", "01_part", "02_part"]
    assert tutorial.run_tutorial(["01"]) == 0
    assert [n["name"] for n in json.loads((runs / "tutorial.json").read_text())["notebooks"]] == ["01_part"]
    with pytest.raises(UserError, match="--only 07: no notebook starts so, there are 00_part, 01_part, 02_part"):
        tutorial.run_tutorial(["07"])


def test_missing_and_broken_notebooks_are_user_errors(tmp_path, runs):
    with pytest.raises(UserError, match=r"99_none\.ipynb: no such notebook"):
        tutorial.run_tutorial([tmp_path / "99_none.ipynb"])
    broken = tmp_path / "00_broken.ipynb"
    broken.write_text("not json")
    with pytest.raises(UserError, match=r"00_broken\.ipynb: not a notebook"):
        tutorial.run_tutorial([broken])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_kernel_and_still_reports(tmp_path, runs):
    quick = write_notebook(tmp_path / "00_quick.ipynb", "1")
    slow = write_notebook(
        tmp_path / "01_slow.ipynb",
        f"import os, pathlib\npathlib.Path({str(tmp_path)!r}, 'pid.new').write_text(str(os.getpid()))\nos.rename('pid.new', 'pid')",
        "import time\ntime.sleep(300)",
    )
    program = "import sys; from emorl_lite.tutorial.runner import run_tutorial; sys.exit(run_tutorial(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(quick), str(slow)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    pid = tmp_path / "pid"
    patience = time.monotonic() + 600  # a busy machine is no failure
    while not pid.exists() and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.1)
    process.send_signal(2)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "interrupted in 01_slow.ipynb" in out
    assert "00_quick" in out.split("interrupted")[1]  # what was done is still told
    assert not psutil.pid_exists(int(pid.read_text()))


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress = tutorial.Progress("02_single_objective_ppo", 24)
    for _ in range(7):
        progress.next_cell()
    progress.draw()
    progress.finish("done")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith("\r02_single_objective_ppo  cell 7/24  0:00")


def test_clock():
    assert [tutorial._clock(s) for s in (0, 72, 3725)] == ["0:00", "1:12", "1:02:05"]


def test_a_kernel_that_dies_before_its_first_cell_is_started_again(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    plain, starts = nbclient.NotebookClient.execute, []

    def unlucky(self, **options):
        starts.append(1)
        if len(starts) == 1:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return plain(self, **options)

    monkeypatch.setattr(nbclient.NotebookClient, "execute", unlucky)
    book = execution.read_notebook(write_notebook(tmp_path / "00_book.ipynb", "1 + 1"))
    execution.execute(book, tmp_path)
    assert len(starts) == 2
    monkeypatch.setattr(nbclient.NotebookClient, "execute", lambda self, **options: starts.append(1) or unlucky_for_good())

    def unlucky_for_good():
        raise RuntimeError("Kernel died before replying to kernel_info")

    with pytest.raises(execution.NotebookError, match="cell 0: RuntimeError: Kernel died"):
        execution.execute(book, tmp_path)
    assert len(starts) == 5
