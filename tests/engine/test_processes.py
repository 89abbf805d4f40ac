"""Processes that cannot be started are told of before they are."""

from __future__ import annotations

import argparse
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from shakedrop_det.engine.processes import launch


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """What is said about processes that are not started."""
    with pytest.raises(SystemExit) as leave:
        launch(lambda args: None, argparse.Namespace(), num_machines=1, machine_rank=0, **options)
    assert leave.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_more_processes_than_gpus(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    line = refused(capsys, num_gpus=4, dist_url="auto")
    assert line.startswith("error: --num-gpus 4: each process needs a GPU, but this machine has 2:")


def test_an_occupied_port(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        line = refused(capsys, num_gpus=2, dist_url=url)
    assert line.startswith(f"error: --dist-url {url}: port ") and "in use" in line
