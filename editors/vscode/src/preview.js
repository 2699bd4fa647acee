// The preview: the diagram of the model at the cursor, beside the text. It follows edits and the cursor; a click on a
// box moves the cursor to its line.
"use strict";
const crypto = require("crypto");
const vscode = require("vscode");

const PAUSE = 150;

class Preview {
    constructor(context, client, settings) {
        this.context = context;
        this.client = client;
        this.settings = settings;
        this.panel = undefined;
        this.editor = undefined;
        this.model = undefined; // the one that was asked for by name, until the cursor is in another
        this.timer = undefined;
        this.asked = 0;
        this.subscriptions = [
            vscode.workspace.onDidChangeTextDocument((event) => {
                if (this.editor && event.document === this.editor.document) {
                    this.later();
                }
            }),
            vscode.window.onDidChangeTextEditorSelection((event) => this.followCursor(event.textEditor)),
            vscode.window.onDidChangeActiveTextEditor((editor) => {
                if (this.panel && editor && editor.document.languageId === "arch" && editor !== this.editor) {
                    this.editor = editor;
                    this.model = undefined;
                    this.later();
                }
            }),
            vscode.window.onDidChangeActiveColorTheme(() => this.later()),
        ];
    }

    dispose() {
        clearTimeout(this.timer);
        this.subscriptions.forEach((subscription) => subscription.dispose());
        if (this.panel) {
            this.panel.dispose();
        }
    }

    async open(uri, model) {
        const editors = vscode.window.visibleTextEditors.filter((e) => e.document.languageId === "arch");
        const wanted = typeof uri === "string" ? uri : undefined;
        this.editor =
            editors.find((e) => e.document.uri.toString() === wanted) || vscode.window.activeTextEditor || editors[0];
        this.model = typeof model === "string" ? model : undefined;
        if (!this.panel) {
            const options = { enableScripts: true, retainContextWhenHidden: true, localResourceRoots: [] };
            const column = { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true };
            this.panel = vscode.window.createWebviewPanel("archdsl.preview", "Preview", column, options);
            this.panel.webview.html = page();
            this.panel.webview.onDidReceiveMessage((message) => this.clicked(message));
            this.panel.onDidDispose(() => {
                this.panel = undefined;
            });
        }
        await this.draw();
    }

    later() {
        if (this.panel) {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.draw(), PAUSE);
        }
    }

    theme() {
        const chosen = this.settings().get("preview.theme");
        if (chosen !== "auto") {
            return chosen;
        }
        const kinds = vscode.ColorThemeKind;
        return [kinds.Dark, kinds.HighContrast].includes(vscode.window.activeColorTheme.kind) ? "dark" : "light";
    }

    async draw() {
        const editor = this.editor;
        const client = this.client();
        if (!this.panel || !editor || !client) {
            return;
        }
        const number = ++this.asked;
        const cursor = editor.selection.active;
        const params = {
            uri: editor.document.uri.toString(),
            model: this.model,
            position: { line: cursor.line, character: cursor.character },
            theme: this.theme(),
        };
        let drawn;
        try {
            drawn = await client.sendRequest("archdsl/preview", params);
        } catch (error) {
            return; // the text has changed meanwhile: it is asked again
        }
        if (number !== this.asked || !this.panel || !drawn) {
            return;
        }
        this.shown = drawn.svg ? drawn.model : this.shown;
        this.panel.title = drawn.model ? `Preview: ${drawn.model}` : "Preview";
        this.panel.webview.postMessage({ kind: "drawn", ...drawn });
        this.sendCursor(editor);
    }

    followCursor(editor) {
        if (!this.panel || editor.document.languageId !== "arch") {
            return;
        }
        this.editor = editor;
        this.sendCursor(editor);
        this.later(); // the cursor may be in another model
        this.model = undefined;
    }

    sendCursor(editor) {
        const { line, character } = editor.selection.active;
        this.panel.webview.postMessage({ kind: "cursor", line, character });
    }

    async clicked({ file, range }) {
        const [line, character] = range;
        const uri = file ? vscode.Uri.parse(file) : this.editor.document.uri;
        const column = this.editor ? this.editor.viewColumn : vscode.ViewColumn.One;
        const editor = await vscode.window.showTextDocument(uri, { viewColumn: column, preview: true });
        const place = new vscode.Position(line, character);
        editor.selection = new vscode.Selection(place, place);
        editor.revealRange(new vscode.Range(place, place), vscode.TextEditorRevealType.InCenterIfOutsideViewport);
    }
}

