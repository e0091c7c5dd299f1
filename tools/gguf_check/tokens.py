"""The part of check.py on tokenizers."""
import json
import os
import pathlib
import shutil
import subprocess

import torch
import transformers as tf
from tokenizers import Tokenizer

from lines import LINES, SENTENCES

NEWLINE = "\x1e"  # a line of llama_values has its line breaks as this


def small_model(folder, vocabulary, kind, **more):
    kinds = {"llama": tf.LlamaConfig, "qwen2": tf.Qwen2Config, "gemma2": tf.Gemma2Config}
    config = kinds[kind](vocab_size=vocabulary, hidden_size=32, intermediate_size=32,
                         num_hidden_layers=2 if kind == "gemma2" else 1, num_attention_heads=1,
                         num_key_value_heads=1, max_position_embeddings=64, head_dim=32,
                         tie_word_embeddings=True, **more)
    if kind == "gemma2":
        config.query_pre_attn_scalar = 32
    torch.manual_seed(3)
    tf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def llama_tokens(values, file, lines):
    text = "".join(line.replace("\n", NEWLINE) + "\n" for line in lines)
    done = subprocess.run([values, file, "tokens"], input=text.encode(), capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return [[int(i) for i in line.split()] for line in done.stdout.decode().splitlines()]


def sentencepiece_model(folder, options):
    import sentencepiece as spm
    (folder / "text.txt").write_text("\n".join(LINES * 3))
    spm.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "tokenizer"), model_type="bpe",
        byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2,
        vocab_size=900, character_coverage=0.98, **options)
    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
         "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False}))
    return sp, lambda line: [sp.bos_id()] + sp.encode(line)


def drop_tokens_without_merges(folder):
    """The made one has added tokens of several spaces that no merge makes, which a text therefore
    never has in transformers; those of Gemma are made by merges, too."""
    file = folder / "tokenizer.json"
    t = json.loads(file.read_text())
    made = {"".join(m) for m in t["model"]["merges"]}
    for token in t["added_tokens"]:
        if set(token["content"]) == {"\u2581"} and token["content"] not in made:
            token["content"] = f"<spaces{token['id']}>"
    file.write_text(json.dumps(t))


def check_tokenizers(lewis, values, work, made, convert, run_converter, compare_files, pre_of):
    shared = pathlib.Path(os.environ.get("TOKENIZERS", "/nowhere"))
    cases = [("gpt2", made / "gpt2", "qwen2")]
    cases += [(n, made / f"made/{n}.json", "gemma2" if n == "gemma" else "llama")
              for n in ("qwen", "tekken", "o200k", "deepseek", "gemma", "llama2")]
    cases += [(n, shared / n, "llama") for n in ("minimind", "smollm", "mistral-7b-v0.3")
              if (shared / n).exists()]
    cases += [("sentencepiece", {}, "llama"), ("sentencepiece without a space",
                                               {"add_dummy_prefix": False}, "llama")]
    print("\n| tokenizer | lines that differ | other keys |\n|---|---|---|")
    for name, source, kind in cases:
        try:
            check_one(name, source, kind, values, work, convert, run_converter, compare_files,
                      pre_of)
        except Exception as e:  # the table goes on
            print(f"| {name} | FAILED | {type(e).__name__}: {e} |")


def check_one(name, source, kind, values, work, convert, run_converter, compare_files, pre_of):
    folder = work / f"tokens-{name.replace(' ', '-')}"
    folder.mkdir()
    if isinstance(source, dict):
        sp, encode = sentencepiece_model(folder, source)
        size = sp.vocab_size()
    else:
        for file in source.glob("*.json") if source.is_dir() else [source]:
            if file.name != "config.json":
                to = file.name if source.is_dir() else "tokenizer.json"
                shutil.copy(file, folder / to)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if name == "gemma":
            drop_tokens_without_merges(folder)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if not (folder / "tokenizer_config.json").exists():
            (folder / "tokenizer_config.json").write_text(
                json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
        size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        encode = lambda line: tokenizer.encode(line).ids  # noqa: E731
    small_model(folder, size, kind)
    file, theirs = work / f"{folder.name}.gguf", work / f"{folder.name}.theirs.gguf"
    notes = convert(folder, file)
    lines = [line.rstrip("\n") for line in LINES]
    found, wanted = llama_tokens(values, file, lines), [encode(line) for line in lines]
    other = [i for i in range(len(lines)) if found[i] != wanted[i]]
    try:
        try:  # by the converter's own list of tokenizers
            run_converter(folder, theirs, "f16", None)
        except NotImplementedError:
            run_converter(folder, theirs, "f16", pre_of(file))
        keys, _ = compare_files(file, theirs, "tokenizer.")
        of_theirs = llama_tokens(values, theirs, lines)
        theirs_other = sum(a != b for a, b in zip(of_theirs, wanted))
    except Exception as e:
        keys, theirs_other = [("converter", type(e).__name__, str(e)[:80])], None
    print(f"| {name} | {len(other)} ({theirs_other} of the converter's file) | {len(keys)} |", notes)
    if other:
        print("    in", ", ".join(dict.fromkeys(list(SENTENCES)[i // 20] for i in other)))
    for k in keys:
        print("    key", *k)
    for i in other[:3]:
        at = next((j for j, (a, b) in enumerate(zip(found[i], wanted[i])) if a != b),
                  min(len(found[i]), len(wanted[i])))
        print("    line", i, repr(lines[i][:40]), found[i][at:at + 6], wanted[i][at:at + 6])
