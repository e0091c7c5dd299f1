#!/bin/bash
# Refines the demo's merge by 1, 2 and 4 processes of a real mpirun on this machine, and compares the
# merged models with the one that a program alone writes. Then one of three processes is killed: the
# job ends with an error, and the next one goes on at the block where it was. Says so and ends with
# 77 where there is no mpirun, or none that can start.
# usage: tools/check_mpi.sh PATH_OF_LEWIS_MPI
set -euo pipefail
lewis=$(realpath "$1")
cd "$(dirname "$0")/.."
skip() { echo "skipped: $1"; exit 77; }
command -v mpirun >/dev/null || skip "there is no mpirun here (Debian: openmpi-bin)"

work=$(mktemp -d /tmp/lewis-mpi-XXXXXX)  # sockets of mpirun need a short path
demo=$PWD/demo
cleanup() {
  local code=$?
  if [ "$code" != 0 ] && [ "$code" != 77 ]; then tail -n 30 "$work"/log/* 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/log"
# One machine, whose cores may be fewer than the processes; a container may forbid to read the
# memory of another process.
export TMPDIR=$work OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,vader \
  OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1 \
  OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 LEWIS_CACHE=$work/cache
processes() { timeout 100 mpirun -np "$@"; }
processes 1 true > "$work/log/true" 2>&1 || skip "mpirun cannot start: $(tail -n 1 "$work/log/true")"
fail() { echo "check_mpi: $1"; exit 1; }

sed "s|demo/|$demo/|g; s/refine: .*/refine: {samples: 12, ridge: 1}/" "$demo/refine.yml" > "$work/r.yml"
hashes() { (cd "$1" && find . -type f ! -name lewis_run.json -print0 | sort -z | xargs -0 sha256sum); }
expect_same() {  # OUT
  hashes "$1" > "$work/found"
  cmp -s "$work/found" "$work/expected" || { diff "$work/found" "$work/expected" || true; fail "$1 has other bytes than one process writes"; }
}
# All merges are named alike, since the card in OUT has the name.
"$lewis" merge "$work/r.yml" "$work/alone/out" --threads 1 -q >/dev/null 2>> "$work/log/merge"
hashes "$work/alone/out" > "$work/expected"

for count in 1 2 4; do
  processes "$count" "$lewis" refine-worker "$work/r.yml" "$work/$count/out" --threads 1 -q > "$work/log/$count" 2>&1 ||
    fail "$count processes do not refine"
  grep -q "^$count processes, [1-9][0-9]* blocks refined now, 0 taken over" "$work/log/$count" || fail "not by $count processes"
  "$lewis" merge "$work/r.yml" "$work/$count/out" --resume -q >/dev/null 2>> "$work/log/merge"
  expect_same "$work/$count/out"
done
echo "1, 2 and 4 processes: the bytes of one program"

# What is complete is left alone.
processes 2 "$lewis" refine-worker "$work/r.yml" "$work/2/out" --threads 1 > "$work/log/complete" 2>&1 ||
  fail "a merge that is complete is no success"
grep -q 'is complete already' "$work/log/complete" || fail "a merge that is complete is refined again"
[ ! -e "$work/2/out.refined.partial" ] || fail "something is left beside a merge that is complete"

# A recipe that is wrong is refused once, with the exit code of the program.
code=0
processes 2 "$lewis" refine-worker "$demo/recipe.yml" "$work/wrong/out" -q > "$work/log/wrong" 2>&1 || code=$?
[ "$code" = 2 ] || fail "a recipe without refine ends with $code"
[ "$(grep -c '^lewis-mpi: error: ' "$work/log/wrong")" = 1 ] || fail "an error is not said once"

# The process of rank 1 goes in steps, so that it is killed while the job is in its middle.
cat > "$work/killed" <<WRAPPER
#!/bin/bash
[ "\$OMPI_COMM_WORLD_RANK" = 1 ] || exec "$lewis" "\$@"
"$lewis" "\$@" &
pid=\$!
while kill -0 \$pid 2>/dev/null; do
  kill -STOP \$pid 2>/dev/null
  if [ -e "$work/kill/out.refined.partial/block-00001.safetensors" ]; then kill -KILL \$pid; fi
  kill -CONT \$pid 2>/dev/null
  sleep 0.003
done
wait \$pid
WRAPPER
chmod +x "$work/killed"
code=0
processes 3 "$work/killed" refine-worker "$work/r.yml" "$work/kill/out" --threads 1 -q > "$work/log/killed" 2>&1 || code=$?
case $code in 0 | 124) fail "a job with a killed process ends with $code" ;; esac
grep -qi 'killed\|signal 9\|non-zero\|exited' "$work/log/killed" || fail "a killed process is not named"
[ ! -e "$work/kill/out" ] || fail "OUT is there"
processes 2 "$lewis" refine-worker "$work/r.yml" "$work/kill/out" --threads 1 -q > "$work/log/again" 2>&1 || fail "the job cannot be run again"
grep -q ' blocks refined now, [1-9][0-9]* taken over' "$work/log/again" || fail "what was done is done again"
"$lewis" merge "$work/r.yml" "$work/kill/out" --resume -q >/dev/null 2>> "$work/log/merge"
expect_same "$work/kill/out"
echo "one of 3 processes killed: the job ends, the next one goes on: $(grep taken "$work/log/again")"
