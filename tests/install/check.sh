#!/bin/sh
# check.sh SOURCE BUILD CMAKE: installs BUILD into an empty folder; a program finds lewis there by
# CMake and by pkg-config, links it, and merges the same bytes as the command line does. The shared
# library shows only what include/lewis declares.
set -eu
source=$1 build=$2 cmake=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix
export LEWIS_CACHE="$scratch/cache"
"$cmake" --install "$build" --prefix "$prefix" > "$scratch/install.log"
library=$(find "$prefix" -name 'liblewis.so' | head -1)
libraries=$(dirname "$library")

echo "-- by find_package"
"$cmake" -S "$source/tests/install/program" -B "$scratch/by_cmake" -DCMAKE_PREFIX_PATH="$prefix" \
  --log-level=WARNING
"$cmake" --build "$scratch/by_cmake" > "$scratch/build.log" || { cat "$scratch/build.log"; exit 1; }

echo "-- by pkg-config"
export PKG_CONFIG_PATH="$libraries/pkgconfig"
mkdir "$scratch/by_pkg_config"
# shellcheck disable=SC2046  # the flags are several words
c++ -std=c++20 "$source/tests/install/program/main.cc" $(pkg-config --cflags --libs lewis) \
  -Wl,-rpath,"$libraries" -o "$scratch/by_pkg_config/program"

echo "-- the same bytes as the command line"
cd "$source"
recipe=demo/recipe.yml
"$prefix/bin/lewis" merge "$recipe" "$scratch/expected" --quiet
"$prefix/bin/lewis" convert "$scratch/expected" "$scratch/expected.gguf" --type q4_k_m --quiet
size() { sed -n 's/.*"verified_bytes": //p'; }
verified=$("$prefix/bin/lewis" verify "$scratch/expected" --quiet --json | size)
for by in by_cmake by_pkg_config; do
  "$scratch/$by/program" "$recipe" "$scratch/$by/out" \
    > "$scratch/$by/printed" 2> "$scratch/$by/err"
  cmp "$scratch/expected/model.safetensors" "$scratch/$by/out/model.safetensors"
  grep -q '^lewis [0-9.]*: {' "$scratch/$by/printed"
  grep -q 'merging' "$scratch/$by/err"
  [ "$(size < "$scratch/$by/printed")" -gt 0 ] && [ "$verified" -gt 0 ]
  grep -qx 'status: complete' "$scratch/$by/printed"
  grep -qx 'llama' "$scratch/$by/printed"
  # The tensors of the file; its name stands before them.
  tail -c 1000000 "$scratch/expected.gguf" > "$scratch/tensors"
  tail -c 1000000 "$scratch/$by/out.gguf" | cmp - "$scratch/tensors"
done

echo "-- each header stands alone"
for header in "$source"/include/lewis/*.h; do
  echo "#include <lewis/$(basename "$header")>" > "$scratch/one.cc"
  c++ -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" "$scratch/one.cc"
done

echo "-- only public names are visible"
# "typeinfo for lewis::Error" -> "lewis::Error"; then its words must be in the headers.
nm -D --defined-only -C "$library" | cut -c20- | sed 's/@@.*//' | grep -v '^LEWIS_' \
  > "$scratch/names"
if grep -v '^\(typeinfo for \|typeinfo name for \|vtable for \|\)lewis::' "$scratch/names"; then
  echo "these names do not belong to lewis"
  exit 1
fi
sed 's/.* for //; s/\[abi:[a-z0-9]*\]//g; s/(.*//; s/.*:://; s/^~//' "$scratch/names" |
  sort -u > "$scratch/words"
while read -r word; do
  grep -qw -- "$word" "$source"/include/lewis/*.h ||
    { echo "$word is visible, but not public"; exit 1; }
done < "$scratch/words"
for word in merge plan calibrate evaluate report tune merge_tensors open_checkpoint memory_source \
  extract convert verify status prove pull push; do
  grep -qx "$word" "$scratch/words" || { echo "$word is not visible"; exit 1; }
done
echo "$(wc -l < "$scratch/names") names are visible"
