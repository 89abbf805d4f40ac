"""Averaged weights: the average itself, saved, evaluated, loaded; and the best checkpoint."""

import gc
import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.engine import Trainer, evaluate
from shakedrop_det.engine.ema import ModelEMA

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


def test_average_of_weights_and_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    ema = ModelEMA(model, decay=0.2)
    expected: dict[str, torch.Tensor] = {}
    for step, decay in enumerate([0, 0.2, 0.2, 0.2]):  # 3 / 12 and more are above 0.2.
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                nn.init.normal_(tensor)
        model[1].num_batches_tracked.fill_(step)
        ema.update(model, step=step + 1)
        for key, value in model.state_dict().items():
            new = value.clone()
            if value.is_floating_point() and step:
                new = decay * expected[key] + (1 - decay) * value
            expected[key] = new
    assert ema.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(ema.state_dict(), expected)


def test_a_loaded_average_goes_on() -> None:
    model = nn.Linear(2, 3)
    ema, copy = (ModelEMA(model, decay=0.5) for _ in range(2))
    ema.update(model, step=1)
    copy.load_state_dict(ema.state_dict())
    nn.init.ones_(model.weight)
    for average in (ema, copy):
        average.update(model, step=20)
    assert torch.equal(ema.model.weight, copy.model.weight)
    assert not torch.equal(copy.model.weight, model.weight)


def test_a_short_run_forgets_its_first_step() -> None:
    """With 0.9999 in each step, 61 % of the average would be the first step's after 5000."""
    model = nn.Linear(1, 1, bias=False)
    ema = ModelEMA(model, decay=0.9999)
    for step in range(1, 501):
        nn.init.constant_(model.weight, float(step == 1))
        ema.update(model, step=step)
    assert float(ema.model.weight) < 1e-6
    ema.update(model, step=10**6)
    nn.init.ones_(model.weight)
    ema.update(model, step=10**6 + 1)
    assert float(ema.model.weight) == pytest.approx(1e-4)


def test_an_average_is_freed_with_its_last_reference() -> None:
    """It may be large, and Python's collector is not in a hurry."""
    ema = ModelEMA(nn.Linear(1, 1), decay=0.5)
    averaged = weakref.ref(ema.model)
    gc.disable()
    try:
        del ema
        assert averaged() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range_is_named(tiny: Tiny, decay: float) -> None:
    with pytest.raises(ValueError, match=f"SOLVER.EMA_DECAY must be in .0, 1., got {decay}"):
        Trainer(tiny("classifier", "SOLVER.EMA_DECAY", decay))


@pytest.fixture(params=["classifier", "mask_rcnn"])
def averaged(request: pytest.FixtureRequest, tiny: Tiny) -> Trainer:
    """A trainer that has run four steps, with ``steps``, the first weight after each."""
    trainer = Trainer(tiny(request.param, "SOLVER.EMA_DECAY", 0.5))
    trainer.steps = []

    class Note(HookBase):
        def after_step(self) -> None:
            trainer.steps.append(next(trainer.model.parameters()).detach().clone())

    trainer.register_hooks([Note()])
    trainer.train()
    return trainer


def test_average_is_evaluated_and_saved(averaged: Trainer, caplog: Any) -> None:
    trainer = averaged
    assert trainer.ema is not None
    results = trainer._last_eval_results
    tasks = {"classification"} if "classification" in results else {"bbox", "segm"}
    assert results.keys() == tasks | {f"{task}_ema" for task in tasks}
    stored = trainer.storage.latest()
    assert all(any(key.startswith(f"{task}_ema/") for key in stored) for task in tasks)

    expected, *others = trainer.steps
    for step, new in enumerate(others, start=2):
        decay = (1 + step) / (10 + step)  # Less than 0.5.
        expected = decay * expected + (1 - decay) * new
    torch.testing.assert_close(next(trainer.ema.model.parameters()).detach(), expected)

    path = Path(trainer.cfg.OUTPUT_DIR, "model_final.pth")
    saved = torch.load(path, weights_only=True)
    weights = dict(trainer.model.named_parameters())
    assert saved["ema"].keys() == saved["model"].keys()
    assert any(not torch.equal(saved["ema"][key], value) for key, value in weights.items())
    torch.testing.assert_close(saved["ema"], trainer.ema.state_dict(), rtol=0, atol=0)

    # As MODEL.WEIGHTS it is the average that is used; to go on with, each is what it was.
    for resume, name in ((False, "ema"), (True, "model")):
        other = Trainer(trainer.cfg)
        other.checkpointer.resume_or_load(str(path), resume=resume)
        torch.testing.assert_close(other.model.state_dict(), saved[name], rtol=0, atol=0)
    torch.testing.assert_close(other.ema.state_dict(), saved["ema"], rtol=0, atol=0)


