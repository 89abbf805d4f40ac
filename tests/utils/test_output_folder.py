"""Folders that tools write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from shakedrop_det.utils.output_folder import check_output_file, make_output_folder


def test_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    for _ in range(2):
        assert make_output_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_folder_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    message = f"--output '{tmp_path / name}' cannot be written to .*: set it to a folder"
    with pytest.raises(ValueError, match=message):
        make_output_folder(str(tmp_path / name))


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ValueError, match="cannot be written to .Permission denied."):
        make_output_folder(tmp_path)


@pytest.mark.parametrize("name", ["a?b", "a\nb", "s3://bucket/a", "a\tb"])
def test_folder_whose_weights_could_not_be_loaded(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="OUTPUT_DIR .*(an address|question mark)"):
        make_output_folder(f"{tmp_path}/{name}", key="OUTPUT_DIR")
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_not_taken_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(ValueError, match="--output '~/run' begins with ~.*set it to '/home/me/run"):
        make_output_folder("~/run")
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_be_in_a_new_folder_which_is_not_made_yet(tmp_path: Path) -> None:
    check_output_file(tmp_path / "a" / "b" / "file", inputs={"--weights": "w.pth"})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_read_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    (tmp_path / "link.pth").symlink_to(tmp_path / "w.pth")
    for name in ("w.pth", "link.pth", "../" + tmp_path.name + "/w.pth"):
        with pytest.raises(ValueError, match="--output .* would overwrite --weights .*w.pth"):
            check_output_file(tmp_path / name, inputs={"--weights": str(tmp_path / "w.pth")})


@pytest.mark.parametrize("name, message", [("", "is a folder"), ("file/a", "cannot be written")])
def test_a_file_that_could_not_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"--output .* {message}"):
        check_output_file(tmp_path / name, inputs={})
