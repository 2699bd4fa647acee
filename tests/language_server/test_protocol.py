"""The language server as editors drive it: messages over its standard input, with their capabilities."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Any

import pytest
import pytest_lsp
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from archdsl.formatting import format_text
from tests.helpers import ROOT
from tests.language_server.editor import EDITORS, Editor, applied, edits_of, make_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = """\
block unit(width, stride = 1) {
    "Two convolutions around a skip."
    residual via { if stride != 1 { conv(width, 1, stride) } } {
        conv(width, 3, stride) -> batchnorm -> relu
        conv(width, 3) -> batchnorm
    }
    relu
}

model net(classes = 10) {
    input image[3, H = 32, W = 32]
    stem: conv(16, 3)
    unit(16)
    unit(32, stride = 2)
    global_avgpool -> flatten -> linear(classes)
}
"""


@pytest_lsp.fixture(
    params=EDITORS,
    scope="module",
    config=ClientServerConfig(
        [sys.executable, "-m", "archdsl", "lsp"], client_factory=make_client, server_env={"PYTHONPATH": str(ROOT)}
    ),
)
async def client(
    lsp_client: LanguageClient, request: pytest.FixtureRequest, tmp_path_factory: Any
) -> AsyncIterator[None]:
    lsp_client.folder = tmp_path_factory.mktemp("specs")  # type: ignore[attr-defined]
    begun = await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=client_capabilities(request.param),
            root_uri=lsp_client.folder.as_uri(),  # type: ignore[attr-defined]
        )
    )
    lsp_client.encoding = begun.capabilities.position_encoding or "utf-16"  # type: ignore[attr-defined]
    yield
    await lsp_client.shutdown_session()


@pytest.fixture
def editor(client: LanguageClient) -> Iterator[Editor]:
    opened = Editor(client, client.folder)  # type: ignore[attr-defined]
    yield opened
    opened.close()


async def test_a_mistake_is_shown_while_typing(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    assert await spec.checked() == []
    spec.replace("unit(32, ", "unitt(32, ")
    (found,) = await spec.checked()
    assert (found.code, found.range.start.line) == ("E0201", 13)
    assert found.message.startswith("there is no operation, block or label named `unitt`")
    spec.replace("unitt(32, ", "unit(32, ")
    assert await spec.checked() == []


async def test_sizes_stand_behind_lines(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    assert await spec.hints() == {
        1: "[16, H, W] →",
        12: "→ [16, H, W]",
        14: "→ [32, ⌈H/2⌉, ⌈W/2⌉]",
        15: "→ [10]",
    }


async def test_hover_says_what_a_line_does(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    text = await spec.hover("stem: §conv")
    assert "conv(out, kernel, stride = 1" in text
    assert "`[3, H, W]` → `[16, H, W]`  — `stem` of `net`" in text
    assert "448 parameters, 442 k MACs a sample at H = 32, W = 32" in text
    assert "each element sees 3 elements of `image`" in text
    assert "- `1 of net`: [16, H, W] → [16, H, W]" in await spec.hover("§unit(16)")
    assert "= `16` in `1 of net`" in await spec.hover("conv(§width, 3)")


async def test_definitions_are_found(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    assert await spec.definition("§unit(16)") == [("net.arch", "unit")]
    assert await spec.definition("conv(§width, 3)") == [("net.arch", "width")]
    assert await spec.definition("§stride = 2") == [("net.arch", "stride")]


async def test_a_half_written_line_leaves_the_rest(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    spec.replace("    unit(16)\n", "    unit(16) -> \n    con")
    found = await spec.completion("    con§")
    assert {"conv", "concat"} <= found
    assert "stride" in await spec.completion("unit(32, §")
    assert 12 in await spec.hints()


# ---------------------------------------------------------------- fixes


async def test_a_fix_is_offered_that_works(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT.replace("unit(16)", "unitt(16)"))
    await spec.checked()
    (action,) = await spec.actions("unitt§(16)")
    assert (action.title, action.kind, action.is_preferred) == ("did you mean `unit`?", "quickfix", True)
    assert applied(spec.text, edits_of(action.edit)["net.arch"]) == TEXT
    assert [d.code for d in action.diagnostics] == ["E0201"]
    assert await spec.actions("§model net") == []


async def test_all_fixes_are_made_together(editor: Editor) -> None:
    wrong = TEXT.replace("-> batchnorm -> relu", "=> batchnorm | relu")
    spec = editor.open("net.arch", wrong)
    await spec.checked()
    (action,) = await spec.actions("§block", "source.fixAll")
    assert applied(spec.text, edits_of(action.edit)["net.arch"]) == TEXT


async def test_related_places_and_notes_are_told(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT.replace("if stride != 1 { conv(width, 1, stride) }", "conv(8, 1)"))
    found = await spec.checked()
    assert [d.code for d in found] == ["E0301"]
    assert "note: in block `unit` (`1`), called at net.arch:13" in found[0].message
    places = [r.location.range.start.line + 1 for r in found[0].related_information or ()]
    assert places == [3, 5]


async def test_a_spec_is_formatted(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT.replace("conv(width, 3)", "conv( width,3 )").replace("    relu", "  relu"))
    options = types.FormattingOptions(tab_size=4, insert_spaces=True)
    params = types.DocumentFormattingParams(spec.identifier, options)
    found = await editor.client.text_document_formatting_async(params)
    assert found is not None and len(found) == 2
    assert applied(spec.text, found) == format_text(TEXT, "net.arch")
    spec.replace("model net(", "model net((")
    with pytest.raises(JsonRpcException, match="not formatted"):
        await editor.client.text_document_formatting_async(params)


# ---------------------------------------------------------------- names, through files

BLOCKS = """\
block twice(width) {
    "The same convolution, two times."
    conv(width, 3) -> conv(width, 3)
}
"""
USER = """\
from blocks import twice

