"""CITATION.cff cites this version, and the paper."""

from __future__ import annotations

from pathlib import Path

import yaml

import shakedrop_det


def test_the_citation_file_is_of_this_version() -> None:
    citation = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text())
    assert citation["version"] == shakedrop_det.__version__
    assert citation["preferred-citation"]["doi"] == "10.1109/ACCESS.2019.2960566"
