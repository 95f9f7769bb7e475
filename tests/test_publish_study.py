"""A published study comes back among the runs as it was left, and goes out again the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.study.run import Study
from emorl_lite.study.tables import table_path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "data" / "smollm2"
RECORDS = sorted(COMMITTED.glob("results/seed*/*/result.json"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("publish_study", ROOT / "scripts" / "publish_study.py")
    assert spec is not None and spec.loader is not None
    made: Any = importlib.util.module_from_spec(spec)
    sys.modules["publish_study"] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules["publish_study"]


def seeds() -> int:
    return len(list(COMMITTED.glob("seed*")))


@pytest.fixture(scope="module")
def back(script, tmp_path_factory) -> Path:
    """Runs with nothing but what is published."""
    runs = tmp_path_factory.mktemp("runs")
    assert script.main(script.Options(seeds=seeds(), runs=str(runs), resume=True)) == runs / "smollm2"
    return runs


def test_every_published_result_counts_as_finished(back):
    """With the options of the preset, the version of the method, and the adapters and judges that lie here now."""
    study = Study(get_preset("smollm2"), seeds(), root=back, progress=False)
    finished = {job.name for job in study.jobs() if job.finished()}
    told = {f"seed {record.parent.parent.name.removeprefix('seed')}: {record.parent.name}" for record in RECORDS}
    assert told and told == finished
    assert {f"seed {seed}: {name}" for seed in range(seeds()) for name in ("base", "emorl")} <= finished


def test_it_goes_out_the_same(back, script, tmp_path, monkeypatch):
    data = tmp_path / "data"
    monkeypatch.setattr(script, "data_root", lambda: data)
    monkeypatch.setattr(script, "shipped", lambda name: data / name)
    script.main(script.Options(seeds=seeds(), runs=str(back), partly=True, command="again"))
    for file in [*COMMITTED.glob("seed*/*/*"), *COMMITTED.glob("warmstart/*"), *COMMITTED.glob("classifiers/*/*"), *RECORDS]:
        assert (data / "smollm2" / file.relative_to(COMMITTED)).read_bytes() == file.read_bytes(), file.name
    for name in ("rows", "prompts", "quality", "matched"):
        ours, theirs = (pd.read_csv(table_path(folder, name)) for folder in (data / "smollm2", COMMITTED))
        keys = [key for key in ("seed", "method", "choice", "set", "decoding", "prompt", "target") if key in theirs]
        both = (table[table["method"].isin(theirs["method"])].sort_values(keys).reset_index(drop=True) for table in (ours, theirs))
        pd.testing.assert_frame_equal(*both)


def test_what_lies_among_the_runs_stays(back, script, tmp_path):
    runs = tmp_path / "runs"
    mine = runs / "smollm2" / "study" / "seed0" / "reflection"
    mine.mkdir(parents=True)
    (mine / "checkpoint").write_text("mine")
    script.main(script.Options(seeds=1, runs=str(runs), resume=True))
    assert [file.name for file in mine.iterdir()] == ["checkpoint"]
    assert (runs / "smollm2" / "study" / "seed0" / "empathy" / "done.json").is_file()


def test_a_study_that_is_not_complete_is_told(script, tmp_path):
    with pytest.raises(UserError, match="--partly"):
        script.main(script.Options(seeds=1, runs=str(tmp_path)))
    with pytest.raises(UserError, match="choose one"):
        script.main(script.Options(partly=True, resume=True))
    with pytest.raises(UserError, match="comes with the package"):
        script.main(script.Options(preset="tiny"))
