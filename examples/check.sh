#!/bin/sh
# check.sh PROGRAM EXPECTED: runs an example and compares what it prints with the file.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
LEWIS_CACHE="$scratch/cache" "$1" > "$scratch/printed"
diff -u "$2" "$scratch/printed"
