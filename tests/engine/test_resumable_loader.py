"""Images that follow from their place in the run alone."""

import multiprocessing
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)

from shakedrop_det.engine import resumable_loader
from shakedrop_det.engine.resumable_loader import ResumableLoader, resumable
from shakedrop_det.engine.rng import preserved_rng, rng_state, seed_cpu_rng, set_rng_state
from shakedrop_det.utils.reading import UnreadableImageError

SIZE, BATCH = 10, 3
# Every third image is wide.
RECORDS = [{"id": i, "width": 20 if i % 3 == 0 else 10, "height": 15} for i in range(SIZE)]
SAMPLERS = {
    "all": lambda: TrainingSampler(SIZE),
    "subset": lambda: RandomSubsetTrainingSampler(SIZE, 0.7),
    "repeated": lambda: RepeatFactorTrainingSampler(torch.linspace(1, 3, SIZE)),
    # What current detectron2 builds for the default SEED -1.
    "unseeded": lambda: TrainingSampler(SIZE, seed=-1),
}


def augment(record: dict[str, Any]) -> dict[str, Any]:
    drawn = (random.random(), np.random.rand(), torch.rand(()).item())
    return {**record, "drawn": drawn}


def loader(
    sampler: str = "all",
    *,
    batch_size: int = BATCH,
    workers: int = 0,
    grouped: bool = False,
    mapper: Any = augment,
    **ranks: int,
) -> Any:
    return resumable(
        build_detection_train_loader(
            RECORDS,
            mapper=mapper,
            sampler=SAMPLERS[sampler](),
            total_batch_size=batch_size,
            aspect_ratio_grouping=grouped,
            num_workers=workers,
        ),
        **ranks,
    )


def read(loader: ResumableLoader, batches: int) -> list[list[dict[str, Any]]]:
    iterator = iter(loader)
    return [next(iterator) for _ in range(batches)]


def skip_some(record: dict[str, Any]) -> dict[str, Any] | None:
    """Skip two images in five, as for unreadable ones; which, follows from the record."""
    return None if record["id"] % 5 in (1, 2) else augment(record)


def resumed(loader_before: ResumableLoader, sampler: str, **options: Any) -> ResumableLoader:
    after = loader(sampler, **options)
    after.load_state_dict(loader_before.state_dict())
    return after


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("grouped", [False, True])
def test_resumed_loader_goes_on(sampler: str, grouped: bool) -> None:
    """The new one is built with another seed, and reads nothing of what was read."""
    whole = loader(sampler, grouped=grouped)
    copy = resumed(whole, sampler, grouped=grouped)
    expected = read(whole, 12)
    for cut in (1, 5, 11):
        begun = resumed(copy, sampler, grouped=grouped)
        assert read(begun, cut) == expected[:cut]
        assert read(resumed(begun, sampler, grouped=grouped), 12 - cut) == expected[cut:]


@pytest.mark.parametrize("batch_size", [1, 2, BATCH])
def test_more_images_may_wait_than_smaller_batches_have(batch_size: int) -> None:
    """Both shapes go on being read, and no more and more images wait."""
    before = loader(batch_size=6, grouped=True)
    batches = iter(before)
    while max(waiting := [len(group) for group in before.state_dict()["waiting"]]) < 4:
        next(batches)
    after = resumed(before, "all", batch_size=batch_size, grouped=True)
    found = read(after, 30)
    assert {len(batch) for batch in found} == {batch_size}
    shapes = [{image["width"] > image["height"] for image in batch} for batch in found]
    assert [len(shape) for shape in shapes] == [1] * 30 and set.union(*shapes) == {True, False}
    still = [len(group) for group in after.state_dict()["waiting"]]
    assert all(now <= max(was, batch_size) for now, was in zip(still, waiting, strict=True))


@pytest.mark.parametrize("batch_size", [1, BATCH])
def test_it_reads_what_detectron2s_loader_reads(batch_size: int) -> None:
    for grouped in (False, True):
        sampler = TrainingSampler(SIZE, seed=5)
        stock = build_detection_train_loader(
            RECORDS,
            mapper=lambda record: record,
            sampler=sampler,
            total_batch_size=batch_size,
            aspect_ratio_grouping=grouped,
        )
        iterator = iter(stock)
        expected = [[image["id"] for image in next(iterator)] for _ in range(9)]
        for group in getattr(stock, "_buckets", []):
            group.clear()
        found = read(resumable(stock), 9)
        assert [[image["id"] for image in batch] for batch in found] == expected


@pytest.mark.parametrize("grouped", [False, True])
def test_workers_change_nothing(grouped: bool) -> None:
    alone = loader(grouped=grouped)
    expected = read(alone, 8)
    for workers in (1, 2):
        fresh = loader(workers=workers, grouped=grouped)
        fresh.restart_like(alone)
        assert read(fresh, 3) == expected[:3]
        assert read(resumed(fresh, "all", grouped=grouped), 5) == expected[3:]


