"""The editors themselves with the language server: `make test-editors` makes them, and runs this.

Neovim is configured as docs/editors.md says; VS Code runs in Chromium, with the extension that `make vsix` packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest

from tests.helpers import ROOT

EDITORS = Path(os.environ.get("ARCHDSL_EDITORS", ROOT / ".venv-editors")).resolve()
PAGE = (ROOT / "docs" / "editors.md").read_text("utf-8")

WRONG = """\
block unit(width, stride = 1) {
    residual via { if stride != 1 { conv(width, 1, stride) } } {
        conv( width,3, stride) -> batchnorm -> relu
        conv(width, 3) -> batchnorm
    }
    relu
}

model net(classes = 10) {
    input image[3, H = 32, W = 32]
    stem: convv(16, 3)
    unit(16)
    unit(32, stride = 2)
    global_avgpool -> flatten -> linear(classes)
}
"""
RIGHT = WRONG.replace("convv", "conv").replace("conv( width,3, stride)", "conv(width, 3, stride)")

NEOVIM = """
local result = {}
local function until_(what, done)
  assert(vim.wait(60000, done, 50), "waited in vain for " .. what)
end
local function act()
  vim.cmd.edit("net.arch")
  local buffer = vim.api.nvim_get_current_buf()
  until_("a diagnostic", function()
    local found = vim.diagnostic.get(buffer)[1]
    return found and found.message:find("help:")
  end)
  result.diagnostics = vim.tbl_map(function(d) return { d.lnum + 1, d.code, d.message } end, vim.diagnostic.get(buffer))
  vim.api.nvim_win_set_cursor(0, { 11, 12 })
  vim.lsp.buf.code_action({ apply = true, filter = function(a) return a.kind == "quickfix" end })
  until_("the fix", function()
    return vim.api.nvim_buf_get_lines(buffer, 10, 11, true)[1] == "    stem: conv(16, 3)"
  end)
  until_("no diagnostic", function() return #vim.diagnostic.get(buffer) == 0 end)
  vim.lsp.buf.format({ timeout_ms = 60000 })
  result.formatted = table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, true), "\\n") .. "\\n"
  until_("hints", function() return #vim.lsp.inlay_hint.get({ bufnr = buffer }) > 0 end)
  vim.wait(1000)
  result.hints = vim.tbl_map(function(h)
    return { h.inlay_hint.position.line + 1, h.inlay_hint.label }
  end, vim.lsp.inlay_hint.get({ bufnr = buffer }))
  vim.api.nvim_win_set_cursor(0, { 12, 5 })
  vim.lsp.buf.rename("stage")
  until_("the new name", function() return vim.api.nvim_buf_get_lines(buffer, 0, 1, true)[1]:find("block stage") end)
  result.renamed = table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, true), "\\n") .. "\\n"
