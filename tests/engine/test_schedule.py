"""Lengths in epochs, and schedules that do not go together with the length of the run."""

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from shakedrop_det import add_training_config
from shakedrop_det.engine import Trainer, epochs_to_iterations
from shakedrop_det.engine.schedule import build_lr_scheduler

Tiny = Callable[..., CfgNode]


def config(*options: object) -> CfgNode:
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 32, *options])
    return cfg


def learning_rates(cfg: CfgNode) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_epochs_become_iterations() -> None:
    cfg = config("SOLVER.MAX_EPOCHS", 90.0, "SOLVER.WARMUP_EPOCHS", 0.5)
    cfg.SOLVER.STEP_EPOCHS = (30, 60.5)
    cfg.SOLVER.CHECKPOINT_EPOCHS = 1.0
    cfg.TEST.EVAL_EPOCHS = 2.0
    cfg.freeze()
    found = epochs_to_iterations(cfg, 1000)  # an epoch has 31.25 batches
    assert (found.SOLVER.MAX_ITER, found.SOLVER.WARMUP_ITERS) == (2812, 16)
    assert found.SOLVER.STEPS == (938, 1891)
    assert (found.SOLVER.CHECKPOINT_PERIOD, found.TEST.EVAL_PERIOD) == (31, 62)
    assert found.is_frozen()
    assert cfg.SOLVER.MAX_ITER == get_cfg().SOLVER.MAX_ITER


def test_iterations_stay_where_no_epochs_are_given() -> None:
    cfg = config()
    assert epochs_to_iterations(cfg, 1000) is cfg
    cfg.SOLVER.MAX_EPOCHS = 2.0
    found = epochs_to_iterations(cfg, 1000)
    stock = get_cfg()
    assert found.SOLVER.MAX_ITER == 62
    assert found.SOLVER.WARMUP_ITERS == stock.SOLVER.WARMUP_ITERS
    assert found.SOLVER.STEPS == stock.SOLVER.STEPS
    assert found.TEST.EVAL_PERIOD == stock.TEST.EVAL_PERIOD


def test_the_shortest_length_is_one_iteration() -> None:
    cfg = config("SOLVER.MAX_EPOCHS", 0.001, "TEST.EVAL_EPOCHS", 0.001)
    found = epochs_to_iterations(cfg, 1000)
    assert (found.SOLVER.MAX_ITER, found.TEST.EVAL_PERIOD) == (1, 1)


@pytest.mark.parametrize(
    "key, value", [("SOLVER.MAX_EPOCHS", -1.0), ("SOLVER.STEP_EPOCHS", (1.0, -2.0))]
)
def test_negative_epochs_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{key} must not be negative"):
        epochs_to_iterations(config(key, value), 1000)


@pytest.mark.parametrize("name", ["WarmupCosineLR", "WarmupMultiStepLR"])
def test_schedules_in_epochs(name: str) -> None:
    cfg = config("SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.BASE_LR", 1.0, "SOLVER.GAMMA", 0.1)
    cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.WARMUP_EPOCHS = 10.0, 1.0
    cfg.SOLVER.STEP_EPOCHS = (5.0, 8.0)
    rates = learning_rates(epochs_to_iterations(cfg, 320))  # 10 iterations an epoch
    assert len(rates) == 100
    assert rates[:10] == sorted(rates[:10]) and rates[0] < 0.01
    if name == "WarmupMultiStepLR":
        assert rates[10:50] == pytest.approx([1.0] * 40)
        assert rates[50:80] == pytest.approx([0.1] * 30)
        assert rates[80:] == pytest.approx([0.01] * 20)
    else:
        cosine = [(1 + torch.tensor(i / 100 * torch.pi).cos().item()) / 2 for i in range(100)]
        assert rates[10:] == pytest.approx(cosine[10:], abs=1e-6)


