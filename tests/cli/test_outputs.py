"""Outputs of the command line: what they may overwrite, and the marks by which archdsl recognises its files."""

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.common import marks
from tests.helpers import ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

NET = """
from parts import unit

model net(classes = 10) {
    input image[3, H = 32, W = 32]
    unit(8)
    global_avgpool -> flatten
    fc: linear(classes)
}
"""
PARTS = """
from deep.more import act

block unit(width) { conv(width, 3) -> act }
"""
MORE = "block act { batchnorm -> relu }\n"

FOREIGN = "# written by hand\n"
BY_HAND = "was not written by archdsl; name another file, or overwrite it with --force"
READ = "read by this command; name another file"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "net.arch").write_text(NET)
    (tmp_path / "parts.arch").write_text(PARTS)
    (tmp_path / "deep" / "more.arch").write_text(MORE)
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be elaborated."""
    monkeypatch.setattr("archdsl.checker.spec.check_model", None)


def refused(capsys: pytest.CaptureFixture[str], command: str, why: str) -> bool:
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    status = cli.run(command.split())
    out, err = capsys.readouterr()
    assert (status, out) == (2, "") and why in err and "Traceback" not in err, (status, out, err)
    return {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


# ---------------------------------------------------------------- files of other programs

WRITING = {
    "build net.arch": ["py"],
    "draw net.arch": ["svg", "png", "pdf", "dot", "tex", "html"],
    "show net.arch": ["svg", "png", "pdf"],
    "diff net.arch lenet:lenet": ["svg", "dot", "tex"],
    "weights net.arch w.pth": ["safetensors", "pth", "pt"],
    "export net.arch": ["onnx", "pt2"],
    "import torch.nn:Identity": ["arch"],
    "probe net.arch": ["svg"],
    "stubs net.arch": ["pyi"],
    "watch net.arch": ["svg", "py"],
    "look net.arch --image photo.png": ["html", "svg", "png"],
}
COMMANDS = [f"{command} -o out.{ending}" for command, endings in WRITING.items() for ending in endings]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["file", "link", "in capitals"])
def test_a_file_of_somebody_else_is_kept(folder: Path, capsys, idle, command: str, kind: str) -> None:
    name = command.split()[-1]
    match kind:
        case "file":
            Path(name).write_text(FOREIGN)
        case "link":
            Path("target").write_text(FOREIGN)
            Path(name).symlink_to("target")
        case "in capitals":
            name = name.upper()
            Path(name).write_text(FOREIGN)
            command = command.rpartition(" ")[0] + " " + name
    assert refused(capsys, command, BY_HAND)


def test_every_command_that_writes_is_among_them() -> None:
    writing = {n for n, c in cli.cli.commands.items() if any(p.name == "output" for p in c.params)}
    assert writing == {command.split()[0] for command in WRITING}
    assert all(any(p.name == "force" for p in cli.cli.commands[name].params) for name in writing)


def test_force_and_emptiness_let_it_go(folder: Path) -> None:
    for prepare, more in ((FOREIGN, ["--force"]), ("", []), (None, [])):
        if prepare is not None:
            Path("out.py").write_text(prepare)
        assert cli.run(["build", "net.arch", "-o", "out.py", *more]) == 0
        assert Path("out.py").read_text("utf-8") == archdsl.build(archdsl.check("net.arch"))


def test_a_locked_file_is_kept(folder: Path, capsys) -> None:
    assert cli.run(["build", "net.arch", "-o", "out.py"]) == 0
    Path("out.py").chmod(stat.S_IRUSR)
    assert refused(capsys, "build net.arch -o out.py", "out.py is write-protected")


@pytest.mark.parametrize(
    "first",
    [
        '"""A wrapper of net, compiled by archdsl."""\n',
        '"""A wrapper."""\n# net, compiled by archdsl 0.1.0 from net.arch (sha256 0123456789ab).\n',
        "# made by archdsl 0.1.0\n",
        "",
    ],
)
def test_what_speaks_of_archdsl_is_not_its_own(folder: Path, capsys, idle, first: str) -> None:
    Path("out.py").write_text(first + "x = 1\n")
    assert refused(capsys, "build net.arch -o out.py", BY_HAND)


# ---------------------------------------------------------------- its own files


def test_its_own_file_is_written_again_whatever_the_names(folder: Path) -> None:
    long = "long_" * 30
    Path(f"{long}.arch").write_text(f"model {long} {{\n    input x[3, H = 8, W = 8]\n    conv(4, 3)\n}}\n")
    Path('a"""b\\.arch').write_text("model net {\n    input x[3, H = 8, W = 8]\n    conv(4, 3)\n}\n")
    for spec in ("net.arch", f"{long}.arch", 'a"""b\\.arch'):
        for more in ([], ["--for", "inference"]):
            assert cli.run(["build", spec, "-o", "out.py", *more]) == 0


