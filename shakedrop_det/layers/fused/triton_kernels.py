"""The Triton kernels of the junction: one pass over memory each, float32 arithmetic.

Set ``TRITON_INTERPRET=1`` before the import to run them on a CPU, element by element.
"""

from __future__ import annotations

try:
    import triton
    import triton.language as tl
except Exception:  # A CPU build of torch comes without, and a broken one may raise anything.
    triton = None

BLOCK = 1024
"""Elements that one program computes."""


def is_available() -> bool:
    """Whether Triton is installed."""
    return triton is not None


if triton is not None:

    @triton.jit
    def _place(
        image_size, pixels, channels: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr
    ):
        """Offsets into a map, whether they are inside the image, the image, and the channels.

        One program stays within an image: its scale is one number, and no index but the first of
        an image needs 64 bits or a division by what is only known when it runs.
        """
        image = tl.program_id(1)
        inner = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        channel = inner % channels if CHANNELS_LAST else inner // pixels
        return image.to(tl.int64) * image_size + inner, inner < image_size, image, channel

    @triton.jit
    def _scale(scale, number, offsets, image, channel, inside, stride, LEVEL: tl.constexpr):
        """The scale of each element: ``number`` for all of the batch, or loaded."""
        # One return: the branches that are not taken would have to be of the same type.
        if LEVEL == "batch":
            found = number
        elif LEVEL == "image":
            found = tl.load(scale + image * stride)
        elif LEVEL == "channel":
            found = tl.load(scale + image * stride + channel, mask=inside)
        else:
            found = tl.load(scale + offsets, mask=inside)
        return found

    @triton.jit
    def forward_kernel(
        shortcut,
        residual,
        scale,
        weight,
        bias,
        out,
        image_size,
        pixels,
        number,
        stride,
        channels: tl.constexpr,
        CHANNELS_LAST: tl.constexpr,
        LEVEL: tl.constexpr,
        AFFINE: tl.constexpr,
        RELU: tl.constexpr,
        DROPPED: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        offsets, inside, image, channel = _place(image_size, pixels, channels, CHANNELS_LAST, BLOCK)
        y = tl.load(shortcut + offsets, mask=inside).to(tl.float32)
        if not DROPPED:
            f = tl.load(residual + offsets, mask=inside).to(tl.float32)
            s = _scale(scale, number, offsets, image, channel, inside, stride, LEVEL)
            if AFFINE:
                f = f * tl.load(weight + channel, mask=inside)
                f += tl.load(bias + channel, mask=inside)
            # Not x + s * f alone: 0 times Inf must not turn a dropped branch into NaN.
            y = tl.where(s == 0, y, y + s * f)
        if RELU:
            y = tl.where(y <= 0, 0.0, y)  # keeps NaN, as torch.relu does
        tl.store(out + offsets, y.to(out.dtype.element_ty), mask=inside)

    @triton.jit
    def backward_kernel(
        grad,
        out,
        scale,
        weight,
        grad_shortcut,
        grad_residual,
        image_size,
        pixels,
        number,
        stride,
        channels: tl.constexpr,
        CHANNELS_LAST: tl.constexpr,
        LEVEL: tl.constexpr,
        AFFINE: tl.constexpr,
        RELU: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        offsets, inside, image, channel = _place(image_size, pixels, channels, CHANNELS_LAST, BLOCK)
        g = tl.load(grad + offsets, mask=inside).to(tl.float32)
        if RELU:
            y = tl.load(out + offsets, mask=inside).to(tl.float32)
            g = tl.where(y <= 0, 0.0, g)
            tl.store(grad_shortcut + offsets, g.to(grad_shortcut.dtype.element_ty), mask=inside)
        g = g * _scale(scale, number, offsets, image, channel, inside, stride, LEVEL)
        if AFFINE:
            g = g * tl.load(weight + channel, mask=inside)
        tl.store(grad_residual + offsets, g.to(grad_residual.dtype.element_ty), mask=inside)
