#!/bin/sh
# What can be checked of packages without a network: that they can be made, twice with the same
# bytes, and that the program runs from the tarball.
# usage: packaging/check_packages.sh PROGRAM BUILD CARGO ONEDNN VERSION OLDEST_GLIBC [LIBRARY...]
set -eu
program=$1 build=$2 cargo=$3 onednn=$4 version=$5 glibc=$6
shift 6
packaging/check_program.sh "$program" "$glibc" "$@"
work=$build/check_packages
rm -rf "$work"
packaging/stage.sh "$program" "$build/share" "$work/stage" "$cargo" "$onednn"
for out in first second; do
  python3 packaging/packages.py --stage "$work/stage" --version "$version" --machine "$(uname -m)" \
    --out "$work/$out"
done
diff -r "$work/first" "$work/second"

mkdir "$work/tar"
tar -xzf "$work"/first/lewis-*.tar.gz -C "$work/tar" --strip-components=1
"$work/tar/bin/lewis" --version
# The system's configuration of OpenSSL, here one that provides nothing, must not matter.
printf 'openssl_conf = all\n[all]\nproviders = list\n[list]\nnull = on\n[on]\nactivate = 1\n' >"$work/openssl.cnf"
OPENSSL_CONF="$work/openssl.cnf" "$work/tar/bin/lewis" merge demo/recipe.yml "$work/merged" --no-guidance 2>"$work/error" ||
  { cat "$work/error" >&2; exit 1; }
[ -s "$work/tar/share/doc/lewis/NOTICE" ]
