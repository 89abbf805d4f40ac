"""Files that file managers, notebooks and servers leave among images."""

from __future__ import annotations

_STRAY = {
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "desktop.ini",
    "__pycache__",
}


def is_stray(name: str) -> bool:
    """Whether a file or folder is hidden, or one of those that no person made.

    Args:
        name: without the folders before it.
    """
    return name.startswith(".") or name in _STRAY
