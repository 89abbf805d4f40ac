"""Run the measurements for a checkpoint."""

from __future__ import annotations

from detectron2.config import CfgNode

from shakedrop_det.modeling.classification import ImageClassifier
from shakedrop_det.prediction.predictor import Predictor

from .images import load_images
from .measure import Measured, check_draws, measure


def measure_checkpoint(
    cfg: CfgNode,
    *,
    plain_weights: str | None = None,
    num_images: int,
    draws: int,
    seed: int = 0,
    allow_pickle: bool = False,
) -> Measured:
    """Measure the classifier of a config on the first of its datasets.

    Args:
        cfg: config with ``MODEL.WEIGHTS``.
        plain_weights: checkpoint of the same network trained without ShakeDrop.
        num_images: maximum number of images from each of ``DATASETS.TEST`` and ``DATASETS.TRAIN``.
        draws, seed: see :func:`measure`.
        allow_pickle: whether the checkpoints may execute pickled code.

    Raises:
        FileNotFoundError, ValueError: if the model is not a classifier, a dataset is not named, or
            weights do not fit, or ``num_images`` or ``draws`` is too low.
    """
    check_draws(draws)
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        raise ValueError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE!r}: features are compared by "
            "the class of their image, so an ImageClassifier is required"
        )
    for split in ("TRAIN", "TEST"):
        if not cfg.DATASETS[split]:
            raise ValueError(f"DATASETS.{split} is empty: name a dataset of labelled images")
    model = _load(cfg, allow_pickle=allow_pickle)
    plain = None
    if plain_weights is not None:
        plain_cfg = cfg.clone()
        plain_cfg.defrost()
        plain_cfg.merge_from_list(
            ["MODEL.WEIGHTS", plain_weights, "MODEL.SHAKEDROP.ENABLED", False]
        )
        plain = _load(plain_cfg, allow_pickle=allow_pickle)
    return measure(
        model,
        load_images(cfg, model, cfg.DATASETS.TEST[0], limit=num_images),
        load_images(cfg, model, cfg.DATASETS.TRAIN[0], limit=num_images),
        plain=plain,
        draws=draws,
        seed=seed,
    )


def _load(cfg: CfgNode, *, allow_pickle: bool) -> ImageClassifier:
    model = Predictor(cfg, folded=False, allow_pickle=allow_pickle).model
    assert isinstance(model, ImageClassifier)
    return model
