#!/bin/sh
# Compiles what a merge consists of for aarch64, without linking it. Libraries are taken from this
# machine's headers, behind the cross compiler's own.
set -eu
cd "$(dirname "$0")/.."
tools/install_packages.sh g++-aarch64-linux-gnu
for source in src/base/*.cc src/io/*.cc src/recipe/*.cc $(find src/merge -name '*.cc'); do
  aarch64-linux-gnu-g++ -std=c++20 -fsyntax-only -ffp-contract=off -Wall -Wextra -Werror \
    -Wno-missing-field-initializers -DLEWIS_VECTORIZED= -Isrc \
    -idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu" "$source"
done
