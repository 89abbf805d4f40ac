"""Signals stop training where nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng

from shakedrop_det.engine import Trainer, evaluate
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


@pytest.mark.parametrize("place", ["forward pass", "waiting for images", "evaluation"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    cfg: CfgNode, tmp_path: Path, place: str
) -> None:
    unbroken = prepared(cfg)
    unbroken.train()
    expected = {key: value.clone() for key, value in unbroken.model.state_dict().items()}

    cfg.OUTPUT_DIR = str(tmp_path / "interrupted")
    trainer = prepared(cfg)
    model = trainer.model
    if place == "forward pass":
        model.forward = once(model.forward, lambda: trainer.iter == 1, signal.SIGTERM)
    elif place == "evaluation":
        model.forward = once(model.forward, lambda: not model.training, signal.SIGTERM)
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
