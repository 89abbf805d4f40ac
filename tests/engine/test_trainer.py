"""The trainer: what each stage gets, noise-free statistics, mixed precision, quiet runs."""

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.evaluation import COCOEvaluator
from torch import Tensor, nn

from shakedrop_det.engine import ProgressLine, Trainer
from shakedrop_det.evaluation import ClassificationEvaluator

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.named_buffers() if "running" in k}


def is_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_loaders_and_evaluators_follow_the_stage(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    batch = next(iter(Trainer.build_train_loader(cfg)))
    assert len(batch) == 8 and all(x["image"].shape == (3, 32, 32) for x in batch)
    assert "label" in batch[0]
    assert "label" in next(iter(Trainer.build_test_loader(cfg, "digits_val")))[0]
    assert isinstance(Trainer.build_evaluator(cfg, "digits_val"), ClassificationEvaluator)

    cfg = tiny("mask_rcnn")
    assert "instances" in next(iter(Trainer.build_train_loader(cfg)))[0]
    assert len(Trainer.build_test_loader(cfg, "tiny_scenes_val")) == 4
    assert isinstance(Trainer.build_evaluator(cfg, "tiny_scenes_val"), COCOEvaluator)


def test_precise_bn_sees_no_noise(tiny: Tiny) -> None:
    cfg = tiny("classifier", "MODEL.SHAKEDROP.SURVIVAL_PROB", 0.0, "TEST.PRECISE_BN.ENABLED", True)
    cfg.TEST.PRECISE_BN.NUM_ITER = 2
    trainer = Trainer(cfg)
    (hook,) = (h for h in trainer._hooks if isinstance(h, hooks.PreciseBN))
    batches = [next(iter(trainer.data_loader)) for _ in range(2)]

    def gather(update: Callable[[], None]) -> dict[str, Tensor]:
        hook._data_iter = iter(batches)
        update()
        return statistics(trainer.model)

    assert is_equal(gather(hook.update_stats), gather(hook.update_stats))

    def stock() -> None:
        hooks.PreciseBN.update_stats(hook)

    assert not is_equal(gather(stock), gather(stock))
    assert all(m.noise for m in trainer.model.modules() if hasattr(m, "noise"))


@pytest.mark.parametrize("name", ["classifier", "mask_rcnn"])
def test_amp_on_cpu_computes_in_bfloat16(tiny: Tiny, name: str) -> None:
    trainer = Trainer(tiny(name, "SOLVER.AMP.ENABLED", True, "SOLVER.MAX_ITER", 2))
    dtypes: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    last_block = trainer.model.backbone.bottom_up.res5[2]
    last_block.register_forward_hook(lambda m, _, out: dtypes[m.training].add(out.dtype))
    before = [p.clone() for p in trainer.model.parameters()]
    assert trainer.train()
    # As with detectron2's AMPTrainer, evaluation keeps full precision.
    assert dtypes == {True: {torch.bfloat16}, False: {torch.float32}}
    after = list(trainer.model.parameters())
    assert {p.dtype for p in after} == {torch.float32}
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_without_amp_all_is_float32(tiny: Tiny) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.MAX_ITER", 1))
    dtypes = set()
    trainer.model.linear.register_forward_hook(lambda m, _, out: dtypes.add(out.dtype))
    trainer.train()
    assert dtypes == {torch.float32}


def test_results_are_those_of_the_last_evaluation(tiny: Tiny) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.MAX_ITER", 1))
    results = trainer.train()
    assert results == Trainer.test(trainer.cfg, trainer.model)


def test_test_time_augmentation_runs_after_training(tiny: Tiny) -> None:
    cfg = tiny("mask_rcnn", "TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (64,))
    cfg.SOLVER.MAX_ITER = 1
    trainer = Trainer(cfg)
    trainer.train()
    assert Path(cfg.OUTPUT_DIR, "inference_TTA", "coco_instances_results.json").is_file()
    assert set(trainer.test_with_TTA(cfg, trainer.model)) == {"bbox_TTA", "segm_TTA"}


def test_quiet_run_prints_nothing_but_its_progress(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("detectron2").setLevel(logging.INFO)
    caplog.set_level(logging.INFO)
    # pycocotools prints nothing if there is nothing to evaluate.
    options = ["SOLVER.MAX_ITER", 2, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
    Trainer(tiny("mask_rcnn", *options), quiet=True).train()
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("training:")]
    assert re.search(r"100%.* 2/2 .*loss \d.*lr \d", lines[-1])
    assert "Average Precision" in caplog.text  # pycocotools prints it.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream, in_place", [(io.StringIO(), False), (Terminal(), True)])
def test_progress_is_in_place_on_terminals_only(
    tiny: Tiny, stream: io.StringIO, in_place: bool
) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.MAX_ITER", 4))
    trainer.register_hooks([ProgressLine("pretraining", stream=stream, seconds=0.0)])
    trainer.train()
    text = stream.getvalue()
    assert ("\r" in text) is in_place
    if not in_place:  # Each state has a line of its own.
        lines = text.splitlines()
        assert all(line.startswith("pretraining:") for line in lines)
        assert all(any(f"{step}/4" in line for line in lines) for step in range(5))
