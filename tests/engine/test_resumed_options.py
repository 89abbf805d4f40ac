"""A resumed run follows its config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode

from shakedrop_det.engine import Trainer

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")

SCHEDULE: list[Any] = ["SOLVER.MAX_ITER", 10, "SOLVER.STEPS", (8,), "SOLVER.WARMUP_ITERS", 4]


@pytest.mark.parametrize("optimizer", ["SGD", "ADAMW"])
def test_rates_and_decay_are_those_of_the_config(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, optimizer: str
) -> None:
    options = [*SCHEDULE, "SOLVER.OPTIMIZER", optimizer, "SOLVER.WARMUP_FACTOR", 0.5]
    begun = Trainer(tiny("classifier", *options))
    begun.iter = 1
    for _ in range(2):
        begun.scheduler.step()
    begun.checkpointer.save("model_0000001", iteration=1)

    Trainer(tiny("classifier", *options)).resume_or_load(resume=True)
    assert "Resuming with" not in caplog.text

    changed = ["SOLVER.BASE_LR", 0.001, "SOLVER.WEIGHT_DECAY", 0.03, "SOLVER.MOMENTUM", 0.8]
    trainer = Trainer(tiny("classifier", *options, *changed))
    trainer.resume_or_load(resume=True)
    assert "learning rate 0.001 instead of the checkpoint's 0.01, as set by SOLVER" in caplog.text
    assert "weight decay 0.03 instead of the checkpoint's 0.0001" in caplog.text
    assert ("momentum 0.8 instead of the checkpoint's 0.9" in caplog.text) == (optimizer == "SGD")
    messages = [m for m in caplog.messages if "Resuming with" in m]
    assert len(messages) == len(set(messages)), "once for all groups of parameters"
    (group,) = (g for g in trainer.optimizer.param_groups if g["weight_decay"] > 0)
    assert group["weight_decay"] == 0.03
    assert group.get("momentum", 0.8) == 0.8
    # Half way through the warmup, from half the rate.
    assert trainer.scheduler.last_epoch == 2
    assert group["lr"] == pytest.approx(0.75 * 0.001)
    trainer.scheduler.step()
    assert group["lr"] == pytest.approx(0.875 * 0.001)
