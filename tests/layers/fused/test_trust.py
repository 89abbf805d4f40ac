"""Kernels that do not work on a machine cost a warning, and nothing else."""

from __future__ import annotations

import logging

import pytest
import torch

from shakedrop_det.layers import Scales
from shakedrop_det.layers.fused import trust

SCALES = Scales(0.5, 0.5)


class OnGpu:
    """Stands for a CUDA tensor on machines without one."""

    is_cuda = True
    dtype = torch.float32
    device = torch.device("cuda", 0)

    def dim(self) -> int:
        return 4

    def is_contiguous(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_at_the_start_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_trusted", set())
    monkeypatch.setattr(trust, "_broken", False)
    monkeypatch.setattr(trust, "runs_python", lambda device: True)
    monkeypatch.setattr(trust.triton_kernels, "is_available", lambda: True)


def ask(relu: bool = True) -> bool:
    return trust.can_use_triton(OnGpu(), SCALES, norm=None, relu=relu)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable."),
        PermissionError(13, "Permission denied", "/root/.triton"),
        AssertionError(),
        "the output of a kernel differs from PyTorch's by 0.1",
    ],
)
def test_kernels_that_fail_are_warned_of_once_and_not_tried_again(
    failure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def self_test(*args, **kwargs):
        tries.append(args)
        if isinstance(failure, Exception):
            raise failure
        return failure

    monkeypatch.setattr(trust, "self_test", self_test)
    with caplog.at_level(logging.WARNING):
        assert [ask(), ask(), ask(relu=False)] == [False] * 3
    assert len(tries) == 1
    (record,) = caplog.records
    message = record.getMessage()
    assert "\n" not in message and "Training goes on with PyTorch's own operators" in message
    reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
    assert reason in message


def test_kernels_that_work_are_tried_once_for_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[object] = []
    monkeypatch.setattr(trust, "self_test", lambda *args, **kwargs: tries.append(kwargs))
    assert all([ask(), ask(), ask(relu=False), ask(relu=False)])
    assert len(tries) == 2


def test_tensors_on_a_cpu_are_none_of_the_kernels_business() -> None:
    assert not trust.can_use_triton(torch.zeros(1, 2, 3, 3), SCALES, norm=None, relu=True)