@pytest.mark.parametrize("golden", sorted((ROOT / "tests" / "golden").glob("*.py")), ids=lambda p: p.stem)
def test_built_files_are_its_own(golden: Path) -> None:
    assert marks.is_own(golden)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[0] in ("build", "draw", "diff", "show")])
def test_its_own_pictures_are_written_again(folder: Path, capsys, command: str) -> None:
    if command.startswith("show"):
        pytest.importorskip("matplotlib")
    assert cli.run(command.split()) == 0
    first = Path(command.split()[-1]).read_bytes()
    assert cli.run(command.split()) == 0, capsys.readouterr().err
    assert Path(command.split()[-1]).read_bytes() == first


def test_a_picture_saved_from_python_is_its_own(folder: Path) -> None:
    archdsl.draw(archdsl.check("net.arch")).save("out.svg")
    assert cli.run(["draw", "net.arch", "-o", "out.svg"]) == 0


@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors"])
def test_marked_weights_are_read_as_any(folder: Path, ending: str) -> None:
    from archdsl.runtime import weights

    state = archdsl.load("net.arch").state_dict()
    path = Path(f"out{ending}")
    for _ in range(2):
        marks.save(path, weights.write_state(path, state))
        found = weights.read_state(path)
        assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)
        assert marks.is_own(path)
    torch.save(state, "theirs.pth")
    assert not marks.is_own("theirs.pth")
    if ending == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            assert file.metadata() == {"software": marks.MADE}
    else:
        torch.load(path, mmap=True)


def test_marked_metadata_of_others_stays() -> None:
    from safetensors.torch import load, save

    data = save({"é": torch.arange(3)}, metadata={"format": "pt"})
    assert load(marks.marked(data, ".safetensors"))["é"].tolist() == [0, 1, 2]
    assert b'"format":"pt"' in marks.marked(data, ".safetensors")


@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_marked_exports_run_as_any(folder: Path, ending: str) -> None:
    if ending == "onnx":
        pytest.importorskip("onnxscript")
        onnx = pytest.importorskip("onnx")
    command = ["export", "net.arch", "-o", f"OUT.{ending.upper()}"]
    assert cli.run(command) == 0 and marks.is_own(command[-1])
    if ending == "onnx":
        model = onnx.load(command[-1])
        onnx.checker.check_model(model)
        assert [(p.key, p.value) for p in model.metadata_props] == [("software", marks.MADE)]
    else:
        network = torch.export.load(io.BytesIO(Path(command[-1]).read_bytes())).module()
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_marked_pictures_are_whole(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for ending in ("png", "pdf"):
        assert cli.run(["draw", "net.arch", "-o", f"out.{ending}"]) == 0
    with image.open("out.png") as picture:
        picture.load()
        assert picture.info["Software"] == marks.MADE
    pdf = Path("out.pdf").read_bytes()
    assert pdf[int(pdf[pdf.rindex(b"startxref") + 9 :].split()[0]) :].startswith(b"xref")


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize("link", ["symlink", "hard link", "symlink to a symlink"])
@pytest.mark.parametrize("read", ["net.arch", "parts.arch", "deep/more.arch"])
@pytest.mark.parametrize("spec", ["net.arch", "{folder}/net.arch:net", "./deep/../net.arch"])
def test_the_spec_and_its_imports_are_never_an_output(
    folder: Path, capsys, idle, spec: str, read: str, link: str
) -> None:
    match link:
        case "symlink":
            Path("out.svg").symlink_to(read)
        case "hard link":
            Path("out.svg").hardlink_to(read)
        case _:
            Path("between").symlink_to(read)
            Path("out.svg").symlink_to("between")
    for more in ("", " --force"):
        assert refused(capsys, f"draw {spec.format(folder=folder)} -o out.svg{more}", READ)
        assert refused(capsys, f"diff lenet:lenet {spec.format(folder=folder)} -o out.svg{more}", READ)


def test_a_spec_of_the_library_is_never_an_output(folder: Path, capsys, idle, monkeypatch) -> None:
    (folder / "library").mkdir()
    (folder / "library" / "net.arch").write_text("model net {\n    input x[3, H = 8, W = 8]\n    relu\n}\n")
    monkeypatch.setattr("archdsl.checker.spec.library_folder", lambda: folder / "library")
    monkeypatch.setattr("archdsl.checker.spec.library_families", lambda: ["net"])
    (folder / "net.svg").hardlink_to(folder / "library" / "net.arch")
    assert refused(capsys, "draw net:net -o net.svg --force", READ)


@pytest.mark.parametrize(
    "command",
    [
        "weights net.arch w.pth -o w.pth",
        "weights net.arch w.pth -o ./deep/../w.pth",
        "weights net.arch w.pth -o {folder}/w.pth",
        "weights net.arch ./w.pth -o other.pth",
        "export net.arch --weights w.pth -o other.pt2",
        "look net.arch --image photo.png -o photo.png",
        "look net.arch --image photo.png --weights w.pth -o other.png",
        "probe net.arch --images . -o photo.svg",
        "build net.arch -o net.py",
    ],
)
def test_other_inputs_are_never_an_output(folder: Path, capsys, idle, command: str) -> None:
    for name, read in (("other.pth", "w.pth"), ("other.pt2", "w.pth"), ("other.png", "w.pth")):
        Path(name).hardlink_to(read)
    Path("photo.svg").symlink_to("photo.png")
    Path("net.py").symlink_to("net.arch")
    for more in ("", " --force"):
        assert refused(capsys, command.format(folder=folder) + more, READ)


def test_a_new_file_among_the_pictures_that_are_read_is_none_of_them(folder: Path, capsys) -> None:
    (folder / "curves.svg").write_text(FOREIGN)
    assert refused(capsys, "probe net.arch --images . -o curves.svg", BY_HAND)


def test_torch_is_not_imported_for_a_refusal(folder: Path) -> None:
    code = "import sys; from archdsl import cli; cli.run(sys.argv[1:]); print({'torch', 'numpy'} & {*sys.modules})"
    command = ["weights", "net.arch", "w.pth", "-o", "w.pth"]
    done = subprocess.run([sys.executable, "-c", code, *command], env=ENV, capture_output=True, text=True)
    assert READ in done.stderr and done.stdout == "set()\n"


# ---------------------------------------------------------------- names of other kinds


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("build net.arch -o net.arch", "a module is a file that ends with .py"),
        ("build net.arch -o out.txt", "a module is a file that ends with .py"),
        ("build net.arch -o out", "a module is a file that ends with .py"),
        ("build net.arch -o folder.py", "folder.py is a folder"),
        ("build net.arch -o nowhere/out.py", "there is no folder nowhere"),
        ("build net.arch -o dangling.py", "there is no folder"),
        ("draw net.arch -o net.arch", "a picture is a file that ends with"),
        ("weights net.arch w.pth -o net.arch", "weights are a file that ends with"),
    ],
)
@pytest.mark.parametrize("more", ["", " --force"])
def test_names_that_no_output_has(folder: Path, capsys, idle, command: str, why: str, more: str) -> None:
    (folder / "folder.py").mkdir()
    (folder / "dangling.py").symlink_to("nowhere/else.py")
    assert refused(capsys, command + more, why)


