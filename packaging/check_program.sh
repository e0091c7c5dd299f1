#!/bin/sh
# Checks that PROGRAM runs on other machines: the libraries and versions that it needs, its size and
# the time that it takes to start. It needs no network.
# usage: packaging/check_program.sh PROGRAM OLDEST_GLIBC [LIBRARY...]   (libraries allowed beside glibc)
# RUN: how to run PROGRAM; "none": do not run it
set -eu
program=$1 oldest=$2
shift 2
failed=0
fail() {
  echo "check_program.sh: $program: $*" >&2
  failed=1
}

for library in $(readelf -dW "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
  case " libc.so.6 libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 $* " in
    *" $library "*) ;;
    *) fail "needs $library, which a machine may lack" ;;
  esac
done
for version in $(readelf -VW "$program" | grep -o 'GLIBC_[0-9A-Z_.]*' | sort -uV); do
  newest=$(printf '%s\n' "${version#GLIBC_}" "$oldest" | sort -V | tail -1)
  [ "$newest" = "$oldest" ] || fail "needs $version, and glibc $oldest is the limit"
done
# A name without a version must be one that may be missing.
missing=$(readelf -W --dyn-syms "$program" | awk '$7 == "UND" && $5 != "WEAK" && $8 != "" && $8 !~ /@/ {print $8}')
[ -z "$missing" ] || [ $# -gt 0 ] || fail "needs symbols of no version: $missing"
readelf -dW "$program" | grep -E '\((RPATH|RUNPATH|TEXTREL)\)' && fail "has a search path or writes to its code"
readelf -lW "$program" | grep GNU_STACK | grep -q 'RWE' && fail "has an executable stack"

size=$(stat -c %s "$program")
[ "$size" -lt 25000000 ] || fail "has $size bytes; the limit is 25,000,000"

if [ "${RUN:-}" != none ]; then
  # The fastest of up to 200, until one is below the limit: on a busy machine most are slow.
  for option in --version --help; do
    fastest=1000000 tries=0
    while [ "$fastest" -ge 20000 ] && [ "$tries" -lt 200 ]; do
      before=$(date +%s%N)
      ${RUN:-} "$program" $option >/dev/null || fail "$option fails"
      took=$((($(date +%s%N) - before) / 1000)) tries=$((tries + 1))
      [ "$took" -ge "$fastest" ] || fastest=$took
      [ -z "${RUN:-}" ] || break
    done
    [ "$fastest" -lt 20000 ] || [ -n "${RUN:-}" ] || fail "$option takes $fastest microseconds; the limit is 20,000"
    echo "$program $option: $fastest microseconds"
  done
fi
echo "$program: $size bytes, glibc $(readelf -VW "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)"
exit $failed
