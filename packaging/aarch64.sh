#!/bin/sh
# Makes what the preset aarch64 needs, below build/: Debian's libraries of arm64, and Rust's for it.
# Nothing of the system is changed but what tools/install_packages.sh installs.
# usage: packaging/aarch64.sh
set -eu
cd "$(dirname "$0")/.."
tools/install_packages.sh g++-aarch64-linux-gnu qemu-user-static python3
root=build/aarch64-sysroot
libraries="libssl-dev libssl3 libfyaml-dev libfyaml0 libxxhash-dev libxxhash0 libfmt-dev libfmt9 libdnnl-dev
libdnnl2 libgtest-dev nlohmann-json3-dev libcli11-dev libeigen3-dev"
if [ "$(cat "$root/stamp" 2>/dev/null)" != "$libraries" ]; then
  # Lists of arm64 in a folder of their own, from the mirror and for the release of this system.
  apt=$PWD/build/aarch64-apt
  rm -rf "$root" "$apt"
  mkdir -p "$root" "$apt/lists/partial" "$apt/cache/archives/partial"
  mirror=$(apt-get --print-uris download libdnnl-dev | sed -n "s|^'\(.*\)/pool/.*|\1|p")
  release=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
  echo "deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$apt/list"
  get() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists="$apt/lists" \
      -o Dir::Cache="$apt/cache" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::sourcelist="$apt/list" \
      -o APT::Sandbox::User=root "$@"
  }
  get update
  # shellcheck disable=SC2086  # a list of words
  (cd "$apt" && get download $libraries)
  for package in "$apt"/*.deb; do dpkg -x "$package" "$root"; done
  echo "$libraries" >"$root/stamp"
fi
if ! rustc --print sysroot | xargs -I{} test -d {}/lib/rustlib/aarch64-unknown-linux-gnu; then
  command -v rustup >/dev/null ||
    { echo "aarch64.sh: Rust's library for aarch64-unknown-linux-gnu is missing, and rustup, which installs it" >&2; exit 1; }
  rustup target add aarch64-unknown-linux-gnu
fi
