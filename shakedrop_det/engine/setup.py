"""Loading the config of a command line, and setting up logs."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from typing import Sequence

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from shakedrop_det.config import add_training_config
from shakedrop_det.data import use_coco_files, use_image_folders
from shakedrop_det.model_zoo.files import errors_of
from shakedrop_det.model_zoo.overlays import apply_overlays
from shakedrop_det.utils.atomic import is_local
from shakedrop_det.utils.claim import check_unclaimed
from shakedrop_det.utils.output_folder import make_output_folder
from shakedrop_det.utils.safe_yaml import merge_config_file

from .console import LOGGERS, close_logs_quietly, keep_console_brief
from .options import merge_options, replace_none
from .progress import log_to_file_only
from .saved_config import save_config

_SEEDS = 2**31
"""numpy's seeds are below 2**32, and each process uses a different one."""


def setup(args: argparse.Namespace, *, quiet: bool = False) -> CfgNode:
    """Load the config, set up logs in ``OUTPUT_DIR`` and seed this process.

    Each process of a run gets a different seed, so that each draws its own noise.

    Args:
        args: Arguments of :func:`detectron2.engine.default_argument_parser`, optionally with
            ``overlay`` as in ``tools/command_line.py``.
        quiet: Whether to log only to ``OUTPUT_DIR/log.txt``, not to the console.

    Returns:
        Frozen config.

    Raises:
        FileNotFoundError: If the config file does not exist.
        ValueError: If the file, an overlay or an option is invalid; ``OUTPUT_DIR`` is not writable;
            or, unless ``args.eval_only``, another run is active there.
    """
    overlays = getattr(args, "overlay", [])
    cfg = load_config(args.config_file, args.opts, overlays=overlays)
    without_cuda = fall_back_to_cpu(cfg)
    cfg.freeze()
    _set_float32_precision(cfg)
    make_output_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR")
    eval_only = getattr(args, "eval_only", False)
    # Before overwriting the files of a run that is active there.
    if comm.is_main_process() and not eval_only:
        check_unclaimed(cfg.OUTPUT_DIR)
    with log_to_file_only() if quiet else contextlib.nullcontext():
        for name in LOGGERS:
            setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
        keep_console_brief()
    close_logs_quietly()
    _describe(cfg, args)
    if comm.is_main_process() and eval_only:
        save_config(cfg, keep=True)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    if not eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    logger = logging.getLogger(__name__)
    if overlays:
        laid = ", then ".join(overlays)
        logger.info(f"The config is {args.config_file}, then {laid}, then the options")
    if without_cuda:
        logger.warning(
            "MODEL.DEVICE asks for CUDA, which is not available: running on the CPU, which is far "
            "slower"
        )
    return cfg


def _describe(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Log what detectron2's ``default_setup`` does, but only to the file and without colours. This
    function and the next are modelled on it."""
    logger, for_file = logging.getLogger(__name__), {"for_file_only": True}
    logger.info("Process %d of %d", comm.get_rank() + 1, comm.get_world_size(), extra=for_file)
    logger.info("Environment info:\n%s", collect_env_info(), extra=for_file)
    logger.info("Command line arguments: %s", args, extra=for_file)
    logger.info("Running with full config:\n%s", cfg.dump(), extra=for_file)
    logger.info("Environment, config and network are described in %s/log.txt", cfg.OUTPUT_DIR)


def _set_float32_precision(cfg: CfgNode) -> None:
    """Apply ``FLOAT32_PRECISION``, which only newer versions of detectron2 have, as they do: to
    matrix products and convolutions on GPUs.

    Raises:
        ValueError: If torch does not know the value.
    """
    precision, known = cfg.get("FLOAT32_PRECISION", ""), ("highest", "high", "medium")
    if precision and precision not in known:
        raise ValueError(
            f"FLOAT32_PRECISION must be one of {', '.join(known)}, or '' for torch's default, got "
            f"{precision!r}"
        )
    if precision and torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def load_config(
    config_file: str, opts: Sequence[str] = (), *, overlays: Sequence[str] = ()
) -> CfgNode:
    """Load the defaults, then a yaml file, then overlays, then options.

    Args:
        config_file: Path of the yaml file; "" for none.
        opts: Alternating keys and values; see :func:`shakedrop_det.engine.options.merge_options`.
        overlays: Names or paths; see :func:`shakedrop_det.model_zoo.apply_overlay`. Later ones win.

    Raises:
        FileNotFoundError, ValueError: See :func:`setup`.
    """
    cfg = get_cfg()
    add_training_config(cfg)
    defaults = cfg.clone()
    if config_file and is_local(config_file) and not os.path.isfile(config_file):
        raise FileNotFoundError(f"--config-file: there is no file {config_file!r}")
    with errors_of(f"--config-file {config_file!r}", cfg):
        if config_file:
            merge_config_file(cfg, config_file)
    apply_overlays(cfg, overlays)
    replace_none(cfg, defaults)
    merge_options(cfg, opts)
    given = [part.partition("=")[0] for part in opts]
    use_coco_files(cfg, given=given)
    use_image_folders(cfg, given=given)
    if cfg.SEED >= _SEEDS:
        raise ValueError(f"SEED must be less than {_SEEDS}, or -1 to draw one, got {cfg.SEED}")
    return cfg


def fall_back_to_cpu(cfg: CfgNode) -> bool:
    """Set ``MODEL.DEVICE`` to "cpu" if CUDA is requested but missing. Return True if so."""
    if torch.cuda.is_available() or not cfg.MODEL.DEVICE.startswith("cuda"):
        return False
    cfg.MODEL.DEVICE = "cpu"
    return True
