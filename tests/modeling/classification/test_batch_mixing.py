"""mixup, CutMix and label smoothing of the image classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from torch import Tensor

from shakedrop_det.modeling import ImageClassifier
from shakedrop_det.modeling.classification.batch_mixing import BatchMixing

N, CLASSES = 6, 5


class Pixels(Backbone):
    """A backbone that gives its input: the logits are then linear in the images."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"res5": ShapeSpec(channels=3, stride=1)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"res5": x}


def classifier(**options: Any) -> ImageClassifier:
    model = ImageClassifier(
        backbone=Pixels(), num_classes=CLASSES, pixel_mean=[1, 2, 3], pixel_std=[4, 5, 6], **options
    )
    torch.nn.init.normal_(model.linear.weight)
    return model


def batch() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return [{"image": image, "label": i % CLASSES} for i, image in enumerate(images)]


def test_mixup_is_a_weighted_mean_of_neighbours() -> None:
    images, labels = torch.randn(N, 3, 8, 8).double(), torch.arange(N) % CLASSES
    mixed, targets = BatchMixing(CLASSES, mixup_alpha=0.7)(images, labels)
    share = targets[1, labels[1]].double()
    assert 0 < share < 1
    neighbours = torch.cat([images[-1:], images[:-1]])
    torch.testing.assert_close(mixed, share * images + (1 - share) * neighbours)
    torch.testing.assert_close(targets[2], torch.tensor([0, 1 - share, share, 0, 0]).float())


def test_cutmix_pastes_a_rectangle_and_weighs_labels_by_its_area() -> None:
    torch.manual_seed(2)
    images, labels = torch.arange(N).view(N, 1, 1, 1).expand(N, 3, 8, 8), torch.arange(N) % CLASSES
    mixed, targets = BatchMixing(CLASSES, cutmix_alpha=1.0)(images, labels)
    pasted = mixed != images
    assert (mixed[2][pasted[2]] == 1).all()
    area = pasted[2, 0].double().mean()
    assert 0 < area < 1
    torch.testing.assert_close(targets[2], torch.tensor([0, area, 1 - area, 0, 0]).float())


def test_with_both_half_of_the_batches_get_each() -> None:
    torch.manual_seed(0)
    mixing = BatchMixing(CLASSES, mixup_alpha=1.0, cutmix_alpha=1.0)
    images, labels = torch.arange(N).view(N, 1, 1, 1).expand(N, 3, 8, 8), torch.arange(N) % CLASSES
    whole = sum(bool((mixing(images.double(), labels)[0] % 1 == 0).all()) for _ in range(200))
    assert 70 < whole < 130


def test_off_changes_nothing_and_draws_nothing() -> None:
    images, labels = torch.randn(N, 3, 8, 8), torch.arange(N) % CLASSES
    state = torch.get_rng_state()
    mixed, targets = BatchMixing(CLASSES)(images, labels)
    assert mixed is images and targets is labels
    assert torch.equal(torch.get_rng_state(), state)


def test_loss_is_cross_entropy_with_smoothed_labels() -> None:
    model = classifier(label_smoothing=0.1)
    inputs = batch()
    loss = model(inputs)["loss_cls"]
    model.eval()
    log_scores = torch.stack([output["scores"] for output in model(inputs)]).log()
    expected = 0.0
    for image, log_score in zip(inputs, log_scores, strict=True):
        target = torch.full((CLASSES,), 0.1 / CLASSES)
        target[image["label"]] += 0.9
        expected -= float((target * log_score).sum()) / N
    assert math.isclose(float(loss), expected, rel_tol=1e-5)


def test_mixing_happens_in_training_only_and_enters_the_loss() -> None:
    model, plain = classifier(mixup_alpha=1.0), classifier()
    plain.load_state_dict(model.state_dict())
    assert plain.state_dict().keys() == model.state_dict().keys()
    torch.manual_seed(0)
    loss = model(batch())["loss_cls"]
    # Both the images and the targets are mixed; the logits are linear in the images.
    torch.manual_seed(0)
    images = plain.preprocess_image(batch())
    labels = torch.tensor([image["label"] for image in batch()])
    images, targets = BatchMixing(CLASSES, mixup_alpha=1.0)(images, labels)
    expected = -(targets * plain.logits(images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    assert not torch.isclose(loss, plain(batch())["loss_cls"])
    model.eval(), plain.eval()
    for a, b in zip(model(batch()), plain(batch()), strict=True):
        assert torch.equal(a["scores"], b["scores"])


def test_a_batch_without_a_readable_image() -> None:
    assert classifier().eval()([]) == []


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("LABEL_SMOOTHING", 1.0, r"in \[0, 1\), got 1.0"),
        ("LABEL_SMOOTHING", -0.1, r"in \[0, 1\), got -0.1"),
        ("MIXUP_ALPHA", -1.0, "at least 0 .disabled., got -1.0"),
        ("CUTMIX_ALPHA", -0.5, "at least 0 .disabled., got -0.5"),
    ],
)
def test_bad_values_are_named(
    tiny: Callable[..., CfgNode], key: str, value: float, allowed: str
) -> None:
    cfg = tiny("classifier", f"MODEL.IMAGE_CLASSIFIER.{key}", value)
    with pytest.raises(ValueError, match=f"MODEL.IMAGE_CLASSIFIER.{key} must be {allowed}"):
        build_model(cfg)


def test_keys_reach_the_model(tiny: Callable[..., CfgNode]) -> None:
    node = "MODEL.IMAGE_CLASSIFIER."
    options = (node + "LABEL_SMOOTHING", 0.1, node + "MIXUP_ALPHA", 0.2, node + "CUTMIX_ALPHA", 1.0)
    model = build_model(tiny("classifier", *options))
    assert model.label_smoothing == 0.1
    assert [type(t).__name__ for t in model.mixing.transforms] == ["MixUp", "CutMix"]
