"""The draw of one block: the distribution of b, a and B at each level, shapes and precision."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from shakedrop_det.layers import Scales, SeededScale, draw_gate, draw_scales

from ..paper_form import paper_form

N, C, H, W = 5, 6, 3, 3
SHAPE = torch.Size((N, C, H, W))
CPU = torch.device("cpu")
LEVEL_SHAPES = {
    "batch": (1, 1, 1, 1),
    "image": (N, 1, 1, 1),
    "channel": (N, C, 1, 1),
    "pixel": (N, C, H, W),
}


def draw(survival_prob: float = 0.4, **settings) -> Scales:
    spec = paper_form(**settings)
    gate = draw_gate(survival_prob, gate_level=spec.gate_level, shape=SHAPE, device=CPU)
    return draw_scales(spec, survival_prob, gate, SHAPE, CPU)


def tensor(scale: float | Tensor | SeededScale) -> Tensor:
    if isinstance(scale, float):
        return torch.full((1, 1, 1, 1), scale)
    return scale.make() if isinstance(scale, SeededScale) else scale


def many(times: int, survival_prob: float = 0.4, **settings) -> tuple[Tensor, Tensor]:
    """The forward and backward scales of many draws, (times, N, C, H, W)."""
    torch.manual_seed(0)
    drawn = [draw(survival_prob, **settings) for _ in range(times)]
    forward, backward = (torch.stack([tensor(d[i]).expand(SHAPE) for d in drawn]) for i in range(2))
    return forward, backward


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """Kolmogorov-Smirnov at a level of 1e-4 (with a fixed seed it passes always or never)."""
    ordered = values.flatten().double().sort().values
    count = len(ordered)
    cdf = (ordered - low) / (high - low)
    steps = torch.arange(1, count + 1, dtype=torch.float64) / count
    distance = torch.maximum((steps - cdf).abs(), (cdf - (steps - 1 / count)).abs()).max()
    assert distance < math.sqrt(-math.log(1e-4 / 2) / 2 / count)


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_gate_and_coefficients_have_the_distribution_of_the_equations(level, gate_level) -> None:
    """alpha and beta avoid 1, so that the gate can be read off the scales."""
    settings = {"alpha": (-1, 0.5), "beta": (0, 0.9), "level": level, "gate_level": gate_level}
    s, t = many(2000, **settings)
    gate = s == 1
    assert torch.equal(gate, t == 1), "one gate serves both passes"
    if gate_level == "batch":
        assert torch.equal(gate, gate[:, :1, :1, :1, :1].expand_as(gate))
    else:
        assert torch.equal(gate, gate[:, :, :1, :1, :1].expand_as(gate))
    gates = gate[:, : 1 if gate_level == "batch" else N, 0, 0, 0].double()
    spread = math.sqrt(0.4 * 0.6 / gates.numel())
    assert abs(gates.mean().item() - 0.4) < 4 * spread
    # One number of each group that shares a draw.
    window = (slice(None), *(slice(0, size) for size in LEVEL_SHAPES[level]))
    closed = ~gate[window]
    a, b = s[window][closed], t[window][closed]
    assert_uniform(a, -1, 0.5)
    assert_uniform(b, 0, 0.9)
    correlation = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
    assert abs(correlation) < 4 / math.sqrt(len(a)), "a and B are drawn independently"


@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_what_shares_a_coefficient_is_what_the_level_says(level) -> None:
    for scale in map(tensor, draw(0.0, alpha=(-1, 1), level=level)):
        assert scale.shape == LEVEL_SHAPES[level]
        assert scale.unique().numel() == scale.numel()


@pytest.mark.parametrize("shape", [(N, 7, C), (N, C)])
@pytest.mark.parametrize("level", ["batch", "image", "pixel"])
def test_scales_broadcast_to_any_number_of_axes(level, shape) -> None:
    spec = paper_form(alpha=(-1, 1), level=level)
    gate = draw_gate(0.0, gate_level="image", shape=shape, device=CPU)
    scales = draw_scales(spec, 0.0, gate, torch.Size(shape), CPU)
    for scale in map(tensor, scales):
        assert scale.dim() == len(shape)
        assert torch.broadcast_shapes(scale.shape, shape) == shape


def test_images_draw_their_gates_independently() -> None:
    s, _ = many(2000, alpha=(-1, 0.5), gate_level="image")
    gates = (s[:, :2, 0, 0, 0] == 1).double()
    assert abs(torch.corrcoef(gates.T)[0, 1].item()) < 4 / math.sqrt(2000)


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("probability, closed", [(0.0, True), (1.0, False)])
def test_survival_of_zero_and_one_leave_nothing_to_chance(probability, closed, gate_level) -> None:
    s, _ = many(300, probability, alpha=(2, 3), gate_level=gate_level)
    assert ((s != 1) == closed).all()


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", LEVEL_SHAPES)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_a_degenerate_range_gives_its_one_value(value, level, gate_level) -> None:
    ranges = {"alpha": (value, value), "beta": (value, value)}
    for scale in map(tensor, draw(0.0, **ranges, level=level, gate_level=gate_level)):
        assert (scale == value).all() and scale.dtype == torch.float32


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_the_inverted_form_divides_each_scale_by_its_expectation(level, gate_level) -> None:
    settings = {"alpha": (0.2, 1), "level": level, "gate_level": gate_level}
    expectation = paper_form(**settings).expected_scale(0.4)
    torch.manual_seed(5)
    plain = draw(**settings)
    torch.manual_seed(5)
    inverted = draw(**settings, inverted=True)
    for a, b in zip(map(tensor, inverted), map(tensor, plain), strict=True):
        torch.testing.assert_close(a, b / expectation)
    s, _ = many(2000, **settings, inverted=True)
    per_draw = s.mean(dim=(1, 2, 3, 4))
    assert abs(per_draw.mean().item() - 1) < 4 * per_draw.std().item() / math.sqrt(2000)


def test_a_gate_of_the_batch_and_what_follows_from_it_alone_are_known_to_python() -> None:
    """So that a block need not ask a device whether its branch is dropped."""
    spec = paper_form(alpha=(0, 0), beta=(0, 1))
    assert isinstance(draw_gate(0.5, gate_level="batch", shape=SHAPE, device=CPU), bool)
    assert draw_scales(spec, 0.5, True, SHAPE, CPU) == (1.0, 1.0)
    dropped = draw_scales(spec, 0.5, False, SHAPE, CPU)
    assert dropped.forward == 0.0 and isinstance(dropped.backward, Tensor)
    random_drop = paper_form(beta=(0, 0))
    assert draw_scales(random_drop, 0.5, False, SHAPE, CPU) == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_scales_are_drawn_in_float32_whatever_the_default_dtype(dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        for level, alpha in itertools.product(LEVEL_SHAPES, [(-1, 1), (0, 0)]):
            scales = draw(0.4, alpha=alpha, level=level, gate_level="image")
            assert {tensor(scale).dtype for scale in scales} == {torch.float32}
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("gate_level", ["batch", "image"])
def test_gates_that_rarely_close_do_so_whatever_the_default_dtype(gate_level) -> None:
    """A bfloat16 number is rounded to 1 - 1/256 at most, and then often."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(0)
    try:
        shape = torch.Size((20_000 if gate_level == "image" else 1, 1))
        draws = range(1 if gate_level == "image" else 20_000)
        gates = [draw_gate(0.999, gate_level=gate_level, shape=shape, device=CPU) for _ in draws]
        closed = 20_000 - sum(int(torch.as_tensor(gate).sum()) for gate in gates)
    finally:
        torch.set_default_dtype(before)
    assert 5 <= closed <= 40, "20 are expected"


def test_scales_of_pixels_are_made_from_a_seed_and_hold_no_feature_map() -> None:
    scales = draw(0.0, alpha=(-1, 1), level="pixel")
    assert all(isinstance(scale, SeededScale) for scale in scales)
    for scale in scales:
        torch.manual_seed(torch.seed())  # Nothing follows from the default generator.
        assert torch.equal(scale.make(), scale.make())
    first, second = map(tensor, scales)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_the_default_generator_decides_so_that_checkpoints_can_replay_it(level) -> None:
    settings = {"alpha": (-1, 1), "level": level, "gate_level": "image"}
    state = torch.get_rng_state()
    first = [tensor(scale) for scale in draw(**settings)]
    second = [tensor(scale) for scale in draw(**settings)]
    torch.set_rng_state(state)
    replayed = [tensor(scale) for scale in draw(**settings)]
    assert all(torch.equal(a, b) for a, b in zip(first, replayed, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
