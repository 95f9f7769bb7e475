"""A published study comes back among the runs as it was left, and goes out again the same."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.study.run import Study

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


def test_what_other_methods_read_is_there(back, script):
    """So that the study trains nothing again: adapters that another method reads, and the log of every run whose trainer keeps one."""
    preset = get_preset("smollm2")
    for record in RECORDS:
        for name in json.loads(record.read_text(encoding="utf-8"))["made_of"]:
            run = back / "smollm2" / Path(name).parent
            if name.startswith("study/"):
                kept = json.loads((run / "done.json").read_text(encoding="utf-8"))["files"]
                assert (run / "log.csv").is_file() is ("log.csv" in kept), name
                assert "log.csv" in kept or run.name not in get_preset("smollm2").objectives, name
                assert run.name not in script._read_by_others(preset) or (run / "adapter_model.safetensors").is_file(), name


def test_a_run_is_published_with_the_log_that_its_trainer_keeps(script, tmp_path):
    """TRL's trainer keeps none; one that PPO kept and that is lost is an error."""
    run, preset = tmp_path / "gdpo", get_preset("smollm2")
    run.mkdir()
    write = (run / "done.json").write_text
    write(json.dumps({"identity": {}, "files": {"adapter_model.safetensors": "0"}}), encoding="utf-8")
    assert script._files(preset, run) == ("done.json",)
    script.copy(run, tmp_path / "out" / "gdpo", script._files(preset, run))
    assert [file.name for file in (tmp_path / "out" / "gdpo").iterdir()] == ["done.json"]
    for kept in ({"files": {"adapter_model.safetensors": "0", "log.csv": "0"}}, {}):  # older records name no files
        write(json.dumps({"identity": {}} | kept), encoding="utf-8")
        assert script._files(preset, run) == ("done.json", "log.csv")
        with pytest.raises(UserError, match=r"log\.csv: missing"):
            script.copy(run, tmp_path / "out" / "gdpo", script._files(preset, run))


def test_it_goes_out_the_same(back, script, tmp_path, monkeypatch):
    data = tmp_path / "data"
    monkeypatch.setattr(script, "data_root", lambda: data)
    monkeypatch.setattr(script, "shipped", lambda name: data / name)
    script.main(script.Options(seeds=seeds(), runs=str(back), partly=True, command="again"))
    for file in [*COMMITTED.glob("seed*/*/*"), *COMMITTED.glob("warmstart/*"), *COMMITTED.glob("classifiers/*/*"), *RECORDS]:
        assert (data / "smollm2" / file.relative_to(COMMITTED)).read_bytes() == file.read_bytes(), file.name
    tables = {file.name for file in COMMITTED.glob("methods*.csv")}
    assert tables == {file.name for file in (data / "smollm2").glob("methods*.csv")} and len(tables) > 5
    for name in tables:
        pd.testing.assert_frame_equal(pd.read_csv(data / "smollm2" / name), pd.read_csv(COMMITTED / name))


def test_what_lies_among_the_runs_stays(back, script, tmp_path):
    runs = tmp_path / "runs"
    mine = runs / "smollm2" / "study" / "seed0" / "reflection"
    mine.mkdir(parents=True)
    (mine / "checkpoint").write_text("mine")
    script.main(script.Options(seeds=1, runs=str(runs), resume=True))
    assert [file.name for file in mine.iterdir()] == ["checkpoint"]
    assert (runs / "smollm2" / "study" / "seed0" / "empathy" / "done.json").is_file()


def test_a_study_that_is_not_complete_is_told(script, tmp_path):
    with pytest.raises(
        UserError, match=r"not finished: seed 0: objectives; finish the study first, or publish what is finished with --partly"
    ):
        script.main(script.Options(seeds=1, runs=str(tmp_path)))
    assert not list(tmp_path.rglob("*.csv"))


def test_what_cannot_be_meant_is_told(script, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="choose one"):
        script.main(script.Options(partly=True, resume=True))
    with pytest.raises(UserError, match="--command"):
        script.main(script.Options(resume=True, command="x"))
    with pytest.raises(UserError, match="comes with the package"):
        script.main(script.Options(preset="tiny"))
    monkeypatch.setattr(script, "data_root", lambda: tmp_path)
    monkeypatch.setattr(script, "shipped", lambda name: tmp_path / name)
    with pytest.raises(UserError, match="no run of --preset smollm2 is published here"):
        script.main(script.Options(resume=True, runs=str(tmp_path / "runs")))


def test_a_record_comes_last_and_without_its_tables_is_copied_again(script, tmp_path):
    source, target = RECORDS[0].parent.parent, tmp_path / "results"
    assert script.copy_results(source, target, replacing=False) == len(list(source.glob("*/result.json")))
    assert script.copy_results(source, target, replacing=False) == 0
    place = target / RECORDS[0].parent.name
    (place / "result.json").unlink()
    for table in place.glob("*.csv"):
        table.write_text("cut", encoding="utf-8")
    assert script.copy_results(source, target, replacing=False) == 1
    assert all((place / file.name).read_bytes() == file.read_bytes() for file in RECORDS[0].parent.iterdir() if file.suffix == ".csv")
