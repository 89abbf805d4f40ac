"""What a file of weights holds is checked before it is used, and taken out of its wrappers."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.contents import as_checkpoint
from shakedrop_det.checkpoint.weight_files import read_weights
from shakedrop_det.export import load_model
from shakedrop_det.prediction import Predictor

Tiny = Callable[..., CfgNode]
NAMES = st.sampled_from(["model", "state_dict", "ema", "blobs", "weight", "", "epoch"])
LEAVES = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.just(torch.ones(2))
CONTENTS = st.recursive(
    LEAVES | st.just(np.ones(2)) | st.just(np.array(["a"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES | st.integers(), inner),
    max_leaves=6,
)


def load_for_training(cfg: CfgNode) -> None:
    Checkpointer(build_model(cfg), cfg=cfg).resume_or_load(cfg.MODEL.WEIGHTS, resume=False)


USES = {"training": load_for_training, "prediction": Predictor, "deployment": load_model}


@pytest.fixture
def whole(tiny: Tiny) -> dict[str, Tensor]:
    return build_model(tiny("retinanet")).state_dict()


def assert_refused(cfg: CfgNode, content: Any, message: str, path: Path) -> None:
    """In one line that names the file, by all that use weights."""
    torch.save(content, path)
    cfg.MODEL.WEIGHTS = str(path)
    for use in USES.values():
        with pytest.raises(ValueError, match=message) as error:
            use(cfg)
        assert "\n" not in str(error.value) and str(path) in str(error.value)


@given(CONTENTS, st.booleans(), st.sampled_from(["a.pth", "a.pkl", "a.pyth"]))
def test_whatever_a_file_holds_it_has_weights_or_is_refused(
    content: Any, use_ema: bool, path: str
) -> None:
    try:
        state = as_checkpoint(content, path=path, use_ema=use_ema)["model"]
    except ValueError as error:
        assert path in str(error) and "\n" not in str(error)
        return
    assert all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())


@pytest.mark.parametrize(
    "content, message",
    [
        ([torch.ones(1)], "contains no weights, but a value of type list"),
        (3.5, "contains no weights, but a value of type float"),
        ({}, "contains no weights under"),
        ({"model": {}}, "no weights under 'model', but nothing"),
        ({"model": {1: torch.ones(1)}}, "no weights under 'model', but names that are not text"),
        ({"model": [torch.ones(1)]}, r"contains no weights under .*but: model \(list\)"),
        ({"model": 1, "epoch": 3}, r"but: model \(int\), epoch \(int\)"),
        (
            {"model": {"a.weight": torch.ones(1), "b.weight": 2.0}},
            r"not tensors.*b.weight \(float\)",
        ),
        ({"model": {"a.weight": [1.0, 2.0]}}, r"not tensors.*a.weight \(list\)"),
        ({"model": {"a\n\x1b[31m": 1}}, r"not tensors.*'a\\n\\x1b\[31m' \(int\)"),
        ({"model": {"a\n": torch.ones(1)}}, r"'a\\n' is no name of a weight"),
        ({"model": {"a" * 10**6: 1}}, r"not tensors.*'a{300}' \(int\)"),
    ],
)
def test_what_are_no_weights_is_named_wherever_they_are_used(
    tiny: Tiny, tmp_path: Path, content: Any, message: str
) -> None:
    assert_refused(tiny("retinanet"), content, message, tmp_path / "weights.pth")


def test_a_dict_inside_itself_holds_no_weights() -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(ValueError, match="a.pth' contains no weights under 'model.model"):
        as_checkpoint(content, path="a.pth", use_ema=True)


@pytest.mark.parametrize(
    "kind, change",
    [
        ("complex", lambda weight: weight.to(torch.complex64)),
        ("sparse", lambda weight: weight.to_sparse()),
        ("quantized", lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)),
        ("without values", lambda weight: weight.to("meta")),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_tensors_that_cannot_be_weights_are_named_wherever_they_are_used(
    tiny: Tiny,
    tmp_path: Path,
    whole: dict[str, Tensor],
    kind: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    key = "head.cls_score.weight"
    content = {"model": {**whole, key: change(whole[key])}}
    message = f"weight '{key}' is an unsupported tensor .{kind},"
    assert_refused(tiny("retinanet"), content, message, tmp_path / "weights.pth")


def test_complex_arrays_are_no_weights() -> None:
    with pytest.raises(ValueError, match="a.pkl': weight 'w' is an unsupported tensor .complex,"):
        as_checkpoint({"model": {"w": np.ones(2, np.complex64)}}, path="a.pkl", use_ema=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_named_wherever_they_are_used(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Tensor], value: float
) -> None:
    cfg = tiny("retinanet")
    key = "backbone.bottom_up.res3.1.conv2.weight"
    whole[key] = whole[key].clone()
    whole[key][0, 0, 0, 0] = value
    assert_refused(
        cfg, {"model": whole}, rf"in 1 weights, {key}, as after", tmp_path / "weights.pth"
    )
    others = {name: torch.full_like(t, value) for name, t in whole.items() if "bottom_up" in name}
    message = (
        f"in {len(others)} weights, .* and {len(others) - 5} more, as after training that diverg"
    )
    assert_refused(cfg, {"model": {**whole, **others}}, message, tmp_path / "weights.pth")


def test_what_is_infinite_by_design_is_no_mistake(tmp_path: Path) -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    Checkpointer(Masked(), str(tmp_path)).save("masked")
    other = Masked()
    Checkpointer(other).load(str(tmp_path / "masked.pth"))
    assert other.mask.tolist() == [0.0, -math.inf]


@pytest.mark.parametrize(
    "wrapper, prefix, with_others",
    [
        ("", "", False),
        ("state_dict", "model.", False),
        ("state_dict", "model.", True),
        ("model_state_dict", "_orig_mod.module.", False),
        ("model", "net.detector.", True),
    ],
)
def test_wrappers_are_taken_off(
    tiny: Tiny,
    tmp_path: Path,
    whole: dict[str, Tensor],
    wrapper: str,
    prefix: str,
    with_others: bool,
) -> None:
    """As Lightning writes them, with the weights of a loss beside the model's."""
    state = {f"{prefix}{key}": value for key, value in whole.items()}
    if with_others:
        state["criterion.weight"] = torch.ones(3)
    content = {wrapper: state, "epoch": 3, "hyper_parameters": {"lr": 0.1}} if wrapper else state
    torch.save(content, tmp_path / "weights.pth")
    model = build_model(tiny("retinanet"))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    checkpointer = Checkpointer(model, heads_may_be_missing=False)
    checkpointer.load(str(tmp_path / "weights.pth"), checkpointables=[])
    for key, value in whole.items():
        assert torch.equal(model.state_dict()[key], value), key


