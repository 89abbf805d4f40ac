"""The recipes of the paper's main results: each network, as it is configured, trains for two steps
on small images."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shakedrop_det import model_zoo
from shakedrop_det.engine import Trainer, load_config
from shakedrop_det.modeling import ShakenBlock

from .test_classification_configs import CIFAR
from .test_configs import TRAINED_NORMS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_logging", "datasets_root")]
NETWORKS = [name for name in CIFAR if name.endswith("cifar10") and "shake_shake" not in name]
SHORT = [
    *("SOLVER.MAX_EPOCHS", 0.0, "SOLVER.STEP_EPOCHS", "()", "SOLVER.CHECKPOINT_EPOCHS", 0.0),
    *("SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "SOLVER.CHECKPOINT_PERIOD", 2),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_WORLD_SIZE", 0, "DATALOADER.NUM_WORKERS", 0),
    *("SOLVER.BEST_CHECKPOINT_METRIC", "", "TEST.EVAL_EPOCHS", 0.0, "DATASETS.TEST", "()"),
    *("SOLVER.BASE_LR", 0.001, "SOLVER.WARMUP_ITERS", 0, "SEED", 1, "MODEL.DEVICE", "cpu"),
]


def small_classifier(size: int) -> list[Any]:
    sizes = [f"INPUT.CLASSIFICATION.{key}" for key in ("TRAIN_SIZE", "TEST_RESIZE", "TEST_SIZE")]
    options = [part for key in sizes for part in (key, size)]
    return [*options, "DATASETS.TRAIN", "digits_val", "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES", 10]


def two_steps(name: str, output: Path, *options: Any) -> Trainer:
    """A trainer after two steps, in which the loss was finite and all weights moved."""
    config = model_zoo.get_config_file(name)
    cfg = load_config(config, [*map(str, SHORT), *map(str, options), "OUTPUT_DIR", str(output)])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.train()
    assert trainer.iter == 2 and math.isfinite(trainer.storage.latest()["total_loss"][0])
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    moved = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    # Rectifiers at the end of a small network may shut all gradients out of some.
    assert sum(moved) > 0.9 * len(moved)
    return trainer


def shaken(model: nn.Module) -> list[ShakenBlock]:
    return [module for module in model.modules() if isinstance(module, ShakenBlock)]


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """Give a large network's back before the next is built."""
    yield
    gc.collect()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_for_cifar_trains(name: str, tmp_path: Path) -> None:
    trainer = two_steps(f"{name}.yaml", tmp_path, *small_classifier(16))
    assert shaken(trainer.model)[-1].survival_prob == 0.5


@pytest.mark.parametrize("name", ["resnet_152", "resnext_152_32x4d"])
def test_a_network_for_imagenet_trains(name: str, tmp_path: Path) -> None:
    recipe = f"ImageNet-Classification/{name}.yaml"
    trainer = two_steps(recipe, tmp_path, *small_classifier(32))
    assert len(shaken(trainer.model)) == 50


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ResNet-152 after two steps of classification."""
    folder = tmp_path_factory.mktemp("pretrained")
    recipe = "ImageNet-Classification/resnet_152.yaml"
    # With fewer values for the norms, gradients explode at initialization, and weights with them.
    two_steps(recipe, folder, *small_classifier(64), "SOLVER.IMS_PER_BATCH", 8)
    yield folder / "model_final.pth"
    (folder / "model_final.pth").unlink()


@pytest.mark.parametrize("norm", ["SyncBN", "BN"])
@pytest.mark.parametrize("name", TRAINED_NORMS)
def test_a_detector_trains_with_its_norms_from_pretrained_weights(
    name: str, norm: str, pretrained: Path, tmp_path: Path, tiny: Any
) -> None:
    """One process has its own statistics with either norm; of several see
    tests/modeling/test_distributed.py."""
    small = tiny("mask_rcnn")
    trainer = two_steps(
        name,
        tmp_path,
        *("DATASETS.TRAIN", "tiny_scenes_train", "MODEL.ROI_HEADS.NUM_CLASSES", 10),
        *("INPUT.MIN_SIZE_TRAIN", small.INPUT.MIN_SIZE_TRAIN[0], "INPUT.MASK_FORMAT", "bitmask"),
        *("MODEL.RESNETS.NORM", norm, "MODEL.WEIGHTS", pretrained),
    )
    blocks = shaken(trainer.model)
    assert len(blocks) == 50 and not any(block.frozen for block in blocks)
    kind = {"SyncBN": nn.SyncBatchNorm, "BN": nn.BatchNorm2d}[norm]
    norms = {n: m for n, m in trainer.model.named_modules() if isinstance(m, kind)}
    assert len(norms) == 155
    before = torch.load(pretrained, weights_only=True)["model"]
    for key, module in norms.items():
        assert module.weight.requires_grad, key
        assert not torch.equal(module.running_var, before[f"{key}.running_var"]), key
