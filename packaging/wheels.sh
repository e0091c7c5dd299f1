#!/bin/sh
# Makes the wheels lewis-merge in BUILD/wheels: one for each PYTHON, and one with the program alone,
# which serves all other versions of Python.
# usage: packaging/wheels.sh BUILD MACHINE [PYTHON...]   (from the root of the repository)
# BUILD is configured with LEWIS_PORTABLE and built. scikit-build-core works in it, so it compiles the
# module only. With no PYTHON, only the wheel without a module is made.
set -eu
build=$1 platform=manylinux_2_28_$2
shift 2
out=$build/wheels
rm -rf "$out"
mkdir -p "$out"

# wheel VENV [OPTION...]: one wheel. Its tag says which glibc the packages need, as check_program.sh holds.
wheel() {
  venv=$1
  shift
  # scikit-build-core would configure anew, and compile everything, for another interpreter than the last one.
  rm -rf "$out/one" "$build/.skbuild-info.json"
  "$venv/bin/pip" wheel --quiet --no-deps --no-build-isolation --disable-pip-version-check --wheel-dir "$out/one" \
    --config-settings=build-dir="$build" --config-settings=cmake.define.LEWIS_PORTABLE=ON "$@" .
  "$venv/bin/python" -m wheel tags --remove --platform-tag "$platform" "$out"/one/*.whl >/dev/null
  mv "$out"/one/*.whl "$out/"
  rm -r "$out/one"
}

[ -d build/venv ] || tools/python_venv.sh build/venv
LEWIS_WHEEL=program wheel build/venv
for python; do
  venv=build/venv-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  PYTHON=$python tools/python_venv.sh "$venv"
  wheel "$venv"
done
