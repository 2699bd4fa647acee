"""Augmentation: kornia's results, transformed annotations, and rejected specs."""

from __future__ import annotations

import colorsys
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import archdsl
from archdsl import Source, SpecError
from archdsl.augment import CHANGES, Change, OneOf, Pipeline
from archdsl.backends.augment_source import write_augmentation
from archdsl.checker.spec import check_model, locate
from archdsl.diagnostics import Diagnostics
from archdsl.graph import Graph
from archdsl.report import summary as report
from archdsl.runtime import loading
from tests.helpers import source_of

SPEC = """
let BY = 0.1
augment gentle {
    "A bird is a bird."
    hflip(p = 0.5)
    translate(BY) -> rotate(10) -> scale(0.9, 1.1)
    color(brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.02) -> grayscale(p = 0.1)
    one_of { blur(3)  noise(0.05)  erase(0.2) }
}
model net(classes = 10) augmented gentle {
    input image[3, H = 32, W = 32]
    conv(8, 5) -> relu -> global_avgpool -> flatten
    linear(classes)
}
model small = net(2)
model plain = net(3) augmented nothing
augment nothing { }
"""


def spec(text: str) -> Source:
    return source_of(text)


def graph_of(model: str = "net", text: str = SPEC) -> Graph:
    diagnostics = Diagnostics()
    spec_file, _ = locate(spec(text), diagnostics)
    return check_model(spec_file, model, {}, diagnostics)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def module_of(*steps: Change | OneOf, channels: int = 3) -> torch.nn.Module:
    return loading.instantiate_augment(Pipeline("tried", (steps,), None, channels))


