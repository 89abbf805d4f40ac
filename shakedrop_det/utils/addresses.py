"""Files by path or address, with errors for addresses that cannot be read."""

from __future__ import annotations

import contextlib
import os
import socket
from http.client import HTTPException
from typing import Iterator

from detectron2.utils.file_io import PathManager

from .atomic import is_local

SECONDS_TO_ANSWER = 30.0
"""How long a server may be silent. Python would wait without end."""


@contextlib.contextmanager
def naming_address(address: str, *, key: str = "") -> Iterator[None]:
    """Let errors name the address that is read within the context, and a silent server be one.

    Args:
        address: or the path of a local file, whose errors name it already.
        key: of the config, or an argument, that names the address.

    Raises:
        OSError: if the address cannot be read.
    """
    if is_local(address):
        yield
        return
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_TO_ANSWER)
    try:
        yield
    # Of urllib, and what iopath asserts.
    except (OSError, HTTPException, ValueError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise OSError(
            f"{key}: cannot read {address!r} ({reason}): correct the address, or get the file in "
            "another way and give its path".removeprefix(": ")
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def local_file(address: str, *, key: str = "") -> str:
    """The path of a file, downloaded if need be.

    Args:
        address: a path, or an address that detectron2 knows, such as ``detectron2://``.
        key: see :func:`naming_address`.

    Raises:
        OSError: if the address cannot be read.
    """
    with naming_address(address, key=key):
        path = PathManager.get_local_path(address)
        # An address of a kind that detectron2 does not know is taken for a path.
        if not is_local(address) and not os.path.isfile(path):
            kind = address.partition("://")[0]
            raise ValueError(f"{kind}:// is not an address that detectron2 can read")
    return path
