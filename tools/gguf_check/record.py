"""Records what llama.cpp's converter and gguf-py say, for tests/app/gguf_*_test.cc.

usage: python record.py CONVERTER WORK     (see check.py; WORK: an empty folder)
Writes tests/data/golden/gguf/families.json: per family of check.py the changes of config.json, the
keys of the architecture, and the SHA-256 of its tensors as F32: for each, by name, "NAME TYPE SHAPE
" and the bytes. And ids.json: names of models taken apart; tokenizer.model and pieces.json: a model
of sentencepiece and what sentencepiece reads in it.
"""
import hashlib
import json
import shutil
import sys

sys.argv = [sys.argv[0], "-", "-", sys.argv[1], sys.argv[2]]
import check  # noqa: E402
import gguf  # noqa: E402
from lines import LINES  # noqa: E402

OUT = check.HERE.parent.parent / "tests/data/golden/gguf"
IDS = ["meta-llama/Llama-3.1-8B-Instruct", "Qwen2.5-0.5B", "mistralai/Mixtral-8x7B-v0.1",
       "bigscience/bloom-7b1-petals", "my-merge", "phi-3-mini-128k-instruct", "gemma-2-2b-it",
       "Qwen/Qwen3-30B-A3B-Instruct-2507", "NousResearch/Hermes-2-Pro-Llama-3-8B", "a--b-chat",
       "TinyLlama_v1.1", "smollm2-135M-Instruct-Q8_0", "stable-code-3b-f16", "x-large-7B",
       "A merge of things", "./local/thing-7B", "v0.2-base-model"]


# Made by check.py and kept in gguf/models, as llama.cpp does not run tests/data/golden/families'.
LAYERS = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
KEPT = {"qwen3_5": {**LAYERS, "intermediate_size": 32},
        "qwen3_5_moe": {**LAYERS, "num_experts": 4, "moe_intermediate_size": 16}}


def record_families():
    families = {}
    for name, changes in check.FAMILIES.items():
        if "make" in changes and name not in KEPT:
            continue  # other weights than those of tests/data/golden/families
        changes = {**changes, **KEPT.get(name, {})}
        folder = check.prepare(name, dict(changes))
        file = check.WORK / f"{name}.gguf"
        check.run_converter(folder, file, "f32")
        reader = gguf.GGUFReader(file)
        prefix = reader.fields["general.architecture"].contents() + "."
        keys = {k: f.contents() for k, f in reader.fields.items() if k.startswith(prefix)}
        keys["general.size_label"] = reader.fields["general.size_label"].contents()
        h = hashlib.sha256()
        for t in sorted(reader.tensors, key=lambda t: t.name):
            shape = "x".join(str(int(n)) for n in reversed(t.shape))
            h.update(f"{t.name} {int(t.tensor_type)} {shape} ".encode() + t.data.tobytes())
        if name in KEPT:
            changes = {}
            kept = OUT / "models" / name
            kept.mkdir(parents=True, exist_ok=True)
            for part in ("config.json", "model.safetensors"):
                shutil.copy(folder / part, kept / part)
        families[name] = {"changes": changes, "keys": keys, "tensors": len(reader.tensors),
                          "sha256": h.hexdigest()}
    (OUT / "families.json").write_text(json.dumps(families, indent=1) + "\n")


def record_ids():
    ids = []
    for text in IDS:
        name, org, base, tune, version, size = gguf.Metadata.get_model_id_components(text, 8 * 10**9)
        ids.append({"id": text, "name": name or "", "organization": org or "", "basename": base or "",
                    "finetune": tune or "", "version": version or "", "size_label": size or "",
                    "title": gguf.Metadata.id_to_title(name)})
    sizes = [[n, gguf.size_label(n, 0, 0, 0)] for n in
             (512, 9_949, 99_400, 999_999, 1_100_048_384, 134_515_008, 8_030_261_248, 9.96e9)]
    (OUT / "ids.json").write_text(json.dumps({"parameters": 8 * 10**9, "ids": ids, "sizes": sizes},
                                             indent=1) + "\n")


def record_pieces():
    import sentencepiece as spm
    (check.WORK / "text.txt").write_text("\n".join(LINES[:25]))
    spm.SentencePieceTrainer.train(
        input=str(check.WORK / "text.txt"), model_prefix=str(check.WORK / "small"),
        model_type="bpe", byte_fallback=True, vocab_size=420, character_coverage=1.0,
        hard_vocab_limit=False, normalization_rule_name="identity", minloglevel=2,
        user_defined_symbols=["<|user|>"],
        control_symbols=["<|control|>"])
    shutil.copy(check.WORK / "small.model", OUT / "tokenizer.model")
    sp = spm.SentencePieceProcessor(model_file=str(OUT / "tokenizer.model"))
    kinds = (("is_unknown", 2), ("is_control", 3), ("is_unused", 5), ("is_byte", 6))
    pieces = [[sp.id_to_piece(i), sp.get_score(i),
               next((n for test, n in kinds if getattr(sp, test)(i)), 1)]
              for i in range(sp.vocab_size())]
    (OUT / "pieces.json").write_text(json.dumps(pieces, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    check.WORK.mkdir(exist_ok=True)
    record_families()
    record_ids()
    record_pieces()
