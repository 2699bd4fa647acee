"""The command line: output, streams, exit status, and system errors."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import archdsl
from archdsl import cli
from archdsl.cli import program
from archdsl.common import interrupts
from archdsl.elaborate.spec_files import library_families, library_tasks
from tests.helpers import ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}

NET = """
block unit(width) { conv(width, 3) -> batchnorm -> relu }

model family(layer, width, classes = 10) {
    "A family."
    input image[3, H = 32, W = 32]
    layer(width)
    (it, maxpool(2) -> layer(width) -> upsample(2)) -> add
    global_avgpool -> flatten
    fc: linear(classes)
}
model small = family(unit, 8)
model large = family(unit, 16)
"""
SMALL = "small: image [3, H, W] -> [10], H, W: multiples of 2; 930 parameters"

WRONG = """
model wrong {
    input image[3, H = 32, W = 32]
    residual { conv(8, 3) }
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.arch").write_text(NET)
    (tmp_path / "wrong.arch").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """Runs the command line; returns status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(arguments)
        return status, *capsys.readouterr()

    return run


def archdsl_process(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "archdsl", *arguments]
    options = {"env": ENV, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, **options)


# ---------------------------------------------------------------- check


def test_check_says_a_line_a_model(folder, said):
    large = "large: image [3, H, W] -> [10], H, W: multiples of 2; 3,002 parameters"
    assert said("check", "net.arch") == (0, f"{SMALL}\n{large}\n", "")


def test_check_knows_the_library_wherever_the_shell_stands(folder, said):
    line = "resnet18: image [3, H, W] -> [1000], any H, W; 11,689,512 parameters\n"
    assert said("check", "resnet:resnet18") == (0, line, "")


def test_check_says_all_that_is_wrong_and_goes_on(folder, said):
    status, out, err = said("check", "wrong.arch", "missing.arch", "net.arch:small")
    assert (status, out) == (1, SMALL + "\n")
    assert "error[E0301]" in err and "wrong.arch:4:5" in err
    assert "missing.arch" in err and "Traceback" not in err


def test_check_json(folder, said):
    status, out, err = said("check", "--json", "wrong.arch", "net.arch:small")
    data = json.loads(out)
    assert (status, err) == (1, "")
    assert [d["code"] for d in data["diagnostics"]] == ["E0301"]
    (model,) = data["models"]
    assert model["model"] == "small"
    assert model["inputs"] == [{"name": "image", "size": [3, "H", "W"]}]
    assert model["outputs"] == [{"name": None, "size": [10], "training_only": False}]
    assert model["sizes"]["H"]["modulus"] == 2
    assert model["parameters"]["trainable"] == 930


@pytest.mark.parametrize(
    ("spec", "settings", "begin"),
    [
        ("net.arch:small", ["classes=7"], "small: image [3, H, W] -> [7]"),
        ("net.arch:small", ["classes = 2 * 3 + len([1])"], "small: image [3, H, W] -> [7]"),
        ("net.arch:family", ["layer=unit", "width=8"], "family: image [3, H, W] -> [10], H, W: multiples of 2; 930 "),
        ("net.arch:small", ["layer=conv", "width=4"], None),
        ("net.arch:small", ["clases=7"], None),
        ("net.arch:small", ["classes=seven"], None),
        ("net.arch:small", ["classes=__import__('os')"], None),
        ("net.arch:family", [], None),
    ],
)
def test_set(folder, said, spec, settings, begin):
    status, out, err = said("check", spec, *(word for s in settings for word in ("--set", s)))
    if begin is None:
        assert (status, out) == (1, "") and "error[E0" in err
    else:
        assert (status, err) == (0, "") and out.startswith(begin)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("3x32x64", None),
        ("3x33x64", "the nearest valid sizes are 32 and 34"),
        ("1x32x32", "the input `image` is [3, H, W]"),
        ("3x32", "the input `image` is [3, H, W]"),
    ],
)
def test_check_of_a_size(folder, said, size, message):
    status, _, err = said("check", "net.arch:small", "--size", size)
    assert (status, message or "") == (1 if message else 0, message or "") and (message or "") in err


# ---------------------------------------------------------------- show


def test_show_is_plain_in_a_pipe_and_the_same_data_in_each_form(folder, said):
    _, text, _ = said("show", "net.arch:small", "--size", "3x32x64")
    _, table, _ = said("show", "net.arch:small", "--size", "3x32x64", "--csv")
    _, data, _ = said("show", "net.arch:small", "--size", "3x32x64", "--json")
    rows = list(csv.DictReader(io.StringIO(table)))
    layers = json.loads(data)["layers"]
    assert [{k: str(v) for k, v in layer.items()} for layer in layers] == rows
    expected = {
        "path": "0.0",
        "output": "8 × 32 × 64",
        "parameters": "224",
        "trainable": "224",
        "frozen": "0",
        "buffers": "0",
        "macs": str(8 * 27 * 32 * 64),
        "memory": str(4 * 8 * 32 * 64),
        "field": "3",
        "stride": "1",
        "offset": "0",
    }
    assert {key: rows[1][key] for key in rows[1] if key != "operation"} == expected
    total = json.loads(data)["total"]
    assert total["parameters"] == sum(int(r["parameters"]) for r in rows) == 930
    assert total["macs"] == sum(int(r["macs"]) for r in rows)
    assert "\x1b" not in text and f"{total['macs']:,}" in text


def test_show_keeps_free_sizes_and_folds(folder, said):
    status, out, err = said("show", "net.arch:small", "--depth", "0", "--json")
    layers = json.loads(out)["layers"]
    assert (status, err) == (0, "")
    assert [layer["path"] for layer in layers] == ["image", "0", "1", "2", "3", "4", "5", "6", "fc"]
    assert layers[2]["output"] == "8 × H/2 × W/2"
    _, out, _ = said("show", "net.arch:small", "--csv")
    assert '0.0,"conv 3×3, 8",8 × H × W,' in out


def test_show_writes_plots_and_the_table_whose_form_is_said(folder, said):
    pytest.importorskip("matplotlib")
    for form in ("--markdown", "--csv", "--latex", "--json"):
        table = said("show", "net.arch:small", form)
        assert said("show", "net.arch:small", form, "-o", "cost.svg") == table and table[1]
    assert said("show", "net.arch:small", "-o", "cost.svg") == (0, "", "")


def test_show_guards_spreadsheets(folder, said):
    from archdsl.report.tables import Column, Table

    table = Table((Column("path", "path"),), [("=cmd()",), ("a,b",)])
    assert table.as_csv() == 'path\n\'=cmd()\n"a,b"\n'


# ---------------------------------------------------------------- build, draw, list, completion


def test_build_writes_the_module(folder, said):
    assert said("build", "net.arch:small", "-o", "small.py") == (0, "", "")
    source = (folder / "small.py").read_text("utf-8")
    assert source == archdsl.build(archdsl.check("net.arch:small"))
    compile(source, "small.py", "exec")


def test_build_to_standard_output_is_utf8_whatever_the_terminal_speaks(folder):
    built = archdsl_process("build", "net.arch:small", env={**ENV, "PYTHONIOENCODING": "ascii"})
    out, err = built.communicate()
    assert (built.returncode, err) == (0, b"")
    assert out.decode("utf-8") == archdsl.build(archdsl.check("net.arch:small"))


@pytest.mark.parametrize("ending", ["dot", "svg", "png", "pdf"])
def test_draw(folder, said, ending):
    assert said("draw", "net.arch:small", "-o", f"net.{ending}") == (0, "", "")
    begin = {"dot": b"digraph", "svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[ending]
    assert begin in (folder / f"net.{ending}").read_bytes()[:200]


def test_list(folder, said):
    _, out, _ = said("list", "net.arch", "--json")
    assert [(m["spec"], m["missing"]) for m in json.loads(out)] == [
        ("net.arch:family", ["layer", "width"]),
        ("net.arch:small", []),
        ("net.arch:large", []),
    ]
    status, out, err = said("list")
    assert (status, err) == (0, "")
    assert "classification  resnet:resnet50 " in out and "segmentation    unet:unet " in out
    data = json.loads(said("list", "--json")[1])
    assert {"task": "video", "model": "s3d"}.items() <= next(m for m in data if m["spec"] == "s3d:s3d").items()


def test_each_family_of_the_library_stands_at_one_task():
    assert sorted(family for families in library_tasks().values() for family in families) == library_families()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(folder, said, shell):
    status, out, _ = said("completion", shell)
    assert status == 0 and "_ARCHDSL_COMPLETE" in out


def test_completion_knows_the_models(folder):
    words = {"COMP_WORDS": "archdsl check resnet:resnet1", "COMP_CWORD": "2", "_ARCHDSL_COMPLETE": "zsh_complete"}
    out, _ = archdsl_process(env={**ENV, **words}).communicate()
    assert {b"resnet:resnet18", b"resnet:resnet101", b"resnet:resnet152"} <= set(out.splitlines())


# ---------------------------------------------------------------- exit statuses


def test_the_exit_statuses_of_the_page_are_those_of_the_program():
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    known = {program.FINE, program.SPEC_WRONG, program.USAGE_WRONG, program.BROKEN, program.PIPE_CLOSED}
    assert told == known | {interrupts.STATUS}


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("check net.arch", 0),
        ("check unused.arch", 0),
        ("check wrong.arch", 1),
        ("check missing.arch", 1),
        ("check net.arch:missing", 1),
        ("check net.arch:small --set nosuch=1", 1),
        ("check net.arch:small --size 3x33x33", 1),
        ("explain net.arch:small:nosuch", 1),
        ("draw wrong.arch -o out.svg", 1),
        ("diff net.arch:small wrong.arch", 1),
        ("check net.arch --limit nosuch=1", 2),
        ("check net.arch:small --size small", 2),
        ("weights net.arch:small missing.pth", 2),
        ("weights net.arch:small net.arch", 2),
        ("export net.arch:small -o out.onnx --weights net.arch", 2),
        ("look net.arch:small --image net.arch -o out.svg", 2),
        ("probe net.arch:small --images .", 2),
        ("draw wrong.arch -o net.arch", 2),
    ],
)
def test_exit_status(folder, said, command, status):
    if status == 2 and command.startswith(("weights", "export", "look", "probe")):
        pytest.importorskip("PIL")
    (folder / "unused.arch").write_text("model net(unused = 1) {\n    input x[3, H = 8, W = 8]\n    relu\n}\n")
    found, _, err = said(*command.split())
    assert found == status and "Traceback" not in err and "a bug of archdsl" not in err, err


# ---------------------------------------------------------------- the command line is wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["check"],
        ["check", "net.arch", "--nosuch"],
        ["check", "net.arch:small", "--set", "classes"],
        ["check", "net.arch:small", "--set", "1=2"],
        ["show", "net.arch:small", "--size", "3x-1"],
        ["show", "net.arch:small", "--csv", "--json"],
        ["draw", "net.arch:small"],
        ["draw", "net.arch:small", "-o", "net.bmp"],
        ["draw", "net.arch:small", "-o", "nosuch/net.svg"],
        ["build", "net.arch:small", "-o", "nosuch/net.py"],
        ["build", "net.arch:small", "-o", "."],
        ["build", "net.arch:small", "-o", "n" * 300 + ".py"],
    ],
    ids=lambda a: " ".join(a)[:60],
)
def test_usage_errors(folder, said, arguments):
    before = sorted(p.name for p in folder.iterdir())
    status, out, err = said(*arguments)
    assert (status, out) == (2, "") and err and "Traceback" not in err
    assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["show", "--help"]])
def test_help(folder, said, arguments):
    status, out, err = said(*arguments)
    assert "rchdsl" in out and (status, err) == (0, "")


def test_alone_it_prints_the_help(said):
    help = said("--help")[1]
    assert said() == (2, "", help) and "Exit status: 0 success; 1 a spec is wrong" in help


def test_a_bug_is_said_in_a_line(folder, said, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("archdsl.compiler.build", fail)
    status, out, err = said("build", "net.arch:small")
    assert (status, out) == (70, "") and err.count("\n") == 1 and "RuntimeError: first" in err


# ---------------------------------------------------------------- faults of the machine


def test_closed_pipe(folder):
    show = archdsl_process("show", "resnet:resnet152")
    show.stdout.close()
    assert show.stderr.read() == b"" and show.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by /dev/full")
@pytest.mark.parametrize("arguments", [["check", "net.arch"], ["build", "net.arch:small"], ["--help"]])
def test_full_disk(folder, arguments):
    with open("/dev/full", "wb") as full:
        process = archdsl_process(*arguments, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 2 and err == b"archdsl: No space left on device\n"


def test_an_output_that_cannot_be_written_leaves_the_old_one(folder):
    (folder / "net.py").write_text("old")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    code = limit + "from archdsl import cli; sys.exit(cli.run(['build', 'net.arch:small', '-o', 'net.py', '--force']))"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True)
    assert done.returncode == 2 and done.stderr == b"archdsl: net.py: File too large\n"
    assert (folder / "net.py").read_text() == "old" and len(list(folder.iterdir())) == 3


def test_an_output_that_cannot_encode(folder):
    show = archdsl_process("show", "net.arch:small", env={**ENV, "PYTHONIOENCODING": "ascii"})
    out, err = show.communicate()
    assert (show.returncode, err) == (0, b"") and b"8 x H x W" in out


def test_interrupt(folder):
    code = (
        "import signal, sys, os; from archdsl import cli; from archdsl.checker import spec; "
        "spec.check_model = lambda *_: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(9); "
        "sys.exit(cli.run(['check', 'net.arch']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, b"", b"archdsl: interrupted")


@pytest.mark.parametrize(("extra", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_color_for_people_alone(folder, extra, colored):
    terminal, other = pty.openpty()
    env = {k: v for k, v in ENV.items() if k != "NO_COLOR"} | {"TERM": "xterm"} | extra
    process = archdsl_process("check", "wrong.arch", stdout=other, stderr=other, env=env)
    os.close(other)
    out = b""
    try:
        while chunk := os.read(terminal, 4096):
            out += chunk
    except OSError:  # Linux says so when the other end has closed
        pass
    assert process.wait() == 1 and b"E0301" in out and (b"\x1b[" in out) == colored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights", "net.arch:small", "net.arch", "-o", "out.txt"], "weights are a file that ends with .safetensors"),
        (["export", "net.arch:small", "-o", "out.txt"], "an export is a file that ends with .pt2, .onnx"),
        (["export", "net.arch:small", "-o", "nowhere/out.onnx"], "there is no folder nowhere"),
        (["draw", "net.arch:small", "-o", "-"], "a picture is a file that ends with .svg"),
        (["show", "net.arch:small", "-o", "out.html"], "plots are a file that ends with .svg, .png, .pdf"),
    ],
)
def test_outputs_that_cannot_be_are_said_before_any_work(folder, said, monkeypatch, arguments, message):
    monkeypatch.setattr("archdsl.checker.spec.check_model", None)
    status, out, err = said(*arguments)
    assert (status, out) == (2, "") and message in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["check", "net"], 1, "did you mean `net.arch`?"),
        (["check", "nett.arch"], 1, "did you mean `net.arch`?"),
        (["check", "net.arch:small:0"], 1, "take the path of a layer"),
        (["check", "net.arch:small", "--size", "1x3x32x32"], 1, "without the batch: 3x32x32, say"),
        (["check", "loop.arch"], 1, "too many levels of symbolic links"),
        (["explain", "net.arch:small:0.0", "--size", "3x32"], 1, "which [3, 32] does not fit"),
        (["explain", "net.arch:smal"], 1, "did you mean `small`?"),
        (["diff", "net.arch:small"], 2, "there is nothing to compare"),
        (["list", "empty.arch"], 1, "empty.arch has no model"),
        (["list", "net.arch:smal"], 1, "did you mean `small`?"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(folder, said, arguments, status, message):
    (folder / "loop.arch").symlink_to("loop.arch")
    (folder / "empty.arch").write_text("")
    found, out, err = said(*arguments)
    assert (found, out) == (status, "") and message in err


def test_list_names_specs_as_commands_take_them(said):
    found = [said("list", spec, "--json")[1] for spec in ("lenet", "lenet:", "lenet:lenet")]
    assert len(set(found)) == 1 and [m["spec"] for m in json.loads(found[0])] == ["lenet:lenet"]


@pytest.mark.parametrize("command", ["check", "show", "explain", "draw", "build", "diff", "probe", "weights", "export"])
def test_every_command_that_reads_a_model_can_be_limited(folder, said, command):
    more = {
        "diff": ["net.arch:large"],
        "draw": ["-o", "out.svg"],
        "export": ["-o", "out.pt2"],
        "weights": ["net.arch"],
    }.get(command, [])
    status, out, err = said(command, "net.arch:small", *more, "--limit", "nodes=3")
    assert (status, out) == (1, "") and "error[E05" in err


def test_diff_can_tell_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    same, other = ["lenet:lenet", "lenet:lenet"], ["resnet:resnet18", "--set-after", "classes=10"]
    for more in ([], ["--json"], ["--csv"]):
        assert cli.run(["diff", *same, "--exit-code", *more]) == cli.run(["diff", *other, *more]) == 0
        assert cli.run(["diff", *other, "--exit-code", *more]) == 1


@pytest.mark.parametrize(
    "command",
    [["show", "--gpu-memory"], ["build", "-o", "net.py", "--memory"], ["tile", "--memory"]],
    ids=lambda c: c[0],
)
def test_an_amount_of_memory_has_a_unit(folder, said, command):
    name, *options = command
    status, out, err = said(name, "net.arch:small", *options, "16")
    assert (status, out) == (2, "") and "write 16GiB, or 16B for bytes" in err and not (folder / "net.py").exists()
    assert said("show", "net.arch:small", "--gpu-memory", "16B")[0] == 0


def test_the_models_of_a_file_are_listed_with_its_families(folder, said):
    status, _, err = said("show", "net.arch")
    assert status == 1 and "net.arch has 3 models: choose one" in err
    assert "it has `small`, `large`; and with values for their parameters: `family`" in err
    (folder / "families.arch").write_text(
        "model f(w) { input x[3, 8, 8]\n conv(w, 3) }\nmodel g(w) { input x[3, 8, 8] }\n"
    )
    assert "it has `f`, `g`\n" in said("show", "families.arch")[2]
