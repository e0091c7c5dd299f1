#!/bin/bash
# Merges in parts under a real Slurm, which this script starts for itself on this machine: munged,
# slurmctld and three slurmd of four cores each, with all their files in a scratch folder. What
# `lewis slurm` writes is submitted as arrays of 1, 3 and 8; a task is requeued, one is cancelled, a
# node is set down; and every merge has the bytes that one process writes. Nothing else of the
# machine is touched. Says so and ends with 77 where Slurm is missing or cannot be started.
# usage: tools/check_slurm.sh PATH_OF_LEWIS
set -euo pipefail
lewis=$(realpath "$1")
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin
skip() { echo "skipped: $1"; exit 77; }
for program in munged mungekey slurmctld slurmd sbatch scontrol squeue scancel sinfo; do
  command -v "$program" >/dev/null || skip "there is no $program here (Debian: slurm-wlm, munge)"
done

work=$(mktemp -d)
demo=$PWD/demo
cleanup() {
  local code=$? file
  if [ -e "$work/pid/slurmctld" ]; then  # the processes of jobs end before those of Slurm
    touch "$work/go"
    timeout 5 scancel --quiet --user="$(id -un)" 2>/dev/null || true
    for file in "$work"/stopped/*; do
      if [ -e "$file" ]; then kill -CONT "$(basename "$file")" 2>/dev/null || true; fi
    done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
      sleep 0.3
    done
  fi
  for file in "$work"/pid/*; do
    if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
  if [ "$code" != 0 ] && [ "$code" != 77 ]; then
    tail -n 30 "$work"/*.logs/* "$work"/log/* 2>/dev/null || true
  fi
  rm -rf "$work" 2>/dev/null || { sleep 1; rm -rf "$work"; }
}
trap cleanup EXIT

# ---- Slurm ----

port=$((20000 + ($$ * 7) % 20000))
mkdir "$work"/{pid,log,state,spool,stopped,munge}
mungekey --create --keyfile="$work/munge/key" || skip "mungekey cannot make a key"
munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/pid/munged" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed" 2> "$work/log/munged" ||
  skip "munged cannot be started: $(tail -n 1 "$work/log/munged")"
host=$(hostname -s)
user=$(id -un)
# A job that is requeued may start again when its credential has ended.
cat > "$work/slurm.conf" <<CONF
ClusterName=lewis$$
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=100000
PrologEpilogTimeout=5
ReturnToService=2
SlurmUser=$user
SlurmdUser=$user
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool/%n
SlurmctldPidFile=$work/pid/slurmctld
SlurmdPidFile=$work/pid/slurmd-%n
SlurmctldLogFile=$work/log/slurmctld
SlurmdLogFile=$work/log/slurmd-%n
SlurmdParameters=config_overrides
SlurmdTimeout=20
KillWait=2
MinJobAge=60
MailProg=/bin/true
NodeName=n[1-3] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 3))] CPUs=4 RealMemory=64000 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES State=UP MaxTime=INFINITE
CONF
export SLURM_CONF=$work/slurm.conf
slurmctld -f "$SLURM_CONF" || skip "slurmctld cannot be started"
for node in n1 n2 n3; do
  mkdir "$work/spool/$node"
  slurmd -f "$SLURM_CONF" -N "$node" || skip "slurmd cannot be started"
done

# Waits until a command succeeds.
until_true() {  # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}
all_idle() { [ "$(sinfo --noheader --format=%D --states=idle)" = 3 ]; }
until_true 60 all_idle || skip "the nodes of Slurm do not become idle: $(sinfo 2>&1 | tail -n 1)"
fail() { echo "check_slurm: $1"; squeue --array || true; exit 1; }

# ---- merges ----

# Two fine-tuned models without calibration, and the demo's recipe with little text.
cat > "$work/plain.yml" <<YAML
merge_method: ties
base_model: $demo/models/base
models:
  - {model: $demo/models/math, parameters: {weight: 1, density: 0.5}}
  - {model: $demo/models/code, parameters: {weight: 1, density: 0.5}}
dtype: bfloat16
YAML
sed "s|demo/|$demo/|g; s/samples: 15/samples: 2/" "$demo/recipe.yml" > "$work/guided.yml"
head -n 4 "$demo/data/math_test.jsonl" > "$work/test.jsonl"
export LEWIS_CACHE=$work/cache

hashes() { (cd "$1" && find . -type f ! -name lewis_run.json -print0 | sort -z | xargs -0 sha256sum); }
expect_same() {  # OUT EXPECTED
  hashes "$1" > "$work/found"
  cmp -s "$work/found" "$2" || { diff "$work/found" "$2" || true; fail "$1 has other bytes than one process writes"; }
}
# All merges are named alike, since the card in OUT has the name.
for recipe in plain guided; do
  "$lewis" merge "$work/$recipe.yml" "$work/alone-$recipe/out" --out-shard-size 50K -q >/dev/null
  hashes "$work/alone-$recipe/out" > "$work/$recipe.expected"
done
rm -rf "$work/cache"

slurm() {  # RECIPE FOLDER NODES OPTIONS...
  local recipe=$1 folder=$2 nodes=$3
  shift 3
  mkdir -p "$work/$folder"
  "$lewis" slurm "$work/$recipe.yml" "$work/$folder/out" --nodes "$nodes" --partition cpu --cpus 1 \
    --out-shard-size 50K --cache "$work/cache" -q "$@"
}
has_no_job() { [ -z "$(squeue --noheader)" ]; }
is_there() { [ -e "$1" ]; }

# An array of one, with the whole chain: calibrate, plan, merge, finish, eval, results.
slurm guided one 1 --submit --eval-task "loss:$work/test.jsonl:gsm8k" > "$work/log/one"
grep -q '^eval: job [0-9]' "$work/log/one" || fail "not all jobs were submitted"
# An array of eight beside it.
slurm plain eight 8 --submit >/dev/null
[ -x "$(command -v shellcheck)" ] && shellcheck "$work/eight/out.slurm.sh"
until_true 300 has_no_job || fail "the chain does not end"
expect_same "$work/one/out" "$work/guided.expected"
expect_same "$work/eight/out" "$work/plain.expected"
ls "$work"/one/out.eval/*/results_*.json >/dev/null || fail "the chain has no evaluation"
[ -s "$work/one/out.plan.yml" ] || fail "the chain has no plan"
"$lewis" status "$work/one/out" | grep -q ': complete: ' || fail "status does not say complete"
echo "arrays of 1 (calibrate, plan, merge, finish, eval, results) and 8: the bytes of one process"

# Three workers that stand still as soon as they have claimed their shards, so that something can
# happen to them.
cat > "$work/stops" <<WRAPPER
#!/bin/bash
case " \$* " in *" --part "*) [ -e "$work/go" ] && exec "$lewis" "\$@" ;; *) exec "$lewis" "\$@" ;; esac
"$lewis" "\$@" &
pid=\$!
kill -STOP \$pid
has_claim() { [ -n "\$(find "$work/three/out.partial/.lewis-parts" -name '*.claim' -lname "*-\$pid-*" 2>/dev/null)" ]; }
until has_claim || ! kill -0 \$pid 2>/dev/null; do
  kill -CONT \$pid
  sleep 0.002
  kill -STOP \$pid
