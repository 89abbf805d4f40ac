"""Folders of class folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.data import check_dataset, load_image_folder, register_image_folder


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@given(
    st.dictionaries(
        st.text("abXY019_", min_size=1, max_size=5),
        st.sets(st.text("ab01", min_size=1, max_size=3), min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_labels_are_places_in_the_sorted_list_of_folders(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, set[str]]
) -> None:
    root = tmp_path_factory.mktemp("root")
    for folder, files in tree.items():
        for file in files:
            touch(root / folder / f"{file}.JPEG")
    records = load_image_folder(root)
    expected = [
        (str(root / folder / f"{file}.JPEG"), label)
        for label, folder in enumerate(sorted(tree))
        for file in sorted(tree[folder], key=lambda file: f"{file}.JPEG")
    ]
    assert [(record["file_name"], record["label"]) for record in records] == expected
    assert [record["image_id"] for record in records] == list(range(len(expected)))


def test_labels_follow_the_sorted_names_of_the_folders(tmp_path: Path) -> None:
    for folder in ("n02", "n01"):
        touch(tmp_path / folder / "a.png")
    touch(tmp_path / "README.txt")
    touch(tmp_path / "n01" / "list.txt")
    register_image_folder("test_registered_folder", tmp_path)
    try:
        metadata = MetadataCatalog.get("test_registered_folder")
        assert metadata.evaluator_type == "classification"
        assert [r["label"] for r in DatasetCatalog.get("test_registered_folder")] == [0, 1]
        assert metadata.classes == ["n01", "n02"]
        assert len(DatasetCatalog.get("test_registered_folder")) == 2  # A second time.
    finally:
        DatasetCatalog.remove("test_registered_folder")
        MetadataCatalog.remove("test_registered_folder")


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "which is not set"), ("/data", "which is '/data'")]
)
def test_missing_root_names_it_and_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, shown: str
) -> None:
    if value is None:
        monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    else:
        monkeypatch.setenv("DETECTRON2_DATASETS", value)
    with pytest.raises(
        FileNotFoundError,
        match=f"dataset 'photos' are .*{tmp_path}/none.*DETECTRON2_DATASETS, {shown}",
    ):
        load_image_folder(tmp_path / "none", name="photos")


def test_root_without_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(
        FileNotFoundError, match=f"{tmp_path}/<class>/<image>, but this folder has no sub"
    ):
        load_image_folder(tmp_path)


def test_class_folder_without_images(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "a.png")
    touch(tmp_path / "dog" / "notes.txt")
    with pytest.raises(FileNotFoundError, match=f"class folder {tmp_path}/dog has no images"):
        load_image_folder(tmp_path)


def test_what_nobody_put_there_is_no_class_and_no_image(tmp_path: Path) -> None:
    for name in ("cat", "dog", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN"):
        touch(tmp_path / name / "a.png")
    for name in ("._a.png", ".a.png", "Thumbs.db"):
        touch(tmp_path / "cat" / name)
    records = load_image_folder(tmp_path)
    assert [(Path(r["file_name"]).parent.name, r["label"]) for r in records] == [
        ("cat", 0),
        ("dog", 1),
    ]


def test_a_folder_of_stray_files_alone_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "a.png")
    touch(tmp_path / "dog" / "._a.png")
    register_image_folder("test_stray", tmp_path)
    try:
        with pytest.raises(FileNotFoundError, match=f"class folder {tmp_path}/dog has no images"):
            check_dataset("test_stray", num_classes=1)
    finally:
        DatasetCatalog.remove("test_stray")
        MetadataCatalog.remove("test_stray")


@pytest.mark.skipif("DETECTRON2_DATASETS" not in os.environ, reason="needs real data")
@pytest.mark.parametrize(("name", "num_classes"), [("cifar10_val", 10), ("imagenet_val", 1000)])
def test_images_where_they_are_at_hand_cover_all_classes(name: str, num_classes: int) -> None:
    if not os.path.isdir(MetadataCatalog.get(name).image_root):
        pytest.skip(f"{name} is not there")
    records = DatasetCatalog.get(name)
    assert {record["label"] for record in records} == set(range(num_classes))
    assert len(MetadataCatalog.get(name).classes) == num_classes
