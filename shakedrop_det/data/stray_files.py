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
    """Return whether a file or folder is hidden or was created by a system rather than a person.

    Args:
        name: Name without its parent folders.
    """
    return name.startswith(".") or name in _STRAY