def test_wrappers_are_taken_off_in_deployment(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Tensor]
) -> None:
    state = {f"model.{key}": value for key, value in whole.items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(1)}}, tmp_path / "weights.pth")
    found = load_model(tiny("retinanet", "MODEL.WEIGHTS", str(tmp_path / "weights.pth")))
    assert all(torch.equal(found.state_dict()[key], value) for key, value in whole.items())


def test_a_prefix_that_the_model_has_too_is_part_of_its_names(tmp_path: Path) -> None:
    model = nn.ModuleDict({"model": nn.ModuleDict({"model": nn.Linear(2, 2)})})
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    other = nn.ModuleDict({"model": nn.ModuleDict({"model": nn.Linear(2, 2)})})
    Checkpointer(other).load(str(tmp_path / "weights.pth"))
    assert torch.equal(other["model"]["model"].weight, model["model"]["model"].weight)


def test_a_file_may_hold_nothing_but_the_counter_of_an_average(tmp_path: Path) -> None:
    torch.save({"n_averaged": torch.tensor(3)}, tmp_path / "weights.pth")
    assert read_weights(str(tmp_path / "weights.pth")).state == {}


def test_frozen_norms_take_the_weights_of_norms_that_learned(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Tensor]
) -> None:
    """Whose counter they do not have, in training and in deployment."""
    learned = build_model(tiny("retinanet", "MODEL.RESNETS.NORM", "BN")).state_dict()
    assert learned.keys() - whole.keys()
    cfg = tiny("retinanet", "MODEL.WEIGHTS", str(tmp_path / "weights.pth"))
    torch.save(learned, cfg.MODEL.WEIGHTS)
    load_for_training(cfg)
    found = load_model(cfg).state_dict()
    assert found.keys() == whole.keys()
    assert all(torch.equal(value, learned[key]) for key, value in found.items())


def test_of_two_models_in_a_file_none_is_guessed(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Tensor]
) -> None:
    names = [f"{model}.{key}" for model in ("student", "teacher") for key in whole]
    torch.save(dict(zip(names, [*whole.values()] * 2, strict=True)), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="does not fit the backbone"):
        load_for_training(tiny("retinanet", "MODEL.WEIGHTS", str(tmp_path / "weights.pth")))


@pytest.mark.parametrize("blobs", [False, True])
def test_bare_weights_of_a_pkl_are_caffe2s(blobs: bool) -> None:
    weights = {"conv1_w": np.ones((2, 2)), "conv1_w_momentum": np.ones(2)}
    content = {"blobs": weights, "cfg": "text"} if blobs else weights
    found = as_checkpoint(pickle.loads(pickle.dumps(content)), path="a.pkl", use_ema=True)
    assert found.pop("model").keys() == {"conv1_w"}
    assert found == {"__author__": "Caffe2", "matching_heuristics": True}


def test_a_pyth_is_of_pycls() -> None:
    state = {"s1.weight": torch.ones(1), "s1.bn.num_batches_tracked": torch.tensor(1)}
    found = as_checkpoint({"model_state": state, "epoch": 1}, path="a.pyth", use_ema=True)
    assert found.pop("model").keys() == {"s1.weight"}
    assert found == {"epoch": 1, "__author__": "pycls", "matching_heuristics": True}
