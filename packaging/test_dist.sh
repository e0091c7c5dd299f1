#!/bin/sh
# Installs each package on clean Debian systems, uses it, and removes it again. Nothing may be left.
# usage: packaging/test_dist.sh DIST [SYSTEM...]   (default: bullseye trixie, which are Debian 11 and 13)
# Needs root, debootstrap and Debian's mirror. The systems stay in build/systems for the next run;
# each test works on a copy.
set -eu
cd "$(dirname "$0")/.."
dist=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- bullseye trixie
[ "$(id -u)" = 0 ] || { echo "test_dist.sh: needs root, for chroot" >&2; exit 1; }
mirror=$(apt-get --print-uris download libdnnl-dev | sed -n "s|^'\(.*\)/pool/.*|\1|p")
systems=build/systems
mkdir -p "$systems"

# What a user does, in the chroot. $1 is the program. The results must be those of this machine.
cat >"$systems/use.sh" <<'END'
set -eu
lewis=$1
cd /demo
"$lewis" --version
"$lewis" --help >/dev/null
"$lewis" merge demo/recipe.yml /tmp/out 2>/dev/null >/dev/null
"$lewis" verify /tmp/out >/dev/null
"$lewis" eval demo/models/math /tmp/out --task loss:demo/data/math_test.jsonl:gsm8k --limit 8 \
  --output-path /tmp/eval 2>/dev/null
sha256sum /tmp/out/*.safetensors | cut -d' ' -f1 >/tmp/sums
if "$lewis" merge demo/missing.yml /tmp/none 2>/tmp/error; then exit 1; fi
grep -q 'missing.yml' /tmp/error
END

# Everything on the system but what a package manager notes about its own work.
list_files() {
  find "$1" -xdev \( -path "$1/var/lib/dpkg" -o -path "$1/var/log" -o -path "$1/var/cache" -o -path "$1/proc" \
    -o -path "$1/tmp" -o -path "$1/root" -o -path "$1/demo" -o -name __pycache__ \) -prune -o -print | sort
}

# use KIND INSTALL PROGRAM REMOVE: one package on a copy of the system.
use() {
  kind=$1 install=$2 program=$3 remove=$4
  rm -rf --one-file-system "$systems/test"
  cp -a "$systems/$system" "$systems/test"
  cp -r demo "$systems/test/demo.source"
  mkdir -p "$systems/test/demo" "$systems/test/dist"
  mv "$systems/test/demo.source" "$systems/test/demo/demo"
  cp "$dist"/* "$systems/test/dist/"
  cp "$systems/use.sh" "$systems/test/use.sh"
  list_files "$systems/test" >"$systems/before"
  in_test sh -ec "$install" >"$systems/log" 2>&1 || { tail -20 "$systems/log"; echo "$system, $kind: cannot be installed" >&2; exit 1; }
  in_test sh /use.sh "$program" || { echo "$system, $kind: does not work" >&2; exit 1; }
  [ ! -s "$systems/sums" ] || cmp "$systems/sums" "$systems/test/tmp/sums" ||
    { echo "$system, $kind: merged other bytes" >&2; exit 1; }
  cp "$systems/test/tmp/sums" "$systems/sums"
  in_test sh -ec "$remove" >"$systems/log" 2>&1 || { tail -20 "$systems/log"; exit 1; }
  list_files "$systems/test" >"$systems/after"
  diff "$systems/before" "$systems/after" || { echo "$system, $kind: leaves something" >&2; exit 1; }
  echo "$system, $kind: installed, used, removed"
  rm -rf --one-file-system "$systems/test"
}
in_test() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$systems/test" "$@"; }

rm -f "$systems/sums"
for system; do
  if [ ! -e "$systems/$system/ready" ]; then
    rm -rf --one-file-system "${systems:?}/$system"
    debootstrap --variant=minbase --include=python3,python3-pip,python3-venv "$system" "$systems/$system" "$mirror" >"$systems/log" ||
      { tail -5 "$systems/log"; exit 1; }
    touch "$systems/$system/ready"
  fi
  use tarball 'mkdir /opt/lewis && tar -xzf /dist/lewis-*.tar.gz -C /opt/lewis --strip-components=1' \
    /opt/lewis/bin/lewis 'rm -r /opt/lewis'
  use deb 'dpkg -i /dist/lewis_*.deb' lewis 'dpkg --purge lewis'
  use wheel 'python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-index --no-deps --find-links /dist lewis-merge && use_module' \
    /opt/venv/bin/lewis '/opt/venv/bin/pip uninstall -y lewis-merge && find /opt/venv -name "*lewis*" | grep . && exit 1; rm -r /opt/venv'
done
