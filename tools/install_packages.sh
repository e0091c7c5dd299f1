#!/bin/sh
# Installs what the build needs and is missing, on Debian 12 or later. Says what it installs; does
# nothing (and asks for nothing) when everything is there. Extra packages may be given as arguments;
# "tests" stands for all that `make test` needs beside the build, "dist" for what `make dist` does.
set -eu
packages="g++ cmake ninja-build pkg-config ca-certificates libdnnl-dev libfyaml-dev nlohmann-json3-dev
libcli11-dev libeigen3-dev libfmt-dev libssl-dev libxxhash-dev"
for extra; do
  [ "$extra" != tests ] || extra="libgtest-dev mold clang-format-14 shellcheck g++-aarch64-linux-gnu libclang-rt-14-dev
    git python3-dev python3-venv zsh fish mandoc slurm-wlm munge
    libopenmpi-dev openmpi-bin"
  [ "$extra" != dist ] || extra="python3-dev python3-venv"
  packages="$packages $extra"
done
command -v cargo >/dev/null || packages="$packages cargo-web rustc-web"

missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || { echo "lewis needs these packages (Debian names):$missing" >&2; exit 1; }
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "lewis: installing Debian packages:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
