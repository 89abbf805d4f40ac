"""Checking weights before datasets are read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils import comm

from shakedrop_det.checkpoint import Checkpointer

from .rng import preserved_rng


def check_weights(cfg: CfgNode, *, resume: bool) -> None:
    """Check that a run's initial weights can be read and fit its network.

    They are loaded into a network on the meta device, which needs no memory for its own weights.

    Args:
        cfg: Config of the run.
        resume: Whether to check the last checkpoint in ``OUTPUT_DIR``, if there is one.

    Raises:
        FileNotFoundError, OSError, ValueError: See :class:`shakedrop_det.checkpoint.Checkpointer`.
    """
    if comm.get_local_rank() != 0:
        return
    unloaded = cfg.clone()
    unloaded.defrost()
    unloaded.MODEL.DEVICE = "meta"
    with _silence(), preserved_rng():
        try:
            model = build_model(unloaded)
        except Exception:  # The network needs a real device, or settings are invalid:
            return  # building the actual network gives a better message.
        checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, cfg=cfg)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)


@contextmanager
def _silence() -> Iterator[None]:
    """Mute logs, which the actual loading repeats, and torch's warnings about the meta device."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