@pytest.mark.parametrize("workers", [0, 2])
def test_replacements_of_skipped_images_follow_from_their_place_too(workers: int) -> None:
    whole = loader(mapper=skip_some)
    copy = resumed(whole, "all", mapper=skip_some)
    expected = read(whole, 12)
    assert not {image["id"] % 5 for batch in expected for image in batch} & {1, 2}
    begun = resumed(copy, "all", mapper=skip_some, workers=workers)
    assert read(begun, 5) == expected[:5]
    assert read(resumed(begun, "all", mapper=skip_some), 7) == expected[5:]


def test_a_dataset_without_a_readable_image_is_an_error() -> None:
    with pytest.raises(UnreadableImageError, match="100 images in a row were skipped"):
        read(loader(mapper=lambda record: None), 1)


def test_epochs_and_ranks_draw_anew() -> None:
    whole = [image for batch in read(loader(), 20) for image in batch]
    assert len({image["drawn"] for image in whole}) == len(whole)
    shares = [loader(rank=rank, world_size=2) for rank in range(2)]
    shares[1].restart_like(shares[0])
    first, second = ([i["drawn"] for b in read(share, 9) for i in b] for share in shares)
    assert not set(first) & set(second)


def test_the_process_keeps_its_random_numbers() -> None:
    images = loader()
    torch.manual_seed(3)
    before = rng_state()
    read(images, 2)
    after = rng_state()
    assert before["python"] == after["python"]
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])
    assert before["numpy"][2:] == after["numpy"][2:]


def test_number_of_images() -> None:
    assert loader().num_images == SIZE
    assert loader("subset").num_images == 7


def test_an_unknown_loader_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    own = [[{"image": 0}]]
    assert resumable(own) is own
    assert "cannot be resumed exactly" in caplog.text and "list" in caplog.text


def drawn() -> tuple[float, ...]:
    return (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1))


def test_state_of_the_generators_goes_through_a_file(tmp_path: Any) -> None:
    drawn()  # Half a pair of normal numbers is kept for later.
    torch.save(rng_state(), tmp_path / "state.pth")
    expected = [drawn() for _ in range(3)]
    set_rng_state(torch.load(tmp_path / "state.pth", weights_only=True))
    assert [drawn() for _ in range(3)] == expected


def test_preserved_rng_restores_the_state_also_after_an_error() -> None:
    state = rng_state()
    with preserved_rng():
        first = drawn()
    assert drawn() == first
    set_rng_state(state)
    with pytest.raises(KeyError), preserved_rng():
        drawn()
        raise KeyError
    assert drawn() == first


def test_unseeded_loaders_read_in_different_orders() -> None:
    orders = [[image["id"] for image in sum(read(loader("unseeded"), 4), [])] for _ in range(4)]
    assert any(order != orders[0] for order in orders)


def test_negative_seeds_are_seeds() -> None:
    def numbers(seed: int) -> list[float]:
        seed_cpu_rng(seed, 0)
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    with preserved_rng():
        assert numbers(-1) == numbers(-1) != numbers(-2)
        assert numbers(-1) != numbers(1)


def test_seeds_of_neighbours_are_unrelated() -> None:
    def numbers(seed: int, position: int) -> np.ndarray:
        seed_cpu_rng(seed, position)
        return np.array([[random.random(), np.random.rand(), torch.rand(()).item()]])

    with preserved_rng():
        grid = np.concatenate([numbers(s, p) for s in range(20) for p in range(20)])
        assert numbers(3, 4) == pytest.approx(numbers(3, 4), abs=0)
    assert len(np.unique(grid)) == grid.size
    assert np.abs(grid.mean(axis=0) - 0.5).max() < 4 * (1 / 12 / 400) ** 0.5
    assert np.abs(np.corrcoef(grid.T) - np.eye(3)).max() < 0.2


def _work_without_end(told: Any) -> None:
    resumable_loader._init_worker(None, 0)
    told.set()
    while True:
        time.sleep(0.1)


def test_a_worker_that_is_told_once_to_end_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python tells it at exit, where it then waits for it."""
    monkeypatch.setattr(resumable_loader, "_SECONDS_TO_END", 1)
    context = multiprocessing.get_context("fork")
    told = context.Event()
    worker = context.Process(target=_work_without_end, args=(told,), daemon=True)
    worker.start()
    assert told.wait(30)
    worker.terminate()
    worker.join(0.3)
    assert worker.is_alive()  # for the step that its process is in
    worker.join(30)
    ended = not worker.is_alive()
    worker.kill()
    assert ended


_kept: list[Any] = []


def _read_and_leave() -> None:
    _kept.append(iter(loader(workers=2)))  # as the traceback of an error keeps it
    next(_kept[0])


def test_a_process_that_leaves_does_not_wait_for_its_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resumable_loader, "_SECONDS_TO_END", 1000)
    process = multiprocessing.get_context("fork").Process(target=_read_and_leave)
    process.start()
    process.join(100)
    left = process.exitcode
    process.kill()
    assert left == 0