def pictures(count: int = 6, channels: int = 3) -> Tensor:
    """The same picture several times: a bright disc, off the middle, on uneven dark ground."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    disc = ((y - 16) ** 2 + (x - 28) ** 2 < 81).float()
    shades = torch.linspace(0.6, 1.0, channels)[:, None, None]
    ground = 0.1 + 0.1 * torch.rand(channels, 40, 48, generator=seeded())
    return torch.where(disc.bool(), shades * disc, ground).expand(count, -1, -1, -1).clone()


def masks(count: int = 6) -> Tensor:
    return (pictures(count)[:, 2] > 0.5).long()


CASES = [
    pytest.param(CHANGES[name].parse(arguments), channels, id=f"{name}{dict(arguments)}, {channels} channels")
    for name in CHANGES
    for arguments in CHANGES[name].examples
    for channels in (3, 1)
    if channels == 3 or not CHANGES[name].parse(arguments).colours
]


@pytest.mark.parametrize(("change", "channels"), CASES)
def test_every_change_draws_afresh_and_takes_along_what_it_moves(change: Change, channels: int) -> None:
    augment = module_of(change, channels=channels)
    before = pictures(24, channels)
    after, mask = augment.along(before, mask=masks(24), generator=seeded())
    again = augment(before, generator=seeded())
    assert after.shape == before.shape and after.dtype == before.dtype and torch.equal(after, again)
    assert not torch.equal(after, before)
    drawn = {bytes(sample.numpy().tobytes()) for sample in after}
    # A change that may not happen has two results; one with an amount has as many as samples.
    assert len(drawn) > 10 if len(type(change).fields) > 1 and change.p == 1 else len(drawn) >= (change.p < 1) + 1
    if change.moves:
        bright = after.amax(1) > 0.5
        assert (bright == (mask == 1)).float().mean() > 0.97
        assert set(mask.unique().tolist()) <= {0, 1} and mask.dtype == torch.long
    else:
        assert torch.equal(mask, masks(24))


def test_the_changes_are_declared_as_operations_are() -> None:
    for name, change in CHANGES.items():
        assert (
            change.name == name and change.examples and change.__doc__ and change.__doc__.splitlines()[0].endswith(".")
        )
        for arguments in change.examples:
            parsed = change.parse(arguments)
            assert parsed.text().startswith(name)


@pytest.mark.parametrize("name", ["hflip", "rotate", "color", "erase"])
def test_what_has_probability_0_never_happens(name: str) -> None:
    change = CHANGES[name].parse({**CHANGES[name].examples[0], "p": 0})
    assert torch.equal(module_of(change)(pictures()), pictures())


PLACES = [
    "hflip(1)",
    "vflip(1) -> translate(0.2)",
    "translate(0.1) -> rotate(40) -> scale(0.8, 1.2)",
    "perspective(0.4, 1)",
]


@pytest.mark.parametrize("lines", [*PLACES, "one_of { hflip(1)  rotate(20) -> vflip(1) }", "hflip -> rotate(90)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_boxes_and_points_move_along(lines: str, dtype: torch.dtype) -> None:
    """A bright rectangle: its position afterwards gives the expected mask, box and centre."""
    augment = archdsl.load_augment(
        spec(f"augment a {{ {lines} }}\nmodel m augmented a {{ input x[1, 64, 80]\n relu }}")
    )
    image = torch.zeros(16, 1, 64, 80, dtype=dtype)
    image[:, :, 24:34, 32:46] = 1
    mask = torch.where(image[:, 0] > 0.5, 300, 0)
    boxes = torch.tensor([[[32.0, 24.0, 46.0, 34.0]]]).expand(16, -1, -1)
    points = torch.tensor([[[38.5, 28.5]]]).expand(16, -1, -1)
    after, masked, boxed, pointed = augment.along(image, mask=mask, boxes=boxes, points=points, generator=seeded())
    assert after.dtype == dtype and masked.dtype == mask.dtype and set(masked.unique().tolist()) == {0, 300}
    assert ((after[:, 0] > 0.5) != (masked == 300)).float().mean() < 0.002
    for sample, box, point in zip(after[:, 0] > 0.5, boxed[:, 0], pointed[:, 0], strict=True):
        y, x = sample.nonzero().float().unbind(1)
        seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert (seen - box).abs().max() < (1e-3 if lines == "hflip(1)" else 1.0)
        assert (torch.stack([x.mean(), y.mean()]) - point).abs().max() < 0.6


def test_changes_of_colour_are_as_large_as_they_say() -> None:
    """Brightness is a factor, contrast is about the mean, saturation about grey, and hue rotates the circle."""

    def changed(call: str, image: Tensor) -> Tensor:
        text = f"augment a {{ {call} }}\nmodel m augmented a {{ input x[{image.shape[1]}, 8, 8]\n relu }}"
        return archdsl.load_augment(spec(text))(image, generator=seeded())

    def held(values: Tensor, low: float, high: float) -> None:
        """All between, and some close to either end."""
        assert (
            low - 1e-3 <= values.min() < low + (high - low) / 20
            and high - (high - low) / 20 < values.max() <= high + 1e-3
        )

    image = (0.3 + 0.3 * torch.rand(1, 3, 8, 8, generator=seeded())).expand(300, -1, -1, -1)
    for given in (image, image[:, :1]):
        held((changed("color(brightness = 0.2)", given) / given).mean((1, 2, 3)), 0.8, 1.2)
        harder = changed("color(contrast = 0.5)", given)
        held(harder.std((1, 2, 3)) / given.std((1, 2, 3)), 0.5, 1.5)
        grey = torch.tensor([0.299, 0.587, 0.114]) if given.shape[1] == 3 else torch.ones(1)
        middle = torch.einsum("nchw,c->n", harder - given, grey) / 64
        assert middle.abs().max() < 1e-3
    red = torch.tensor([0.8, 0.3, 0.2])[None, :, None, None].expand(300, 3, 8, 8)
    hues = [
        colorsys.rgb_to_hsv(*c)[0] for c in [*changed("color(hue = 0.1)", red)[:, :, 0, 0].tolist(), [0.8, 0.3, 0.2]]
    ]
    held(torch.tensor([(h - hues[-1] + 0.5) % 1 - 0.5 for h in hues[:-1]]), -0.1, 0.1)
    faded = changed("color(saturation = 0.4)", red)[:, :, 0, 0]
    held((faded[:, 0] - faded[:, 1]) / 0.5, 0.6, 1.4)


def test_pictures_of_bytes_are_refused() -> None:
    with pytest.raises(TypeError, match="floats from 0 to 1"):
        module_of(CHANGES["invert"].parse({}))(pictures().byte())


def test_each_sample_goes_through_one_of_the_alternatives() -> None:
    invert, flip = (CHANGES[n].parse({"p": 1}) for n in ("invert", "hflip"))
    grey = CHANGES["grayscale"].parse({"p": 1})
    image = pictures(300)
    found = module_of(OneOf(((invert,), (flip, grey), (flip,))))(image, generator=seeded())
    grey_flipped = module_of(flip, grey)(image[:1])[0]
    counts = [sum(torch.allclose(s, e) for s in found) for e in (1 - image[0], grey_flipped, image[0].flip(2))]
    assert sum(counts) == 300 and min(counts) > 70


def test_a_generator_decides_alone_and_leaves_the_global_state() -> None:
    augment = loading.instantiate_augment(graph_of().augment)
    state = torch.get_rng_state()
    first = augment(pictures(), generator=(generator := seeded(5)))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, augment(pictures(), generator=generator))
    torch.manual_seed(9)
    assert torch.equal(first, augment(pictures(), generator=seeded(5)))
    assert torch.equal(augment.eval()(pictures()), pictures())


def test_gradients_pass() -> None:
    x = pictures().requires_grad_()
    module_of(*(CHANGES[n].parse(CHANGES[n].examples[0]) for n in ("rotate", "color", "blur")))(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


# ---------------------------------------------------------------- the language


def test_a_member_is_augmented_as_its_family_unless_it_says_otherwise() -> None:
    assert graph_of().augment == graph_of("small").augment
    assert graph_of("plain").augment == Pipeline("nothing")
    assert graph_of("m", "model m { input x[3]\n linear(2) }").augment is None


def test_the_lines_read_as_the_spec_writes_them() -> None:
    pipeline = graph_of().augment
    assert pipeline is not None and pipeline.doc == "A bird is a bird."
    lines = pipeline.text()
    assert lines[1] == "translate(0.1) -> rotate(10) -> scale(0.9, 1.1)"
    again = "augment a {\n" + "\n".join(lines) + "\n}\nmodel m augmented a { input x[3, 8, 8]\n relu }"
    assert graph_of("m", again).augment.lines == pipeline.lines
    assert all(line in report.augmentation(graph_of()) for line in lines)


def test_names_of_the_language_stay_free() -> None:
    text = """