done
echo "\$SLURM_ARRAY_TASK_ID" > "$work/stopped/\$pid"
wait \$pid
WRAPPER
chmod +x "$work/stops"
slurm plain three 3 >/dev/null
# One task per node, so that a node takes one task with it.
sed -i "s|^lewis=.*|lewis=$work/stops|; s/--cpus-per-task=1/--cpus-per-task=4/" "$work/three/out.slurm.sh"
bash "$work/three/out.slurm.sh" > "$work/log/three"
merge=$(sed -n 's/^merge: job //p' "$work/log/three")
have_stopped() { [ "$(find "$work/stopped" -type f -size +0 | wc -l)" = 3 ]; }
until_true 120 have_stopped || fail "three tasks do not run at once"
"$lewis" status "$work/three/out" > "$work/log/status"
[ "$(grep -c 'at work: part ./3 on ' "$work/log/status")" = 3 ] || {
  cat "$work/log/status"
  fail "status does not see three workers"
}
touch "$work/go"  # who begins from now on does not stand still
down=$(squeue --noheader --format=%N --jobs="${merge}_2")
scontrol requeue "${merge}_0"
scancel "${merge}_1"
scontrol update "NodeName=$down" State=DOWN Reason=test
# On another machine its processes would be gone.
for file in "$work"/stopped/*; do
  if [ "$(cat "$file")" = 2 ]; then kill -KILL "$(basename "$file")" 2>/dev/null || true; fi
done
until_true 300 has_no_job || fail "requeued tasks do not end"
scontrol update "NodeName=$down" State=RESUME 2>/dev/null || true  # it may have come back by itself
[ ! -e "$work/three/out" ] || fail "OUT is complete though a task was cancelled"
grep -h 'shards are not there yet' "$work"/three/out.logs/finish-* >/dev/null || fail "finish does not say what is missing"
"$lewis" status "$work/three/out" > "$work/log/status"
grep -q 'nobody is at work on' "$work/log/status" || { cat "$work/log/status"; fail "status does not see what is left"; }
# All is submitted again; what is done is taken over.
bash "$work/three/out.slurm.sh" >/dev/null
until_true 300 has_no_job || fail "the jobs that were submitted again do not end"
expect_same "$work/three/out" "$work/plain.expected"
[ ! -e "$work/three/out.partial" ] || fail "OUT.partial is left"
echo "an array of 3, with a task requeued, a task cancelled and a node set down: the bytes of one process"
