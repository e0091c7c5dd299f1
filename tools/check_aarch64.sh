#!/bin/sh
# Checks that what a merge consists of compiles for aarch64; nothing is linked. Libraries are taken
# from this machine's headers, behind the cross compiler's own. Every source is compiled alone here,
# so a source that lacks an #include fails here even where the build joins sources.
# usage: tools/check_aarch64.sh [ROOM...]   (default: all five rooms)
# JOBS: how many compilers run at once (default: 1)
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- base io yaml recipe merge
sources=$(for room; do find "src/$room" -name '*.cc' | sort; done)
echo "$sources" |
  xargs -P "${JOBS:-1}" -n 1 aarch64-linux-gnu-g++ -std=c++20 -fsyntax-only -Wall -Wextra -Werror \
    -Wno-missing-field-initializers -DLEWIS_VECTORIZED= -DOPENSSL_SUPPRESS_DEPRECATED -Isrc -Iinclude \
    -idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu"
