"""Reading and drawing metrics.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, JSONWriter
from matplotlib.axes import Axes
from PIL import Image

from shakedrop_det.evaluation import draw_curves
from shakedrop_det.evaluation.curves import read_metrics


def write(path: Path, *lines: dict[str, float]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_reads_what_detectron2_writes(tmp_path: Path) -> None:
    writer = JSONWriter(str(tmp_path / "metrics.json"), window_size=1)
    with EventStorage() as storage:
        for iteration in range(4):
            storage.iter = iteration
            storage.put_scalar("total_loss", 10.0 - iteration)
            if iteration == 3:
                storage.put_scalar("segm/AP", 30.0)
            writer.write()
    writer.close()
    metrics = read_metrics(tmp_path / "metrics.json")
    np.testing.assert_array_equal(metrics["total_loss"], [[i, 10.0 - i] for i in range(4)])
    np.testing.assert_array_equal(metrics["segm/AP"], [[3, 30]])


def test_the_later_value_counts_after_a_resume(tmp_path: Path) -> None:
    path = write(
        tmp_path / "metrics.json",
        {"iteration": 1, "total_loss": 5},
        {"iteration": 3, "total_loss": 9},
        {"iteration": 2, "total_loss": 4},
        {"iteration": 3, "total_loss": 3},
    )
    np.testing.assert_array_equal(read_metrics(path)["total_loss"], [[1, 5], [2, 4], [3, 3]])


def test_curves_go_through_the_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {
        name: write(
            tmp_path / f"{name}.json",
            *({"iteration": i, "total_loss": loss + i % 2} for i in range(40)),
            {"iteration": 39, "total_loss": loss + 1, "segm/AP": 20 + loss, "bbox/AP": 30},
        )
        for name, loss in (("stock", 2.0), ("shaken", 4.0))
    }
    lines = []
    plot = Axes.plot

    def spy(self: Axes, *args: object, **kwargs: object) -> object:
        (line,) = plot(self, *args, **kwargs)
        lines.append(line)
        return [line]

    monkeypatch.setattr(Axes, "plot", spy)
    draw_curves(paths, tmp_path / "new" / "curves.png")
    with Image.open(tmp_path / "new" / "curves.png") as image:
        assert image.size == (1500, 600)
    by_label = {line.get_label(): line for line in lines}
    assert by_label["stock, mask AP"].get_xydata().tolist() == [[39, 22]]
    assert by_label["shaken, mask AP"].get_xydata().tolist() == [[39, 24]]
    # The running mean over two steps of a loss that alternates is constant, but for the ends.
    np.testing.assert_allclose(by_label["stock"].get_ydata()[2:-2], 2.5)
    np.testing.assert_allclose(by_label["shaken"].get_ydata()[2:-2], 4.5)


def test_a_constant_loss_stays_so_at_the_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.json", *({"iteration": i, "total_loss": 3} for i in range(100)))
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, **kwargs: drawn.append(y))
    draw_curves({"run": path}, tmp_path / "curves.png")
    for values in drawn:
        np.testing.assert_allclose(values, 3)
    assert len(drawn) == 2


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/none.json does not exist"):
        draw_curves({"run": tmp_path / "none.json"}, tmp_path / "curves.png")


def test_curves_of_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        draw_curves({}, tmp_path / "curves.png")


@pytest.mark.parametrize("line", ["hello", "[]", '{"total_loss": 3}', "3"])
def test_file_of_another_kind(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(line)
    with pytest.raises(ValueError, match=f"{path} has no line that is"):
        read_metrics(path)


def test_a_line_that_was_not_finished_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.json"
    lines = [
        '{"iteration": 1, "total_loss": 3}',
        '{"iteration": 2, "tot',
        '{"iteration": 3, "x": 1}',
    ]
    path.write_text("\n".join(lines))
    metrics = read_metrics(path)
    assert metrics["total_loss"].tolist() == [[1, 3]] and metrics["x"].tolist() == [[3, 1]]
    assert f"Skipped lines of {path} that are not JSON objects" in caplog.text
    assert caplog.text.rstrip().endswith(": 2")


def test_run_without_a_loss(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.json", {"iteration": 1, "lr": 3})
    with pytest.raises(ValueError, match=f"{path} has no total_loss"):
        draw_curves({"run": path}, tmp_path / "curves.png")