def test_evaluation_uses_the_average(averaged: Trainer) -> None:
    cfg = averaged.cfg.clone()
    expected = {
        key.removesuffix("_ema"): value
        for key, value in averaged._last_eval_results.items()
        if key.endswith("_ema")
    }
    for weights, resume in (("model_final.pth", False), ("none.pth", True)):
        cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR, weights))
        torch.testing.assert_close(evaluate(cfg, resume=resume), expected, equal_nan=True)


def test_a_classifiers_average_goes_into_a_detector(tiny: Tiny, tmp_path: Path) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.EMA_DECAY", 0.5, "DATASETS.TEST", ()))
    trainer.train()
    detector = Trainer.build_model(tiny("mask_rcnn"))
    Checkpointer(detector).load(str(Path(trainer.cfg.OUTPUT_DIR, "model_final.pth")), [])
    key = "backbone.bottom_up.res5.2.conv3.weight"
    assert torch.equal(detector.state_dict()[key], trainer.ema.state_dict()[key])
    assert not torch.equal(detector.state_dict()[key], trainer.model.state_dict()[key])


def test_best_weights_are_kept(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tiny("classifier", "SOLVER.BEST_CHECKPOINT_METRIC", "classification_ema/top1")
    cfg.SOLVER.EMA_DECAY, cfg.TEST.EVAL_PERIOD = 0.5, 1
    scores = iter([1.0, 3.0, 2.0, 0.0])

    def test(self: Any, cfg: CfgNode, model: nn.Module, name: str) -> dict[str, Any]:
        return {"classification_ema": {"top1": next(scores)}}

    monkeypatch.setattr(Trainer, "test", classmethod(lambda cls, *args: {}))
    monkeypatch.setattr(Trainer, "test_under_name", test)
    trainer = Trainer(cfg)
    trainer.train()
    path = Path(cfg.OUTPUT_DIR, "model_best.pth")
    best = torch.load(path, weights_only=True)
    assert (best["value"], best["iteration"]) == (3.0, 1)
    assert {"model", "ema", "metric"} <= best.keys() and "trainer" not in best

    # A resumed run leaves a better one alone; one from the start does not.
    # Runs resume from their last checkpoint, also where the best came after it.
    for resume, given, value in ((True, 2.5, 3.0), (False, 0.5, 0.5), (True, 4.0, 4.0)):
        # A resumed run begins with the evaluation that its checkpoint is from before.
        scores = iter([0.0] * (2 if resume else 3) + [given])
        Path(cfg.OUTPUT_DIR, "last_checkpoint").write_text("model_0000001.pth")
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        assert torch.load(path, weights_only=True)["value"] == value
        assert Path(trainer.checkpointer.get_checkpoint_file()).name == "model_final.pth"


def test_the_best_of_an_earlier_run_does_not_count(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even if the later run is stopped before its first evaluation, and resumed."""
    cfg = tiny("classifier", "SOLVER.BEST_CHECKPOINT_METRIC", "classification/top1")
    cfg.TEST.EVAL_PERIOD = 0
    score = 40.0
    monkeypatch.setattr(
        Trainer, "test", classmethod(lambda cls, *args: {"classification": {"top1": score}})
    )
    Trainer(cfg).train()
    path = Path(cfg.OUTPUT_DIR, "model_best.pth")
    assert torch.load(path, weights_only=True)["value"] == 40.0
    score = 38.0
    later = Trainer(cfg)
    later.register_hooks([Stop(after=1)])
    with pytest.raises(KeyboardInterrupt):
        later.train()
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2
    assert "Cannot find the hook" not in caplog.text
    resumed.train()
    assert torch.load(path, weights_only=True)["value"] == 38.0


def test_the_other_processes_do_not_miss_the_hook_of_the_first(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tiny("classifier", "SOLVER.BEST_CHECKPOINT_METRIC", "classification/top1")
    state = Trainer(cfg).state_dict()
    assert "BestOfRun" in state["hooks"]
    monkeypatch.setattr("shakedrop_det.engine.trainer.comm.is_main_process", lambda: False)
    Trainer(cfg).load_state_dict(state)
    assert "Cannot find the hook" not in caplog.text


class Stop(HookBase):
    """A signal in a step."""

    def __init__(self, *, after: int) -> None:
        self._after = after

    def after_step(self) -> None:
        if self.trainer.iter == self._after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("metric", ["classification/top1", "classification_ema/top1"])
def test_the_best_file_has_the_weights_that_were_measured(tiny: Tiny, metric: str) -> None:
    cfg = tiny("classifier", "SOLVER.BEST_CHECKPOINT_METRIC", metric, "SOLVER.EMA_DECAY", 0.9)
    trainer = Trainer(cfg)
    trainer.train()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR, "model_best.pth"))
    best = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)
    assert ("ema" in best) == ("_ema" in metric)
    assert evaluate(cfg)["classification"]["top1"] == pytest.approx(best["value"])
