#!/usr/bin/env python3
"""Reads model cards that lewis has written with huggingface_hub's own parser.

usage: check_card.py OUT/README.md...      (pip install huggingface_hub; by hand: CI has no packages)

Fails where the parser refuses a card, loses a field, or would write another front matter.
"""
import sys

from huggingface_hub import ModelCard

REQUIRED = ("base_model", "base_model_relation", "library_name", "tags")


def check(path):
    """Problems of the card at `path`, as one line each."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    card = ModelCard(text)
    data = card.data.to_dict()
    problems = [f"{key} is missing" for key in REQUIRED if not data.get(key)]
    if data.get("base_model_relation") != "merge":
        problems.append(f"base_model_relation is {data.get('base_model_relation')}")
    for model in data.get("base_model", []):
        if model.startswith(("/", ".", "~")):
            problems.append(f"base_model has the path {model}")
    if not {"merge", "lewis"} <= set(data.get("tags", [])):
        problems.append(f"tags are {data.get('tags')}")
    if card.text.strip() not in text:
        problems.append("the text behind the front matter was changed")
    if ModelCard(str(card)).data.to_dict() != data:
        problems.append("the parser reads its own card differently")
    for result in card.data.eval_results or []:
        print(f"{path}: {result.task_type}, {result.dataset_name}: {result.metric_type} {result.metric_value}")
    return problems


def main():
    bad = 0
    for path in sys.argv[1:]:
        for problem in check(path):
            print(f"{path}: {problem}")
            bad += 1
    if not bad:
        print(f"{len(sys.argv) - 1} cards are as they should be")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main() if len(sys.argv) > 1 else __doc__)