@pytest.mark.parametrize("warmup", [0, 10, 100])
def test_steps_of_one_length_last_to_the_end(warmup: int) -> None:
    """detectron2's own has no rate after the last step, so that no model_final.pth is saved."""
    cfg = config("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR", "SOLVER.BASE_LR", 1.0)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.NUM_DECAYS = 80, warmup, 3
    rates = learning_rates(cfg)
    expected = [0.1 ** (iteration // 20) for iteration in range(80)]
    assert len(rates) == 80 and rates[warmup:] == pytest.approx(expected[warmup:])


@pytest.mark.parametrize("name, images", [("classifier", 40), ("mask_rcnn", 16)])
def test_trainer_counts_the_images(tiny: Tiny, name: str, images: int) -> None:
    cfg = tiny(name, "SOLVER.MAX_EPOCHS", 2.0, "SOLVER.EXACT_RESUME", False)
    trainer = Trainer(cfg)
    iterations = 2 * images // cfg.SOLVER.IMS_PER_BATCH
    assert trainer.max_iter == trainer.cfg.SOLVER.MAX_ITER == iterations
    assert trainer.scheduler._max_iter == iterations


def test_a_subset_is_an_epoch_of_its_own(tiny: Tiny) -> None:
    cfg = tiny("classifier", "SOLVER.MAX_EPOCHS", 1.0, "SOLVER.STEPS", ())
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    assert Trainer(cfg).max_iter == 2  # 20 images in batches of 8, rounded to even


def test_linear_scaling_by_the_number_of_processes() -> None:
    """Twice the processes of REFERENCE_WORLD_SIZE: twice the batch and rate, half the steps."""
    cfg = config("SOLVER.REFERENCE_WORLD_SIZE", 4, "SOLVER.BASE_LR", 0.1)
    cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.WARMUP_EPOCHS = 10.0, 1.0
    ends = [epochs_to_iterations(Trainer.auto_scale_workers(cfg, n), 640) for n in (4, 8)]
    assert [end.SOLVER.IMS_PER_BATCH for end in ends] == [32, 64]
    assert [end.SOLVER.BASE_LR for end in ends] == [0.1, 0.2]
    assert [end.SOLVER.MAX_ITER for end in ends] == [200, 100]
    assert [end.SOLVER.WARMUP_ITERS for end in ends] == [20, 10]


@pytest.mark.parametrize(
    "steps, max_iter, message",
    [
        ((60, 90), 90, r"SOLVER.STEPS \(60, 90\).*at SOLVER.MAX_ITER, 90.*SOLVER.MAX_EPOCHS"),
        ((60, 40), 90, r"SOLVER.STEPS must be positive and ascending, got \(60, 40\)"),
        ((0, 40), 90, "SOLVER.STEPS must be positive"),
        ((1, 2), 3, "none"),
        ((0.5, 0.9), 90, r"SOLVER.STEPS must be numbers of iterations, got \(0.5.*STEP_EPOCHS"),
        ((), 0, "SOLVER.MAX_ITER must be at least 1, got 0"),
    ],
)
def test_steps_that_do_not_fit_are_named(
    steps: tuple[float, ...], max_iter: int, message: str
) -> None:
    cfg = config("SOLVER.STEPS", steps, "SOLVER.MAX_ITER", max_iter)
    if message == "none":
        assert len(learning_rates(cfg)) == max_iter
        return
    with pytest.raises(ValueError, match=message):
        learning_rates(cfg)


def test_unknown_schedules_and_cosine_ends_are_named() -> None:
    with pytest.raises(ValueError, match="SOLVER.LR_SCHEDULER_NAME must be one of.*got 'Cosine'"):
        learning_rates(config("SOLVER.LR_SCHEDULER_NAME", "Cosine"))
    cfg = config("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", 1.0)
    with pytest.raises(ValueError, match="SOLVER.BASE_LR_END.*SOLVER.BASE_LR, 0.001.*got 1.0"):
        learning_rates(cfg)
