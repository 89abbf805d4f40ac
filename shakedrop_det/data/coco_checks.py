"""Checks of COCO files before training. Mistakes are reported or skipped."""

from __future__ import annotations

from typing import Any

from .annotation_checks import AnnotationCheck, Needs
from .coco_json import read_coco
from .image_checks import image_problems
from .problems import Problems


def read_checked(json_file: str, *, name: str, training: bool) -> dict[str, Any]:
    """Read a COCO file and check its structure.

    Args:
        json_file: Path of an existing file.
        name: Name of the dataset, for messages.
        training: Whether annotations are required.

    Raises:
        ValueError: If it is not a COCO file; has no images, categories or, for training,
            annotations; or a category lacks a name or a unique id.
    """
    subject = f"annotation file {json_file} of dataset {name!r}"
    try:
        content = read_coco(json_file)
    except ValueError as error:
        raise ValueError(f"{subject} is not JSON ({error}): download or export it again") from error
    for part in ("images", "categories", "annotations"):
        if part == "annotations" and not training and part not in content:
            continue
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(
                f"{subject} is not a COCO file: it has no list {part!r} at its top level"
            )
        if not content[part] and (part != "annotations" or training):
            raise ValueError(f"{subject} has no {part}: its list {part!r} is empty")
    _check_categories(content["categories"], subject)
    return content


def _place(annotation: Any) -> str:
    known = annotation if isinstance(annotation, dict) else {}
    return f"image {known.get('image_id')!r}, annotation {known.get('id')!r}"


def _check_categories(categories: list[Any], subject: str) -> None:
    seen: set[int] = set()
    for category in categories:
        number = category.get("id") if isinstance(category, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or number in seen:
            raise ValueError(
                f"{subject} has a category without a unique integer 'id': {category!r}"
            )
        if not isinstance(category.get("name"), str):
            raise ValueError(f"{subject} has a category without a 'name': {category!r}")
        seen.add(number)


def find_problems(
    content: dict[str, Any], *, image_root: str, needs: Needs, decode: bool = False
) -> tuple[Problems, dict[str, Any]]:
    """Check the images and annotations of a COCO file.

    Args:
        content: Content from :func:`read_checked`.
        image_root: Folder of the images; "" to not check the files.
        needs: Requirements of the run.
        decode: Whether to decode all images; see :func:`image_problems`.

    Returns:
        The mistakes, and the content without the images and annotations that have them.
    """
    problems = Problems()
    images = content["images"]
    bad_images = set()
    for index, what in image_problems(images, image_root, decode=decode) if image_root else ():
        bad_images.add(index)
        number = images[index].get("id") if isinstance(images[index], dict) else f"at {index}"
        problems.add(f"image {number}", what)
    good_images = [image for index, image in enumerate(images) if index not in bad_images]
    # A bad image does not make its annotations bad.
    sizes: dict[Any, tuple[float, float] | None] = {
        image["id"]: None
        for image in images
        if isinstance(image, dict) and isinstance(image.get("id"), (int, str))
    }
    sizes |= {image["id"]: (image["height"], image["width"]) for image in good_images}
    check = AnnotationCheck(needs, sizes=sizes, categories=[c["id"] for c in content["categories"]])
    good = []
    for annotation in content.get("annotations", ()):
        if check.is_plain(annotation):
            good.append(annotation)
            continue
        number = problems.number
        for what in check.problems(annotation):
            problems.add(_place(annotation), what)
        if problems.number == number:
            good.append(annotation)
    if not problems.number:
        return problems, content
    kept = {image["id"] for image in good_images}
    usable = {**content, "images": good_images}
    if "annotations" in content:
        usable["annotations"] = [a for a in good if a["image_id"] in kept]
    return problems, usable
