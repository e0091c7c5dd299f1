#!/bin/sh
# python_venv.sh FOLDER: makes a virtual environment with what python/requirements.txt names, unless
# it is there already. This needs the network once. PYTHON names the interpreter.
set -eu
folder=$1
cd "$(dirname "$0")/.."
[ ! -f "$folder/requirements.txt" ] || ! cmp -s python/requirements.txt "$folder/requirements.txt" || exit 0
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check -r python/requirements.txt
cp python/requirements.txt "$folder/requirements.txt"  # last: it says that everything is there