model net {
    input image[3, H, W]
    twice(8)
    twice(width = 16)
}
"""


async def test_names_are_followed_and_renamed_through_files(editor: Editor) -> None:
    editor.open("blocks.arch", BLOCKS)
    spec = editor.open("user.arch", USER)
    assert await spec.checked() == []
    assert await spec.definition("§twice(8)") == [("blocks.arch", "twice")]
    assert await spec.definition("twice(§width = 16)") == [("blocks.arch", "width")]
    assert await spec.references("§twice(8)") == [
        ("blocks.arch", 1),
        *(("user.arch", line) for line in (1, 5, 6)),
    ]
    assert await spec.renamed("§twice(8)", "double") == {
        "blocks.arch": BLOCKS.replace("twice", "double"),
        "user.arch": USER.replace("twice", "double"),
    }
    assert await spec.renamed("§width = 16", "channels") == {
        "blocks.arch": BLOCKS.replace("width", "channels"),
        "user.arch": USER.replace("width", "channels"),
    }


async def test_a_change_in_an_imported_file_is_seen(editor: Editor) -> None:
    blocks = editor.open("blocks.arch", BLOCKS)
    spec = editor.open("user.arch", USER)
    assert await spec.checked() == []
    blocks.replace("block twice(width)", "block twice(width, depth)")
    for _ in range(200):
        found = await spec.checked()
        if found:
            break
        await asyncio.sleep(0.02)
    assert {d.code for d in found} == {"E0207"}


async def test_a_rename_that_changes_a_meaning_is_refused(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    for place, name, why in (
        ("block §unit", "net", "would change what"),
        ("(§width, stride = 1", "stride", "would change what"),
        ("§batchnorm", "norm", "is a part of the language"),
        ("block §unit", "two words", "is not a name"),
    ):
        with pytest.raises(JsonRpcException, match=why):
            await spec.renamed(place, name)


async def test_the_library_is_not_renamed(editor: Editor) -> None:
    spec = editor.open("mine.arch", "from resnet import bottleneck\n")
    with pytest.raises(JsonRpcException, match="is a part of the library"):
        await spec.renamed("§bottleneck", "narrow")
    assert ("resnet.arch", 24) in await spec.references("§bottleneck")


# ---------------------------------------------------------------- what is shown


async def test_lenses_tell_numbers_and_choose_a_call(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    lenses = await spec.lenses()
    numbers, draw = lenses["net"]
    assert numbers.title == "20,042 parameters · 8.83 M MACs at H = 32, W = 32 · any H, W"
    assert (draw.title, draw.command) == ("draw", "archdsl.draw")
    (call,) = lenses["unit"]
    assert (call.title, call.command) == ("sizes of 1 of net (1 of 2 calls)", "archdsl.nextCall")
    await editor.client.workspace_execute_command_async(types.ExecuteCommandParams(call.command, call.arguments))
    assert (await spec.hints())[4] == "→ [32, ⌈H/2⌉, ⌈W/2⌉]"
    assert (await spec.lenses())["unit"][0].title == "sizes of 2 of net (2 of 2 calls)"


async def test_the_outline_and_the_folds(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    client, identifier = editor.client, spec.identifier
    symbols = await client.text_document_document_symbol_async(types.DocumentSymbolParams(identifier))
    assert [(s.name, s.detail, [c.name for c in s.children]) for s in symbols or ()] == [
        ("unit", "(width, stride = 1)", []),
        ("net", "(classes = 10)", ["image", "stem"]),
    ]
    folds = await client.text_document_folding_range_async(types.FoldingRangeParams(identifier))
    assert [(f.start_line, f.end_line) for f in folds or ()] == [(2, 4), (0, 6), (9, 14)]
    found = await client.workspace_symbol_async(types.WorkspaceSymbolParams("bottl"))
    assert "bottleneck" in {s.name for s in found or ()}


async def test_uses_are_highlighted(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    params = types.DocumentHighlightParams(spec.identifier, spec.at("conv(§width, 3)"))
    found = await editor.client.text_document_document_highlight_async(params)
    assert sorted(h.range.start.line + 1 for h in found or ()) == [1, 3, 4, 5]


async def test_words_have_colours(editor: Editor) -> None:
    spec = editor.open("net.arch", "# ünïcode 😀\nmodel net {\n    input x[3, H, W]\n    conv(4, 3) # 😀\n}\n")
    params = types.SemanticTokensParams(spec.identifier)
    found = await editor.client.text_document_semantic_tokens_full_async(params)
    assert found is not None
    data = list(found.data)
    assert [data[i : i + 3] for i in range(0, 15, 5)] == [[0, 0, spec.units("# ünïcode 😀")], [1, 0, 5], [0, 6, 3]]


async def test_positions_behind_characters_of_several_units(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT.replace('"Two convolutions', '"😀 Two convolutions'))
    spec.replace("around", "äround 😀😀")
    spec.replace('a skip."', 'a skïp." 1')
    (found,) = await spec.checked()
    assert found.range.start == spec.at('skïp." §1')
    spec.replace('skïp." 1', 'skïp."')
    assert await spec.checked() == []
    assert 12 in await spec.hints()


async def test_signatures_on_the_way(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT.replace("unit(32, stride = 2)", "unit(32, "))
    params = types.SignatureHelpParams(spec.identifier, spec.at("unit(32, §"))
    found = await editor.client.text_document_signature_help_async(params)
    assert found is not None and found.signatures[0].label == "unit(width, stride = 1)"
    assert found.active_parameter == 1


async def test_completion_knows_the_place(editor: Editor) -> None:
    spec = editor.open(
        "net.arch", "from resnet import b\n" + TEXT.replace("-> flatten ->", "-> flatten -> resize(it.) ->")
    )
    assert await spec.completion("it.§") == {"channels", "size", "shape"}
    assert {"bottleneck", "basic"} <= await spec.completion("import b§")
    spec.replace("unit(16)", "unit(16, )\n    conv(8, 3, pad = )\n    resize(image., mode = )\n    ")
    assert {"stride", "classes"} <= await spec.completion("unit(16, §)")
    assert {"same", "valid", "full"} <= await spec.completion("pad = §)")
    assert await spec.completion("resize(image.§, mode") == {"channels", "size", "shape"}
    assert "residual" in await spec.completion("    §stem:")


async def test_a_completion_replaces_what_is_written(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    edit = (await spec.written("uni§t(16)"))["unit"]
    assert edit.new_text.startswith("unit")
    assert applied(spec.text, [edit]) == TEXT.replace("unit(16)", f"{edit.new_text}t(16)", 1)
    edit = (await spec.written("rel§u"))["relu"]
    assert applied(spec.text, [edit]) == TEXT.replace("relu", "reluu", 1)


async def test_the_picture_knows_its_lines(editor: Editor) -> None:
    spec = editor.open("net.arch", TEXT)
    found = await editor.client.protocol.send_request_async("archdsl/preview", {"uri": spec.uri})
    assert found.model == "net" and "<svg" in found.svg
    lines = {box.goesTo[0] + 1 for box in found.boxes if box.goesTo}
    assert {11, 12, 13, 14, 15} <= lines


async def test_a_spec_that_asks_too_much_blocks_no_other(editor: Editor) -> None:
    heavy = "let xs = [i for i in 1]\n" + "\n".join(f"fn f{i}(x) = f{i + 1}(x) + f{i + 1}(x)" for i in range(30))
    heavy = (
        heavy.partition("\n")[2] + "\nfn f30(x) = x\nlet slow = f0(1)\nmodel m { input x[3, H, W]\n conv(slow, 1) }\n"
    )
    editor.open("heavy.arch", heavy)
    spec = editor.open("net.arch", TEXT)
    start = perf_counter()
    assert await spec.checked() == []
    assert perf_counter() - start < 5
