#!/bin/sh
# Installs code-server, a VS Code for browsers, into the folder $1. Of its native parts only those are built that it needs
# to run: the others want system libraries. It runs with Node 20.
set -e
cd "$1"
[ -e node_modules/code-server/lib/vscode/node_modules/node-pty/build ] && exit 0
quiet="--no-audit --no-fund --ignore-scripts"
npm install $quiet --no-save code-server@4.100.3
npm rebuild argon2
cd node_modules/code-server/lib/vscode
npm install $quiet --omit=dev --legacy-peer-deps
npm rebuild native-watchdog @vscode/spdlog @parcel/watcher
(cd extensions && npm install $quiet --omit=dev --legacy-peer-deps)
cd node_modules/node-pty
npx --yes node-gyp rebuild
