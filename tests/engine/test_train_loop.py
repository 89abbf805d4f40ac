"""The training step: accumulated gradients, mixed precision, losses that are no numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from shakedrop_det.engine import Trainer, TrainStep
from shakedrop_det.engine.divergence import remedies
from shakedrop_det.engine.non_finite import describe_non_finite, first_non_finite_layer
from shakedrop_det.engine.train_loop import amp_dtype, divide

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


class Regression(nn.Module):
    """A network without norm, whose loss is a mean over images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, batch: list[Tensor]) -> dict[str, Tensor]:
        out = self.layers(torch.stack(batch))
        return {"square": out.square().mean(), "size": out.abs().mean()}


def batches() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [list(torch.randn(8, 3, generator=generator)) for _ in range(4)]


def train(step: Callable[..., Any]) -> tuple[nn.Module, dict[str, float]]:
    model = Regression()
    trainer = step(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    with EventStorage() as storage:
        for trainer.iter in range(4):
            trainer.run_step()
        return model, {key: value for key, (value, _) in storage.latest().items()}


def test_by_default_a_step_is_that_of_detectron2() -> None:
    ours, our_metrics = train(TrainStep)
    stock, metrics = train(SimpleTrainer)
    for a, b in zip(ours.parameters(), stock.parameters(), strict=True):
        assert torch.equal(a, b)
    names = {"total_loss", "square", "size"}
    assert {k: our_metrics[k] for k in names} == {k: metrics[k] for k in names}


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_accumulated_parts_equal_the_whole_batch(steps: int) -> None:
    parts, metrics = train(lambda *args: TrainStep(*args, accumulation_steps=steps))
    whole, whole_metrics = train(TrainStep)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert metrics["total_loss"] == pytest.approx(whole_metrics["total_loss"], rel=1e-5)


def test_accumulation_sees_each_image_once_in_parts(tiny: Tiny) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.ACCUMULATION_STEPS", 4, "DATASETS.TEST", ()))
    sizes: list[int] = []
    trainer.model.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
    trainer.train()
    assert sizes == [2] * 4 * 4


def test_gradients_are_exchanged_once_per_step(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model = DistributedDataParallel(Regression())
        exchanged: list[Tensor] = []

        def exchange(state: None, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
            exchanged.append(bucket.buffer().clone())
            future: torch.futures.Future[Tensor] = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        model.register_comm_hook(None, exchange)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        step = TrainStep(model, batches(), optimizer, accumulation_steps=4)
        with EventStorage():
            step.run_step()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        (sent,) = exchanged
        torch.testing.assert_close(sent.sort().values, gradients.sort().values)
    finally:
        distributed.destroy_process_group()


def test_parts_must_divide_the_batch(tiny: Tiny) -> None:
    assert divide([1, 2, 3, 4], 2) == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="SOLVER.ACCUMULATION_STEPS 3 must divide the 8 images"):
        divide(list(range(8)), 3)
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH 8 must be a multiple of 3"):
        Trainer(tiny("classifier", "SOLVER.ACCUMULATION_STEPS", 3))
    with pytest.raises(ValueError, match="SOLVER.ACCUMULATION_STEPS must be at least 1, got 0"):
        Trainer(tiny("classifier", "SOLVER.ACCUMULATION_STEPS", 0))


def test_dtype_of_mixed_precision(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    assert amp_dtype(cfg) is None
    cfg.SOLVER.AMP.ENABLED = True
    assert amp_dtype(cfg) is torch.bfloat16  # on a CPU, whatever is set
    cfg.MODEL.DEVICE = "cuda"
    assert amp_dtype(cfg) is torch.float16
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    assert amp_dtype(cfg) is torch.bfloat16
    cfg.SOLVER.AMP.DTYPE = "half"
    with pytest.raises(ValueError, match="SOLVER.AMP.DTYPE must be one of.*got 'half'"):
        amp_dtype(cfg)


def test_a_state_without_scaler_is_loaded_where_one_is_used() -> None:
    """As of a run on a CPU that goes on on a GPU."""
    model = Regression()
    state = TrainStep(model, [], torch.optim.SGD(model.parameters(), 0.1)).state_dict()
    assert "grad_scaler" not in state
    step = TrainStep(model, [], torch.optim.SGD(model.parameters(), 0.1), amp_dtype=torch.float16)
    step.grad_scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    step.load_state_dict(state)
    assert step.grad_scaler.get_scale() == 8.0
    other = step.state_dict()
    other["grad_scaler"]["scale"] = 2.0
    step.load_state_dict(other)
    assert step.grad_scaler.get_scale() == 2.0


def test_channels_last_reaches_every_feature_map(tiny: Tiny) -> None:
    images = torch.randn(2, 3, 64, 64)
    models = []
    for value in (False, True):
        torch.manual_seed(0)
        models.append(Trainer.build_model(tiny("mask_rcnn", "MODEL.CHANNELS_LAST", value)).eval())
    stock, ours = (model.backbone(images) for model in models)
    for name, feature in ours.items():
        assert feature.is_contiguous(memory_format=torch.channels_last), name
        torch.testing.assert_close(feature, stock[name], rtol=1e-4, atol=1e-4)
    assert stock["p3"].is_contiguous()
    models[1].train()
    for name, feature in models[1].backbone(images).items():  # the fused junctions keep it
        assert feature.is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize("name", ["classifier", "mask_rcnn"])
def test_the_layer_of_a_loss_that_is_no_number_is_named(tiny: Tiny, name: str) -> None:
    # A dropped branch would keep what overflows to itself.
    options = ["DATASETS.TEST", (), "MODEL.SHAKEDROP.SURVIVAL_PROB", 1.0]
    trainer = Trainer(tiny(name, *options))
    layer = trainer.model.backbone.bottom_up.res3[1].conv2
    forward, calls = layer.forward, []

    def overflow(x: Tensor) -> Tensor:
        calls.append(x)
        return forward(x) * (float("inf") if trainer.iter == 2 else 1.0)

    layer.forward = overflow
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    message = str(error.value)
    assert message.startswith("iteration 2: ")
    assert "'backbone.bottom_up.res3.1.conv2' (Conv2d), from finite inputs" in message
    assert "SOLVER.BASE_LR" in message
    assert len(calls) == 4  # one for each step, one to find the layer


def test_parameters_that_are_no_numbers_are_named(tiny: Tiny) -> None:
    trainer = Trainer(tiny("classifier", "DATASETS.TEST", ()))
    with torch.no_grad():
        trainer.model.linear.bias[3] = float("nan")
    message = "iteration 0: .*'linear.bias' has .* from the start. No step was taken .*PIXEL_MEAN"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()


def test_parameters_of_an_earlier_step_are_told_apart(tiny: Tiny) -> None:
    """What diverges in a step shows in the loss of the next one."""
    trainer = Trainer(tiny("classifier", "DATASETS.TEST", ()))
    step = trainer.optimizer.step

    def diverge(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        with torch.no_grad():
            trainer.model.linear.bias[3] = float("inf")

    trainer.optimizer.step = diverge
    message = "iteration 1: .*'linear.bias' has .* from an earlier step. Start again with SOLVER"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()


def test_weights_that_are_no_numbers_are_not_saved(tiny: Tiny) -> None:
    """A resumed run goes on from what can be gone on from."""
    trainer = Trainer(tiny("classifier", "DATASETS.TEST", ()))
    assert trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 2
    step, steps = trainer.optimizer.step, []

    def diverge(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        steps.append(1)
        if len(steps) == 4:
            with torch.no_grad():
                trainer.model.linear.bias[3] = float("nan")

    trainer.optimizer.step = diverge
    message = "iteration 3: 'linear.bias' .* or continue from .*model_0000001.pth with --resume"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()
    assert [path.name for path in Path(trainer.cfg.OUTPUT_DIR).glob("*.pth")] == [
        "model_0000001.pth"
    ]


def test_remedies_are_those_that_are_not_in_use(tiny: Tiny) -> None:
    cfg = tiny("mask_rcnn")
    found = remedies(cfg, FloatingPointError(), checkpoint="")
    assert "SOLVER.CLIP_GRADIENTS.ENABLED True and CLIP_TYPE norm" in found
    assert "MODEL.SHAKEDROP.INVERTED True" in found
    assert "MODEL.SHAKEDROP.SURVIVAL_PROB 0.9" in found
    assert "AMP" not in found and "--resume" not in found
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = cfg.MODEL.SHAKEDROP.INVERTED = True
    cfg.MODEL.SHAKEDROP.SURVIVAL_PROB = 0.9
    found = remedies(cfg, FloatingPointError(), checkpoint="model.pth")
    assert found.startswith("Start again, or continue from model.pth with --resume, with a SOLVER")


def test_losses_of_finite_layers_are_told_apart() -> None:
    class Logarithm(Regression):
        def forward(self, batch: list[Tensor]) -> dict[str, Tensor]:
            return {"log": (self.layers(torch.stack(batch)) * 0).log().mean()}

    model = Logarithm()
    step = TrainStep(model, batches(), torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(FloatingPointError, match="all layers had finite outputs"), EventStorage():
        step.run_step()


def test_a_search_that_fails_says_so() -> None:
    """It may need memory that the step still holds."""

    class OutOfMemory(Regression):
        def forward(self, batch: list[Tensor]) -> dict[str, Tensor]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    found = describe_non_finite(OutOfMemory(), batches()[:1], is_first=False)
    assert found.startswith("the search for the layer failed (OutOfMemoryError: CUDA out of memory")


def test_inputs_that_are_no_numbers_are_told_apart() -> None:
    found = first_non_finite_layer(Regression(), [torch.full((3,), float("nan"))])
    assert found == ("layers.0", "Linear", True)


def test_no_hook_is_left() -> None:
    model = Regression()
    assert first_non_finite_layer(model, batches()[0]) is None
    assert not any(module._forward_hooks for module in model.modules())