// The page shows the picture, marks the box of the cursor, zooms with the wheel, and reports clicks. The picture is
// parsed as an image of its own, and brings no script: the policy allows only the page's.
function page() {
    const nonce = crypto.randomBytes(16).toString("hex");
    const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-${nonce}'`;
    return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<style>
body { margin: 0; padding: 0; overflow: hidden; }
#error { display: none; padding: 6px 12px; white-space: pre-wrap;
    color: var(--vscode-inputValidation-errorForeground, inherit);
    background: var(--vscode-inputValidation-errorBackground, #fdd);
    border-bottom: 1px solid var(--vscode-inputValidation-errorBorder, #d00); }
#picture { height: 100vh; overflow: auto; text-align: center; }
#picture svg { max-width: none; }
#picture.stale { opacity: 0.5; }
g.node, g.cluster { cursor: pointer; }
g.here > g polygon, g.here > g path, g.here > g ellipse { stroke: #d55e00; stroke-width: 3px; }
</style>
</head>
<body>
<div id="error" role="status"></div>
<div id="picture" tabindex="0" aria-label="the diagram"></div>
<script nonce="${nonce}">
const vscode = acquireVsCodeApi();
const picture = document.getElementById("picture");
const error = document.getElementById("error");
let boxes = [], cursor = { line: -1, character: 0 }, zoom = 1, width = 0, model = "";

function size() {
    const svg = picture.querySelector("svg");
    if (svg) {
        svg.setAttribute("width", width * zoom + "px");
        svg.removeAttribute("height");
    }
}
function group(id) {
    return [...picture.querySelectorAll("g.node, g.cluster")].find((g) => {
        const title = g.querySelector(":scope > title");
        return title && (g.dataset.id || title.textContent) === id;
    });
}
function contains([line, column, lastLine, lastColumn]) {
    const { line: l, character: c } = cursor;
    return (l > line || (l === line && c >= column)) && (l < lastLine || (l === lastLine && c <= lastColumn));
}
function onLine([line, , lastLine]) {
    return line === cursor.line && lastLine === cursor.line;
}
function extent([line, column, lastLine, lastColumn]) {
    return (lastLine - line) * 10000 + lastColumn - column;
}
function mark(scroll) {
    picture.querySelectorAll(".here").forEach((g) => g.classList.remove("here"));
    let best = Infinity;
    const found = [];
    for (const box of boxes) {
        let near = Infinity;
        for (const range of box.covers) {
            if (contains(range) || onLine(range)) {
                near = Math.min(near, extent(range) + (contains(range) ? 0 : 5000));
            }
        }
        if (near < Infinity) {
            found.push([near, box]);
            best = Math.min(best, near);
        }
    }
    const marked = found.filter(([near]) => near === best).map(([, box]) => group(box.id)).filter(Boolean);
    marked.forEach((g) => g.classList.add("here"));
    if (scroll && marked.length) {
        const place = marked[0].getBoundingClientRect();
        if (place.top < 0 || place.bottom > innerHeight || place.left < 0 || place.right > innerWidth) {
            marked[0].scrollIntoView({ block: "center", inline: "center", behavior: "smooth" });
        }
    }
}
addEventListener("message", ({ data }) => {
    if (data.kind === "cursor") {
        cursor = data;
        mark(true);
        return;
    }
    error.style.display = data.error ? "block" : "none";
    error.textContent = data.error || "";
    picture.classList.toggle("stale", Boolean(data.error));
    if (!data.svg) {
        return;
    }
    const svg = new DOMParser().parseFromString(data.svg, "image/svg+xml").documentElement;
    width = parseFloat(svg.getAttribute("width")) * 4 / 3;
    const { scrollTop, scrollLeft } = picture;
    picture.replaceChildren(document.importNode(svg, true));
    picture.querySelectorAll("g.node, g.cluster").forEach((g) => {
        const title = g.querySelector(":scope > title");
        g.dataset.id = title ? title.textContent : "";
        if (title) { title.textContent = ""; }
    });
    if (data.model !== model) {
        model = data.model;
        zoom = Math.min(1, Math.max(0.3, (innerWidth - 24) / width));
    } else {
        Object.assign(picture, { scrollTop, scrollLeft });
    }
    boxes = data.boxes;
    size();
    mark(false);
});
picture.addEventListener("click", (event) => {
    const g = event.target.closest("g.node, g.cluster");
    const box = g && boxes.find((b) => b.id === g.dataset.id);
    if (box && box.goesTo) {
        vscode.postMessage({ file: box.file, range: box.goesTo });
    }
    event.preventDefault();
});
picture.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom = Math.min(4, Math.max(0.1, zoom * Math.exp(-event.deltaY / 300)));
        size();
    }
}, { passive: false });
picture.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "-") {
        zoom = Math.min(4, Math.max(0.1, zoom * (event.key === "+" ? 1.2 : 1 / 1.2)));
        size();
    }
});
</script>
</body>
</html>`;
}

module.exports = { Preview };
