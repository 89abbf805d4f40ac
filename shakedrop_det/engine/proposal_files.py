"""Checks of precomputed proposals, which detectron2 would unpickle."""

from __future__ import annotations

import os

from detectron2.config import CfgNode

from shakedrop_det.utils.addresses import local_file
from shakedrop_det.utils.safe_pickle import load_pickle


def check_proposal_files(cfg: CfgNode, *, train: bool) -> None:
    """Stop before detectron2 reads a file of proposals that would run code.

    Args:
        cfg: read are ``MODEL.LOAD_PROPOSALS`` and ``DATASETS.PROPOSAL_FILES_*``.
        train: whether the run trains.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it has an address that cannot be read.
        ValueError: if it holds more than arrays and plain containers, or is damaged.
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
            except Exception as error:  # Of a damaged pickle any can come.
                reason = str(error) or type(error).__name__
                raise ValueError(
                    f"{key}: {name!r} is damaged, or holds more than arrays, lists and dicts "
                    f"({reason}), which could run code: write its boxes and scores as arrays"
                ) from error
