"""Test predictions on several networks, from files of ``tools/analyze_perturbation.py``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .claims import verdict
from .statistics import Estimate, estimate_mean, holm


@dataclass(frozen=True)
class PredictionFinding:
    """A prediction and its measurements on several networks.

    Attributes:
        text: the prediction as a sentence. It holds if the expected value is above its limit.
        values: value of each network.
        effect: mean of the values; its p-value is that of the limit.
        adjusted: the p-value, adjusted by Holm's method over all predictions.
        verdict: "supported" or "refuted" by the direction if ``adjusted`` is below 5 %; "undecided"
            otherwise.
    """

    text: str
    values: list[float]
    effect: Estimate
    adjusted: float
    verdict: str

    @property
    def effect_text(self) -> str:
        """The mean with its confidence interval, if there are enough networks."""
        effect = self.effect
        if math.isnan(effect.low):
            return f"{effect.mean:.3f}"
        return f"{effect.mean:.3f} ({effect.low:.3f} to {effect.high:.3f})"


class Analyses:
    """Analyses of networks that differ only in their seed."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: folder with one JSON file per network, written by
                ``tools/analyze_perturbation.py``.

        Raises:
            FileNotFoundError: if the folder has no JSON file.
            ValueError: if a file is damaged, or its predictions differ from those of the others.
        """
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise FileNotFoundError(
                f"there is no JSON file in {str(folder)!r}: copy the perturbation.json files of "
                "tools/analyze_perturbation.py there, under the names of the networks"
            )
        self.name = folder.name
        self.records: Mapping[str, Mapping[str, Any]] = {path.stem: _read(path) for path in paths}
        texts = [[p["text"] for p in record["predictions"]] for record in self.records.values()]
        for path, text in zip(paths, texts, strict=True):
            if text != texts[0]:
                raise ValueError(
                    f"{path} has other predictions than {paths[0]}: measure both with the same "
                    "version, and both with --plain or without"
                )

    @property
    def minutes(self) -> float:
        """Minutes of processor time that the analyses took, without the training."""
        return sum(float(record["seconds"]) for record in self.records.values()) / 60

    @property
    def where(self) -> str:
        """Machines, commits and dates of the analyses."""
        machines, commits, dates = (
            sorted({str(record[key]) for record in self.records.values()})
            for key in ("machine", "code", "date")
        )
        return f"{'; '.join(machines)}; commit {', '.join(commits)}; {', '.join(dates)}"

    @property
    def command(self) -> str:
        """Tool that makes the analyses."""
        return "tools/analyze_perturbation.py"

    def claim_rows(self) -> list[list[str]]:
        """Return each prediction, its mean, the number of networks, and the verdict."""
        count = len(self.records)
        return [
            [finding.text, finding.effect_text, f"{count} of {count}", finding.verdict]
            for finding in self.findings()
        ]

    def findings(self) -> list[PredictionFinding]:
        """Test each prediction by a t-test over the networks."""
        rows = list(zip(*(record["predictions"] for record in self.records.values()), strict=True))
        values = [[prediction["value"] for prediction in row] for row in rows]
        limits = [row[0]["limit"] for row in rows]
        effects = [
            estimate_mean(numbers, expected=limit)
            for numbers, limit in zip(values, limits, strict=True)
        ]
        adjusted = holm([effect.p_value for effect in effects])
        return [
            PredictionFinding(row[0]["text"], numbers, effect, p, verdict(effect.mean > limit, p))
            for row, numbers, limit, effect, p in zip(
                rows, values, limits, effects, adjusted, strict=True
            )
        ]

    def table(self) -> str:
        """Format a markdown table of predictions by networks."""
        rows = [
            [
                finding.text,
                *(f"{value:.3f}" for value in finding.values),
                finding.effect_text,
                finding.verdict,
            ]
            for finding in self.findings()
        ]
        names = [name.replace("_", " ") for name in self.records]
        headers = ["prediction", *names, "mean (95 % interval)", "verdict"]
        return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        for prediction in record["predictions"]:
            prediction["text"], prediction["value"], prediction["limit"]
        record["seconds"], record["machine"], record["code"], record["date"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a file of tools/analyze_perturbation.py ({type(error).__name__}: "
            f"{error}): move it away"
        ) from None
    return dict(record)
