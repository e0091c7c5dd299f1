"""Tiny models whose tokenizers differ, and what mergekit makes of them for a list of recipes.

usage: python make_tokenizers.py OUT       needs torch, transformers, tokenizers, mergekit (0.1.x)
OUT/models/{base,a,b}   one-layer Llama-shaped models with BPE tokenizers: a was trained on other text, b = base + tokens
OUT/recipes/<name>.yml  mergekit recipes, model paths relative to OUT
OUT/merged/<name>/      mergekit's tokenizer as {token: id} (vocab.json) and the rows (model.safetensors: embeddings and head)
"""
import json, os, shutil, subprocess, sys
import safetensors.torch as st
import torch
import transformers as tf
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = {"base": "the cat sat on the mat and the hat then that cat ran to the man at the oat tree", "a": "counting one two three four five, then sorting them into some order: less or more"}
M = {n: {"model": "models/" + n} for n in ("base", "a", "b")}


def linear(**more):
    models_ = [{**M[n], "parameters": {"weight": w}} for n, w in (("base", 0.2), ("a", 0.3), ("b", 0.5))]
    return {"merge_method": "linear", "models": models_, "base_model": "models/base", "dtype": "float32", **more}


RECIPES = {
    "union": linear(tokenizer_source="union"),
    "base": linear(tokenizer_source="base"),
    "model": linear(tokenizer_source="models/a"),
    "union_padded": linear(tokenizer={"source": "union", "pad_to_multiple_of": 32}),
    "base_padded": linear(tokenizer={"source": "base", "pad_to_multiple_of": 16}),
    "tasks": {"merge_method": "task_arithmetic", "base_model": "models/base", "dtype": "float32", "tokenizer_source": "union",
              "models": [{**M["a"], "parameters": {"weight": 0.7}}, {**M["b"], "parameters": {"weight": 0.4}}]},
    "tokens": linear(tokenizer={"source": "union", "tokens": {
        "<|im_start|>": {"source": "models/b"},
        "<|im_end|>": {"source": "models/a", "force": True},
        "<|tool|>": {"source": {"kind": "model_token", "model": "models/a", "token": "<|im_end|>"}},
        "<|end|>": {"source": {"kind": "model_token", "model": "models/b", "token_id": 3}, "force": True},
        "<|new|>": {"source": {"kind": "model_token", "model": "models/base", "token": "<|end|>"}}}}),
    "forced": linear(tokenizer={"source": "base", "tokens": {"<|end|>": {"source": "models/b", "force": True}}}),
    "zero": linear(tokenizer={"source": "union", "tokens": {"<|tool|>": {"source": {"kind": "zero"}}}}),
    "nowhere": linear(tokenizer={"source": "base", "tokens": {"<|new|>": {}}}),
}


def tokenizer(name):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    text = TEXT["a" if name == "a" else "base"]
    t.train_from_iterator([text] * 20, trainers.BpeTrainer(vocab_size=36, show_progress=False))
    added = {"base": ["<|end|>"], "a": ["<|im_start|>", "<|end|>", "<|im_end|>"], "b": ["<|end|>", "<|im_start|>", "<|im_end|>", "<|tool|>"]}[name]
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in added])
    return tf.PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<|end|>", pad_token="<|end|>")


def make_models(out):
    torch.manual_seed(11)
    for name, padding in (("base", 3), ("a", 0), ("b", 0)):
        t = tokenizer(name)
        config = tf.LlamaConfig(vocab_size=len(t) + padding, hidden_size=8, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
                                max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None, eos_token_id=t.eos_token_id, pad_token_id=None)
        model = tf.LlamaForCausalLM(config)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        folder = os.path.join(out, "models", name)
        model.save_pretrained(folder)
        t.save_pretrained(folder)



if __name__ == "__main__":
    out = sys.argv[1]
    os.makedirs(os.path.join(out, "recipes"), exist_ok=True)
    make_models(out)
    for name, r in RECIPES.items():
        path = os.path.join("recipes", name + ".yml")
        with open(os.path.join(out, path), "w") as f:
            yaml.safe_dump(r, f, sort_keys=False)
        done = subprocess.run([os.environ.get("MERGEKIT", "mergekit-yaml"), path, "tmp_out", "--no-write-model-card"], cwd=out, capture_output=True, text=True)
        if done.returncode:
            print(name, "FAILED", done.stderr.strip().splitlines()[-1], flush=True)
            continue
        made, kept = os.path.join(out, "tmp_out"), os.path.join(out, "merged", name)
        os.makedirs(kept, exist_ok=True)
        with open(os.path.join(kept, "vocab.json"), "w") as f:
            json.dump(tf.AutoTokenizer.from_pretrained(made).get_vocab(), f, ensure_ascii=False, sort_keys=True)
        tensors = st.load_file(os.path.join(made, "model.safetensors"))
        st.save_file({k: v for k, v in tensors.items() if k in ("model.embed_tokens.weight", "lm_head.weight")}, os.path.join(kept, "model.safetensors"))
        print(name, "ok", json.load(open(os.path.join(made, "config.json")))["vocab_size"], flush=True)
        if os.environ.get("KEEP"):
            shutil.move(made, made + "_" + name)
        else:
            shutil.rmtree(made)
