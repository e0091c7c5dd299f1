#!/bin/sh
# The top of the demo's report as docs/report.png. By hand, after `make demo`; needs Chromium.
# usage: tools/report_screenshot.sh [PATH_OF_CHROMIUM]
set -eu
cd "$(dirname "$0")/.."
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"${1:-chromium}" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --user-data-dir="$profile" --hide-scrollbars --window-size=1140,1330 \
  --screenshot="$PWD/docs/report.png" "file://$PWD/demo/out/lewis/report.html" 2> "$profile/log"
ls -l docs/report.png
