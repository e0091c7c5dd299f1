#!/bin/sh
# The main job, end to end: calibrate, plan, merge and score six tiny models.
# usage: demo/run.sh PATH_OF_LEWIS
set -eu
lewis=$(realpath "$1")
cd "$(dirname "$0")/.."
out=demo/out
mkdir -p "$out"

step() { printf '\n\033[1m$ %s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
run() { step "lewis $*"; "$lewis" "$@"; }

run plan demo/recipe.yml -o "$out/plan.yml"
run merge demo/recipe.yml "$out/uniform" --no-guidance --force
run merge demo/recipe.yml "$out/lewis" --force
run merge demo/refine.yml "$out/refined" --force
run eval demo/models/base demo/models/math demo/models/code "$out/uniform" "$out/lewis" "$out/refined" \
  --task loss:demo/data/math_test.jsonl:gsm8k --task loss:demo/data/code_test.jsonl:mbpp \
  --task gsm8k:demo/data/math_test.jsonl --shots 0 --baseline uniform \
  --output-path "$out/eval"
run report "$out/lewis" --eval "$out/eval" --recipe demo/recipe.yml

cat <<END

Where to look next:
  $out/plan.yml         the recipe with a density for every layer; mergekit accepts it as well
  $out/lewis/           the merged model: loads wherever its base loads; README.md is its model card
  $out/eval/            a folder for each model: results as lm-evaluation-harness writes them, with
                        the result of every item and the paired differences under "lewis"
  demo/recipe.yml       change gamma, epsilon or the method and run 'make demo' again
  build/release/lewis --help
  $out/lewis/report.html   all of it on one page: scores, heat maps, the run, every tensor
END