block one_of { relu }
model augmented { input one[3, 8, 8]
    augment: one_of
    (augment, one) -> add
}"""
    assert len(graph_of("augmented", text)) == 3


WRONG = {
    "hflop": ("E0201", "did you mean `hflip`"),
    "rotate(-3)": ("E0228", "`degrees` must be an angle above 0, at most 180 degrees; got -3"),
    "rotate(10, 1, zeros, 2)": ("E0206", "one too many"),
    "translate": ("E0207", "`translate` needs `by`"),
    "scale(2, 1)": ("E0228", "goes from `low` to `high`"),
    "blur(4)": ("E0228", "an odd int"),
    "blur(99)": ("E0228", "too large for images of [1, 32, 32]"),
    "color(tint = 1)": ("E0205", "no parameter `tint`"),
    "color(hue = 0.1)": ("E0207", "needs images of 3 channels"),
    "grayscale": ("E0207", "needs images of 3 channels"),
    "one_of { hflip  noise(0) }": ("E0228", "`std` must be a number above 0"),
    "one_of { }": ("E0101", "expected"),
    "hflip { }": ("E0101", "expected"),
    "rotate(WIDE)": ("E0201", "WIDE"),
}


@pytest.mark.parametrize("line", WRONG)
def test_mistakes_are_told(line: str) -> None:
    code, words = WRONG[line]
    with pytest.raises(SpecError) as caught:
        archdsl.check(spec(f"augment a {{\n    {line}\n}}\nmodel m augmented a {{ input x[1, 32, 32]\n relu }}"))
    assert code in [d.code for d in caught.value.diagnostics]
    assert any(word in str(caught.value) for word in words.split("|"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model m augmented nobody { input x[3, 8, 8]\n relu }", "E0201"),
        ("let a = 1\nmodel m augmented a { input x[3, 8, 8]\n relu }", "E0211"),
        ("augment a { hflip }\nmodel m augmented a { input x[3, 8]\n relu }", "E0240"),
        ("augment a { hflip }\nmodel m augmented a { input x[3, 8, 8], y[3, 8, 8]\n (x, y) -> add }", "E0240"),
        ("augment a { hflip }\naugment a { hflip }\nmodel m { input x[3, 8, 8]\n relu }", "E0208"),
        ("augment a { hflop }\nmodel m { input x[3, 8, 8]\n relu }", "E0201"),
    ],
)
def test_what_does_not_belong_together_is_told(text: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        archdsl.check(spec(text))
    assert [d.code for d in caught.value.diagnostics] == [code]


# ---------------------------------------------------------------- the built file


def test_neighbours_that_are_affine_are_one_transformation() -> None:
    def affine(*lines: str) -> int:
        text = "augment a {\n" + "\n".join(lines) + "\n}\nmodel m augmented a { input x[3, 8, 8]\n relu }"
        return archdsl.build(graph_of("m", text)).count("K.RandomAffine(")

    assert affine("translate(0.1) -> rotate(10) -> scale(0.9, 1.1)", "shear(3)") == 1
    assert affine("rotate(10) -> rotate(20)") == 2
    assert affine("rotate(10) -> scale(1, 2, p = 0.5)") == 2
    assert affine("rotate(10) -> shear(5, pad = reflect)") == 2
    assert affine("rotate(10) -> hflip -> shear(5)") == 2


@pytest.mark.parametrize("model", ["net", "plain"])
def test_the_built_file_is_well_written_and_runs_without_kornia(model: str, tmp_path: Path) -> None:
    file = tmp_path / "built.py"
    file.write_text(archdsl.build(graph_of(model)), "utf-8")
    for arguments in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, "--isolated", file], check=True)
    run = f"""
