#!/bin/sh
# check_python.sh BUILD VENV [pytest's arguments]: builds the Python module against the library of BUILD, checks its
# types, and runs its tests against the program of BUILD. LEWIS_WRITE_STUBS=1 writes the module's stub first.
set -eu
cd "$(dirname "$0")/.."
build=$(realpath "$1") venv=$(realpath "$2")
shift 2
work=$build/python
mkdir -p "$work"
cmake -S python -B "$work/build" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Release \
  -Dlewis_DIR="$build" -DPython_EXECUTABLE="$venv/bin/python" > "$work/build.log"
cmake --build "$work/build" >> "$work/build.log" || { cat "$work/build.log"; exit 1; }

package=$work/package
rm -rf "$package"
mkdir -p "$package"
cp -R python/lewis "$package/lewis"
cp "$work/build"/_lewis.*.so "$package/lewis/"
export PYTHONPATH="$package" PYTHONDONTWRITEBYTECODE=1 MYPY_CACHE_DIR="$work/mypy"
"$venv/bin/python" -m nanobind.stubgen -q -m lewis._lewis -o "$work/_lewis.pyi"
sed -i 's/os\.PathLike\b/os.PathLike[str]/' "$work/_lewis.pyi"
[ -z "${LEWIS_WRITE_STUBS:-}" ] || cp "$work/_lewis.pyi" python/lewis/
cp "$work/_lewis.pyi" "$package/lewis/"

echo "-- types"
diff python/lewis/_lewis.pyi "$work/_lewis.pyi" ||
  { echo "python/lewis/_lewis.pyi is not what the module is; LEWIS_WRITE_STUBS=1 tools/check_python.sh writes it"; exit 1; }
(cd "$package" && "$venv/bin/mypy" --strict -p lewis)
echo "-- tests"
LEWIS_BINARY="$build/lewis" LEWIS_HUB_SERVER="$build/lewis_hub_server" LEWIS_CACHE="$work/cache" "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@" python/tests
