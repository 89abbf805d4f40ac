"""Weights that cannot be used are told of before data sets are read."""

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
    """Stop if the weights that a run would begin with cannot be read, or do not fit its network.

    They are loaded into a network without memory for its own.

    Args:
        cfg: the settings of the run.
        resume: whether the last checkpoint in ``OUTPUT_DIR`` is meant, if there is one.

    Raises:
        FileNotFoundError, OSError, ValueError: see :class:`shakedrop_det.checkpoint.Checkpointer`.
    """
    if comm.get_local_rank() != 0:
        return
    unloaded = cfg.clone()
    unloaded.defrost()
    unloaded.MODEL.DEVICE = "meta"
    with _silence(), preserved_rng():
        try:
            model = build_model(unloaded)
        except Exception:  # Of networks that need a device, or of settings that are wrong:
            return  # what is said of them when the network is really built says more.
        checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, cfg=cfg)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)


@contextmanager
def _silence() -> Iterator[None]:
    """It is said once more when they are really loaded; and torch warns that here they are not."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
