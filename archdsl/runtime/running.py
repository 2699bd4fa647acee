"""Runs networks on images, for `probe` and `look`: weights, images as tensors, pictures for viewing.

torch is imported inside the functions, so that importing this module, as the command line does, stays cheap.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl import dims
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Tensor
from archdsl.runtime import loading
from archdsl.runtime.weights import WeightsError, read_state

if TYPE_CHECKING:
    import torch

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs that scikit-image ships."""


class RunError(Exception):
    """The network cannot be run with the given weights or images, or on images at all."""


def network_of(graph: Graph, weights: Path | None = None, seed: int = 0) -> torch.nn.Module:
    """The network in eval mode, with the weights of a state_dict, else with PyTorch's random ones of a seed.

    Raises RunError.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = loading.instantiate(graph)
    if weights is not None:
        try:
            network.load_state_dict(read_state(weights))
        except WeightsError as error:
            raise RunError(str(error)) from None
        except (RuntimeError, TypeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise RunError(f"{visible(str(weights))} does not fit {graph.name}: {' '.join(lines[1:3])[:300]}") from None
    return network.eval()


# ---------------------------------------------------------------- images


@dataclass(frozen=True, slots=True)
class Frame:
    """The images that a network takes: channels, height and width."""

    channels: int
    height: int
    width: int


def frame_of(graph: Graph, sizes: Mapping[str, int] | None = None) -> Frame:
    """The size of the network's one image, with free sizes as in `sizes`, else their example sizes. Raises RunError."""
    inputs = graph.input_nodes
    shape = graph.shape(Tensor(inputs[0].id))
    if len(inputs) != 1 or len(shape) != 3:
        raise RunError(f"{graph.name} does not take exactly one image [C, H, W], so it cannot run on images")
    values = {**graph.examples, **(sizes or {})}
    return Frame(*(d if isinstance(d, int) else dims.evaluate(d, values) for d in shape))


