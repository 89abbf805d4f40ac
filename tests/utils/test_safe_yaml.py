"""Config files are read without running code, and what is wrong with them takes one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from detectron2.config import get_cfg

from shakedrop_det.engine import load_config
from shakedrop_det.model_zoo import stock
from shakedrop_det.utils.safe_yaml import merge_config_file, read_config_file

RECIPE = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("tag", ["apply:os.mkdir", "new:os.mkdir"])
@pytest.mark.parametrize("base", ["{}", "[good.yaml, {}]"])
def test_code_in_a_config_or_its_bases_is_not_run(tmp_path: Path, tag: str, base: str) -> None:
    trace = tmp_path / "trace"
    write(tmp_path / "good.yaml", "SEED: 1\n")
    code = f"SEED: 2\nOUTPUT_DIR: !!python/object/{tag} ['{trace}']\n"
    path = write(tmp_path / "code.yaml", code)
    above = write(tmp_path / "above.yaml", f"_BASE_: {base.format('code.yaml')}\n")
    top = write(tmp_path / "below" / "top.yaml", "_BASE_: ../above.yaml\n")
    for file in (path, above, top):
        with pytest.raises(ValueError, match="without running code") as error:
            load_config(file)
        assert "code.yaml', line 2," in str(error.value) and "write the value" in str(error.value)
        assert "\n" not in str(error.value)
        with pytest.raises(ValueError, match="without running code"):
            read_config_file(file)
    assert not trace.exists()


@pytest.mark.parametrize(
    "files",
    [
        {"a": "a.yaml"},
        {"a": "b.yaml", "b": "sub/c.yaml", "sub/c": "../a.yaml"},
        {"a": "[good.yaml, b.yaml]", "b": "[a.yaml]"},
        {"a": "link.yaml"},
    ],
)
def test_a_circle_of_bases_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path / "good.yaml", "SEED: 1\n")
    for name, base in files.items():
        write(tmp_path / f"{name}.yaml", f"_BASE_: {base}\n")
    os.symlink("a.yaml", tmp_path / "link.yaml")
    with pytest.raises(
        ValueError, match=r"refers to itself, \S+/a.yaml -> (\S+ -> )*\S+/a.yaml: remove one"
    ):
        load_config(str(tmp_path / "a.yaml"))


def test_a_base_that_is_named_twice_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path / "root.yaml", "SEED: 3\n")
    for name in ("left", "right"):
        write(tmp_path / f"{name}.yaml", "_BASE_: root.yaml\n")
    top = write(tmp_path / "top.yaml", "_BASE_: [left.yaml, right.yaml]\n")
    assert load_config(top).SEED == 3
    assert read_config_file(top) == {"SEED": 3}


@pytest.mark.parametrize(
    "text, message",
    [
        ("_BASE_: 3", "must be the path of a file, got 3"),
        ("_BASE_: [good.yaml, {a: 1}]", "must be the path of a file, got {'a': 1}"),
        ("_BASE_: not_there.yaml", "No such file or directory: '.*not_there.yaml'"),
        ("_BASE_: http://127.0.0.1:9/a.yaml", "cannot read 'http://127.0.0.1:9/a.yaml'"),
        ("_BASE_: lazy.py", "lazy.py' is a lazy config, which is a program"),
        ("_BASE_: ~/not_there.yaml", "No such file or directory"),
        ("SEED: 1\n  X: 2", "line 2, is not valid yaml"),
        ("SEED: \0", "is not valid yaml"),
        ("[" * 3000, "is not valid yaml"),
        ("? [a, b]\n: 1", "line 1, is not valid yaml: found unhashable key"),
        ("SOLVER:\nSEED: 1", "SOLVER must contain keys of its own, got None"),
        ("INPUT: {CROP: 3}", "INPUT.CROP must contain keys of its own, got 3"),
        ("just words", "no 'key: value' pairs, but 'just words'"),
    ],
)
def test_what_is_wrong_takes_one_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "good.yaml", "SEED: 1\n")
    path = write(tmp_path / "wrong.yaml", text)
    with pytest.raises(ValueError, match=f"--config-file.*wrong.yaml.*{message}") as error:
        load_config(path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match="wrong.yaml' is not valid yaml"):
        load_config(str(tmp_path / "wrong.yaml"))


def test_what_is_merged_is_what_detectron2_merges() -> None:
    file = stock.get_config_file(RECIPE)
    expected, found = get_cfg(), get_cfg()
    expected.merge_from_file(file)
    merge_config_file(found, file)
    assert found == expected != get_cfg()


@pytest.mark.parametrize("version", ["", "VERSION: 1\n"])
def test_keys_of_an_old_version_are_upgraded(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "old.yaml", f"{version}MODEL: {{WEIGHT: old.pkl}}\n")
    cfg = get_cfg()
    merge_config_file(cfg, path)
    assert cfg.MODEL.WEIGHTS == "old.pkl"