end
local fine, message = pcall(act)
result.error = not fine and message or nil
vim.fn.writefile({ vim.json.encode(result) }, "result.json")
vim.cmd("qall!")
"""


def test_neovim(tmp_path: Path) -> None:
    (config,) = re.findall(r"^## Neovim\n.*?^```lua\n(.*?)^```", PAGE, re.M | re.S)
    (tmp_path / "init.lua").write_text(config, "utf-8")
    (tmp_path / "act.lua").write_text(NEOVIM, "utf-8")
    (tmp_path / "net.arch").write_text(WRONG, "utf-8")
    (tmp_path / ".git").mkdir()
    nvim = EDITORS / "bin" / "nvim"
    command = [str(nvim), "--headless", "--clean", "-u", "init.lua", "-c", "luafile act.lua"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert "error" not in result, (result, done.stderr)
    ((line, code, message),) = result["diagnostics"]
    assert (line, code) == (11, "E0201") and "help: did you mean `conv`?" in message
    assert result["formatted"] == RIGHT
    assert [11, "→ [16, H, W]"] in result["hints"] and [13, "→ [32, ⌈H/2⌉, ⌈W/2⌉]"] in result["hints"]
    assert result["renamed"] == RIGHT.replace("unit", "stage")


# ---------------------------------------------------------------- Emacs

EMACS = """
(let ((old "/usr/share/emacs/site-lisp/elpa-src"))  ; Debian's packages, for an Emacs before 29
  (when (file-directory-p old) (dolist (d (directory-files old t "^[a-z]")) (add-to-list 'load-path d))))
(require 'eglot)
(setq eglot-confirm-server-initiated-edits nil)
(load-file "init.el")
(defun until (done)
  (let ((n 0))
    (while (and (< n 600) (not (funcall done))) (accept-process-output nil 0.1) (setq n (1+ n)))
    (unless (funcall done) (error "waited in vain for %S" done))))
(defun sent () (eglot--signal-textDocument/didChange))  ; which waits for an idle moment, and a script has none
(find-file "net.arch")
(apply #'eglot--connect (eglot--guess-contact))
(until #'eglot-managed-p)
(until #'flymake-diagnostics)
(defun told (d) (list (line-number-at-pos (flymake-diagnostic-beg d)) (flymake-diagnostic-text d)))
(let ((found (mapcar #'told (flymake-diagnostics))))
  (goto-char (point-min)) (search-forward "convv") (backward-char 2)
  (eglot--apply-workspace-edit (plist-get (aref (vconcat (eglot-code-actions (point) (point) nil nil)) 0) :edit))
  (sent)
  (eglot-format-buffer)
  (sent)
  (until (lambda () (not (flymake-diagnostics))))
  (goto-char (point-min)) (search-forward "block un")
  (eglot-rename "stage")
  (with-temp-file "result.el" (prin1 (list found) (current-buffer)))
  (write-region nil nil "renamed.arch"))
(kill-emacs 0)
"""


@pytest.mark.skipif(shutil.which("emacs") is None, reason="no Emacs: Debian's emacs-nox and elpa-eglot are enough")
def test_emacs(tmp_path: Path) -> None:
    (config,) = re.findall(r"^## Emacs\n.*?^```elisp\n(.*?)^```", PAGE, re.M | re.S)
    (tmp_path / "init.el").write_text(config.replace("#'eglot-ensure", "#'ignore"), "utf-8")  # the script connects
    (tmp_path / "act.el").write_text(EMACS, "utf-8")
    (tmp_path / "net.arch").write_text(WRONG, "utf-8")
    (tmp_path / ".git").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["emacs", "-Q", "--batch", "-l", "act.el"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = (tmp_path / "result.el").read_text("utf-8")
    assert "11 " in found and "E0201" in found and "convv" in found
    assert (tmp_path / "renamed.arch").read_text("utf-8") == RIGHT.replace("unit", "stage")


# ---------------------------------------------------------------- VS Code

EXTENSION = ROOT / "editors" / "vscode" / "archdsl.vsix"
SERVER = EDITORS / "node_modules" / "code-server" / "out" / "node" / "entry.js"
PATIENCE = 60_000
"""Milliseconds to wait for something to show: the machine may be busy."""


@pytest.fixture
def vscode(tmp_path: Path) -> Iterator[str]:
    """The address of a VS Code with the extension and a folder with a spec that has a mistake."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "net.arch").write_text(WRONG, "utf-8")
    settings = {
        "archdsl.command": [sys.executable, "-m", "archdsl"],
        "editor.inlayHints.enabled": "on",
        "security.workspace.trust.enabled": False,
        "workbench.startupEditor": "none",
        "workbench.tips.enabled": False,
        "files.autoSave": "off",
    }
    user = tmp_path / "data" / "User"
    user.mkdir(parents=True)
    (user / "settings.json").write_text(json.dumps(settings), "utf-8")
    (tmp_path / "config.yaml").write_text("auth: none\n", "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = ["--user-data-dir", tmp_path / "data", "--extensions-dir", tmp_path / "extensions"]
    command = ["node", SERVER, *folders, "--config", tmp_path / "config.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*map(str, command), "--install-extension", str(EXTENSION)], env=environment, check=True, timeout=240
    )
    quiet = ["--disable-telemetry", "--disable-update-check", "--disable-getting-started-override"]
    address = f"127.0.0.1:{port}"
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [*map(str, command), *quiet, "--bind-addr", address], env=environment, stdout=log, stderr=log
        )
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        sleep(0.1)
    yield f"http://{address}/?folder={tmp_path / 'specs'}"
    running.terminate()
    running.wait(30)


def test_vscode(vscode: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    pictures = EDITORS / "screenshots"
    pictures.mkdir(exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(vscode)
        page.get_by_role("treeitem", name="net.arch").dblclick()
        lines = page.locator(".view-lines").first
        expect(lines).to_contain_text("convv")
        # A mistake is shown, and its fix applied.
        expect(page.locator(".squiggly-error").first).to_be_visible()
        page.screenshot(path=pictures / "1-mistake.png")
        lines.get_by_text("convv").click()
        page.keyboard.press("Control+.")
        expect(page.locator(".action-widget")).to_contain_text("did you mean `conv`?")
        page.keyboard.press("Enter")
        expect(page.locator(".squiggly-error")).to_have_count(0)
        # Sizes stand behind lines, and numbers above the model.
        expect(lines).to_contain_text("[32,\u00a0⌈H/2⌉,\u00a0⌈W/2⌉]")
        expect(page.locator(".codelens-decoration").filter(has_text="parameters").first).to_be_visible()
        page.screenshot(path=pictures / "2-sizes.png")
        # The preview follows: a click on a box moves the cursor.
        page.locator(".codelens-decoration a", has_text="draw").first.click()
        shown = page.frame_locator("iframe.webview").frame_locator("iframe")
        expect(shown.locator("#picture svg")).to_be_visible()
        page.screenshot(path=pictures / "3-preview.png")
        shown.locator("g.node", has_text="image").first.click()
        expect(page.locator(".statusbar")).to_contain_text("Ln 10, Col 11")
        expect(shown.locator("g.node.here", has_text="image")).to_have_count(1)
        page.keyboard.press("Control+Home")
        page.locator(".view-lines").first.get_by_text("image", exact=False).first.click()
        page.keyboard.press("End")
        page.keyboard.type("\nrelu")
        expect(shown.locator("#picture")).to_contain_text("relu")
        page.screenshot(path=pictures / "4-edited.png")
        browser.close()
