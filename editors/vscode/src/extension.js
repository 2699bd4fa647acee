// The extension: starts the language server, and adds the preview, the choice of a call, and the build.
"use strict";
const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");
const { Preview } = require("./preview");

let client;
let preview;

function settings() {
    return vscode.workspace.getConfiguration("archdsl");
}

function makeClient() {
    const [command, ...args] = settings().get("command");
    const options = {
        documentSelector: [{ language: "arch" }],
        initializationOptions: {
            inlayHints: settings().get("inlayHints"),
            previewCommand: "archdsl.preview",
            callCommand: "archdsl.chooseCall",
        },
        synchronize: { configurationSection: "archdsl" },
    };
    const run = { command, args: [...args, "lsp"], transport: TransportKind.stdio };
    return new LanguageClient("archdsl", "archdsl", { run, debug: run }, options);
}

async function start() {
    client = makeClient();
    try {
        await client.start();
    } catch (error) {
        const choice = await vscode.window.showErrorMessage(
            `archdsl could not be started (${error.message}). Install it with pip install 'archdsl[editor]', ` +
                "and set archdsl.command to where it is.",
            "Open Settings",
        );
        if (choice) {
            await vscode.commands.executeCommand("workbench.action.openSettings", "archdsl.command");
        }
    }
}

async function restart() {
    if (client) {
        await client.stop().catch(() => {});
    }
    await start();
}

// Lets the user choose the call of a block whose sizes are shown.
async function chooseCall(uri, name) {
    const calls = await client.sendRequest("archdsl/calls", { uri, name });
    const items = calls.map((call) => ({ label: call.title, description: call.sizes, call }));
    const chosen = await vscode.window.showQuickPick(items, { placeHolder: `Show the sizes in a call of ${name}` });
    if (chosen) {
        const args = [uri, name, chosen.call.model, chosen.call.path];
        await client.sendRequest("workspace/executeCommand", { command: "archdsl.showCall", arguments: args });
    }
}

// Builds a model of the current file in a terminal, where its output can be read.
async function build() {
    const editor = vscode.window.activeTextEditor;
    if (!editor || editor.document.languageId !== "arch") {
        return;
    }
    if (editor.document.isUntitled || !(await editor.document.save())) {
        vscode.window.showWarningMessage("Save the spec before building it.");
        return;
    }
    const uri = editor.document.uri.toString();
    const models = await client.sendRequest("archdsl/models", { uri });
    if (!models.length) {
        vscode.window.showWarningMessage("This file has no model that can be built without further values.");
        return;
    }
    const model = models.length === 1 ? models[0] : await vscode.window.showQuickPick(models, { placeHolder: "Build which model?" });
    if (!model) {
        return;
    }
    const folder = vscode.Uri.joinPath(editor.document.uri, "..");
    const target = await vscode.window.showSaveDialog({
        defaultUri: vscode.Uri.joinPath(folder, `${model}.py`),
        filters: { Python: ["py"] },
    });
    if (!target) {
        return;
    }
    const [command, ...args] = settings().get("command");
    const execution = new vscode.ProcessExecution(command, [
        ...args, "build", `${editor.document.uri.fsPath}:${model}`, "-o", target.fsPath,
    ]);
    const task = new vscode.Task({ type: "archdsl" }, vscode.TaskScope.Workspace, `build ${model}`, "archdsl", execution);
    const running = await vscode.tasks.executeTask(task);
    const done = vscode.tasks.onDidEndTaskProcess(async (event) => {
        if (event.execution === running) {
            done.dispose();
            if (event.exitCode === 0) {
                await vscode.window.showTextDocument(target, { viewColumn: vscode.ViewColumn.Beside });
            }
        }
    });
}

async function activate(context) {
    preview = new Preview(context, () => client, settings);
    context.subscriptions.push(
        preview,
        vscode.commands.registerCommand("archdsl.preview", (uri, model) => preview.open(uri, model)),
        vscode.commands.registerCommand("archdsl.chooseCall", chooseCall),
        vscode.commands.registerCommand("archdsl.build", build),
        vscode.commands.registerCommand("archdsl.restart", restart),
        vscode.workspace.onDidChangeConfiguration((event) => {
            if (event.affectsConfiguration("archdsl.command")) {
                restart();
            }
        }),
    );
    await start();
}

async function deactivate() {
    if (client) {
        await client.stop();
    }
}

module.exports = { activate, deactivate };
