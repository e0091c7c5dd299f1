#!/bin/sh
# fuzz/run.sh LEWIS_FUZZ MINUTES [TARGET...]: fuzzes each target for its share of the minutes, JOBS at
# a time. What is found new stays in build/fuzz/TARGET and is the start of the next run; inputs that
# crash are build/fuzz/TARGET-crash-*. Exit code 1 when there was one.
set -eu
fuzz=$1
minutes=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../build/fuzz
targets=${*:-$("$fuzz" --list)}
jobs=${JOBS:-$(nproc)}
count=$(echo "$targets" | wc -w)
seconds=$((minutes * 60 * jobs / count))
[ "$seconds" -ge 1 ] || seconds=1
mkdir -p "$out"
export fuzz here out seconds
export ASAN_OPTIONS=detect_leaks=0 # libfyaml leaks a kilobyte on some malformed inputs
# shellcheck disable=SC2016  # expanded by the inner shell
echo "$targets" | tr ' ' '\n' | xargs -P "$jobs" -I{} sh -c '
  mkdir -p "$out/{}"
  if "$fuzz" --target={} -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
      -artifact_prefix="$out/{}-" "$out/{}" "$here/seeds/{}" >"$out/{}.log" 2>&1; then result=passed; else result=FAILED; fi
  printf "%-16s %s  %s executions, log %s\n" "{}" "$result" \
    "$(sed -n "s/^stat::number_of_executed_units: *//p" "$out/{}.log" | tail -1)" "build/fuzz/{}.log"
  [ "$result" = passed ]'
