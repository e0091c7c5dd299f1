#!/bin/sh
# Builds the static oneDNN that portable programs are linked with: OUT/libdnnl.a and OUT/LICENSES.
# usage: packaging/build_onednn.sh [OUT]   (default: build/onednn)
# JOBS: compilers at once (default: all cores). CC, CXX, SYSTEM_PROCESSOR: for another architecture.
# SOURCES: a folder that may hold the source already, instead of Debian's mirror.
#
# Debian has oneDNN as a shared library only. This is the source of the same version, from the mirror
# that apt is configured with, identified by its hash. Nothing is installed. The library has no
# threads of its own, because compute/ runs it on the calling thread only. It holds what compute/
# needs: matrix multiplications, conversions of layout, and their code generators.
set -eu
cd "$(dirname "$0")/.."
out=${1:-build/onednn}
version=2.6.3
sha256=fd47d2470000b5015f6e34134f799683050f81cbc04f53a3b0d323df1bb900bc
archive=onednn_$version.orig.tar.gz
stamp="$version ${CXX:-g++} $(cat packaging/build_onednn.sh packaging/onednn/* | cksum)"
[ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
mkdir -p "$out"
out=$(realpath "$out")

verified() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum --check --status; }
source=${SOURCES:-build/sources}/$archive
if ! verified "$source"; then
  mkdir -p build/sources
  source=build/sources/$archive
  mirror=$(apt-get --print-uris download libdnnl-dev | sed -n "s|^'\([^']*\)/[^/]*'.*|\1|p")
  /usr/lib/apt/apt-helper download-file "$mirror/$archive" "$source" "SHA256:$sha256" >/dev/null ||
    { echo "build_onednn.sh: the mirror has no $archive; put it into the folder SOURCES" >&2; exit 1; }
fi

rm -rf "$out/source" "$out/build"
mkdir -p "$out/source"
tar -xzf "$source" -C "$out/source" --strip-components=1

# Debian's own hardening is left out, as in the compiler's default. -O2 is enough: the code that
# multiplies is generated at run time.
cmake -S "$out/source" -B "$out/build" -G Ninja -Wno-dev --log-level=ERROR \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG -ffunction-sections -fdata-sections" \
  -DCMAKE_C_FLAGS_RELEASE="-O2 -DNDEBUG" -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
  ${SYSTEM_PROCESSOR:+-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$SYSTEM_PROCESSOR"} \
  ${CXX:+-DCMAKE_CXX_COMPILER="$CXX"} ${CC:+-DCMAKE_C_COMPILER="$CC"} \
  -DDNNL_LIBRARY_TYPE=STATIC -DDNNL_CPU_RUNTIME=SEQ -DDNNL_GPU_RUNTIME=NONE -DDNNL_ARCH_OPT_FLAGS= \
  -DDNNL_BUILD_EXAMPLES=OFF -DDNNL_BUILD_TESTS=OFF -DDNNL_ENABLE_JIT_PROFILING=OFF \
  -DDNNL_ENABLE_ITT_TASKS=OFF -DDNNL_ENABLE_WORKLOAD=INFERENCE \
  -DDNNL_ENABLE_PRIMITIVE="MATMUL;REORDER" -DCMAKE_PROJECT_INCLUDE="$PWD/packaging/onednn/select.cmake"

ninja -C "$out/build" -j "${JOBS:-$(nproc)}" dnnl
cp "$out/build/src/libdnnl.a" "$out/libdnnl.a"
cp "$out/source/LICENSE" "$out/LICENSE"
cp "$out/source/THIRD-PARTY-PROGRAMS" "$out/THIRD-PARTY-PROGRAMS"
rm -rf "$out/source" "$out/build"
echo "$stamp" >"$out/stamp"
