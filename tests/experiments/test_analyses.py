"""Predictions over several networks, from the files of the tool that measures them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from shakedrop_det.experiments.analyses import Analyses
from shakedrop_det.experiments.render import render

VALUES = {"It is large": (0.1, [0.3, 0.31, 0.32]), "It is positive": (0.0, [-1.0, 0.5, 1.0])}
WHERE = {"seconds": 40.0, "machine": "a CPU", "code": "abc", "date": "2026-01-02"}


def write(folder: Path, values: dict[str, tuple[float, list[float]]] = VALUES) -> Path:
    folder.mkdir()
    for index in range(len(next(iter(values.values()))[1])):
        predictions = [
            {"text": text, "value": numbers[index], "limit": limit, "low": None, "high": None}
            for text, (limit, numbers) in values.items()
        ]
        path = folder / f"seed_{index + 1}.json"
        path.write_text(json.dumps({"predictions": predictions, **WHERE}))
    return folder


def test_networks_are_the_unit_of_the_test(tmp_path: Path) -> None:
    large, positive = Analyses(write(tmp_path / "pairs")).findings()
    test = stats.ttest_1samp([0.3, 0.31, 0.32], 0.1)
    assert large.effect.mean == pytest.approx(0.31)
    assert large.effect.p_value == pytest.approx(test.pvalue)
    assert large.adjusted == pytest.approx(2 * test.pvalue), "Holm, of two predictions"
    assert (large.verdict, positive.verdict) == ("supported", "undecided")
    low, high = test.confidence_interval()
    assert large.effect_text == f"0.310 ({low:.3f} to {high:.3f})"


def test_a_value_below_its_limit_refutes(tmp_path: Path) -> None:
    """Although the values are positive."""
    [found] = Analyses(write(tmp_path / "pairs", {"Above 1": (1.0, [0.4, 0.5, 0.45])})).findings()
    assert found.verdict == "refuted"


def test_one_network_decides_nothing(tmp_path: Path) -> None:
    [found] = Analyses(write(tmp_path / "pairs", {"Above 1": (1.0, [0.4])})).findings()
    assert (found.verdict, found.effect_text) == ("undecided", "0.400")


def test_a_document_shows_them_beside_experiments(tmp_path: Path) -> None:
    write(tmp_path / "pairs")
    document = tmp_path / "results.md"
    document.write_text(
        "<!-- begin claims pairs -->\n<!-- end -->\n<!-- begin experiment pairs -->\n<!-- end -->\n"
        "<!-- begin missing pairs -->\n<!-- end -->\n"
    )
    render(document, experiments=tmp_path, results=tmp_path)
    claims, section, missing = (
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in part.splitlines()
            if line.startswith("|") and "--" not in line
        ]
        for part in document.read_text().split("<!-- end -->")[:3]
    )
    assert claims[1][0] == "It is large" and claims[1][1] == "[pairs](#pairs)"
    assert claims[1][3:] == ["3 of 3", "supported", "`tools/analyze_perturbation.py`", "2"]
    seeds = [f"seed {number}" for number in (1, 2, 3)]
    assert section[0] == ["prediction", *seeds, "mean (95 % interval)", "verdict"]
    assert section[2][:4] == ["It is positive", "-1.000", "0.500", "1.000"]
    assert "(a CPU; commit abc; 2026-01-02)" in document.read_text()
    assert len(missing) == 1, "nothing but the header"


@pytest.mark.parametrize("content", ["{", "[]", '{"predictions": [{"text": "a"}]}'])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path / "pairs")
    (tmp_path / "pairs" / "seed_2.json").write_text(content)
    with pytest.raises(ValueError, match=r"seed_2.json is not a file of tools/analyze_pert"):
        Analyses(tmp_path / "pairs")


def test_files_with_other_predictions_are_named(tmp_path: Path) -> None:
    write(tmp_path / "pairs")
    path = tmp_path / "pairs" / "seed_2.json"
    record: dict[str, Any] = json.loads(path.read_text())
    del record["predictions"][1]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"seed_2.json has other predictions than .*seed_1.json"):
        Analyses(tmp_path / "pairs")


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    with pytest.raises(FileNotFoundError, match="copy the perturbation.json files"):
        Analyses(tmp_path / "pairs")
