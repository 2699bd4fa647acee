"""Weights of a network from before an edit: they arrive where `diff` says that their layer is now."""

from pathlib import Path

import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.runtime.weights import WeightsError, fit, read_state
from tests.helpers import graph_of, source_of

UNIT = """
block unit(width) {
    residual { conv1: conv(width, 3) -> bn: batchnorm -> relu }
    relu
}
"""
OLD = (
    UNIT
    + """
model net(classes = 10) {
    input image[3, H = 16, W = 16]
    stem: conv(8, 3)
    for i in 0..3 { "layer{i}": unit(8) }
    global_avgpool -> flatten
    head: linear(classes)
}
"""
)


def saved(tmp_path: Path, text: str = OLD) -> Path:
    torch.manual_seed(0)
    module = archdsl.load(source_of(text))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(module.state_dict(), tmp_path / "old.pth")
    return tmp_path / "old.pth"


def test_an_inserted_unit_moves_all_behind_it(tmp_path: Path) -> None:
    """By key, the inserted unit would get the weights of the one that it pushed on."""
    before, after = graph_of(OLD), graph_of(OLD.replace("stem: conv(8, 3)", "stem: conv(8, 3)\n    first: unit(8)"))
    file = saved(tmp_path)
    state, found = fit(after, file, before=before)
    assert {key.split(".")[0] for key in found.missing} == {"first"} and not found.unexpected and not found.shapes
    numbered = OLD.replace('"layer{i}": unit(8)', "unit(8)")
    more = numbered.replace("stem: conv(8, 3)", "stem: conv(8, 3) -> relu -> unit(8)")
    file = saved(tmp_path, numbered)
    theirs = read_state(file)
    state, found = fit(graph_of(more), file, before=graph_of(numbered))
    assert len(found.renamed) == 3 * 7 and {key.split(".")[0] for key in found.missing} == {"2"}
    assert any(key.startswith("2.") for key in theirs)  # which a match by key would load there
    assert not found.unexpected and len({old for old, _ in found.renamed}) == len({new for _, new in found.renamed})
    assert all(torch.equal(state[new], theirs[old]) for old, new in found.renamed)
    assert "renamed" in found.as_text() and ".* from " in found.as_text()
    with pytest.warns(UserWarning, match="renamed"):
        module = archdsl.load(source_of(more), weights=file, weights_of=source_of(numbered), strict=False)
    assert torch.equal(module.state_dict()["stem.weight"], theirs["stem.weight"])


def test_a_linear_becomes_a_convolution(tmp_path: Path) -> None:
    new = OLD.replace(
        "    global_avgpool -> flatten\n    head: linear(classes)", "    global_avgpool\n    head: conv(classes, 1)"
    )
    file = saved(tmp_path)
    _, found = fit(graph_of(new), file, before=graph_of(OLD))
    assert found.complete and found.reshaped == (("head.weight", (10, 8), (10, 8, 1, 1)),)
    x = torch.randn(2, 3, 16, 16)
    before, after = (
        archdsl.load(source_of(OLD), weights=file),
        archdsl.load(source_of(new), weights=file, weights_of=source_of(OLD)),
    )
    assert torch.allclose(before.eval()(x), after.eval()(x).flatten(1), atol=1e-4)


def test_a_transposed_convolution_has_other_weights_than_a_convolution(tmp_path: Path) -> None:
    new = OLD.replace("global_avgpool", "mid: upconv(8, 3, 1, pad = 1) -> global_avgpool")
    old = OLD.replace("global_avgpool", "mid: conv(8, 3) -> global_avgpool")
    _, found = fit(graph_of(new), saved(tmp_path, old), before=graph_of(old))
    assert found.missing == ("mid.weight", "mid.bias") == found.unexpected


def test_grey_images(tmp_path: Path) -> None:
    grey = OLD.replace("image[3,", "image[1,")
    file = saved(tmp_path)
    _, found = fit(graph_of(grey), file, before=graph_of(OLD))
    assert [key for key, _, _ in found.shapes] == ["stem.weight"] and "--adapt mean" in found.as_text()
    with pytest.raises(WeightsError, match="another shape"):
        archdsl.load(source_of(grey), weights=file, weights_of=source_of(OLD))
    adapted = archdsl.load(source_of(grey), weights=file, weights_of=source_of(OLD), adapt_weights="mean").eval()
    original = archdsl.load(source_of(OLD), weights=file).eval()
    x = torch.randn(2, 1, 16, 16)
    assert torch.allclose(adapted(x), original(x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


def test_more_channels(tmp_path: Path) -> None:
    more = OLD.replace("image[3,", "image[5,")
    file = saved(tmp_path)
    original = archdsl.load(source_of(OLD), weights=file).eval()
    adapted = archdsl.load(source_of(more), weights=file, weights_of=source_of(OLD), adapt_weights="slice").eval()
    x = torch.randn(2, 5, 16, 16)
    assert torch.allclose(adapted(x), original(x[:, :3]), rtol=1e-3, atol=1e-3)


def test_what_else_changed_is_told(tmp_path: Path) -> None:
    new = OLD.replace("stem: conv(8, 3)", "stem: conv(8, 3, 2)").replace("head:", "fc:")
    _, found = fit(graph_of(new), saved(tmp_path), before=graph_of(OLD))
    assert found.complete and found.notes == ("stem has its weights, but another stride: 1 → 2",)


def test_a_file_of_another_network(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({f"module.{key}": value for key, value in read_state(saved(tmp_path)).items()}, other)
    with pytest.raises(WeightsError, match=r"--rename 'module\.\*=\*'"):
        fit(graph_of(OLD), other, before=graph_of(OLD))
    assert fit(graph_of(OLD), other, [("module.*", "*")], before=graph_of(OLD))[1].complete


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.arch", tmp_path / "new.arch", tmp_path / "new.pth"
    old.write_text(OLD)
    new.write_text(OLD.replace("image[3,", "image[1,").replace("0..3", "0..4"))
    file = saved(tmp_path)
    assert cli.run(["weights", str(new), str(file), "--from", str(old), "--adapt", "mean", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "adapted            1  stem.weight  8×3×3×3 in the file, 8×1×3×3 here" in said
    assert "missing            7  layer3.*" in said and read_state(out)["stem.weight"].shape == (8, 1, 3, 3)
    assert cli.run(["weights", str(new), str(file), "--adapt", "mean"]) == 2
    assert "need --from" in capsys.readouterr().err
    # An output is never an input: neither is the spec of --from.
    assert cli.run(["weights", str(new), str(file), "--from", str(old), "-o", str(file)]) == 2
    assert cli.run(["weights", str(new), str(file), "--from", str(tmp_path / "none.arch")]) == 1
