"""ScaleSampler: the distribution of b, a and B at each level, shapes, precision and copies."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from shakedrop_det.layers import Scales, ScaleSampler, ShakeDropSpec

CHANNELS = (4, 6)
N, H, W = 5, 3, 3
LEVEL_SHAPES = {
    "batch": (1, 1, 1, 1),
    "image": (N, 1, 1, 1),
    "channel": (N, 6, 1, 1),
    "pixel": (N, 6, H, W),
}


def make(probs=(0.9, 0.4), **settings) -> ScaleSampler:
    return ScaleSampler(ShakeDropSpec(**settings), probs, channels=CHANNELS)


def draw_block(sampler: ScaleSampler, block: int = 1) -> Scales:
    draw = sampler(N)
    return draw.scales(block, torch.empty(N, CHANNELS[block], H, W))


def many(sampler: ScaleSampler, times: int) -> tuple[Tensor, Tensor]:
    """The forward and backward scales of the second block in many draws, (times, ...)."""
    torch.manual_seed(0)
    drawn = [draw_block(sampler) for _ in range(times)]
    shape = (N, CHANNELS[1], H, W)
    return (
        torch.stack([d.forward.expand(shape) for d in drawn]),
        torch.stack([d.backward.expand(shape) for d in drawn]),
    )


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
    sampler = make(alpha=(-1, 0.5), beta=(0, 0.9), level=level, gate_level=gate_level)
    s, t = many(sampler, 2000)
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
    shape = LEVEL_SHAPES[level]
    window = (slice(None), *(slice(0, size) for size in shape))
    closed = ~gate[window]
    a, b = s[window][closed], t[window][closed]
    assert_uniform(a, -1, 0.5)
    assert_uniform(b, 0, 0.9)
    correlation = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
    assert abs(correlation) < 4 / math.sqrt(len(a)), "a and B are drawn independently"


@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_what_shares_a_coefficient_is_what_the_level_says(level) -> None:
    sampler = make(probs=(0.0, 0.0), alpha=(-1, 1), level=level)
    drawn = draw_block(sampler)
    for scale in (drawn.forward, drawn.backward):
        assert scale.shape == LEVEL_SHAPES[level]
        # Numbers of 16 bits may meet by chance.
        assert scale.unique().numel() > 0.95 * scale.numel()


def test_images_draw_their_gates_independently() -> None:
    sampler = make(alpha=(-1, 0.5), gate_level="image")
    s, _ = many(sampler, 2000)
    gates = (s[:, :2, 0, 0, 0] == 1).double()
    assert abs(torch.corrcoef(gates.T)[0, 1].item()) < 4 / math.sqrt(2000)


def test_blocks_draw_independently() -> None:
    sampler = make(probs=(0.5, 0.5), alpha=(-1, 0.5), level="batch")
    torch.manual_seed(0)
    draws = [sampler(N) for _ in range(2000)]
    pairs = torch.tensor([[d.gate(0), d.gate(1)] for d in draws]).double()
    assert abs(torch.corrcoef(pairs.T)[0, 1].item()) < 4 / math.sqrt(2000)


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("probability, closed", [(0.0, True), (1.0, False)])
def test_survival_of_zero_and_one_leave_nothing_to_chance(probability, closed, gate_level) -> None:
    sampler = make(probs=(probability,) * 2, alpha=(2, 3), gate_level=gate_level)
    s, _ = many(sampler, 300)
    assert ((s != 1) == closed).all()


@pytest.mark.parametrize("level", LEVEL_SHAPES)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_a_degenerate_range_gives_its_one_value(value, level) -> None:
    sampler = make(probs=(0.0, 0.0), alpha=(value, value), beta=(value, value), level=level)
    drawn = draw_block(sampler)
    for scale in (drawn.forward, drawn.backward):
        assert (scale == value).all()


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_the_inverted_form_divides_each_scale_by_its_expectation(level, gate_level) -> None:
    settings = {"alpha": (0.2, 1), "level": level, "gate_level": gate_level}
    expectation = ShakeDropSpec(**settings).expected_scale(0.4)
    torch.manual_seed(5)
    plain = draw_block(make(**settings))
    torch.manual_seed(5)
    inverted = draw_block(make(**settings, inverted=True))
    torch.testing.assert_close(inverted.forward, plain.forward / expectation)
    torch.testing.assert_close(inverted.backward, plain.backward / expectation)
    s, _ = many(make(**settings, inverted=True), 2000)
    per_draw = s.mean(dim=(1, 2, 3, 4))
    assert abs(per_draw.mean().item() - 1) < 4 * per_draw.std().item() / math.sqrt(2000)


def test_a_gate_that_python_drew_is_the_one_in_the_scales() -> None:
    sampler = make(alpha=(-1, 0.5))
    for _ in range(50):
        draw = sampler(N)
        scales = draw.scales(1, torch.empty(N, 6, H, W))
        assert scales.gate is draw.gate(1)
        assert bool((scales.forward == 1).all()) is scales.gate


def test_each_draw_is_a_new_one() -> None:
    sampler = make(probs=(0.0, 0.0), alpha=(-1, 1))
    first = draw_block(sampler)
    kept = first.forward.clone()
    second = draw_block(sampler)
    assert torch.equal(first.forward, kept)
    assert not torch.equal(first.forward, second.forward)


@pytest.mark.parametrize(
    "convert",
    [
        torch.nn.Module.half,
        torch.nn.Module.bfloat16,
        torch.nn.Module.double,
        lambda s: s.to(torch.float16).to("cpu").float(),
        lambda s: s.to(memory_format=torch.channels_last),
        lambda s: copy.deepcopy(s.half()),
        lambda s: pickle.loads(pickle.dumps(s.half())),
        lambda s: s.to("meta").to_empty(device="cpu"),
    ],
    ids=["half", "bfloat16", "double", "to", "channels_last", "deepcopy", "pickle", "meta"],
)
def test_scales_are_float32_and_exact_whatever_the_dtype_of_the_network(convert) -> None:
    settings = {"probs": (0.9, 0.123456), "alpha": (-0.1234567, 1), "inverted": True}
    torch.manual_seed(1)
    expected = draw_block(make(**settings))
    torch.manual_seed(1)
    got = draw_block(convert(make(**settings)))
    assert got.forward.dtype == torch.float32
    assert torch.equal(got.forward, expected.forward)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_draw_alike_and_share_nothing(duplicate) -> None:
    sampler = make()
    other = duplicate(sampler)
    torch.manual_seed(2)
    expected = draw_block(sampler)
    torch.manual_seed(2)
    assert torch.equal(draw_block(other).forward, expected.forward)
    assert other.store is not sampler.store


def test_there_is_nothing_to_save_or_train() -> None:
    sampler = make()
    assert not list(sampler.parameters())
    assert not sampler.state_dict()


@pytest.mark.parametrize("probs, channels", [((0.5,), (4, 6)), ((), ())])
def test_a_probability_is_needed_for_each_block(probs, channels) -> None:
    with pytest.raises(ValueError, match="one entry per block, got"):
        ScaleSampler(ShakeDropSpec(), probs, channels=channels)


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", LEVEL_SHAPES)
def test_scales_of_single_images_serve_that_many_images_only(level, gate_level) -> None:
    """Or the scale of one image would pass for that of a whole batch."""
    draw = make(probs=(0.0, 0.0), level=level, gate_level=gate_level)(1)
    other_batch = torch.empty(N, CHANNELS[1], H, W)
    if gate_level == "batch" and level in ("batch", "pixel"):
        draw.scales(1, other_batch)
        return
    with pytest.raises(RuntimeError, match="block 2 were drawn for 1 images, but .* holds 5"):
        draw.scales(1, other_batch)


def test_it_is_made_on_torchs_default_device_and_can_be_moved_from_there() -> None:
    with torch.device("meta"):
        sampler = make()
    assert {buffer.device.type for buffer in sampler.buffers()} == {"meta"}
    sampler.to_empty(device="cpu")
    expected = dict(make().named_buffers())
    assert all(torch.equal(b, expected[name]) for name, b in sampler.named_buffers())
