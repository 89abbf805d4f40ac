"""A training loader whose every image is determined by its position in the run."""

from __future__ import annotations

import functools
import itertools
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import torch
from detectron2.data.common import AspectRatioGroupedDataset, MapDataset, ToIterableDataset
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from shakedrop_det.data.replacing import Replacing

from .rng import preserved_rng, seed_cpu_rng


def resumable(loader: Any, *, rank: int = 0, world_size: int = 1) -> Any:
    """Return a loader of the same images in the same batches that can start at any position.

    Args:
        loader: Loader from detectron2's ``build_detection_train_loader`` or a similar function.
        rank, world_size: Rank of this process and number of processes.

    Returns:
        A :class:`ResumableLoader`, or, with a warning, ``loader`` itself if its type is unknown.
    """
    grouped = isinstance(loader, AspectRatioGroupedDataset)
    inner = loader.dataset if grouped else loader
    images = getattr(inner, "dataset", None)
    # detectron2's samplers are endless and shuffle with a seed that they store.
    if not isinstance(images, ToIterableDataset) or not hasattr(images.sampler, "_seed"):
        logging.getLogger(__name__).warning(
            "A run cannot be resumed exactly with a data loader or sampler that is not one of "
            "detectron2's (%s): it will continue with different images",
            type(loader).__name__,
        )
        return loader
    # Current detectron2 passes SEED to its samplers unchanged. With -1, which asks for a random
    # seed, each run would read the images in the same order.
    if images.sampler._seed < 0:
        images.sampler._seed = comm.shared_random_seed()
    return ResumableLoader(
        inner, batch_size=loader.batch_size, grouped=grouped, rank=rank, world_size=world_size
    )


class ResumableLoader:
    """Endless iterable of batches that knows its position.

    The sampler's seed determines the images. That seed and the position in the sampler's stream
    determine the random numbers for each image, independently of what was read before it, of the
    number of workers, and of how far they read ahead.
    """

    def __init__(
        self, loader: DataLoader, *, batch_size: int, grouped: bool, rank: int, world_size: int
    ) -> None:
        """
        Args:
            loader: Loader of a ``ToIterableDataset``; of batches, or of single images if
                ``grouped``.
            batch_size: Number of images per batch of this process.
            grouped: Whether all images in a batch are wide, or none is, as with detectron2's
                ``DATALOADER.ASPECT_RATIO_GROUPING``.
            rank, world_size: Rank of this process and number of processes.
        """
        source: Any = loader.dataset
        self._images = _Images(
            source.dataset,
            source.sampler,
            chunk_size=1 if grouped else batch_size,
            with_positions=grouped,
            rank=rank,
            world_size=world_size,
        )
        self._loader = _with_dataset(loader, self._images)
        self.batch_size = batch_size
        self.grouped = grouped
        self._next = 0
        self._waiting: tuple[list[int], list[int]] = ([], [])

    @property
    def num_images(self) -> int:
        """Number of images in an epoch."""
        sampler: Any = self._images.sampler
        return getattr(sampler, "_size_subset", len(self._images.source))

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield batches from where :meth:`load_state_dict` or the last iteration left off."""
        batches = self._grouped() if self.grouped else self._ungrouped()
        while True:
            # Without workers, reading seeds the generators of this process, whose own random
            # numbers should not change. The loader also draws a seed for workers in any case.
            with preserved_rng():
                batch = next(batches)
            yield batch
            if self._loader.num_workers > 0:
                break
        yield from batches

    def _ungrouped(self) -> Iterator[list[Any]]:
        self._images.start = self._next
        for batch in self._started():
            self._next += self.batch_size
            yield batch

    def _grouped(self) -> Iterator[list[Any]]:
        self._images.start = self._next
        # Images that waited for others of their shape when the state was saved.
        waiting = [[(at, self._images.at(at)) for at in group] for group in self._waiting]
        for position, image in self._started():
            self._next = position + 1
            group = waiting[0 if image["width"] > image["height"] else 1]
            group.append((position, image))
            batch = []
            # If earlier batches were larger, more images wait after resuming: use the oldest.
            if len(group) >= self.batch_size:
                batch = [image for _, image in group[: self.batch_size]]
                del group[: self.batch_size]
            self._waiting = ([at for at, _ in waiting[0]], [at for at, _ in waiting[1]])
            if batch:
                yield batch

    def _started(self) -> Iterator[Any]:
        """What the loader gives. Its workers end with this process, at once."""
        iterator = iter(self._loader)
        workers = getattr(iterator, "_workers", [])
        # Before Python tells workers to end, in a process that was spawned too.
        Finalize(None, _kill, args=(workers,), exitpriority=0)
        return iterator

    def state_dict(self) -> dict[str, Any]:
        """Return the position of this process and the seeds; see :meth:`load_state_dict`."""
        names = ("_seed", "_seed_subset")
        found = vars(self._images.sampler)
        return {
            "next": self._next,
            "waiting": [list(group) for group in self._waiting],
            "seeds": {name: found[name] for name in names if name in found},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next iteration continue where another loader stopped.

        Args:
            state: State from :meth:`state_dict`. "next" is the number of images that were read,
                "waiting" the positions of those that are not in a batch yet.
        """
        self._next = state["next"]
        first, second = state["waiting"]
        self._waiting = (list(first), list(second))
        self._set_seeds(state["seeds"])

    def restart_like(self, other: Any) -> None:
        """Make the next iteration begin at the first image, in the order of another loader."""
        self._next = 0
        self._waiting = ([], [])
        if isinstance(other, ResumableLoader):
            self._set_seeds(other.state_dict()["seeds"])

    def _set_seeds(self, seeds: dict[str, int]) -> None:
        sampler: Any = self._images.sampler
        for name, seed in seeds.items():
            setattr(sampler, name, seed)
        if "_seed_subset" in seeds:  # As in the constructor of RandomSubsetTrainingSampler.
            generator = torch.Generator().manual_seed(seeds["_seed_subset"])
            order = torch.randperm(sampler._size, generator=generator)
            sampler._indexes_subset = order[: sampler._size_subset]


