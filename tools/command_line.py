"""What the command lines of all tools have in common.

The tools read their arguments before they import anything else, so that ``--help`` and mistakes in
them do not wait for torch and detectron2. Hence this file is beside them rather than in the
package, whose import takes seconds.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

SECTIONS = ("MODEL", "INPUT", "DATASETS", "DATALOADER", "SOLVER", "TEST", "GLOBAL")
"""First parts of the keys of a config that have several."""

KEYS = ("OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "VIS_PERIOD", "FLOAT32_PRECISION", "VERSION")
"""Keys of a config that have a single part."""

_KEY = re.compile(rf"({'|'.join(SECTIONS)})(\.[A-Z0-9_]+)+|{'|'.join(KEYS)}")

_NOISE = (
    # Of detectron2 and its dependencies, about themselves.
    r".*torch\.meshgrid: in an upcoming release",
    r".*torch\.jit",
    r".*torch\.fx",
    r".*pkg_resources",
    r".*torch\.cuda\.amp",
    r".*timm\.models\.layers",
    r"`broadcast_buffers` is deprecated",
    r"The given NumPy array is not writable",
    # Of tracing, about what detectron2's own code for export does on purpose.
    r".*might cause the trace to be incorrect",
    r".*results are registered as constants in the trace",
    r"Exporting .* to ONNX",
    r"Constant folding",
    r"You are using the legacy TorchScript-based ONNX export",
)
"""Beginnings of third parties' warnings that nobody who runs a tool can do anything about."""


def positive(text: str) -> int:
    """Parse a positive integer of the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


class ToolParser(argparse.ArgumentParser):
    """A parser of a tool's arguments, in which config options may stand anywhere.

    Each word that is a key of a config, such as SOLVER.BASE_LR, and the word after it, whatever
    that looks like, are an option; so is SOLVER.BASE_LR=0.01. An existing file, such as TEST.JPG,
    is no key. ``argparse.REMAINDER``, which detectron2's own parser uses, would take all that
    follows the first of them, flags of the tool among it.
    """

    def __init__(self, description: str | None, *, examples: str = "") -> None:
        """
        Args:
            description: what the tool does, shown as it is.
            examples: commands, shown as they are at the end.
        """
        epilog = f"examples:{examples.rstrip()}" if examples else None
        super().__init__(description=description, epilog=epilog, formatter_class=_Formatter)
        self._has_config = self._has_weights = False

    def add_config(self, help: str, *, weights: str = "", required: bool = True) -> None:
        """Add ``--config-file``, ``--overlay``, config options, and ``--weights``; after other
        positional arguments.

        Args:
            help: of the config file.
            weights: help of ``--weights``; "" for a tool that reads none.
            required: whether there must be a config file.
        """
        self._has_config = True
        default: dict[str, Any] = {"required": True} if required else {"default": ""}
        self.add_argument("--config-file", "--config", metavar="FILE", help=help, **default)
        self.add_argument(
            "--overlay",
            action="append",
            default=[],
            metavar="NAME_OR_FILE",
            help="overlay to merge into the config, such as random_drop or R_152; repeatable",
        )
        if weights:
            self._has_weights = True
            self.add_argument("--weights", metavar="FILE", help=weights)
            self.add_allow_pickle()
        self.add_argument(
            "opts",
            nargs="*",
            metavar="KEY VALUE",
            help="options that override the config",
        )

    def add_allow_pickle(self) -> None:
        """Add ``--allow-pickle``, for tools that read weights."""
        self.add_argument(
            "--allow-pickle",
            action="store_true",
            help="allow weights to run code when they are read; only for files you trust",
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class; ``opts`` are the config options, MODEL.WEIGHTS of ``--weights``
        among them."""
        words = list(sys.argv[1:] if args is None else args)
        if not self._has_config:
            return super().parse_args(words, namespace)
        options, rest = self._divide(words)
        namespace = self.parse_intermixed_args(rest, namespace)
        # Words that are neither are options too, of whose keys the config then tells.
        namespace.opts = options + namespace.opts
        if self._has_weights and namespace.weights is not None:
            namespace.opts += ["MODEL.WEIGHTS", namespace.weights]
        return namespace

    def _divide(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Config options, and all else."""
        options: list[str] = []
        rest: list[str] = []
        waiting = list(reversed(words))
        while waiting:
            word = waiting.pop()
            key, has_value, _ = word.partition("=")
            if not _is_key(key) or (rest and self._takes_value(rest[-1])):
                rest.append(word)
            elif has_value:
                options.append(word)
            elif not waiting:
                self.error(f"{word} has no value: options of the config are pairs of KEY and VALUE")
            else:
                options += [word, waiting.pop()]
        return options, rest

    def _takes_value(self, word: str) -> bool:
        action = self._option_string_actions.get(word)
        return action is not None and action.nargs is None


def _is_key(word: str) -> bool:
    if not _KEY.fullmatch(word):
        return False
    return word in KEYS or not os.path.isfile(word)


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there is one that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.required or action.default in (None, False, "", [], argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


def without_noise() -> None:
    """Leave out warnings of third parties about themselves, in this process and its children."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", module=r"torch\.(jit|fx|onnx)")
    # A new interpreter, as of multiprocessing's fork server, knows no filter but those named here.
    named = [os.environ.get("PYTHONWARNINGS", ""), "ignore:`torch.jit:FutureWarning"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, named))
    # logging prints a traceback for each message that it cannot write, as on a full disk. The tool
    # ends with a line about that when it writes a file of its own.
    logging.raiseExceptions = False
    for name in ("torch.fx._symbolic_trace", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run(main: Callable[[], None]) -> None:
    """Run a tool; Ctrl-C ends it with a line and exit status 130.

    Args:
        main: what it does.
    """
    without_noise()
    # Before torch is imported. By default a waiting thread of GNU's OpenMP keeps its core busy for
    # long. This is as fast on an idle machine, and leaves the core to others sooner.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
