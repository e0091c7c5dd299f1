"""One gsm8k-like task in lm-evaluation-harness and in lewis, compared item by item.

usage: python3 bench/compare_lm_eval.py [--lewis build/release/lewis] [--model demo/models/math] [--limit 100]
                                        [--shots 2] [--keep FOLDER]
Needs `pip install lm_eval[hf]` in a virtual environment of its own. The task is a YAML file for lm_eval with gsm8k's
prompt, stops, filters and metric on the demo's data; both run it in float32, and the samples of both are compared:
prompt (by hash), generated text, what the filters found, the scores; then the means and standard errors."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

TASK = r"""
task: gsm8k_like
dataset_path: json
dataset_kwargs:
  data_files: {{train: {train}, test: {test}}}
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "Question: {{{{question}}}}\nAnswer:"
doc_to_target: "{{{{answer}}}}"
num_fewshot: {shots}
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  do_sample: false
  temperature: 0.0
  max_gen_toks: 256
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\$", "(?s).*#### ", "\\.$"]
filter_list:
  - name: strict-match
    filter:
      - {{function: regex, regex_pattern: "#### (\\-?[0-9\\.\\,]+)"}}
      - {{function: take_first}}
  - name: flexible-extract
    filter:
      - {{function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{{2,}})|(-?[0-9]+)"}}
      - {{function: take_first}}
metadata: {{version: 3.0}}
"""


def newest(folder, pattern):
    return sorted(pathlib.Path(folder).rglob(pattern))[-1]


def read(folder):
    """(results of the task, {(doc_id, filter): sample})"""
    results = json.loads(newest(folder, "results_*.json").read_text())
    samples = [json.loads(line) for line in newest(folder, "samples_*.jsonl").read_text().splitlines()]
    return next(iter(results["results"].values())), {(s["doc_id"], s["filter"]): s for s in samples}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lewis", default="build/release/lewis")
    parser.add_argument("--model", default="demo/models/math")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--shots", type=int, default=2)
    parser.add_argument("--keep", help="leave both programs' files in this folder")
    o = parser.parse_args()
    test, train = (pathlib.Path("demo/data", f"math_{s}.jsonl").resolve() for s in ("test", "train"))
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(o.keep or scratch)
        tasks = out / "tasks"
        tasks.mkdir(parents=True, exist_ok=True)
        (tasks / "gsm8k_like.yaml").write_text(TASK.format(train=train, test=test, shots=o.shots))
        subprocess.run([sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args",
                        f"pretrained={o.model},dtype=float32", "--device", "cpu", "--batch_size", "1", "--tasks",
                        "gsm8k_like", "--include_path", tasks, "--limit", str(o.limit), "--log_samples",
                        "--output_path", out / "lm_eval"], check=True)
        subprocess.run([o.lewis, "eval", o.model, "--task", f"gsm8k:{test}", "--shots", str(o.shots), "--shots-data",
                        train, "--limit", str(o.limit), "--log-samples", "--output-path", out / "lewis"], check=True)
        (theirs, their_samples), (ours, our_samples) = read(out / "lm_eval"), read(out / "lewis")
    assert their_samples.keys() == our_samples.keys(), "the items are not the same"
    different = {"doc_hash": 0, "prompt_hash": 0, "target_hash": 0, "resps": 0, "filtered_resps": 0, "exact_match": 0}
    for key, a in their_samples.items():
        b = our_samples[key]
        for field in different:
            if a[field] != b[field]:
                different[field] += 1
                if different[field] <= 3:
                    print(f"item {key[0]}, {key[1]}, {field}:\n  lm_eval {a[field]!r}\n  lewis   {b[field]!r}")
    print(f"{len(their_samples)} samples (items x filters); different: {different}")
    for name in [k for k in theirs if k.startswith("exact_match")]:
        print(f"{name:40} lm_eval {theirs[name]:.6f}  lewis {ours[name]:.6f}")


if __name__ == "__main__":
    main()
