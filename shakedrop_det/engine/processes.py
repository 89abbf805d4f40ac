"""Starting or joining the processes of a run, and forwarding signals to them."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import torch
from detectron2.engine import launch as launch_stock
from torch.multiprocessing import ProcessExitedException

from shakedrop_det.utils.errors import reported_to_user

from .torchrun import check_started_once, had_begun, is_started_by_torchrun, join


def launch(main: Callable[[Any], Any], args: Any, *, num_gpus: int, **options: Any) -> None:
    """Run ``main`` in processes started by detectron2's ``launch``, forward Ctrl-C and SIGTERM to
    them, and exit with the status of the process that ended first.

    If torchrun has started this process, join the others instead. Processes that torchrun restarts
    after a failure continue from the last checkpoint, as with ``--resume``.

    Args:
        main: Function that each process calls.
        args: Argument of ``main``; ``args.resume`` and ``args.eval_only`` are read.
        num_gpus: Number of processes on this machine. A single process in total is this one.
        options: ``num_machines``, ``machine_rank`` and ``dist_url`` of detectron2's ``launch``.
    """
    if is_started_by_torchrun():
        given = {name: options[name] for name in ("num_machines", "machine_rank")}
        with reported_to_user():
            check_started_once(num_gpus=num_gpus, **given)
        join(main, args, begun=had_begun())
        return
    if num_gpus * options.get("num_machines", 1) > 1:
        with reported_to_user():
            check_devices(num_gpus)
            if options.get("machine_rank", 0) == 0:
                check_port_is_free(options.get("dist_url") or "")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _hand_on)
        # It warns that it ends the other processes, after the first has printed its error.
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    try:
        launch_stock(main, num_gpus, **options, args=(args,))
    except ProcessExitedException as error:
        # That process has already reported why.
        code = error.exit_code
        sys.exit(code if code >= 0 else 128 - code)


def check_devices(num_gpus: int) -> None:
    """Check that there is a GPU for each process, unless there are none at all.

    Raises:
        ValueError: If there is not. The message has both numbers.
    """
    if torch.cuda.is_available() and num_gpus > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus {num_gpus}: each process needs a GPU, but this machine has "
            f"{torch.cuda.device_count()}: lower --num-gpus, or list more in CUDA_VISIBLE_DEVICES "
            "if that hides some"
        )


def check_port_is_free(dist_url: str) -> None:
    """Check that the first process can wait for the others at its address.

    Args:
        dist_url: Address such as "tcp://127.0.0.1:1234". Addresses of other kinds are not checked.

    Raises:
        ValueError: If another process uses the port, or there is no such port.
    """
    address = urlsplit(dist_url)
    try:
        port = address.port
    except ValueError as error:
        raise ValueError(f"--dist-url {dist_url}: {error}: name a port below 65536") from None
    if address.scheme != "tcp" or not port:
        return
    with socket.socket() as probe:
        # As torch does, for the port of a run that has just ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            raise ValueError(
                f"--dist-url {dist_url}: port {port} cannot be used ({error.strerror}): "
                + ("end the processes that are left of an earlier run, or " if in_use else "")
                + "choose another port (--dist-url auto on a single machine)"
            ) from error


def _hand_on(signum: int, frame: FrameType | None) -> None:
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, signum)
