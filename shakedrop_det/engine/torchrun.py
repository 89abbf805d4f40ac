"""Taking part in a run whose processes torchrun has started."""

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
"""The variable that torchrun sets in each process, and nothing else does."""

_STORE, _BEGUN = "shakedrop_det/store", "shakedrop_det/begun"
"""Keys in torchrun's store."""
_PATIENCE = timedelta(seconds=5)
"""For a store that may be gone."""


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


def note_begin() -> None:
    """Let processes that torchrun starts later know that training has begun."""
    if is_started_by_torchrun() and _has_store():
        _agents_store().set(_BEGUN, "1")


def had_begun() -> bool:
    """Whether training had begun when torchrun started this process, see :func:`note_begin`."""
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
    """Do what a process that detectron2's ``launch`` starts does: join the others, then ``main``.

    With GPUs the processes talk by NCCL, without by Gloo. Where the same job had begun to train
    before, and was started again, ``args.resume`` becomes True, unless ``args.eval_only``.

    Args:
        main: what each process does.
        args: its argument.
        begun: whether this process knows that training had begun. If not, what there is to
            resume is another run's.
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
    """A store that the processes of this start share, and no earlier ones.

    torchrun's own store stays the same through its restarts, and keeps the addresses of processes
    that are gone: with ``env://`` a new process may try to reach those (torch 2.15). So the first
    process opens a store of its own, and tells the others by torchrun's where that is.

    Args:
        rank: of this process.
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
        time.sleep(1.0)  # It was an earlier start's.


def _check_devices(processes: int) -> None:
    if processes > torch.cuda.device_count():
        raise ValueError(
            f"--nproc-per-node {processes} of torchrun: this machine has "
            f"{torch.cuda.device_count()} GPUs, and each process needs one"
        )
