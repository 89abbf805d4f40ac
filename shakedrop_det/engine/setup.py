"""From the command line to a config, with the logs set up."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from typing import Sequence

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from shakedrop_det.config import add_training_config
from shakedrop_det.data import use_coco_files
from shakedrop_det.model_zoo.files import errors_of
from shakedrop_det.model_zoo.overlays import apply_overlays
from shakedrop_det.utils.atomic import is_local
from shakedrop_det.utils.output_folder import make_output_folder
from shakedrop_det.utils.safe_yaml import merge_config_file

from .options import merge_options, replace_none
from .progress import log_to_file_only


def add_overlay_argument(parser: argparse.ArgumentParser) -> None:
    """Let a tool that takes ``--config-file`` take ``--overlay`` too, as ``args.overlay``."""
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="NAME_OR_FILE",
        help="laid over the config file, before options: a name, such as random_drop or R_152 "
        "(docs/model_zoo.md has all), or a yaml file; may be given again for more, in this order",
    )


def setup(args: argparse.Namespace, *, quiet: bool = False) -> CfgNode:
    """Read the config, set up the logs in ``OUTPUT_DIR`` and seed this process.

    Each process of a run gets another seed, so that each draws noise of its own.

    Args:
        args: of :func:`detectron2.engine.default_argument_parser`, with ``overlay``, see
            :func:`add_overlay_argument`, or without.
        quiet: whether the log goes to ``OUTPUT_DIR/log.txt`` only, instead of the console too.

    Returns:
        CfgNode: frozen.

    Raises:
        FileNotFoundError: if there is no such config file.
        ValueError: if the file, an overlay or the options are wrong, or ``OUTPUT_DIR`` cannot be
            written to.
    """
    overlays = getattr(args, "overlay", [])
    cfg = load_config(args.config_file, args.opts, overlays=overlays)
    without_cuda = fall_back_to_cpu(cfg)
    cfg.freeze()
    make_output_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR")
    with log_to_file_only() if quiet else contextlib.nullcontext():
        default_setup(cfg, args)
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="shakedrop_det")
    logger = logging.getLogger(__name__)
    if overlays:
        laid = ", then ".join(overlays)
        logger.info(f"The config is {args.config_file}, over it {laid}, then the options")
    if without_cuda:
        logger.warning(
            "MODEL.DEVICE asks for CUDA, which is not available here: running on the CPU, which "
            "is far slower"
        )
    return cfg


def load_config(
    config_file: str, opts: Sequence[str] = (), *, overlays: Sequence[str] = ()
) -> CfgNode:
    """detectron2's and our defaults, then a yaml file, then overlays, then options.

    Args:
        config_file: path of the yaml file; empty for none.
        opts: alternating keys and values, see :func:`shakedrop_det.engine.options.merge_options`.
        overlays: names or paths, see :func:`shakedrop_det.model_zoo.apply_overlay`; later ones win.

    Raises:
        FileNotFoundError, ValueError: see :func:`setup`.
    """
    cfg = get_cfg()
    add_training_config(cfg)
    defaults = cfg.clone()
    if config_file and is_local(config_file) and not os.path.isfile(config_file):
        raise FileNotFoundError(f"--config-file: there is no file {config_file!r}")
    with errors_of(f"--config-file {config_file!r}"):
        if config_file:
            merge_config_file(cfg, config_file)
    apply_overlays(cfg, overlays)
    replace_none(cfg, defaults)
    merge_options(cfg, opts)
    use_coco_files(cfg, given=[part.partition("=")[0] for part in opts])
    return cfg


def fall_back_to_cpu(cfg: CfgNode) -> bool:
    """Set ``MODEL.DEVICE`` to "cpu" if it asks for CUDA and there is none; whether it did."""
    if torch.cuda.is_available() or not cfg.MODEL.DEVICE.startswith("cuda"):
        return False
    cfg.MODEL.DEVICE = "cpu"
    return True
