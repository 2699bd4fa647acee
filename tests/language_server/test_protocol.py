"""The language server as editors drive it: messages over its standard input, with their capabilities."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_lsp
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from tests.helpers import ROOT
from tests.language_server.editor import EDITORS, Editor, make_client

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
    await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=client_capabilities(request.param),
            root_uri=lsp_client.folder.as_uri(),  # type: ignore[attr-defined]
        )
    )
    yield
    await lsp_client.shutdown_session()


@pytest.fixture
def editor(client: LanguageClient) -> Editor:
    return Editor(client, client.folder)  # type: ignore[attr-defined]


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
