"""Source of the classes and functions that generated augmentations consist of, but for their changes.

They are text: they go into generated files as they are, as those of `archdsl.ops.helpers` do.
"""

DRAWING = '''
Parts: TypeAlias = dict[str, Tensor]


@contextmanager
def drawing(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Lets chance hang on the generator alone, if one is given."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        yield


def given_back(moved: Tensor, part: Tensor) -> Tensor:
    """In the shape and type in which the part was given."""
    whole = moved if part.is_floating_point() else moved.round()
    return whole.view(part.shape).to(part.dtype)
'''

MOVED = '''
class Moved(nn.Module):
    """Changes of place, which the image and all that goes with it make together."""

    def __init__(self, changes: nn.Module) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, parts: Parts) -> Parts:
        moved = self.changes(*parts.values(), data_keys=list(parts))
        return dict(zip(parts, [moved] if len(parts) == 1 else moved, strict=True))
'''

RECOLOURED = '''
class Recoloured(nn.Module):
    """Changes of what the image shows where, which leave what goes with it alone."""

    def __init__(self, *changes: nn.Module) -> None:
        super().__init__()
        self.changes = nn.Sequential(*changes)

    def forward(self, parts: Parts) -> Parts:
        return {**parts, "input": self.changes(parts["input"])}
'''

ONE_OF = '''
class OneOf(nn.Module):
    """Each sample goes through one of the changes, all equally likely."""

    def __init__(self, *changes: nn.Module) -> None:
        super().__init__()
        self.changes = nn.ModuleList(changes)

    def forward(self, parts: Parts) -> Parts:
        image = parts["input"]
        choice = torch.randint(len(self.changes), image.shape[:1]).to(image.device)
        result = parts
        for i, change in enumerate(self.changes):
            changed = change(parts)
            for key, part in result.items():
                chosen = (choice == i).view(-1, *[1] * (part.ndim - 1))
                result = {**result, key: torch.where(chosen, changed[key], part)}
        return result
'''

CLASS = '''
class {name}(nn.Module):
    """{doc}

    Drawn afresh for every sample while the module trains; in evaluation mode nothing
    changes. Images are [N, {size}, H, W], with values from 0 to 1.
    """

    def __init__(self) -> None:
        super().__init__()
{changes}

    def forward(
        self, image: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.along(image, generator=generator)[0]

    def along(
        self,
        image: Tensor,
        *,
        mask: Tensor | None = None,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """The image, then what goes with it, in the order of the parameters.

        Masks are [N, H, W] or [N, K, H, W], boxes [N, M, 4] as left, top, right and
        bottom edges in pixels, the picture's being 0, 0, W and H; points [N, M, 2] as x
        and y, the middle of the first pixel being 0, 0. What leaves the picture keeps
        its place outside of it.
        """
        if not image.is_floating_point():
            message = f"images are floats from 0 to 1, not {{image.dtype}}"
            raise TypeError(message)
        given = {{"input": image, "mask": mask, "bbox_xyxy": boxes, "keypoints": points}}
        known = {{key: part for key, part in given.items() if part is not None}}
        if not self.training:
            return list(known.values())
        precise = torch.promote_types(image.dtype, torch.float32)
        parts = {{key: part.to(precise) for key, part in known.items()}}
        if mask is not None and mask.ndim == 3:
            parts["mask"] = parts["mask"][:, None]
        if boxes is not None:  # kornia counts from the middle of the first pixel
            parts["bbox_xyxy"] = parts["bbox_xyxy"] - 0.5
        with drawing(generator, image.device):
            parts = self.changes(parts)
        if boxes is not None:
            parts["bbox_xyxy"] = parts["bbox_xyxy"] + 0.5
        return [given_back(parts[key], part) for key, part in known.items()]
'''
