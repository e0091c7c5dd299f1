"""Compares what `lewis convert` writes with llama.cpp's converter and what llama.cpp makes of it.

usage: python check.py LEWIS LLAMA_VALUES CONVERTER WORK [FAMILY ...]
  LEWIS         the program
  LLAMA_VALUES  what build.sh builds
  CONVERTER     a folder of llama.cpp with convert_hf_to_gguf.py, conversion/ and gguf-py/
  WORK          an empty folder
  TOKENIZERS    (environment) a folder with gpt2, minimind, mistral-7b-v0.3 and smollm, if you have
                them: a folder each, with the tokenizer's files
needs torch, transformers, tokenizers, sentencepiece, safetensors

For each family (FAMILIES below): a small model with random weights, from tests/data/golden/families
or made here by transformers where that one has settings which llama.cpp does not run.
  loads      llama.cpp loads the F32 file
  logits     the largest difference of its logits from those of transformers (which lewis is held to
             by FamilyParity), over the largest magnitude
  metadata   the keys that are other than those of the converter for the same folder
  tensors    tensors that have other bytes, for F32 and F16
For each tokenizer (TOKENIZERS below), in a model of one layer: lines of 200 in ten scripts that
llama.cpp splits otherwise than the package tokenizers (or sentencepiece), and keys of tokenizer.*
that are other than the converter's.
Prints the table of docs/gguf.md.
"""
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

LEWIS, VALUES, CONVERTER, WORK = (pathlib.Path(a).resolve() for a in sys.argv[1:5])
ONLY = sys.argv[5:]
sys.path[:0] = [str(CONVERTER / "gguf-py"), str(CONVERTER)]
HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent.parent / "tests/data/golden/families"
MADE = HERE.parent.parent / "tests/data/tokenizers"

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as tf  # noqa: E402
from conversion import ModelBase, get_model_architecture, get_model_class  # noqa: E402
from lines import LINES  # noqa: E402
from conversion.base import TextModel, ModelType  # noqa: E402

# Name: changes of config.json. With "make", the weights are made by transformers for these keys.
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "mixtral": {},
    "qwen2": {},
    "qwen2_moe": {"make": True, "decoder_sparse_step": 1},
    "qwen3": {},
    # llama.cpp knows one size of linear attention's heads.
    "qwen3_5": {"make": True, "linear_key_head_dim": 16},
    "qwen3_5_moe": {"make": True, "linear_key_head_dim": 16, "num_local_experts": "leave out"},
    "qwen3_moe": {"make": True, "mlp_only_layers": [], "num_experts": 8,
                  "num_local_experts": "leave out"},
    "arcee": {},
    "cohere2": {"rotary_pct": 1.0},
    "gemma": {"bos_token_id": 1, "eos_token_id": 2},
    "gemma2": {"query_pre_attn_scalar": 24, "bos_token_id": 1, "eos_token_id": 2},
    "gemma3": {},
    "glm4": {},
    # llama.cpp always truncates the bounds of yarn.
    "gpt_oss": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0,
                                    "beta_fast": 32.0, "beta_slow": 1.0,
                                    "original_max_position_embeddings": 64}},
    "granite": {},
    "lfm2": {},
    "olmo2": {},
    "olmo3": {},
    "phi3": {},
    "seed_oss": {},
    "smollm3": {},
    "starcoder2": {},
}
# Keys that are other on purpose; docs/gguf.md says why.
NOT_COMPARED = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}


def prepare(name, changes):
    # llama.cpp expects some tokens in a model whose name has "phi3".
    folder = WORK / name.replace("phi3", "fi3")
    shutil.copytree(GOLDEN / name, folder)
    config = json.loads((folder / "config.json").read_text())
    make = changes.pop("make", False)
    config.update(changes)
    config = {k: v for k, v in config.items() if v != "leave out"}
    (folder / "config.json").write_text(json.dumps(config))
    if make:
        torch.manual_seed(23)
        known = tf.AutoConfig.from_pretrained(folder)
        model = tf.AutoModelForCausalLM.from_config(known, dtype=torch.bfloat16)
        for p in model.parameters():
            torch.nn.init.normal_(p, 1.0 if p.ndim == 1 else 0.0, 0.15)
        model.save_pretrained(folder)
    write_tokenizer(folder, config)
    return folder


