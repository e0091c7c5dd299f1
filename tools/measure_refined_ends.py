#!/usr/bin/env python3
"""What solving the final norm, rows of embeddings, and norms of queries and keys would be worth.

usage: measure_refined_ends.py LEWIS MERGE OUT EXPERT,TRAIN,TEST,FORMAT ...

MERGE is a finished merge that lewis has refined with `refine: {}` in float32, its head tied. For each
thing that docs/refine.md names under "What stays as merged", a copy of it with the closed form goes to
OUT, and LEWIS scores all of them by the answer loss on TEST. FORMAT: gsm8k or mbpp. The first 32 items
of TRAIN are the text: 28 are fitted, 4 held out. Needs torch, transformers and safetensors.
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

FITTED, ALL = 28, 32
FINAL, EMBEDDING = "model.norm.weight", "model.embed_tokens.weight"


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def parts_of(row, form):
    """What an item asks, and its answer."""
    if form == "gsm8k":
        return f"Question: {row['question']}\nAnswer:", " " + row["answer"]
    return f'"""\n{row["text"]}\n{row["test_list"][0]}\n"""\n', row["code"]


def read_texts(tokenizer, file, form):
    """(ids, weights) of each item: a question's token weighs 0.1, an answer's 1."""
    texts = []
    for line in Path(file).read_text().splitlines()[:ALL]:
        question, answer = (tokenizer(p)["input_ids"] for p in parts_of(json.loads(line), form))
        answer = answer + [tokenizer.eos_token_id]
        weights = torch.cat([torch.full((len(question),), 0.1), torch.ones(len(answer))]).double()
        texts.append((torch.tensor([question + answer]), weights))
    return texts


def outputs(model, module, texts):
    """What a module gives, [tokens, ...], with weights that add up to one: fitted, held out."""
    parts = []
    for chosen in (texts[:FITTED], texts[FITTED:]):
        values = []
        hook = module.register_forward_hook(lambda _, i, out: values.append(out[0].double()))
        for ids, _ in chosen:
            model(ids)
        hook.remove()
        weights = torch.cat([w for _, w in chosen])
        parts.append((torch.cat(values), weights / weights.sum()))
    return parts


def solve_final_norm(merged, experts, texts, ridge, by_logits):
    """Factors c on the weight: least squares through the head, or channel by channel."""
    head = merged.model.embed_tokens.weight.double()
    gram, width = head.T @ head, head.shape[1]
    left, right, held = torch.zeros(width, width).double(), torch.zeros(width).double(), []
    for expert, text in zip(experts, texts):
        (x, w), (x_held, w_held) = outputs(merged, merged.model.norm, text)
        (y, _), (y_held, _) = outputs(expert, expert.model.norm, text)
        theirs = expert.model.embed_tokens.weight.double()
        if by_logits:  # | H diag(c) x - H_k y |^2, whose matrix is a product entry by entry
            left += gram * (x.T @ (w[:, None] * x))
            right += (w[:, None] * x * ((y @ theirs.T - x @ head.T) @ head)).sum(0)
        else:
            left += torch.diag((w[:, None] * x * x).sum(0))
            right += (w[:, None] * x * (y - x)).sum(0)
        held.append((x_held, w_held, y_held @ theirs.T))
    pull = left.diag().mean() * torch.eye(width) if by_logits else left.clone()
    factors = 1 + torch.linalg.solve(left + ridge * pull, right)

    def error(c):
        sums = [((w[:, None] * ((x * c) @ head.T - z) ** 2).sum(), (w[:, None] * z**2).sum())
                for x, w, z in held]
        return sum((a / b).item() for a, b in sums) / len(sums)

    print(f"final norm, ridge {ridge}, {'logits' if by_logits else 'outputs'}: "
          f"held-out error {error(torch.ones(width)):.5f} -> {error(factors):.5f}")
    return factors


def solve_embeddings(own, experts, texts, ridge):
    """Each row the mean of the experts', weighted by their tokens, with the merge's as `ridge`."""
    total, count = ridge * own.double(), torch.full((own.shape[0],), ridge).double()
    for expert, text in zip(experts, texts):
        weights = torch.zeros(own.shape[0]).double()
        for ids, w in text[:FITTED]:
            weights.index_add_(0, ids[0], w / sum(v.sum() for _, v in text[:FITTED]))
        total += weights[:, None] * expert.model.embed_tokens.weight.double()
        count += weights
    return (total / count[:, None]).float()


def solve_query_and_key_norms(merged, experts, texts, ridge=0.01):
    """Channel by channel over all heads, layer after layer; changes `merged`."""
    for number, layer in enumerate(merged.model.layers):
        for name in ("q_norm", "k_norm"):
            squares = products = 0
            for expert, text in zip(experts, texts):
                (x, w), _ = outputs(merged, getattr(layer.self_attn, name), text)
                theirs = getattr(expert.model.layers[number].self_attn, name)
                (y, _), _ = outputs(expert, theirs, text)
                squares += (w[:, None, None] * x * x).sum((0, 1))
                products += (w[:, None, None] * x * y).sum((0, 1))
            factors = (products / squares + ridge) / (1 + ridge)
            getattr(layer.self_attn, name).weight.mul_(factors.float())


def main():
    lewis, merge, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    cases = [case.split(",") for case in sys.argv[4:]]
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(cases[0][0])
    merged, experts = load(merge), [load(case[0]) for case in cases]
    texts = [read_texts(tokenizer, case[1], case[3]) for case in cases]
    tensors, made = load_file(merge / "model.safetensors"), [str(merge)]

    def save(name, changed):
        folder = out / name
        shutil.copytree(merge, folder, ignore=shutil.ignore_patterns("model.safetensors"))
        save_file(tensors | changed, folder / "model.safetensors", metadata={"format": "pt"})
        made.append(str(folder))

    for by_logits in (True, False):
        for ridge in (0.01, 0.1, 1):
            factors = solve_final_norm(merged, experts, texts, ridge, by_logits)
            name = f"final_norm_{'logits' if by_logits else 'outputs'}_{ridge}"
            save(name, {FINAL: (tensors[FINAL].double() * factors).float()})
    for ridge in (0.01, 0.1):
        rows = solve_embeddings(tensors[EMBEDDING], experts, texts, ridge)
        save(f"embeddings_{ridge}", {EMBEDDING: rows})
    if hasattr(merged.model.layers[0].self_attn, "q_norm"):
        solve_query_and_key_norms(merged, experts, texts)
        save("query_and_key_norms", {k: v.contiguous() for k, v in merged.state_dict().items()
                                     if "q_norm" in k or "k_norm" in k})
    tasks = [part for case in cases for part in ("--task", f"loss:{case[2]}:{case[3]}")]
    subprocess.run([lewis, "eval", *made, *tasks, "--output-path", str(out / "eval")], check=True)


if __name__ == "__main__":
    main()
