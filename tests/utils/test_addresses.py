"""Addresses that give nothing are named in one line; a server that is silent is one."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.utils import addresses
from shakedrop_det.utils.addresses import local_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where iopath keeps downloads."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files of a folder, ``tmp_path/"served"``."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that accepts and never answers, which is waited for shortly."""
    monkeypatch.setattr(addresses, "SECONDS_TO_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def assert_refused(address: str, reason: str) -> None:
    expected = f"^cannot read {re.escape(repr(address))} .*{reason}.*give its path"
    with pytest.raises(OSError, match=expected) as error:
        local_file(address)
    assert "\n" not in str(error.value)


def test_a_file_is_downloaded(server: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "a.pth").write_bytes(b"content")
    assert Path(local_file(f"{server}/a.pth")).read_bytes() == b"content"


def test_what_is_not_there(server: str) -> None:
    assert_refused(f"{server}/none.pth", "404")


def test_a_server_that_is_silent(silent: str) -> None:
    before = socket.getdefaulttimeout()
    assert_refused(f"{silent}/a.pth", "timed out")
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize(
    "address, reason",
    [
        ("http://127.0.0.1:9/a.pth", "refused"),
        ("https://no-such-host.invalid/a.pth", ""),
        ("http://", ""),
        ("s3://bucket/a.pth", "s3:// is not an address that detectron2 can"),
    ],
)
def test_what_cannot_be_asked(address: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "SECONDS_TO_ANSWER", 2.0)
    assert_refused(address, reason)


def test_paths_are_as_they_are(tmp_path: Path) -> None:
    assert local_file(str(tmp_path / "none.pth")) == str(tmp_path / "none.pth")


def test_weights_from_an_address(server: str, tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    torch.save({"model": model.state_dict()}, tmp_path / "served" / "a.pth")
    other = nn.Linear(2, 2)
    Checkpointer(other).load(f"{server}/a.pth")
    assert torch.equal(other.weight, model.weight)
    with pytest.raises(OSError, match=f"^MODEL.WEIGHTS: cannot read '{server}/b.pth'"):
        Checkpointer(other).load(f"{server}/b.pth")
