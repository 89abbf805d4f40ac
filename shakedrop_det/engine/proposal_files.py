"""Checks of precomputed proposals, which detectron2 would unpickle."""

from __future__ import annotations

import os

from detectron2.config import CfgNode

from shakedrop_det.utils.addresses import local_file
from shakedrop_det.utils.safe_pickle import load_pickle


def check_proposal_files(cfg: CfgNode, *, train: bool) -> None:
    """Check that loading the files of proposals does not run code, before detectron2 reads them.

    Args:
        cfg: ``MODEL.LOAD_PROPOSALS`` and ``DATASETS.PROPOSAL_FILES_*`` are read.
        train: Whether the run trains.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If its address cannot be read.
        ValueError: If it contains more than arrays and plain containers, or is damaged.
    """
    if not cfg.MODEL.LOAD_PROPOSALS:
        return
    for part in ("TRAIN", "TEST") if train else ("TEST",):
        key = f"DATASETS.PROPOSAL_FILES_{part}"
        for name in cfg.DATASETS[f"PROPOSAL_FILES_{part}"]:
            path = local_file(name, key=key)
            if not os.path.isfile(path):
                raise FileNotFoundError(f"{key}: there is no file {name!r}")
            try:
                with open(path, "rb") as file:
                    load_pickle(file)
            except Exception as error:  # A damaged pickle can raise any error.
                reason = str(error) or type(error).__name__
                raise ValueError(
                    f"{key}: {name!r} is damaged, or contains more than arrays, lists and dicts "
                    f"({reason}), which could run code: save its boxes and scores as arrays"
                ) from error
