"""What several tests share: tiny networks, a small dataset, and logs that leave no trace."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import logger as detectron2_logger
from hypothesis import HealthCheck, settings
from torch.utils.data import _utils

from shakedrop_det.data import build_digit_scenes, register_digit_scenes
from shakedrop_det.engine import load_config

CONFIGS = Path(__file__).parent / "configs"

# Neither the time that an example takes nor that of drawing it says anything on a busy machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Let a test draw the same whichever tests ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def signals_are_handled_as_before() -> Iterator[None]:
    """Undo what tools that run in this process set. SIGINT is ignored where the tests run in the
    background of a script: let it interrupt."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def short_wait_for_data_workers() -> Iterator[None]:
    """Where an error ended a loader, torch otherwise waits five seconds for each worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
        yield


@pytest.fixture(scope="session")
def datasets_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for ``$DETECTRON2_DATASETS`` with digit scenes, 16 to train on and 4 held out.

    In this process they are registered as ``tiny_scenes_train`` and ``tiny_scenes_val``, since
    ``digit_scenes_*`` got its folder when the package was imported; and 40 images of ``digits_val``
    as ``tiny_digits``.
    """
    root = str(tmp_path_factory.mktemp("datasets"))
    scenes = os.path.join(root, "digit_scenes")
    build_digit_scenes(scenes, num_train=16, num_val=4)
    for split in ("train", "val"):
        register_digit_scenes(f"tiny_scenes_{split}", scenes, split=split)
    digits = DatasetCatalog.get("digits_val")[:40]
    DatasetCatalog.register("tiny_digits", lambda: [dict(record) for record in digits])
    described = MetadataCatalog.get("digits_val")
    MetadataCatalog.get("tiny_digits").set(
        evaluator_type=described.evaluator_type, classes=described.classes
    )
    return root


@pytest.fixture
def tiny(tmp_path: Path, datasets_root: str) -> Callable[..., CfgNode]:
    """``tiny(name, *options)``: a config of ``tests/configs``, not frozen, writing to tmp_path.

    Detectors read ``tiny_scenes_*``, classifiers ``tiny_digits``.
    """

    def load(name: str, *options: object) -> CfgNode:
        cfg = load_config(str(CONFIGS / f"tiny_{name}.yaml"))
        cfg.OUTPUT_DIR = str(tmp_path / "output")
        if name == "classifier":
            cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("tiny_digits",)
        else:
            cfg.DATASETS.TRAIN = ("tiny_scenes_train",)
            cfg.DATASETS.TEST = ("tiny_scenes_val",)
        cfg.merge_from_list(list(options))
        return cfg

    return load


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Undo what detectron2's ``setup_logger`` does to the loggers of this process."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "shakedrop_det")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in loggers]
    yield
    for log, (level, propagate, handlers) in zip(loggers, before, strict=True):
        log.setLevel(level)
        log.propagate = propagate
        log.handlers[:] = handlers
    detectron2_logger.setup_logger.cache_clear()
