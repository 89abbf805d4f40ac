"""Runs side by side that are stopped: by a limit, or with the process that started them."""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Generator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from shakedrop_det.experiments import Plan, Run, Store, run_plan, running

from .test_running import TINY, plan_of

LONG = 40.0
"""Seconds after which a run that nobody has ended does."""


def test_no_run_begins_after_the_deadline(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert run_plan(plan, Store(tmp_path), tmp_path, jobs=1, deadline=time.monotonic()) == {}
    assert Store(tmp_path).results(plan) == {}


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    options = {**TINY, "SOLVER.MAX_ITER": 10**6}
    plan = plan_of(tmp_path, options=options, variants={"plain": {}})
    failed = run_plan(plan, Store(tmp_path), tmp_path, jobs=1, limit=1.0)
    assert failed == {plan.runs[0]: "stopped after 1 s"}
    assert Store(tmp_path).results(plan) == {}


def stubborn(config: str, output: str, console: str, variables: object, pickle: bool) -> None:
    """A run that ends at once if it is of "plain", and otherwise late, even if told to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(output, "began").touch()
    if "plain" not in output:
        time.sleep(LONG)


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch) -> tuple[Plan, Generator[tuple[Run, str | None]]]:
    """Of "plain", which ends at once, and of "other", which does not; and both side by side."""
    monkeypatch.setattr(running, "run_alone", stubborn)
    monkeypatch.setattr(running, "_GRACE", 0.1)
    plan = plan_of(tmp_path, variants={"plain": {}, "other": {}})
    running._write_configs(plan, plan.runs, tmp_path)
    return plan, running._run_side_by_side(plan.runs, tmp_path, 2, False, math.inf, None)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_a_run_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(running, "run_alone", stubborn)
    monkeypatch.setattr(running, "_GRACE", 0.1)
    plan = plan_of(tmp_path, variants={"other": {}})
    start = ForkServerProcess.start

    def start_and_begin(process: ForkServerProcess) -> None:
        start(process)
        wait_for(tmp_path / plan.runs[0].folder / "began")

    monkeypatch.setattr(ForkServerProcess, "start", start_and_begin)
    begin = time.monotonic()
    failed = run_plan(plan, Store(tmp_path), tmp_path, jobs=1, limit=0.6)
    assert failed == {plan.runs[0]: "stopped after 1 s"}
    assert time.monotonic() - begin < LONG / 2 and multiprocessing.active_children() == []


def test_a_run_that_is_about_to_start_when_all_are_stopped_does_not(two_runs, monkeypatch) -> None:
    """Else nobody would end it."""
    plan, ended = two_runs
    stopping, start = threading.Event(), ForkServerProcess.start

    def late(process: ForkServerProcess) -> None:
        if "other" in str(process._args):
            stopping.wait(60)
            time.sleep(5 * running._GRACE)  # The others have been killed by then.
        start(process)

    monkeypatch.setattr(ForkServerProcess, "start", late)
    assert next(ended)[0] == plan.runs[0]
    stopping.set()
    begin = time.monotonic()
    ended.close()
    assert time.monotonic() - begin < LONG / 2 and multiprocessing.active_children() == []


def test_stopping_twice_leaves_no_process_either(two_runs, tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C once more, while runs may save a checkpoint."""
    plan, ended = two_runs
    assert next(ended)[0] == plan.runs[0]
    wait_for(tmp_path / plan.runs[1].folder / "began")
    monkeypatch.setattr(running, "wait", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ended.close()
    assert time.monotonic() - begin < LONG / 2 and multiprocessing.active_children() == []