def read_picture(path: Path) -> torch.Tensor:
    """An image file as [3, H, W] with values from 0 to 1.

    Raises RunError, OSError, and ImportError if Pillow is not installed.
    """
    import numpy
    import torch
    from PIL import Image, UnidentifiedImageError  # an extra

    try:
        with Image.open(path) as image:
            pixels = numpy.array(image.convert("RGB"))
    except (UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        raise RunError(f"{visible(str(path))} is not a readable image") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def encode_png(pixels: torch.Tensor) -> bytes:
    """An image [3, H, W] or [1, H, W] with values from 0 to 1 as the bytes of a PNG file."""
    import torch

    height, width = pixels.shape[1:]
    rows = (pixels.expand(3, -1, -1).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).reshape(height, -1)
    # Every row starts with the number of its filter; 0 is none.
    data = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), rows], 1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(data.flatten().tolist()))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def with_channels(picture: torch.Tensor, channels: int) -> torch.Tensor:
    """[3, H, W] as [channels, H, W]: converted to grey for one channel, repeated for other numbers."""
    import torch

    if channels == 3:
        return picture
    grey = (picture * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    return grey.expand(channels, -1, -1)


def in_colour(picture: torch.Tensor) -> torch.Tensor:
    """[C, H, W] as [3, H, W] for viewing: unless there are three channels, the first one in grey."""
    return picture if len(picture) == 3 else picture[:1].expand(3, -1, -1)


def fitted(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The largest centred crop of an image with the given proportions, [C, height, width], averaged down or up."""
    from torch.nn import functional as F

    h, w = picture.shape[1:]
    scale = min(h / height, w / width)
    cut_h, cut_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (h - cut_h) // 2, (w - cut_w) // 2
    part = picture[None, :, top : top + cut_h, left : left + cut_w]
    return F.interpolate(part, (height, width), mode="bilinear", antialias=True)[0]


def pictures(folder: Path | None, frame: Frame, limit: int = 8) -> tuple[torch.Tensor, str]:
    """Images of that size, [N, C, H, W], and their description: from a folder, else photographs, else noise.

    Raises RunError, OSError.
    """
    import torch

    if folder is not None:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS)
        if len(files) < 2:
            raise RunError(f"{visible(str(folder))} has fewer than two images ({', '.join(ENDINGS)})")
        found, what = [read_picture(p) for p in files[:limit]], f"images from {visible(str(folder))}"
    else:
        found = _photographs()
        what = (
            "photographs from scikit-image"
            if found
            else "smooth-noise images (install scikit-image or pass --images DIR for photographs)"
        )
        found = found or list(_smooth_noise(limit, frame))
    return torch.stack([fitted(with_channels(p, frame.channels), frame.height, frame.width) for p in found]), what


def _photographs() -> list[torch.Tensor]:
    """The photographs, and their left halves as additional images; empty without scikit-image."""
    import torch

    try:
        from skimage import data
    except ImportError:
        return []
    whole = [torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).float() / 255 for name in PHOTOGRAPHS]
    return [*whole, *(p[:, :, : p.shape[2] // 2] for p in whole)]


def _smooth_noise(count: int, frame: Frame) -> torch.Tensor:
    """Noise images with a 1/f amplitude spectrum, like photographs; always the same."""
    import torch

    generator = torch.Generator().manual_seed(0)
    height, width = max(frame.height, 8), max(frame.width, 8)
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    spectrum = torch.fft.rfft2(torch.randn(count, 3, height, width, generator=generator))
    noise = torch.fft.irfft2(spectrum / (fy**2 + fx**2).sqrt().clamp(min=1 / max(height, width)), s=(height, width))
    low, high = noise.amin((1, 2, 3), keepdim=True), noise.amax((1, 2, 3), keepdim=True)
    return (noise - low) / (high - low)


EXAMPLES = 6
"""How many images show a change of an `augment`."""


def augmented_examples(graph: Graph, image: Path | None = None) -> tuple[tuple[str, bytes], ...]:
    """The original image, each line of the model's augmentation, then all of it, each with a strip of images as PNG.

    Always the same changes, of an `image` or of a default one. Raises RunError, OSError, and ImportError if torch or
    kornia is not installed.
    """
    pipeline = graph.augment
    if pipeline is None:
        return ()
    import torch

    frame = frame_of(graph)
    if image is None:
        picture = pictures(None, frame)[0][:1]
    else:
        picture = fitted(with_channels(read_picture(image), frame.channels), frame.height, frame.width)[None]
    shown = [("as it is", replace(pipeline, lines=()))] if pipeline.lines else []
    shown += [
        (text, replace(pipeline, lines=(line,))) for text, line in zip(pipeline.text(), pipeline.lines, strict=True)
    ]
    if len(pipeline.lines) > 1:
        shown.append(("together", pipeline))
    strips = []
    for text, part in shown:
        generator = torch.Generator().manual_seed(0)
        augment = loading.instantiate_augment(part)
        # One at a time, in the size that the model takes, which may be large; the diagram shows them small.
        changed = [augment(picture, generator=generator)[0] for _ in range(EXAMPLES if part.lines else 1)]
        strips.append((text, encode_png(torch.cat([_thumbnail(p) for p in changed], 2))))
    return tuple(strips)


def _thumbnail(picture: torch.Tensor, side: int = 96) -> torch.Tensor:
    """[C, H, W] as an image [3, h, w] whose longer side is about `side`, with white at its right."""
    from torch.nn import functional as F

    rgb = in_colour(picture).clamp(0, 1)
    longest = max(rgb.shape[1:])
    if longest > side:
        size = [max(1, round(n * side / longest)) for n in rgb.shape[1:]]
        rgb = F.interpolate(rgb[None], size, mode="bilinear", antialias=True)[0]
    factor = max(1, side // longest)
    return F.pad(rgb.repeat_interleave(factor, 1).repeat_interleave(factor, 2), (0, 3), value=1.0)
