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
"""Time limit for a server's answer. Python's default is no limit."""


@contextlib.contextmanager
def naming_address(address: str, *, key: str = "") -> Iterator[None]:
    """Name the address in errors of reading within the context, and limit the wait for a server.

    Args:
        address: an address, or the path of a local file, whose errors already name it.
        key: config key or option with the address, for the message.

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
    # Errors of urllib, and assertions of iopath.
    except (OSError, HTTPException, ValueError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise OSError(
            f"{key}: cannot read {address!r} ({reason}): correct the address, or download the file "
            "in another way and give its path".removeprefix(": ")
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def local_file(address: str, *, key: str = "") -> str:
    """Return the local path of a file, which is downloaded if necessary.

    Args:
        address: a path, or an address that detectron2 supports, such as ``detectron2://``.
        key: see :func:`naming_address`.

    Raises:
        OSError: if the address cannot be read.
    """
    with naming_address(address, key=key):
        path = PathManager.get_local_path(address)
        # detectron2 returns addresses of unknown kinds as paths.
        if not is_local(address) and not os.path.isfile(path):
            kind = address.partition("://")[0]
            raise ValueError(f"{kind}:// is not an address that detectron2 can read")
    return path
