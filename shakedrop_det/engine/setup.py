"""From the command line to a config, with the logs set up."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from typing import Sequence

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from shakedrop_det.config import add_shakedrop_config
from shakedrop_det.utils.atomic import is_local
from shakedrop_det.utils.claim import check_unclaimed
from shakedrop_det.utils.output_folder import make_output_folder

from .console import keep_console_brief
from .progress import log_to_file_only


def setup(args: argparse.Namespace, *, quiet: bool = False) -> CfgNode:
    """Read the config, set up the logs in ``OUTPUT_DIR`` and seed this process.

    Each process of a run gets another seed, so that each draws noise of its own.

    Args:
        args: of :func:`detectron2.engine.default_argument_parser`.
        quiet: whether the log goes to ``OUTPUT_DIR/log.txt`` only, instead of the console too.

    Returns:
        CfgNode: frozen.

    Raises:
        FileNotFoundError: if there is no such config file.
        ValueError: if the file or the options are wrong, ``OUTPUT_DIR`` cannot be written to, or,
            unless ``args.eval_only``, another run is at work there.
    """
    cfg = load_config(args.config_file, args.opts)
    without_cuda = fall_back_to_cpu(cfg)
    cfg.freeze()
    make_output_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR")
    # Before the files of a run that is at work there are written over.
    if comm.is_main_process() and not getattr(args, "eval_only", False):
        check_unclaimed(cfg.OUTPUT_DIR)
    with log_to_file_only() if quiet else contextlib.nullcontext():
        # In the words of default_setup, which then finds the loggers as they are here.
        rank = comm.get_rank()
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="fvcore")
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)
        logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="shakedrop_det")
        keep_console_brief()
        default_setup(cfg, args)
    logger.info("Environment, config and network are described in %s/log.txt", cfg.OUTPUT_DIR)
    if without_cuda:
        logging.getLogger(__name__).warning(
            "MODEL.DEVICE asks for CUDA, which is not available here: running on the CPU, which "
            "is far slower"
        )
    return cfg


def load_config(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """detectron2's and our defaults, then a yaml file, then options.

    Args:
        config_file: path of the yaml file; empty for none.
        opts: alternating keys and values.

    Raises:
        FileNotFoundError, ValueError: see :func:`setup`.
    """
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    if config_file and is_local(config_file) and not os.path.isfile(config_file):
        raise FileNotFoundError(f"--config-file: there is no file {config_file!r}")
    try:
        if config_file:
            cfg.merge_from_file(config_file)
    # yacs tells of unknown keys by KeyError, and of wrong types by AssertionError or ValueError;
    # the file itself may be there where one that it names as _BASE_ is not.
    except (AssertionError, KeyError, OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"--config-file {config_file!r}: {_message(error)}") from error
    except (AttributeError, TypeError) as error:  # Of a list, a text or nothing.
        raise ValueError(
            f"--config-file {config_file!r}: it, a file that it names as _BASE_, or a key of them "
            f"that has keys of its own, such as MODEL, holds no 'key: value' pairs ({error})"
        ) from error
    options: list[str] = list(opts)
    try:
        cfg.merge_from_list(options)
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(f"Options {' '.join(options)!r}: {_message(error)}") from error
    return cfg


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error)
    return str(error.args[0]) if error.args else repr(error)


def fall_back_to_cpu(cfg: CfgNode) -> bool:
    """Set ``MODEL.DEVICE`` to "cpu" if it asks for CUDA and there is none; whether it did."""
    if torch.cuda.is_available() or not cfg.MODEL.DEVICE.startswith("cuda"):
        return False
    cfg.MODEL.DEVICE = "cpu"
    return True
