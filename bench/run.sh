#!/bin/sh
# Runs every benchmark of a build and prints its table. usage: bench/run.sh BUILD_FOLDER
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")/.."
echo "machine: $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-), $(nproc) cores"
for program in "$build"/*_bench; do
  printf '\n== %s\n' "$(basename "$program")"
  "$program"
done
