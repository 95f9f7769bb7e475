"""How many processes there is room for: what a scheduler, a container or `taskset` leaves of a machine."""

from __future__ import annotations

import math
import os

import pytest

from emorl_lite.base import workers
from emorl_lite.base.workers import cores

pytestmark = pytest.mark.plain


@pytest.fixture
def unlimited(monkeypatch):
    """No group of processes has a quota."""
    monkeypatch.setattr(workers, "_quota", lambda: math.inf)


def test_there_is_always_one():
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_what_this_python_knows_best_is_asked(monkeypatch, unlimited):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    assert cores() == 2
    monkeypatch.setattr(os, "process_cpu_count", lambda: 7, raising=False)
    assert cores() == 7
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a processor")
def test_a_process_that_is_pinned_to_one_processor_has_one():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("own", "above", "found"),
    [
        ("200000 100000", "max 100000", 2),
        ("max 100000", "150000 100000", 2),
        ("50000 100000", "max 100000", 1),
        ("300000 100000", "100000 100000", 1),
        ("max 100000", "max 100000", 8),
        ("", "nonsense 3", 8),
        ("100000 0", None, 8),
    ],
)
def test_a_containers_quota_counts_and_that_of_what_it_lies_in(own, above, found, tmp_path, monkeypatch):
    group = tmp_path / "sys" / "pod" / "container"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(own)
    if above is not None:
        (group.parent / "cpu.max").write_text(above)
    (tmp_path / "cgroup").write_text("3:cpuset:/\n0::/pod/container\n")
    real = workers.Path
    monkeypatch.setattr(workers, "Path", lambda *parts: tmp_path / "cgroup" if parts == ("/proc/self/cgroup",) else real(*parts))
    monkeypatch.setattr(workers, "GROUPS", str(tmp_path / "sys"))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    assert cores() == found