def archdsl_says(command: str, **options) -> subprocess.CompletedProcess:
    code = "import sys; from archdsl import cli; sys.exit(cli.run(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", code, *command.split()], env=ENV, timeout=120, **options)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="open files have no names here")
def test_streams_take_what_they_took(folder: Path) -> None:
    source = archdsl.build(archdsl.check("net.arch")).encode()
    (folder / "link.py").symlink_to("/dev/stdout")
    assert cli.run(["build", "net.arch", "-o", "/dev/null"]) == 0
    for out in ("/dev/stdout", "-"):
        assert archdsl_says(f"build net.arch -o {out}", capture_output=True).stdout == source, out
    # If standard output is a file, its contents stay.
    (folder / "log").write_bytes(b"before\n")
    with open("log", "ab") as log:
        assert archdsl_says("build net.arch -o link.py", stdout=log).returncode == 0
    assert (folder / "log").read_bytes() == b"before\n" + source


def test_a_pipe_is_written_into(folder: Path) -> None:
    os.mkfifo("pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    assert cli.run(["build", "net.arch", "-o", "pipe"]) == 0
    reader.join(20)
    assert found == [archdsl.build(archdsl.check("net.arch")).encode()] and stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_a_spec_from_a_pipe_is_read_once(folder: Path) -> None:
    text = "model net {\n    input x[3, H = 8, W = 8]\n    conv(4, 3)\n}\n"
    for _ in range(2):  # where there is no output yet, and where there is one
        done = archdsl_says("build /dev/stdin -o out.py", input=text.encode(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), done
    with open("net.arch", "rb") as spec:
        Path("link.py").symlink_to("net.arch")
        done = archdsl_says("build /dev/stdin -o link.py --force", stdin=spec, capture_output=True)
        assert done.returncode == 2 and READ.encode() in done.stderr


def test_standard_output_is_an_output_too(folder: Path) -> None:
    for command, name, why in (
        ("build net.arch", "net.arch", "standard output goes to net.arch, which this command reads"),
        ("explain net.arch:net:0", "deep/more.arch", "standard output goes to"),
        ("show net.arch -o out.svg --force", "out.svg", "out.svg is also the target of standard output"),
    ):
        before = Path(name).read_bytes() if Path(name).exists() else b""
        with open(name, "ab") as out:
            done = archdsl_says(command, stdout=out, stderr=subprocess.PIPE)
        assert done.returncode == 2 and why.encode() in done.stderr, done
        assert Path(name).read_bytes() == before
    with open("w.pth", "ab") as out:
        assert archdsl_says("check net.arch", stdout=out).returncode == 0
