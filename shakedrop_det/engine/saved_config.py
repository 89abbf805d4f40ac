"""The file ``config.yaml`` of an output folder."""

from __future__ import annotations

import logging
import os

from detectron2.config import CfgNode

from shakedrop_det.utils.atomic import write_atomically


def save_config(cfg: CfgNode, *, keep: bool = False) -> None:
    """Write ``OUTPUT_DIR/config.yaml``.

    A training calls this when it begins, after all checks, so that a start that fails leaves the
    config of an earlier run in place.

    Args:
        cfg: Config to write.
        keep: Whether to keep an existing file. An evaluation keeps the config with which the
            weights in the folder were trained.
    """
    path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    if keep and os.path.exists(path):
        return
    with write_atomically(path, "w") as file:
        file.write(cfg.dump())
    logging.getLogger(__name__).info("Full config saved to %s", path, extra={"for_file_only": True})
