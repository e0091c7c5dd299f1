#!/bin/sh
# What can be checked of packages without a network: that they can be made, twice with the same
# bytes, that the wheel's record is true, and that the program runs from the tarball and the wheel.
# usage: packaging/check_packages.sh PROGRAM BUILD CARGO ONEDNN VERSION OLDEST_GLIBC [LIBRARY...]
set -eu
program=$1 build=$2 cargo=$3 onednn=$4 version=$5 glibc=$6
shift 6
packaging/check_program.sh "$program" "$glibc" "$@"
work=$build/check_packages
rm -rf "$work"
packaging/stage.sh "$program" "$work/stage" "$cargo" "$onednn"
for out in first second; do
  python3 packaging/packages.py --stage "$work/stage" --version "$version" --machine "$(uname -m)" \
    --glibc "$glibc" --out "$work/$out"
done
diff -r "$work/first" "$work/second"

mkdir "$work/tar" "$work/wheel"
tar -xzf "$work"/first/lewis-*.tar.gz -C "$work/tar" --strip-components=1
python3 -m zipfile -e "$work"/first/lewis_merge-*.whl "$work/wheel"
"$work/tar/bin/lewis" --version
cmp "$program" "$work"/wheel/lewis_merge-*.data/scripts/lewis
# The system's configuration of OpenSSL, here one that provides nothing, must not matter.
printf 'openssl_conf = all\n[all]\nproviders = list\n[list]\nnull = on\n[on]\nactivate = 1\n' >"$work/openssl.cnf"
OPENSSL_CONF="$work/openssl.cnf" "$work/tar/bin/lewis" merge demo/recipe.yml "$work/merged" --no-guidance 2>"$work/error" ||
  { cat "$work/error" >&2; exit 1; }
[ -s "$work/tar/share/doc/lewis/NOTICE" ]
cd "$work/wheel"
python3 - lewis_merge-*.dist-info/RECORD <<'END'
import base64, csv, hashlib, pathlib, sys
listed = set()
for name, digest, size in csv.reader(open(sys.argv[1])):
    listed.add(name)
    data = pathlib.Path(name).read_bytes()
    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    assert digest in ("", "sha256=" + found) and size in ("", str(len(data))), name
assert listed == {str(path) for path in pathlib.Path().rglob("*") if path.is_file()}
END
