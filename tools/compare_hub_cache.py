#!/usr/bin/env python3
"""Downloads one model with huggingface_hub and with lewis from the same test hub, and compares the
two caches: every file, link, reference and mode.

    python3 -m venv venv && venv/bin/pip install huggingface_hub==2.4.0
    venv/bin/python tools/compare_hub_cache.py build/dev

Afterwards each program reads the cache of the other one, without a network.
"""

import os
import pathlib
import random
import stat
import subprocess
import sys
import tempfile

COMMIT = "a" * 40
NEEDED = [
    "README.md",
    "additional_chat_templates/tool.jinja",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def write_model(folder: pathlib.Path) -> None:
    """A model in two shards, as bytes: nothing here is opened as one."""
    rng = random.Random(0)
    index = ('{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors",'
             ' "b": "model-00002-of-00002.safetensors"}}')
    contents = {
        "README.md": b"---\nlicense: mit\n---\n",
        "additional_chat_templates/tool.jinja": b"{{ messages }}",
        "config.json": b'{"model_type": "llama"}',
        "model-00001-of-00002.safetensors": rng.randbytes(3_000_000),
        "model-00002-of-00002.safetensors": rng.randbytes(1_000_000),
        "model.safetensors.index.json": index.encode(),
        "tokenizer.json": rng.randbytes(50_000),
        "tokenizer_config.json": b"{}",
        "modeling_llama.py": b"import os",
        "pytorch_model.bin": rng.randbytes(20_000),
    }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def described(cache: pathlib.Path) -> dict[str, str]:
    """Relative path -> kind, mode and content of everything in a cache."""
    found = {}
    for path in sorted(cache.rglob("*")):
        name = str(path.relative_to(cache))
        info = path.lstat()
        mode = oct(stat.S_IMODE(info.st_mode))
        if stat.S_ISLNK(info.st_mode):
            found[name] = f"link to {os.readlink(path)}"
        elif stat.S_ISDIR(info.st_mode):
            found[name] = f"folder {mode}"
        else:
            found[name] = f"file {mode} {path.read_bytes()!r:.200} {info.st_size}"
    return found


def environment(address: str, cache: pathlib.Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HOME": str(cache.parent), **more}


def with_huggingface_hub(env: dict[str, str]) -> None:
    code = ("import sys, huggingface_hub as h\n"
            "for name in sys.argv[1:]: h.hf_hub_download('owner/name', name)\n")
    subprocess.run([sys.executable, "-c", code, *NEEDED], env=env, check=True)


def main() -> int:
    build = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as work_name:
        work = pathlib.Path(work_name)
        write_model(work / "served/owner/name")
        server = subprocess.Popen([build / "lewis_hub_server", work / "served"], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        address = server.stdout.readline().strip()
        caches = {"huggingface_hub": work / "theirs", "lewis": work / "ours"}
        with_huggingface_hub(environment(address, caches["huggingface_hub"]))
        lewis = [build / "lewis", "pull", "owner/name", "-q"]
        subprocess.run(lewis, env=environment(address, caches["lewis"]), check=True)
        theirs, ours = described(caches["huggingface_hub"]), described(caches["lewis"])
        differences = 0
        for name in sorted(theirs.keys() | ours.keys()):
            a, b = theirs.get(name), ours.get(name)
            if a == b:
                continue
            if a is None and name.startswith("models--owner--name/.no_exist"):
                continue  # lewis knows the whole list, huggingface_hub only what it asked for
            differences += 1
            print(f"{name}\n  huggingface_hub: {a}\n  lewis:           {b}")
        print(f"{len(theirs)} entries of huggingface_hub, {len(ours)} of lewis, "
              f"{differences} differences")
        server.stdin.close()
        server.wait()
        # Each finds the other's files, although nobody answers any more.
        offline = {"HF_HUB_OFFLINE": "1"}
        with_huggingface_hub(environment(address, caches["lewis"], **offline))
        subprocess.run(lewis, env=environment(address, caches["huggingface_hub"], **offline), check=True)
        print("each program reads the other's cache without a network")
        return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
