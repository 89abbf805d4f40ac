"""Own data, registered for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from tests.own_data import NAME, Content, write_own_data


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """``written(change)`` registers own data with that change as :data:`NAME`."""

    def register(change: Callable[[Content], object] | None = None, **options: Any) -> None:
        write_own_data(tmp_path / "own", change, **options)
        register_coco_instances(
            NAME, {}, str(tmp_path / "own" / "instances.json"), str(tmp_path / "own" / "images")
        )

    yield register
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
