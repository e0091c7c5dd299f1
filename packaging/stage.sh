#!/bin/sh
# Puts what a package holds into STAGE, in folders as below /usr.
# usage: packaging/stage.sh PROGRAM SHARE STAGE CARGO ONEDNN_ARCHIVE     (from the root of the repository)
# SHARE is the build's folder share, with manual pages and completions.
set -eu
program=$1 share=$2 stage=$3 cargo=$4 onednn=$5
rm -rf "$stage"
doc=$stage/share/doc/lewis
mkdir -p "$stage/bin" "$doc"
install -m 755 "$program" "$stage/bin/lewis"
install -m 644 README.md LICENSE "$doc/"
python3 packaging/notice.py --cargo "$cargo" --onednn "$(dirname "$onednn")" --out "$doc/NOTICE"
{ cat packaging/copyright.in; sed 's/^/ /; s/^ $/ ./' "$doc/NOTICE"; } >"$doc/copyright"

# Manual pages and completions, as `make install` installs them, but for where Debian's zsh looks.
cp -R "$share"/* "$stage/share/"
rm -f "$stage/share/stamp"
gzip -9n "$stage"/share/man/man1/*.1
mv "$stage/share/zsh/site-functions" "$stage/share/zsh/vendor-completions"
