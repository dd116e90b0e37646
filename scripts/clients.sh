#!/usr/bin/env bash
# Installs the real clients that relay/tests/clients.rs runs, into target/clients: libraries for Node, nostr-sdk for
# Python. Does nothing where they are there in the right versions, so that later runs need no network. (NDK's npm package
# names an editor and a highlighter of code, 90 MB, which its code never loads: package.json puts `ws` in their place.)
set -euo pipefail
cd "$(dirname "$0")/.."
from=relay/tests/clients
into="${CARGO_TARGET_DIR:-target}/clients"

installed() { # installed FILE STAMP: was exactly this file installed last time?
    cmp --silent "$1" "$2"
}

mkdir -p "$into"
if ! installed "$from/package-lock.json" "$into/node_modules/.installed"; then
    cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$into/"
    npm ci --prefix "$into" --ignore-scripts
    cp "$from/package-lock.json" "$into/node_modules/.installed"
fi
if ! installed "$from/requirements.txt" "$into/venv/.installed"; then
    rm -rf "$into/venv"
    python3 -m venv "$into/venv"
    "$into/venv/bin/pip" install --disable-pip-version-check --require-hashes --only-binary :all: -r "$from/requirements.txt"
    cp "$from/requirements.txt" "$into/venv/.installed"
fi
echo "the clients are ready in $into"
