"""Resuming in one process: whatever a step depends on is in the checkpoint."""

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import TrainingSampler

from shakedrop_det.engine import Trainer
from shakedrop_det.engine.exact_resume import ExactResume
from shakedrop_det.engine.resumable_loader import ResumableLoader

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


def end_of(cfg: CfgNode, *, resume: bool) -> dict[str, torch.Tensor]:
    """The weights at the end of a run, the random numbers at the beginning being any."""
    random.seed()
    np.random.seed()
    torch.seed()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer.model.state_dict()


@pytest.mark.parametrize(
    "name, options",
    [
        ("retinanet", []),  # Its loss has a divisor that is averaged over steps.
        ("c4", ["SOLVER.AMP.ENABLED", True, "SOLVER.ACCUMULATION_STEPS", 2]),
        ("classifier", ["DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"]),
        ("classifier", ["MODEL.SHAKEDROP.LEVEL", "pixel", "TEST.PRECISE_BN.ENABLED", True]),
    ],
)
def test_without_a_seed_too(tiny: Tiny, name: str, options: list[Any]) -> None:
    cfg = tiny(name, "SEED", -1, "DATASETS.TEST", (), "TEST.PRECISE_BN.NUM_ITER", 1, *options)
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.3
    cfg.TEST.EVAL_PERIOD = 1
    expected = end_of(cfg, resume=False)
    Path(cfg.OUTPUT_DIR, "last_checkpoint").write_text("model_0000001.pth")
    found = end_of(cfg, resume=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    key = next(key for key in found if key.endswith("stem.conv1.weight"))
    assert not torch.equal(end_of(cfg, resume=False)[key], found[key])


def test_without_a_seed_with_the_samplers_of_current_detectron2(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Detection's get ``seed=cfg.SEED``, which is -1 where nobody sets it: the run draws a seed
    that the checkpoint keeps."""
    seeded = functools.partial(TrainingSampler, seed=-1)
    monkeypatch.setattr("detectron2.data.build.TrainingSampler", seeded)
    cfg = tiny("mask_rcnn", "SEED", -1, "DATASETS.TEST", ())
    expected = end_of(cfg, resume=False)
    Path(cfg.OUTPUT_DIR, "last_checkpoint").write_text("model_0000001.pth")
    torch.testing.assert_close(end_of(cfg, resume=True), expected, rtol=0, atol=0)
    saved = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    (process,) = saved["trainer"]["hooks"]["ExactResume"]["processes"]
    another = Trainer(cfg).data_loader.state_dict()
    assert process["loader"]["seeds"] != another["seeds"]


def test_another_number_of_processes_is_warned_of(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(tiny("classifier"))
    (hook,) = (hook for hook in trainer._hooks if isinstance(hook, ExactResume))
    process = hook.state_dict()["processes"][0]
    process["loader"]["next"] = 24
    hook.load_state_dict({"processes": [process] * 2})
    assert "1 processes a run that began with 2" in caplog.text
    assert isinstance(trainer.data_loader, ResumableLoader)
    assert trainer.data_loader.state_dict()["next"] == 48


@pytest.mark.parametrize("name, size", [("classifier", 8), ("mask_rcnn", 2)])
def test_another_batch_size_is_warned_of(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, name: str, size: int
) -> None:
    """What an iteration is does not stay."""
    Trainer(tiny(name, "DATASETS.TEST", (), "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", ())).train()
    Trainer(tiny(name)).resume_or_load(resume=True)
    assert "The batch size is" not in caplog.text
    halved = tiny(name, "SOLVER.IMS_PER_BATCH", size // 2, "SOLVER.BASE_LR", 0.005)
    trainer = Trainer(halved)
    trainer.resume_or_load(resume=True)
    assert f"is {size // 2}, but the resumed run used {2 * size} images in 2 iter" in caplog.text
    assert trainer.scheduler.base_lrs[0] == 0.005


@pytest.mark.parametrize(
    "options, message",
    [
        (["MODEL.IMAGE_CLASSIFIER.NUM_CLASSES", 12], "lacks 2 weights(?s:.*)linear. Resume with"),
        (["MODEL.BACKBONE.FREEZE_AT", 2], "trained 161 parameters.*MODEL.*FREEZE_AT"),
        (["SOLVER.OPTIMIZER", "ADAMW"], "another optimizer than AdamW.*SOLVER.OPTIMIZER"),
    ],
)
def test_a_run_of_another_network_or_optimizer_is_not_resumed(
    tiny: Tiny, options: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which would name the number of classes first.
    monkeypatch.setattr("shakedrop_det.engine.trainer.check_config", lambda cfg: None)
    begun = Trainer(tiny("classifier"))
    begun.iter = 1
    begun.checkpointer.save("model_0000001", iteration=1)
    trainer = Trainer(tiny("classifier", *options))
    with pytest.raises(ValueError, match=message):
        trainer.resume_or_load(resume=True)


def test_switched_off_it_is_detectron2s_loader(tiny: Tiny) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.EXACT_RESUME", False))
    assert not isinstance(trainer.data_loader, ResumableLoader)
    assert not any(isinstance(hook, ExactResume) for hook in trainer._hooks)
