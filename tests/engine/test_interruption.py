"""Signals stop training where nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng

from shakedrop_det.engine import Trainer, evaluate, rng
from shakedrop_det.engine.interruption import Interrupted

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


@pytest.fixture
def cfg(tiny: Tiny) -> CfgNode:
    options = ["SEED", 1, "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (3,), "TEST.EVAL_PERIOD", 2]
    return tiny("classifier", *options, "SOLVER.CHECKPOINT_PERIOD", 100)


def prepared(cfg: CfgNode, *, resume: bool = False) -> Trainer:
    seed_all_rng(2 if resume else 1)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer


def once(place: Callable[..., Any], condition: Callable[[], bool], number: int) -> Any:
    """The function, which lets a signal arrive first, once, when the condition holds."""
    sent: list[int] = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if condition() and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return place(*args, **kwargs)

    return wrapped


def evaluated(cfg: CfgNode) -> dict[int, float]:
    """The accuracy of each evaluation in metrics.json, by iteration."""
    key = "classification/top1"
    lines = map(json.loads, Path(cfg.OUTPUT_DIR, "metrics.json").read_text().splitlines())
    return {line["iteration"]: line[key] for line in lines if key in line}


@pytest.mark.parametrize(
    "place", ["forward pass", "waiting for images", "images were read", "evaluation"]
)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    cfg: CfgNode, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = prepared(cfg)
    unbroken.train()
    expected = {key: value.clone() for key, value in unbroken.model.state_dict().items()}

    accuracies = evaluated(cfg)
    cfg.OUTPUT_DIR = str(tmp_path / "interrupted")
    trainer = prepared(cfg)
    model = trainer.model
    if place == "forward pass":
        model.forward = once(model.forward, lambda: trainer.iter == 1, signal.SIGTERM)
    elif place == "evaluation":
        model.forward = once(model.forward, lambda: not model.training, signal.SIGTERM)
    elif place == "images were read":
        restore = once(rng.set_rng_state, lambda: trainer.iter == 2, signal.SIGTERM)
        monkeypatch.setattr(rng, "set_rng_state", restore)
    else:
        images = iter(trainer._trainer._data_loader_iter)
        read = once(images.__next__, lambda: trainer.iter == 2, signal.SIGTERM)
        trainer._trainer._data_loader_iter_obj = iter(read, None)
    with pytest.raises(Interrupted, match="stopped after iteration 1; .* --resume .*000001.pth"):
        trainer.train()
    assert os.listdir(cfg.OUTPUT_DIR).count("model_0000001.pth") == 1
    assert not Path(cfg.OUTPUT_DIR, "run.lock").exists()

    resumed = prepared(cfg, resume=True)
    assert resumed.start_iter == 2
    resumed.train()
    torch.testing.assert_close(resumed.model.state_dict(), expected, rtol=0, atol=0)
    # Two evaluations were due, the first after the step that the interrupted run ended with.
    assert evaluated(cfg) == accuracies and list(accuracies) == [1, 4]


def test_an_evaluation_that_was_finished_is_not_repeated(cfg: CfgNode) -> None:
    trainer = prepared(cfg)
    model = trainer.model
    model.forward = once(model.forward, lambda: trainer.iter == 2 and model.training, signal.SIGINT)
    with pytest.raises(Interrupted, match="after iteration 2"):
        trainer.train()
    assert list(evaluated(cfg)) == [1]
    resumed = prepared(cfg, resume=True)
    forward, iterations = resumed.model.forward, []
    resumed.model.forward = lambda *args: (iterations.append(resumed.iter), forward(*args))[1]
    resumed.train()
    assert min(iterations) == 3 and list(evaluated(cfg)) == [1, 4]


def test_weights_that_are_not_finite_are_not_saved(cfg: CfgNode) -> None:
    trainer = prepared(cfg)
    step = trainer._trainer.optimizer.step

    def diverge(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        with torch.no_grad():
            next(p for p in trainer.model.parameters() if p.requires_grad).fill_(torch.nan)
        os.kill(os.getpid(), signal.SIGTERM)

    trainer._trainer.optimizer.step = diverge
    with pytest.raises(FloatingPointError, match="iteration 0: 'backbone.*not finite.*BASE_LR"):
        trainer.train()
    assert not list(Path(cfg.OUTPUT_DIR).glob("*.pth"))


def test_before_the_first_step_there_is_nothing_to_save(cfg: CfgNode) -> None:
    trainer = prepared(cfg)
    trainer.before_train = once(trainer.before_train, lambda: True, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped; there is no checkpoint yet"):
        trainer.train()
    assert not list(Path(cfg.OUTPUT_DIR).glob("*.pth"))


def test_a_run_stopped_before_its_first_checkpoint_is_not_resumed_as_an_earlier_one(
    cfg: CfgNode,
) -> None:
    earlier = prepared(cfg)
    earlier.train()
    note = Path(cfg.OUTPUT_DIR, "last_checkpoint")
    evaluate(cfg, resume=True)
    # Trained already, and left as it is.
    prepared(cfg, resume=True).train()
    assert note.read_text() == "model_final.pth"

    trainer = prepared(cfg)
    trainer.before_train = once(trainer.before_train, lambda: True, signal.SIGINT)
    with pytest.raises(Interrupted, match="there is no checkpoint yet, so start again"):
        trainer.train()
    assert not note.exists()

    again = prepared(cfg, resume=True)
    assert (again.start_iter, again.checkpointer.last_saved) == (0, "")
    weight = "backbone.bottom_up.stem.conv1.weight"
    weights = (it.checkpointer.model.state_dict()[weight] for it in (again, earlier))
    assert not torch.equal(*weights)
    again.train()
    assert note.read_text() == "model_final.pth"


def test_what_follows_the_last_step_is_left_out(cfg: CfgNode) -> None:
    trainer = prepared(cfg)
    forward = once(trainer.model.forward, lambda: trainer.iter == 3, signal.SIGINT)
    trainer.model.forward = forward
    trainer._last_eval_results = None
    with pytest.raises(KeyboardInterrupt, match="--resume continues from .*model_final.pth"):
        trainer.train()
    assert [path.name for path in Path(cfg.OUTPUT_DIR).glob("*.pth")] == ["model_final.pth"]


def test_a_second_signal_stops_at_once_and_saves_nothing(cfg: CfgNode) -> None:
    trainer = prepared(cfg)
    reached = []

    def forward(batch: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same one, of a terminal and a parent process
        reached.append(1)
        trainer.interruption._since -= 2  # seconds
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(2)

    trainer.model.forward = forward
    with pytest.raises(Interrupted, match="there is no checkpoint yet"):
        trainer.train()
    assert reached == [1]


def test_handlers_are_put_back(cfg: CfgNode) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trainer = prepared(cfg)
    with trainer.interruption.handled():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
