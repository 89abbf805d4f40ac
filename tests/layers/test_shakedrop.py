"""The plain layer: the equations without a junction."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest
import torch

from shakedrop_det import ShakeDrop, ShakeDropSpec, shakedrop

SHAPES = [(4, 6), (4, 7, 6), (4, 6, 5, 5), (4, 5, 5, 6)]
LEVELS = ["batch", "image", "pixel"]
FIXED = {"alpha": (0.5, 0.5), "beta": (0.75, 0.75), "inverted": False}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("gate_level", ["batch", "image"])
def test_output_and_gradient_are_scaled_by_numbers_of_their_own(gate_level, level, shape) -> None:
    """What the numbers are is read off a residual and a gradient of ones."""
    settings = {"level": level, "gate_level": gate_level, "alpha": (-1, 1), "inverted": False}
    found = []
    for values in (torch.ones(shape), torch.randn(shape)):
        torch.manual_seed(1)
        residual = values.clone().requires_grad_()
        out = shakedrop(residual, 0.3, **settings)
        out.backward(values)
        found.append((out.detach(), residual.grad))
    (s, t), (out, gradient) = found
    torch.testing.assert_close(out, s * values)
    torch.testing.assert_close(gradient, t * values)
    assert ((s >= -1) & (s <= 1)).all() and ((t >= 0) & (t <= 1)).all()
    if gate_level == "batch" and level == "batch":
        assert s.unique().numel() == t.unique().numel() == 1


def test_with_closed_gates_the_scales_are_those_of_the_ranges() -> None:
    residual = torch.randn(4, 6, 5, 5, requires_grad=True)
    out = shakedrop(residual, 0.0, **FIXED)
    out.sum().backward()
    assert torch.equal(out, 0.5 * residual)
    assert torch.equal(residual.grad, torch.full_like(residual, 0.75))


@pytest.mark.parametrize("gate_level", ["batch", "image"])
def test_what_is_dropped_is_exactly_zero_whatever_it_was(gate_level) -> None:
    residual = torch.full((4, 6), float("inf"), requires_grad=True)
    out = shakedrop(residual, 0.0, beta=(0, 0), gate_level=gate_level, inverted=False)
    out.sum().backward()
    assert not out.any() and torch.equal(residual.grad, torch.zeros_like(residual))


@pytest.mark.parametrize("layer", [ShakeDrop(1.0), ShakeDrop(0.5).eval()])
def test_where_nothing_is_scaled_the_residual_is_returned_itself(layer) -> None:
    residual = torch.randn(2, 3)
    assert layer(residual) is residual


@pytest.mark.parametrize("inverted, expected", [(False, 0.4 + 0.6 * 0.25), (True, 1.0)])
def test_at_test_time_the_scale_is_its_expectation(inverted, expected) -> None:
    layer = ShakeDrop(0.4, alpha=(-0.5, 1.0), inverted=inverted).eval()
    residual = torch.randn(2, 3)
    torch.testing.assert_close(layer(residual), expected * residual)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_the_layer_is_the_function_and_holds_nothing_to_save(duplicate) -> None:
    layer = duplicate(ShakeDrop(0.3, alpha=(-1, 1)))
    residual = torch.randn(4, 6)
    torch.manual_seed(0)
    expected = shakedrop(residual, 0.3, alpha=(-1, 1))
    torch.manual_seed(0)
    assert torch.equal(layer(residual), expected)
    assert not layer.state_dict() and not list(layer.parameters())
    assert "(survival_prob=0.3, alpha=(-1.0, 1.0))" in repr(layer)


@pytest.mark.parametrize("function", [shakedrop, ShakeDrop])
def test_the_defaults_are_those_of_the_spec(function) -> None:
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    spec = dataclasses.asdict(ShakeDropSpec())
    names = defaults.keys() & spec.keys() - {"survival_prob"}
    assert {name: defaults[name] for name in names} == {name: spec[name] for name in names}
    assert names == {"alpha", "beta", "level", "gate_level", "inverted"}
    assert ShakeDrop().survival_prob == spec["survival_prob"]


def test_script_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"script shakedrop_det.fold\(copy.deepcopy\(model\)\)"):
        torch.jit.script(ShakeDrop().eval())


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="survival_prob must be a probability .* got 1.5"):
        ShakeDrop(1.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'p'"):
        ShakeDrop(0.5, p=0.5)


def test_under_autocast_and_in_half_precision_the_dtype_stays() -> None:
    residual = torch.randn(4, 6, dtype=torch.bfloat16, requires_grad=True)
    out = shakedrop(residual, 0.0, alpha=(-1, 1), inverted=False)
    out.sum().backward()
    assert out.dtype == residual.grad.dtype == torch.bfloat16