def _with_dataset(loader: DataLoader, dataset: IterableDataset) -> DataLoader:
    """Return a copy of a loader with another dataset and otherwise the same settings."""
    workers: dict[str, Any] = {}
    if loader.num_workers > 0:
        workers = {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
        }
    return DataLoader(
        dataset,
        batch_size=loader.batch_size,
        drop_last=loader.drop_last,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=functools.partial(_init_worker, loader.worker_init_fn),
        **workers,
    )


_SECONDS_TO_END = 20
"""Seconds for a worker's parent to finish its step, after which the worker ends itself."""


def _kill(workers: Sequence[BaseProcess]) -> None:
    """End workers at exit. The traceback of an error that ended the run keeps them alive; Python
    would send SIGTERM once, which they ignore, and wait for them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error about each.
    for worker in workers:
        worker.kill()


def _init_worker(then: Callable[[int], None] | None, worker_id: int) -> None:
    """Ignore signals that end all processes of a run at once, such as Ctrl-C: the process that
    reads needs its workers to finish its step, and ends them itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's; see StopBetweenSteps.
    signal.signal(signal.SIGTERM, _heed_the_next)
    if then is not None:
        then(worker_id)


def _heed_the_next(signum: int, frame: FrameType | None) -> None:
    """Ignore only the first SIGTERM: torch and Python also send it to a worker that hangs."""
    signal.signal(signum, signal.SIG_DFL)
    # Others may send it only once and wait for the worker without a timeout.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS_TO_END)


class _Images(IterableDataset):
    """Images of a sampler's stream from a position on, each with its own random numbers."""

    def __init__(
        self,
        source: Dataset,
        sampler: Sampler,
        *,
        chunk_size: int,
        with_positions: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self.source: Any = Replacing(source) if isinstance(source, MapDataset) else source
        self.sampler = sampler
        self.start = 0
        self._chunk_size = chunk_size
        self._with_positions = with_positions
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[Any]:
        """Yield images; a worker yields its chunks, so that workers read in turn keep the order."""
        worker = get_worker_info()
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        stream = itertools.islice(enumerate(self.sampler), self.start, None)
        for number, (position, index) in enumerate(stream):
            if number // self._chunk_size % turns == turn:
                image = self._read(position, index)
                yield (position, image) if self._with_positions else image

    def at(self, position: int) -> Any:
        """Return the image at a position."""
        index = next(itertools.islice(self.sampler, position, None))
        return self._read(position, index)

    def _read(self, position: int, index: int) -> Any:
        sampler: Any = self.sampler
        seed_cpu_rng(sampler._seed, position * self._world_size + self._rank)
        return self.source[index]
