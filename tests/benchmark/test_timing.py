"""Interleaved timing and what is reported of it. No test here depends on how long anything took."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from shakedrop_det.benchmark import (
    CASES,
    GPU_CASES,
    MEMORY_CASES,
    Memory,
    Timing,
    Variant,
    time_interleaved,
)
from shakedrop_det.benchmark.report import memory_table, report, table

RESULTS = {
    "first case": {
        "stock": Timing([2.0, 4.0, 2.0], [1.0, 1.0, 1.0]),
        "ours": Timing([1.0, 2.0, 1.5], [0.5, 0.5, 0.75]),
    },
    "second case": {"stock": Timing([1e-4], [1.0]), "ours": Timing([2e-4], [2.0])},
}
MEMORY = {"a network": {"stock": Memory(2**20), "ours": Memory(2**20 - 24, 3 * 2**20)}}


def test_each_variant_runs_once_in_each_round_and_each_comes_first() -> None:
    called: list[str] = []
    variants = {name: (lambda n=name: called.append(n)) for name in "abc"}
    timings = time_interleaved(variants, rounds=3, seconds_per_call=0.0)
    rounds = [called[-9:][i : i + 3] for i in (0, 3, 6)]
    assert [sorted(r) for r in rounds] == [list("abc")] * 3
    assert [r[0] for r in rounds] == list("abc")
    assert all(len(t.seconds) == len(t.ratios) == 3 for t in timings.values())


def test_each_call_gets_what_was_prepared_for_it() -> None:
    given = iter(range(100))
    used: list[int] = []
    variant = Variant(used.append, lambda: next(given))
    time_interleaved({"only": variant}, rounds=4, seconds_per_call=0.0)
    assert used == list(range(len(used))) and len(used) >= 5


def test_garbage_collection_is_as_it_was_also_after_an_error() -> None:
    def fail() -> None:
        assert not gc.isenabled() or not runs
        runs.append(1)
        if len(runs) > 2:
            raise KeyError

    runs: list[int] = []
    with pytest.raises(KeyError):
        time_interleaved({"fails": fail}, rounds=5, seconds_per_call=0.0)
    assert gc.isenabled()


def test_ratios_are_to_the_first_variant_of_the_same_round() -> None:
    timing = RESULTS["first case"]["ours"]
    assert (timing.median, timing.ratio) == (1.5, 0.5)
    assert Timing([1.0] * 9, [float(i) for i in range(9)]).ratio_interval() == (1.0, 7.0)


def test_tables_hold_every_variant() -> None:
    lines = table(RESULTS).splitlines()
    assert len(lines) == 2 + 4
    assert "ours" in lines[3] and "0.500-0.750" in lines[3] and "200 us" in lines[5]
    rows = memory_table(MEMORY).splitlines()
    assert len(rows) == 2 + 2
    assert "not measured" in rows[2] and "-24" in rows[3] and "3.00 MiB" in rows[3]


def test_a_variant_that_was_timed_alone_has_no_ratio() -> None:
    """A tool can be asked for one only, which would be a ratio to itself."""
    (line,) = table({"case": {"ours": Timing([1.0, 2.0], [1.0, 1.0])}}).splitlines()[2:]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        *("case", "ours", "1500.0 ms", "-", "-")
    ]


def test_the_report_has_all_rows_and_a_picture(tmp_path: Path) -> None:
    report(RESULTS, tmp_path, device="cpu", memory=MEMORY)
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert "thread" in content["machine"]
    assert content["cases"]["first case"]["ours"]["seconds"] == [1.0, 2.0, 1.5]
    assert content["memory"]["a network"]["ours"] == {"saved": 2**20 - 24, "peak": 3 * 2**20}
    text = (tmp_path / "benchmark.md").read_text()
    assert table(RESULTS) in text and memory_table(MEMORY) in text
    assert not (tmp_path / "junctions.png").exists()  # There are none.
    assert (tmp_path / "steps.png").read_bytes()[:4] == b"\x89PNG"


def test_cases_have_names_of_their_own_and_cover_what_the_package_promises() -> None:
    names = [case.name for case in (*CASES, *GPU_CASES)]
    assert len(set(names)) == len(names)
    for part in ("junction", "blocks", "R50 step", "Mask R-CNN", "inference"):
        assert any(part in name for name in names)
    assert len({case.name for case in MEMORY_CASES}) == len(MEMORY_CASES)
