"""Taking part in a run whose processes torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm

from shakedrop_det.utils.errors import reported_to_user

RUN_ID = "TORCHELASTIC_RUN_ID"
"""The variable that torchrun sets in each process, and nothing else does."""


def is_started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return RUN_ID in os.environ


def check_started_once(**options: int) -> None:
    """Stop if the command line asks for processes as well.

    Args:
        options: ``num_gpus``, ``num_machines`` and ``machine_rank``, as detectron2's ``launch``
            takes them.

    Raises:
        ValueError: naming the option and torchrun's variable.
    """
    for name, value in options.items():
        if value != (0 if name == "machine_rank" else 1):
            raise ValueError(
                f"--{name.replace('_', '-')} {value}: the environment has {RUN_ID}: torchrun has "
                "started the processes already. Leave the option out, or run without torchrun"
            )


def is_restarted() -> bool:
    """Whether torchrun started these processes because earlier ones failed."""
    return is_started_by_torchrun() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def join(main: Callable[[Any], Any], args: Any) -> None:
    """Do what a process that detectron2's ``launch`` starts does: join the others, then ``main``.

    With GPUs the processes talk by NCCL, without by Gloo.

    Args:
        main: what each process does.
        args: its argument.
    """
    size, local_size = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        with reported_to_user():
            _check_devices(local_size)
        torch.cuda.set_device(local_rank)
    if size == 1:
        main(args)
        return
    backend = "NCCL" if torch.cuda.is_available() else "GLOO"
    dist.init_process_group(backend, init_method="env://", timeout=DEFAULT_TIMEOUT)
    try:
        comm.create_local_process_group(local_size)
        comm.synchronize()
        main(args)
    finally:
        dist.destroy_process_group()


def _check_devices(processes: int) -> None:
    if processes > torch.cuda.device_count():
        raise ValueError(
            f"--nproc-per-node {processes} of torchrun: this machine has "
            f"{torch.cuda.device_count()} GPUs, and each process needs one"
        )
