"""What README and the guides show can be typed as it stands, and what they refer to is there."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import command_line
import pytest
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det import add_shakedrop_config, model_zoo
from shakedrop_det.engine import load_config
from shakedrop_det.modeling import ShakenBlock

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Command(NamedTuple):
    page: str
    words: tuple[str, ...]
    """From the tool's path on."""


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in _BLOCK.findall(page.read_text()) if language in languages]


def commands() -> Iterator[Command]:
    """Of all pages, and of what the tools show with ``--help``."""
    texts = [(page.name, text) for page in PAGES for text in blocks(page, "", "bash", "sh")]
    for tool in sorted((ROOT / "tools").glob("*.py")):
        examples = runpy.run_path(str(tool)).get("EXAMPLES", "")
        texts.append((tool.name, re.sub(r"^ +", "", examples, flags=re.MULTILINE)))
    for name, text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            # A shell leaves an option out where its variable is empty.
            words = shlex.split(re.sub(r"\$\{\w+:\+[^}]*\}", "", line), comments=True)
            at = next((i for i, word in enumerate(words) if word.startswith("tools/")), None)
            if at is not None:
                yield Command(name, tuple(words[at:]))


COMMANDS = sorted(set(commands()))


def by_page(command: Command) -> str:
    return f"{command.page}: {' '.join(command.words)[:60]}"


class Parsed(Exception):
    """A tool's arguments were read."""


def parsed(command: Command, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the tool's own parser makes of a command."""
    parse = command_line.ToolParser.parse_args

    def stop(self: Any, args: Any = None, namespace: Any = None) -> None:
        raise Parsed(parse(self, args, namespace))

    monkeypatch.setattr(command_line.ToolParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", list(command.words))
    with pytest.raises(Parsed) as found:
        runpy.run_path(str(ROOT / command.words[0]), run_name="__main__")
    return found.value.args[0]


def is_made_before(path: str) -> bool:
    """Whether a file is the reader's own, or of a command that came before."""
    return path == "FILE" or path.startswith(("output/", "my_"))


def test_there_are_commands_on_most_pages() -> None:
    assert len(COMMANDS) > 40 and len({command.page for command in COMMANDS}) > 12


@pytest.mark.parametrize("command", COMMANDS, ids=by_page)
def test_a_command_is_understood_and_names_what_is_there(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    args = parsed(command, monkeypatch)
    for overlay in getattr(args, "overlay", ()):
        assert overlay in model_zoo.list_overlays() or Path(overlay).is_file(), overlay
    if command.words[0] == "tools/run_experiment.py":
        assert args.plan.is_file(), args.plan
    if not hasattr(args, "config_file"):
        return
    config = args.config_file or ""
    assert not config or is_made_before(config) or Path(config).is_file(), config
    pairs = list(zip(args.opts[::2], args.opts[1::2], strict=True))
    # The reader has other data, and fills in the dots.
    options = [word for key, value in pairs for word in (key, value)]
    places = [i for i in range(0, len(options), 2) if "..." not in options[i + 1]]
    options = [w for i in places if "DATASETS" not in options[i] for w in options[i : i + 2]]
    is_here = Path(config).is_file()
    load_config(config if is_here else "", options, overlays=args.overlay if is_here else ())


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = _BLOCK.sub("", page.read_text())
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    found = _LINK.findall(_BLOCK.sub("", page.read_text()))
    for link in found:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_are_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = {t for block in blocks(page, "") for t in re.findall(r"^make (\S+)", block, re.M)}
    assert typed | set(re.findall(r"`make ([\w-]+)`", page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_and_yaml_can_be_read(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")
    for text in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict)


def test_readmes_python_runs_as_printed() -> None:
    pytest.importorskip("pkg_resources", reason="detectron2.model_zoo needs it")
    first, second = blocks(ROOT / "README.md", "python")
    names: dict[str, Any] = {}
    exec(first, names)
    names["cfg"].MODEL.DEVICE = "meta"
    assert is_shaken(build_model(names["cfg"]))
    names["cfg"].MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    names["model"] = build_model(names["cfg"])
    assert not is_shaken(names["model"])
    exec(second, names)
    assert is_shaken(names["model"])


def test_the_model_zoos_python_runs_as_printed() -> None:
    code, *_ = blocks(ROOT / "docs" / "model_zoo.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert not names["cfg"].MODEL.SHAKEDROP.ENABLED


def test_readmes_yaml_is_of_these_keys() -> None:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    for text in blocks(ROOT / "README.md", "yaml"):
        cfg.merge_from_other_cfg(type(cfg)(yaml.safe_load(text)))
    assert cfg.SOLVER.CLIP_GRADIENTS.ENABLED


def is_shaken(model: nn.Module) -> bool:
    return any(isinstance(module, ShakenBlock) for module in model.modules())


SHORT = ["tools/analyze_model.py", "tools/visualize_data.py", "tools/benchmark_coco.py"]


@pytest.mark.slow
@pytest.mark.parametrize("tool", SHORT)
def test_what_is_short_runs_as_printed(datasets_root: str, tmp_path: Path, tool: str) -> None:
    """In a folder that looks like a checkout, so that nothing is written into this one."""
    (command,) = (c for c in COMMANDS if c.page == "evaluation_and_tools.md" and is_of(c, tool))
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "DETECTRON2_DATASETS": datasets_root}
    env.update(OMP_NUM_THREADS="1", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    done = subprocess.run(command.words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "output").rglob("*.*"))


def is_of(command: Command, tool: str) -> bool:
    return command.words[0] == tool and "coco_2017_val" not in command.words
