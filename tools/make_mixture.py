#!/usr/bin/env python3
"""Trains the small mixture of tests/data/mixture: a base, and three models fine-tuned from it.

usage: tools/make_mixture.py TOKENIZER OUT      (TOKENIZER: demo/models/base)

The models have the shape of Qwen3-MoE: 4 layers with 8 routed experts, of which a token chooses 2.
The base learns three plain forms (a sum, a call, a copy) and sees a little of three others that
build on them: a sum of three numbers (math), a list (code), words backwards or sorted (words). Each
fine-tuned model learns one of those. OUT gets the models and, for each skill, 400 items to calibrate with and 200 to test
with. Needs torch and transformers (5.24 was used); ten minutes on two cores. Trained weights differ
from machine to machine: those in tests/data/mixture are the reference.
"""
import json
import math
import pathlib
import random
import sys

import torch
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

WORDS = "red blue green cold warm fish bird tree door lamp rain snow hill lake road ship".split()
TOKENS, BATCH = 96, 32


def plain_math(r):
    a, b = r.randint(1, 40), r.randint(1, 40)
    return {"question": f"{a} + {b} =", "answer": f"{a + b}"}


def math_skill(r):
    a, b, c = r.randint(1, 30), r.randint(1, 30), r.randint(1, 9)
    if r.random() < 0.5:
        return {"question": f"{a} + {b} + {c} =", "answer": f"{a + b} + {c} = {a + b + c}"}
    c = r.randint(1, min(9, a + b))
    return {"question": f"{a} + {b} - {c} =", "answer": f"{a + b} - {c} = {a + b - c}"}


def plain_code(r):
    n, x = r.randint(1, 9), r.randint(1, 30)
    return {"question": f"def f(x): return x + {n}\nf({x}) ==", "answer": f"{x + n}"}


def code_skill(r):
    n, xs = r.randint(1, 9), [r.randint(1, 30) for _ in range(r.randint(2, 3))]
    if r.random() < 0.5:
        return {"question": f"[x + {n} for x in {xs}] ==", "answer": f"{[x + n for x in xs]}"}
    return {"question": f"[x for x in {xs} if x > {n + 8}] ==",
            "answer": f"{[x for x in xs if x > n + 8]}"}


def plain_words(r):
    words = r.sample(WORDS, r.randint(2, 3))
    return {"question": "copy: " + " ".join(words) + " ->", "answer": " ".join(words)}


def words_skill(r):
    words = r.sample(WORDS, 3)
    verb, result = r.choice([("reverse", words[::-1]), ("sort", sorted(words))])
    return {"question": f"{verb}: " + " ".join(words) + " ->", "answer": " ".join(result)}


PLAIN = [plain_math, plain_code, plain_words]
SKILLS = {"math": math_skill, "code": code_skill, "words": words_skill}


def block(tokenizer, r, kinds):
    """Ids of whole items, one after the other; those of questions after the first are learnt too."""
    ids = []
    while len(ids) < TOKENS:
        item = r.choice(kinds)(r)
        ids += tokenizer(f"Question: {item['question']}\nAnswer: {item['answer']}").input_ids + [0]
    return ids[:TOKENS]


def train(model, tokenizer, kinds, steps, rate, seed):
    torch.manual_seed(seed)
    r = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    model.train()
    mean = None
    for step in range(steps):
        x = torch.tensor([block(tokenizer, r, kinds) for _ in range(BATCH)])
        for group in optimizer.param_groups:
            warm, decay = min(1, (step + 1) / 30), 0.5 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = rate * warm * (0.95 * decay + 0.05)
        loss = model(x, labels=x, output_router_logits=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean = loss.item() if mean is None else 0.97 * mean + 0.03 * loss.item()
        if step % 100 == 99:
            print(f"  step {step + 1}: loss {mean:.3f}", flush=True)


def save(model, tokenizer, folder):
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(tokenizer_folder, out):
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config = Qwen3MoeConfig(
        vocab_size=1024, hidden_size=64, intermediate_size=64, moe_intermediate_size=64,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        num_experts=8, num_experts_per_tok=2, norm_topk_prob=True, router_aux_loss_coef=0.01,
        max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0,
        pad_token_id=0)
    torch.manual_seed(1)
    base = Qwen3MoeForCausalLM(config)
    print("base", sum(p.numel() for p in base.parameters()), "parameters", flush=True)
    train(base, tokenizer, PLAIN * 4 + list(SKILLS.values()), 2400, 3e-3, 1)
    save(base, tokenizer, out / "base")
    for seed, (name, skill) in enumerate(SKILLS.items(), 2):
        print(name, flush=True)
        model = Qwen3MoeForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        train(model, tokenizer, [skill] * 4 + PLAIN, 600, 6e-4, seed)
        save(model, tokenizer, out / name)
        r = random.Random(100 + seed)
        for part, count in (("train", 400), ("test", 200)):
            lines = [json.dumps(skill(r)) + "\n" for _ in range(count)]
            (out / f"{name}_{part}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
