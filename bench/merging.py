"""What the scripts of this folder share: made-up Llama checkpoints and measured commands.

Python 3.9's standard library only.
"""
import array
import json
import multiprocessing
import os
import pathlib
import random
import struct
import subprocess
import time
import zlib
from dataclasses import dataclass

MODELS = ("base", "a", "b")  # base and two experts


@dataclass(frozen=True)
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool

    def tensors(self):
        """(name, dimensions) of all tensors of a Llama checkpoint."""
        h, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        yield "model.embed_tokens.weight", [self.vocab, h]
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", [h]
            yield prefix + "mlp.down_proj.weight", [h, self.intermediate]
            yield prefix + "mlp.gate_proj.weight", [self.intermediate, h]
            yield prefix + "mlp.up_proj.weight", [self.intermediate, h]
            yield prefix + "post_attention_layernorm.weight", [h]
            yield prefix + "self_attn.k_proj.weight", [kv, h]
            yield prefix + "self_attn.o_proj.weight", [h, h]
            yield prefix + "self_attn.q_proj.weight", [h, h]
            yield prefix + "self_attn.v_proj.weight", [kv, h]
        yield "model.norm.weight", [h]
        if not self.tied:
            yield "lm_head.weight", [self.vocab, h]

    def parameters(self):
        return sum(count(dimensions) for _, dimensions in self.tensors())

    def config(self):
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
            "hidden_size": self.hidden, "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied, "hidden_act": "silu", "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 2048, "bos_token_id": 1,
            "eos_token_id": 2,
        }


SHAPES = {  # SmolLM2 135M, TinyLlama 1.1B, and one to try a script with
    "tiny": Shape(256, 768, 4, heads=4, kv_heads=2, vocab=4096, tied=True),
    "135m": Shape(576, 1536, 30, heads=9, kv_heads=3, vocab=49152, tied=True),
    "1.1b": Shape(2048, 5632, 22, heads=32, kv_heads=4, vocab=32000, tied=False),
}


def count(dimensions):
    product = 1
    for d in dimensions:
        product *= d
    return product


def to_bf16(values):
    """Little-endian bfloat16 bytes, rounded to nearest even. values: array of float32."""
    bits = memoryview(values).cast("B").cast("I")
    return array.array("H", [(u + 0x7FFF + (u >> 16 & 1)) >> 16 for u in bits]).tobytes()


def random_blocks(entries=1_000_003):
    """One block of entries a model. The experts' differences are those of real fine-tunes: so small
    that most entries round to the base's own value and the others take few values, many times."""
    draw = random.Random(1)
    base = array.array("f", (draw.gauss(0, 0.02) for _ in range(entries)))
    experts = [array.array("f", (w + draw.gauss(0, 2e-5) for w in base)) for _ in MODELS[1:]]
    return [to_bf16(values) for values in [base, *experts]]


def write_tensor(file, name, size, block):
    """The block again and again. Where it begins depends on the name, its length is a prime: so no
    two rows or tensors are equal."""
    at = zlib.crc32(name.encode()) % (len(block) // 2) * 2
    while size > 0:
        piece = memoryview(block)[at:at + size]
        file.write(piece)
        size -= len(piece)
        at = 0


def write_shard(path, tensors, block):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dimensions in tensors:
        size = 2 * count(dimensions)
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dimensions in tensors:
            write_tensor(file, name, 2 * count(dimensions), block)


def write_model(folder, shape, block, shard_bytes):
    shards, room = [[]], shard_bytes
    for name, dimensions in shape.tensors():
        size = 2 * count(dimensions)
        if shards[-1] and size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append((name, dimensions))
        room -= size
    folder.mkdir(parents=True)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, tensors in zip(names, shards):
        write_shard(folder / name, tensors, block)
    weight_map = {tensor: name for name, tensors in zip(names, shards) for tensor, _ in tensors}
    index = {"metadata": {"total_size": 2 * shape.parameters()}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2))


def _write_models(folder, shape, shard_bytes, names):
    for name, block in zip(names, random_blocks()):
        write_model(pathlib.Path(folder) / name, shape, block, shard_bytes)


def write_models(folder, shape, shard_bytes, names=MODELS):
    """folder/base, folder/a and folder/b. In a process of its own: a command's peak memory begins
    with that of the process that starts it, which therefore has to stay small."""
    child = multiprocessing.Process(target=_write_models, args=(folder, shape, shard_bytes, names))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"could not write the models to {folder}")


def read_floats(path):
    """{tensor: array of double} of a small safetensors file of F64."""
    data = pathlib.Path(path).read_bytes()
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + at for at in entry["data_offsets"])
            tensors[name] = array.array("d", data[begin:end])
    return tensors


@dataclass(frozen=True)
class Cost:
    wall: float  # seconds
    cpu: float  # seconds, user and system, of all threads
    peak: int  # bytes resident


def measured(command, log, **options):
    """Runs a command to its end, its output to the file log. Dirty pages of before do not count."""
    os.sync()
    with open(log, "wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
    process.returncode = 1 if status else 0  # waited for already
    if status:
        tail = "\n".join(pathlib.Path(log).read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
