"""Joining a run whose processes torchrun has started."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm

from shakedrop_det.utils.errors import reported_to_user

RUN_ID = "TORCHELASTIC_RUN_ID"
"""Environment variable that torchrun, and nothing else, sets in each process."""

_STORE, _BEGUN = "shakedrop_det/store", "shakedrop_det/begun"
"""Keys in torchrun's store."""
_PATIENCE = timedelta(seconds=5)
"""Timeout for a store that may no longer exist."""


def is_started_by_torchrun() -> bool:
    """Return whether torchrun has started this process."""
    return RUN_ID in os.environ


def check_started_once(**options: int) -> None:
    """Check that the command line does not also ask for processes.

    Args:
        options: ``num_gpus``, ``num_machines`` and ``machine_rank`` of detectron2's ``launch``.

    Raises:
        ValueError: If it does. The message names the option and torchrun's variable.
    """
    for name, value in options.items():
        if value != (0 if name == "machine_rank" else 1):
            raise ValueError(
                f"--{name.replace('_', '-')} {value}: torchrun has already started the processes "
                f"({RUN_ID} is set): leave the option out, or run without torchrun"
            )


def note_begin() -> None:
    """Tell processes that torchrun starts later that training has begun."""
    if is_started_by_torchrun() and _has_store():
        _agents_store().set(_BEGUN, "1")


def had_begun() -> bool:
    """Return whether training had begun, see :func:`note_begin`, when this process was started."""
    if _has_store():
        return bool(_agents_store().check([_BEGUN]))
    # Only the agent of the process that failed counts a restart.
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _has_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _agents_store() -> dist.TCPStore:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(host, port, is_master=False, timeout=DEFAULT_TIMEOUT)


def join(main: Callable[[Any], Any], args: Any, *, begun: bool) -> None:
    """Join the other processes and call ``main``, as those that detectron2's ``launch`` starts do.

    The backend is NCCL with GPUs, otherwise Gloo. If an earlier start of the same job had begun to
    train, ``args.resume`` is set to True, unless ``args.eval_only``.

    Args:
        main: Function that each process calls.
        args: Argument of ``main``.
        begun: Whether this process knows that an earlier start had begun to train.
    """
    size, local_size = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available():
        with reported_to_user():
            _check_devices(local_size)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if size > 1:
        backend = "NCCL" if torch.cuda.is_available() else "GLOO"
        if _has_store():
            rank = int(os.environ["RANK"])
            dist.init_process_group(
                backend, store=_meet(rank), rank=rank, world_size=size, timeout=DEFAULT_TIMEOUT
            )
        else:
            dist.init_process_group(backend, init_method="env://", timeout=DEFAULT_TIMEOUT)
        comm.create_local_process_group(local_size)
        begun = any(comm.all_gather(begun))
    if begun and not args.eval_only:
        args.resume = True
    try:
        main(args)
    finally:
        if size > 1:
            dist.destroy_process_group()


def _meet(rank: int) -> dist.Store:
    """Return a store that only the processes of this start share.

    torchrun's own store persists through restarts and keeps the addresses of earlier processes,
    which a new process may try to reach with ``env://`` (torch 2.15). Therefore, the first process
    opens a new store and publishes its address in torchrun's.

    Args:
        rank: Rank of this process.
    """
    host, agents = os.environ["MASTER_ADDR"], _agents_store()
    if rank == 0:
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        mark = secrets.token_hex(8)
        store.set(_STORE, mark)
        agents.set(_STORE, f"{store.port} {mark}")
        return store
    deadline = time.monotonic() + DEFAULT_TIMEOUT.total_seconds()
    while True:
        found, mark = agents.get(_STORE).decode().split()
        try:
            store = dist.TCPStore(host, int(found), is_master=False, timeout=_PATIENCE)
            if store.get(_STORE).decode() == mark:
                store.set_timeout(DEFAULT_TIMEOUT)
                return store
        except dist.DistError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1.0)  # The store was of an earlier start.


def _check_devices(processes: int) -> None:
    if processes > torch.cuda.device_count():
        raise ValueError(
            f"torchrun --nproc-per-node {processes}: each process needs a GPU, but this machine "
            f"has {torch.cuda.device_count()}"
        )
