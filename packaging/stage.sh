#!/bin/sh
# Puts what a package holds into STAGE, in folders as below /usr.
# usage: packaging/stage.sh PROGRAM STAGE CARGO ONEDNN_ARCHIVE     (from the root of the repository)
# RUN: how to run PROGRAM where it is for another architecture, for example qemu-aarch64-static
set -eu
program=$1 stage=$2 cargo=$3 onednn=$4
rm -rf "$stage"
doc=$stage/share/doc/lewis
mkdir -p "$stage/bin" "$doc" "$stage/share/man/man1"
install -m 755 "$program" "$stage/bin/lewis"
install -m 644 README.md LICENSE "$doc/"
python3 packaging/notice.py --cargo "$cargo" --onednn "$(dirname "$onednn")" --out "$doc/NOTICE"
{ cat packaging/copyright.in; sed 's/^/ /; s/^ $/ ./' "$doc/NOTICE"; } >"$doc/copyright"

# Both are made from the definitions that the command line is parsed with.
if ${RUN:-} "$program" man --out "$stage/share/man/man1" 2>/dev/null; then
  gzip -9n "$stage"/share/man/man1/*.1
else
  echo "stage.sh: this program prints no manual pages" >&2
fi
completion() {
  mkdir -p "$stage/$2"
  ${RUN:-} "$program" completion "$1" >"$stage/$2/$3" 2>/dev/null && [ -s "$stage/$2/$3" ] && return 0
  rm -f "$stage/$2/$3"
  echo "stage.sh: this program prints no completion for $1" >&2
}
completion bash share/bash-completion/completions lewis
completion zsh share/zsh/vendor-completions _lewis
completion fish share/fish/vendor_completions.d lewis.fish
find "$stage" -type d -empty -delete