import sys
sys.modules["kornia"] = None
import torch, built
classes = [c for c in vars(built).values() if isinstance(c, type) and c.__module__ == "built"]
assert classes[-1].__name__ == "{model.capitalize()}"
classes[-1]()(torch.zeros(1, 3, 32, 32))
"""
    subprocess.run([sys.executable, "-c", run], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["net", "one_of", "none", "_", "tensor", "moved"])
def test_the_class_of_an_augmentation_takes_no_name_that_is_needed(name: str) -> None:
    text = f"augment {name} {{ hflip }}\nmodel m augmented {name} {{ input x[3, 8, 8]\n relu }}"
    built = loading.execute(archdsl.build(graph_of("m", text)), "<test>")
    made = getattr(built, write_augmentation(graph_of("m", text).augment, "m").name)()
    assert made(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8, 8) and built.M()(torch.zeros(1, 3, 8, 8)).shape == (
        1,
        3,
        8,
        8,
    )


def test_the_diagram_has_a_panel(tmp_path: Path) -> None:
    from archdsl.runtime.running import augmented_examples

    diagram = archdsl.draw(graph_of(), examples=augmented_examples(graph_of()))
    diagram.save(tmp_path / "net.svg")
    diagram.save(tmp_path / "net.dot")
    svg, dot = ((tmp_path / f"net.{end}").read_text("utf-8") for end in ("svg", "dot"))
    assert svg.count("data:image/png;base64,") == 6 and str(tmp_path) not in svg
    assert "augment gentle" in dot and "together" in dot and "IMG" not in dot
    assert "IMG" not in archdsl.draw(graph_of()).dot
    # The whole panel is in the picture, next to the network.
    [view] = [[float(n) for n in v.split()] for v in re.findall(r'viewBox="([^"]+)"', svg)]
    panel = svg[svg.index("augment_panel") :]
    points = [tuple(map(float, p.split(","))) for p in re.findall(r'points="([^"]+)"', panel)[-1].split()]
    dx, dy = map(float, re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", svg)[0])
    assert all(0 <= x + dx <= view[2] and 0 <= y + dy <= view[3] for x, y in points)
    diagram.save(tmp_path / "net.html")
    assert (tmp_path / "net.html").read_text("utf-8").count("data:image/png;base64,") == 6


def test_the_panel_shows_an_image_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import skimage
    from PIL import Image

    from archdsl import cli
    from archdsl.runtime.running import RunError, augmented_examples

    photograph = Path(skimage.__file__).parent / "data" / "camera.png"
    own, usual = (dict(augmented_examples(graph_of(), image)) for image in (photograph, None))
    assert own.keys() == usual.keys() and own["as it is"] != usual["as it is"]
    Image.new("RGB", (5, 5)).save(tmp_path / "black.png")
    assert cli.run(["draw", "lenet:lenet", "--image", str(tmp_path / "black.png"), "-o", str(tmp_path / "a.svg")]) == 2
    assert "lenet has none" in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(RunError, match="is not a readable image"):
        augmented_examples(graph_of(), tmp_path / "text.png")
