#!/usr/bin/env python3
"""Which type llama-quantize gives each tensor, by mix, without and with an importance matrix.

usage: make_types.py LLAMA_QUANTIZE LEWIS FOLDER...     (writes types.json beside itself; needs gguf)

LLAMA_QUANTIZE is made of llama_quantize.cc with llama.cpp (ggml 0.26.0). LEWIS writes the F32 files of
the models in the folders, and their importance matrices. Only types other than the mix's own are kept.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from gguf import GGUFReader

MIXES = {"q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8, "q4_k_m": 15,
         "q4_k_s": 14, "q4_1": 3, "q4_0": 2, "iq4_nl": 25, "mxfp4_moe": 38}
here = pathlib.Path(__file__).resolve().parent
quantize, lewis, *folders = sys.argv[1:]


def tensors_of(path):
    return {t.name: t for t in GGUFReader(path).tensors}


found = []
for folder in map(pathlib.Path, folders):
    with tempfile.TemporaryDirectory() as work:
        plain, out, imatrix = (f"{work}/{name}.gguf" for name in ("f32", "out", "imatrix"))
        subprocess.run([lewis, "convert", folder, plain, "--type", "f32", "-q"], check=True)
        text = pathlib.Path(work, "text.txt")
        text.write_text("One and one is two. " * 50)
        subprocess.run([lewis, "calibrate", folder, "--data", text, "-o", imatrix, "-q"], check=True)
        shapes = {name: [int(n) for n in reversed(t.shape)] for name, t in tensors_of(plain).items()}
        config = json.loads((folder / "config.json").read_text())
        model = {"config": config, "tensors": shapes, "types": {}}
        for mix, number in MIXES.items():
            for kind, more in {"plain": [], "weighted": [imatrix]}.items():
                subprocess.run([quantize, plain, out, str(number), "2", *more], check=True,
                               stdout=subprocess.DEVNULL)
                own = mix.upper().removesuffix("_M").removesuffix("_S").removesuffix("_MOE")
                model["types"][f"{mix} {kind}"] = {
                    name: t.tensor_type.name for name, t in tensors_of(out).items()
                    if t.tensor_type.name not in (own, "F32")}
        found.append(model)
(here / "types.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
