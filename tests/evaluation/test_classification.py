"""Top-1 and top-5 accuracy against scikit-learn's."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from shakedrop_det.evaluation import ClassificationEvaluator


def evaluator_of(labels: np.ndarray, scores: np.ndarray, *, batch: int) -> ClassificationEvaluator:
    evaluator = ClassificationEvaluator("digits_val")
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        evaluator.process(
            [{"label": int(label)} for label in labels[part]],
            [{"scores": row} for row in torch.from_numpy(scores[part])],
        )
    return evaluator


@given(
    num_images=st.integers(1, 40),
    num_classes=st.integers(3, 12),
    batch=st.integers(1, 7),
    seed=st.integers(0, 2**32),
)
def test_agrees_with_scikit_learn(num_images: int, num_classes: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    scores = rng.dirichlet(np.ones(num_classes), size=num_images)
    found = evaluator_of(labels, scores, batch=batch).evaluate()["classification"]
    classes = np.arange(num_classes)
    assert found["top1"] == pytest.approx(
        100 * top_k_accuracy_score(labels, scores, k=1, labels=classes)
    )
    top5 = 1.0
    if num_classes > 5:
        top5 = top_k_accuracy_score(labels, scores, k=5, labels=classes)
    assert found["top5"] == pytest.approx(100 * top5)


def test_top5_of_two_classes_counts_each_image() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    found = evaluator_of(np.array([0, 1, 1, 0]), scores, batch=4).evaluate()
    assert found == {"classification": {"top1": 75.0, "top5": 100.0}}


def test_reset_forgets_earlier_images() -> None:
    evaluator = evaluator_of(np.array([0]), np.array([[0.1, 0.9]]), batch=1)
    evaluator.reset()
    evaluator.process([{"label": 1}], [{"scores": torch.tensor([0.1, 0.9])}])
    assert evaluator.evaluate()["classification"]["top1"] == 100


def test_counts_of_all_processes_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = evaluator_of(np.array([0]), np.array([[0.9, 0.1]]), batch=1)
    monkeypatch.setattr(comm, "gather", lambda counts: [counts, (3, 0, 1), (0, 0, 0)])
    assert evaluator.evaluate()["classification"] == {"top1": 25.0, "top5": 50.0}


def test_other_processes_return_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = evaluator_of(np.array([0]), np.array([[0.9, 0.1]]), batch=1)
    monkeypatch.setattr(comm, "gather", lambda counts: [])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() == {}


def test_no_images(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = ClassificationEvaluator("digits_val")
    with caplog.at_level(logging.WARNING, "shakedrop_det.evaluation.classification"):
        assert evaluator.evaluate() == {}
    assert "No images of dataset 'digits_val'" in caplog.text


@pytest.mark.parametrize("label", [2, -1])
def test_label_that_the_model_does_not_have(label: int) -> None:
    evaluator = ClassificationEvaluator("digits_val")
    with pytest.raises(ValueError, match=f"'digits_val' .* label {label}, .* 2 classes: set MODEL"):
        evaluator.process([{"label": label}], [{"scores": torch.tensor([0.5, 0.5])}])
