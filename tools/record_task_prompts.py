"""Records what lm-evaluation-harness (0.4.13) asks for some documents of its tasks gsm8k, gsm8k_cot, mbpp and
humaneval: the hash and the end of each prompt, and of the target; for tests/eval/task_prompts_test.cc. The questions
of gsm8k and gsm8k_cot are those of demo/data; programs are of DATA, and recorded with what is asked.
usage: python tools/record_task_prompts.py DATA > tests/data/eval/task_prompts.json
(DATA: a folder with mbpp.jsonl and humaneval.jsonl)"""
import hashlib
import json
import os
import pathlib
import sys

import yaml

os.environ["HF_DATASETS_OFFLINE"] = "1"
import lm_eval  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402

TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"
DATA, DEMO = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parents[1] / "demo/data"
SHOWN, DOCUMENTS = 60, [0, 1, 2, 40]

FIELDS = ["task_id", "text", "test_list", "prompt", "entry_point", "test"]


def load(file, data, splits, shots):
    text = "\n".join(line for line in file.read_text().splitlines() if "!function" not in line)
    config = yaml.safe_load(text)
    config.update(dataset_path="json", dataset_name=None,
                  dataset_kwargs={"data_files": {split: str(name) for split, name in splits.items()}},
                  metric_list=[{"metric": "exact_match"}])
    config.pop("filter_list", None)
    config["test_split"] = "test"
    if shots is not None:
        config["fewshot_config"] = {"sampler": "first_n", "samples": shots}
    task = ConfigurableTask(config=config)
    documents = list(task.test_docs())
    if data:
        documents = [d for d in documents if data(d)]
    return task, config, documents


def mbpp_shots():
    rows = [json.loads(line) for line in open(DATA / "mbpp.jsonl")]
    return [dict(row, is_fewshot=True) for row in rows if row["task_id"] in (2, 3, 4)]


CASES = {
    "gsm8k": (TASKS / "gsm8k/gsm8k.yaml", None, {"test": DEMO / "math_test.jsonl", "train": DEMO / "math_train.jsonl"}, None),
    "gsm8k_cot": (TASKS / "gsm8k/gsm8k-cot.yaml", None, {"test": DEMO / "math_test.jsonl"}, None),
    "mbpp": (TASKS / "mbpp/mbpp.yaml", lambda d: 11 <= d["task_id"] <= 510, {"test": DATA / "mbpp.jsonl"}, mbpp_shots()),
    "humaneval": (TASKS / "humaneval/humaneval.yaml", None, {"test": DATA / "humaneval.jsonl"}, None),
}

result = {"program": f"lm_eval {lm_eval.__version__}", "tasks": {}}
for name, case in CASES.items():
    task, config, documents = load(*case)
    task.set_fewshot_seed(1234)
    records = []
    # Examples are drawn anew for each document, so those between must be asked for as well.
    for i, document in enumerate(documents[: max(DOCUMENTS) + 1]):
        prompt = task.fewshot_context(document, num_fewshot=config["num_fewshot"])
        target = task.doc_to_target(document)
        if i in DOCUMENTS:
            records.append({"document": i, "sha256": hashlib.sha256(prompt.encode()).hexdigest(), "end": prompt[-SHOWN:], "target_sha256": hashlib.sha256(target.encode()).hexdigest()})
            if name in ("mbpp", "humaneval"):
                records[-1]["row"] = {k: v for k, v in document.items() if k in FIELDS}
    arguments = config["generation_kwargs"]
    result["tasks"][name] = {"num_fewshot": config["num_fewshot"], "until": arguments["until"],
                             "max_gen_toks": arguments.get("max_gen_toks", 256), "version": config["metadata"]["version"], "prompts": records}
print(json.dumps(result, indent=1))