def write_tokenizer(folder, config):
    """A byte-level BPE of 256 tokens without merges; sentencepiece where the converter wants it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # GLM-4's converter names two of its tokens.
    names = ["<|endoftext|>", "<|user|>"]
    vocabulary = {t: i for i, t in enumerate(names + alphabet[len(names) + 1:] + ["th"])}
    t = Tokenizer(models.BPE(vocab=vocabulary, merges=[("t", "h")]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(names)
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=t, eos_token=names[0], bos_token=names[0])
    fast.save_pretrained(folder)
    if config["model_type"] == "phi3":  # with this name the converter reads tokenizer.json
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()),
                                    "tokenizer_class": "GPT2Tokenizer"}))
    if config["model_type"] in ("gemma", "gemma2"):
        import sentencepiece as spm
        for file in ("tokenizer.json", "special_tokens_map.json"):
            (folder / file).unlink(missing_ok=True)
        (folder / "text.txt").write_text("\n".join(LINES[:20] * 3))
        spm.SentencePieceTrainer.train(
            input=str(folder / "text.txt"), model_prefix=str(folder / "tokenizer"),
            model_type="bpe", vocab_size=250, add_dummy_prefix=False, character_coverage=0.98,
            hard_vocab_limit=False, minloglevel=2)
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}))


ModelBase.no_mtp = True  # the small models of Qwen 3.5 predict one token
OWN_PRE = TextModel.get_vocab_base_pre


def run_converter(folder, out, kind, pre="gpt-2"):
    """pre: the name of the tokenizer's rules; None: as the converter finds it."""
    TextModel.get_vocab_base_pre = (lambda self, tokenizer: pre) if pre else OWN_PRE
    hparams = ModelBase.load_hparams(folder, False)
    cls = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    types = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16}
    with torch.inference_mode():
        cls(folder, types[kind], out, eager=True).write()


def value_of(field):
    return field.contents() if hasattr(field, "contents") else None


def compare_files(mine, theirs, prefix=""):
    a, b = gguf.GGUFReader(mine), gguf.GGUFReader(theirs)
    keys = []
    for key in sorted((set(a.fields) | set(b.fields)) - NOT_COMPARED):
        if not key.startswith(prefix):
            continue
        x, y = (value_of(r.fields[key]) if key in r.fields else None for r in (a, b))
        tx, ty = (r.fields[key].types if key in r.fields else None for r in (a, b))
        if isinstance(x, float) and isinstance(y, float):
            x, y = np.float32(x), np.float32(y)
        if (key, x, y) == ("tokenizer.ggml.add_bos_token", False, None):
            continue  # docs/gguf.md says why it is written
        if x != y or tx != ty:
            keys.append((key, short(x), short(y)))
    ta, tb = ({t.name: t for t in r.tensors} for r in (a, b))
    tensors = [(n, "only in one") for n in sorted(set(ta) ^ set(tb))]
    for n in sorted(set(ta) & set(tb)):
        if ta[n].tensor_type != tb[n].tensor_type or list(ta[n].shape) != list(tb[n].shape):
            tensors.append((n, "type or shape"))
        elif ta[n].data.tobytes() != tb[n].data.tobytes():
            tensors.append((n, "bytes"))
    return keys, tensors


def short(x):
    text = repr(x)
    return text if len(text) < 60 else text[:57] + "..."


def compare_logits(folder, file):
    config = json.loads((folder / "config.json").read_text())
    ids = torch.randint(0, min(250, config["vocab_size"]), (1, 96),
                        generator=torch.Generator().manual_seed(5))
    model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                    attn_implementation="eager").eval()
    with torch.no_grad():
        wanted = model(ids).logits[0].numpy()
    done = subprocess.run([VALUES, file, "logits", "128", *map(str, ids[0].tolist())],
                          capture_output=True)
    if done.returncode != 0:
        return None, done.stderr.decode(errors="replace").strip().splitlines()[-2:]
    found = np.frombuffer(done.stdout, np.float32).reshape(wanted.shape)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max()), ""


def convert(folder, out, *options):
    done = subprocess.run([LEWIS, "convert", folder, out, "-q", *options], capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode().strip())
    return done.stderr.decode().strip()


def check_family(name, changes):
    folder = prepare(name, dict(changes))
    files = {}
    keys, tensors = [], []
    for kind in ("f32", "f16"):
        files[kind] = WORK / f"{name}.{kind}.gguf"
        notes = convert(folder, files[kind], "--type", kind)
        theirs = WORK / f"{name}.{kind}.theirs.gguf"
        run_converter(folder, theirs, kind, pre_of(files[kind]))
        k, t = compare_files(files[kind], theirs)
        keys += k if kind == "f32" else [x for x in k if x not in keys]
        tensors += [(kind, *x) for x in t]
    difference, why = compare_logits(folder, files["f32"])
    print(f"| `{name}` | {'yes' if difference is not None else 'no'} | "
          f"{difference if difference is None else format(difference, '.1e')} | {len(keys)} | "
          f"{len(tensors)} |", why, notes)
    for k in keys:
        print("    key", *k)
    for t in tensors[:6]:
        print("    tensor", *t)


def pre_of(file):
    field = gguf.GGUFReader(file).fields.get("tokenizer.ggml.pre")
    return field.contents() if field else "default"


def main():
    os.environ["NO_LOCAL_GGUF"] = "1"
    WORK.mkdir(exist_ok=True)
    logging.disable(logging.WARNING)
    print("| family | loads | logits | other keys | other tensors |\n|---|---|---|---|---|")
    for name, changes in FAMILIES.items():
        if ONLY and name not in ONLY:
            continue
        try:
            check_family(name, changes)
        except Exception as e:  # the table goes on
            print(f"| `{name}` | FAILED | {type(e).__name__}: {e} |")
    if not ONLY or "tokenizers" in ONLY:
        from tokens import check_tokenizers
        check_tokenizers(LEWIS, VALUES, WORK, MADE, convert, run_converter, compare_files, pre_of)


if __name__ == "__main__":
    main()
