"""Writes fuzz/seeds: small valid inputs for every target of fuzz/targets.cc.

    python3 tools/make_fuzz_seeds.py LEWIS

LEWIS is the program, which writes the manifest. Seeds that fuzzing has found are added by hand."""
import gzip
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
SEEDS = HERE / "fuzz" / "seeds"


def seed(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, value) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
        data += value
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def f64(*values):
    return struct.pack(f"<{len(values)}d", *values)


def gguf(metadata, tensors):
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        if isinstance(value, str):
            out += text(key) + struct.pack("<I", 8) + text(value)
        elif isinstance(value, bool):
            out += text(key) + struct.pack("<IB", 7, value)
        elif isinstance(value, float):
            out += text(key) + struct.pack("<If", 6, value)
        elif isinstance(value, tuple):
            out += text(key) + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
        elif isinstance(value, list):
            out += text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(v) for v in value)
        else:
            out += text(key) + struct.pack("<II", 4, value)
    offset, data = 0, b""
    for name, (shape, values, *kind) in tensors.items():  # kind: of blocks, whose bytes are given
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", kind[0] if kind else 0, offset)
        value = values if kind else struct.pack(f"<{len(values)}f", *values)
        value += bytes(-len(value) % 32)
        offset += len(value)
        data += value
    return out + bytes(-len(out) % 32) + data


def binary_seeds():
    seed("safetensors", "two_dtypes", safetensors({"a": ("F32", [2, 1], bytes(8)), "b": ("BF16", [3], bytes(6))}, {"format": "pt"}))
    seed("safetensors", "scalar_and_empty", safetensors({"s": ("I64", [], bytes(8)), "e": ("U8", [0, 4], b"")}))
    seed("safetensors", "float8_and_complex", safetensors({"f": ("F8_E4M3", [4], bytes(4)), "c": ("C64", [1], bytes(8))}))
    half = struct.pack("<8f", *range(8))
    prefix = "base_model.model.model."
    seed("adapter", "lora", safetensors({prefix + "layers.0.self_attn.q_proj.lora_A.weight": ("F32", [2, 4], half),
                                         prefix + "layers.0.self_attn.q_proj.lora_B.weight": ("F32", [4, 2], half)}))
    seed("adapter", "embeddings_and_head", safetensors({prefix + "embed_tokens.lora_embedding_A": ("F32", [2, 4], half), prefix + "embed_tokens.lora_embedding_B": ("F32", [4, 2], half),
                                                        "base_model.model.lm_head.weight": ("F32", [5, 4], struct.pack("<20f", *range(20)))}))
    meta = {"format": "lewis-statistics-1", "tokens": "7", "sequences": "2", "protocol": "clean"}
    seed("statistics", "dense", safetensors({"model.layers.0.mlp.up_proj.sum_squares": ("F64", [3], f64(1, 2, 3))}, meta))
    experts = {"m.experts.expert_tokens": ("I64", [2], struct.pack("<2q", 3, 4)), "m.experts.expert_in": ("F64", [2, 1], f64(1, 2)),
               "m.experts.expert_mid": ("F64", [2, 2], f64(1, 2, 3, 4)), "x.output_change": ("F64", [3], f64(1, 2, 3))}
    seed("statistics", "experts", safetensors(experts, meta | {"fused": '{"qkv_proj":[["q_proj",64],["k_proj",32]]}'}))
    block = {"error_solved": 0.25, "error_prior": 0.5, "kept_prior": False, "choices": [], "notes": ["a note"], "seconds": 1.5}
    seed("journal_refine", "block", b'{"name": "x", "bytes": 1, "sha256": "00"}\n' + safetensors({"model.layers.0.mlp.up_proj.weight": ("BF16", [2, 2], bytes(8))}, {"lewis_refined": json.dumps(block)}))
    matrix = gguf({"general.type": "imatrix", "imatrix.datasets": ["a.txt"], "imatrix.chunk_count": 2, "imatrix.chunk_size": 512},
                  {"blk.0.ffn_up.weight.in_sum2": ([1, 4], [1, 2, 3, 4]), "blk.0.ffn_up.weight.counts": ([1, 1], [2])})
    seed("imatrix", "one_weight", matrix)
    seed("gguf", "imatrix", matrix)
    seed("gguf", "empty", gguf({"general.architecture": "llama"}, {}))
    gguf_models()


def gguf_models():
    def sizes(architecture, **more):
        keys = {"block_count": 1, "context_length": 16, "embedding_length": 32, "feed_forward_length": 32,
                "attention.head_count": 2, "attention.head_count_kv": 1, "rope.freq_base": 10000.0,
                "attention.layer_norm_rms_epsilon": 1e-5, **more}
        return {"general.architecture": architecture, **{f"{architecture}.{k}": v for k, v in keys.items()}}

    def ones(*shape):
        return list(shape), [1] * math.prod(shape)

    def q8_0(*shape):
        return list(shape), bytes([0, 60] + [3] * 32) * (math.prod(shape) // 32), 8

    def attention(make):
        return {"blk.0.attn_q.weight": make(32, 32), "blk.0.attn_k.weight": make(16, 32), "blk.0.attn_v.weight": make(16, 32),
                "blk.0.attn_output.weight": make(32, 32), "blk.0.attn_norm.weight": ones(32), "blk.0.ffn_norm.weight": ones(32),
                "output_norm.weight": ones(32), "token_embd.weight": make(4, 32)}

    tokens = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": ["a", "b", "ab", "<|end|>"],
              "tokenizer.ggml.token_type": (1, 1, 1, 3), "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.eos_token_id": 3,
              "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": "{{ messages }}"}
    mlp = {f"blk.0.ffn_{m}.weight": q8_0(32, 32) for m in ("gate", "up", "down")}
    seed("gguf", "llama", gguf(sizes("llama") | tokens, attention(q8_0) | mlp | {"rope_freqs.weight": ([8], [1, 1, 1, 2, 4, 8, 8, 8])}))
    experts = {f"blk.0.ffn_{m}_exps.weight": q8_0(2, 32, 32) for m in ("gate", "up", "down")} | {"blk.0.ffn_gate_inp.weight": ones(2, 32)}
    mixture = {"expert_count": 2, "expert_used_count": 1, "expert_feed_forward_length": 32}
    seed("gguf", "qwen3moe", gguf(sizes("qwen3moe", **mixture) | tokens, attention(ones) | experts))
    seed("gguf", "q4_k", gguf({"general.architecture": "x"}, {"w": ([1, 256], bytes([0, 60, 0, 56] + [7] * 140), 12)}))


def quantized_seeds():
    def model(name, quantization, tensors):
        config = json.dumps({"model_type": "gpt_oss", "quantization_config": quantization})
        seed("quantized", name, config.encode() + b"\n" + safetensors(tensors))

    codes, scale = bytes(range(16)), lambda n: struct.pack(f"<{n}f", *range(1, n + 1))
    model("fp8_blocks", {"quant_method": "fp8", "weight_block_size": [2, 4]},
          {"a.weight": ("F8_E4M3", [2, 8], codes), "a.weight_scale_inv": ("F32", [1, 2], scale(2))})
    model("fp8_experts", {"quant_method": "fp8", "weight_block_size": [2, 2], "scale_fmt": "ue8m0"},
          {"x.experts.gate_up_proj": ("F8_E5M2", [2, 2, 4], codes), "x.experts.gate_up_proj_scale_inv": ("U8", [2, 2, 2], bytes(range(120, 128)))})
    group = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}}
    model("compressed", {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": group}, "kv_cache_scheme": {"num_bits": 8}},
          {"a.weight": ("F8_E4M3", [4, 4], codes), "a.weight_scale": ("BF16", [4, 1], bytes([0x80, 0x3f] * 4)), "a.input_scale": ("F32", [1], scale(1)), "s.k_scale": ("F32", [1], scale(1))})
    model("fbgemm", {"quant_method": "fbgemm_fp8"}, {"x": ("F8_E4M3", [2, 2, 4], codes), "x_scale": ("F32", [2, 1, 4], scale(8))})
    model("mxfp4", {"quant_method": "mxfp4"}, {"x_blocks": ("U8", [1, 2, 1, 16], codes * 2), "x_scales": ("U8", [1, 2, 1], bytes([127, 130]))})


RECIPES = {
    "ties": """merge_method: ties
base_model: base
models:
  - {model: math, parameters: {weight: 1, density: 0.5}}
  - {model: code, parameters: {weight: [0, 0.5, 1]}}
parameters: {normalize: true, lambda: [{filter: mlp, value: 0.7}, {value: 1}]}
dtype: bfloat16
""",
    "slices": """merge_method: passthrough
slices:
  - sources: [{model: base, layer_range: [0, 2]}]
  - sources: [{model: math, layer_range: [1, 3], parameters: {scale: 0.5}}]
""",
    "lewis": """merge_method: task_arithmetic
base_model: base
models: [{model: math, parameters: {weight: 1}}, {model: code, parameters: {weight: 1}}]
lewis:
  importance: norm_shift
  allocation: budget
  budget: 0.4
tokenizer_source: union
""",
    "lewis_whole": """merge_method: dare_ties
base_model: base
models:
  - {model: math, parameters: {weight: 1, density: 0.5}}
  - {model: code, parameters: {weight: 1, density: 0.5}}
tokenizer:
  source: union
  tokens: {"<a>": {source: math, force: true}, "<b>": {source: {kind: zero}}, "<c>": {source: {kind: model_token, model: code, token_id: 3}}}
  pad_to_multiple_of: 8
chat_template: chatml
out_dtype: float16
lewis:
  calibration:
    - {model: math, data: math.jsonl, format: gsm8k, samples: 8}
    - {model: code, data: code.jsonl, format: chat, samples: 4, max_tokens: 256}
  protocol: clean
  allocation: min_max
  gamma: 0.3
  epsilon: 0.8
  coefficient: lines
  refine: {samples: 16, ridge: 0.01, question_weight: 0.1, held_out: 0.2, biases: true}
""",
    "modules": """merge_method: linear
modules:
  text_decoder:
    slices:
      - sources: [{model: base, layer_range: [0, 2], parameters: {weight: 1}}, {model: math, layer_range: [0, 2], parameters: {weight: 0.5}}]
parameters: {int8_mask: true}
dtype: float32
""",
    "stages": """name: first
merge_method: slerp
base_model: base
models: [{model: math}]
parameters: {t: 0.5}
---
merge_method: linear
models: [{model: first, parameters: {weight: 1}}, {model: code, parameters: {weight: 1}}]
""",
}


def text_seeds():
    for name, recipe in RECIPES.items():
        seed("recipe", name, recipe)
        seed("yaml", name, recipe)
    seed("yaml", "scalars", "a: [1, -2.5e3, .inf, ~, true, 'it''s', \"\\u00e9\\n\"]\nb: |\n  text\n  more\nc: >-\n  folded\n  text\n? d\n: {e: f}\n")
    seed("tunable", "search", RECIPES["ties"].replace("density: 0.5", "density: {search: [0.1, 1], start: 0.5, scale: log}"))
    index = {"metadata": {"total_size": 2}, "weight_map": {"a": "model-00001-of-00001.safetensors", "b": "model-00001-of-00001.safetensors"}}
    seed("index", "two_tensors", json.dumps(index))
    seed("json", "values", '{"a": [1, -2, 3.5, 1e300, true, null, "\\u00e9\\ud83d\\ude00"], "b": {}}')
    seed("adapter_config", "lora", json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"],
                                               "rank_pattern": {"^model\\.layers\\.[0-3]\\.": 4}, "alpha_pattern": {"v_proj": 32},
                                               "use_rslora": True, "use_dora": False, "bias": "none", "modules_to_save": None}))
    for family in ("llama", "gemma3", "qwen3_moe", "mixtral", "phi3"):
        config = HERE / "tests" / "data" / "golden" / "families" / family / "config.json"
        if config.exists():
            seed("config", family, config.read_bytes())
    seed("config", "a_number", "2")
    vocab = {c: i for i, c in enumerate("abcdehlorw ")} | {"lo": 11, "he": 12}
    tokenizer = {"version": "1.0", "added_tokens": [{"id": 13, "content": "<s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}],
                 "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                           "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": ["l o", "h e"]}}
    seed("tokenizer", "bpe", json.dumps(tokenizer))
    word_level = tokenizer | {"normalizer": {"type": "Replace", "pattern": {"Regex": "[0-9]+"}, "content": "#"}, "pre_tokenizer": {"type": "Whitespace"},
                              "decoder": None, "model": {"type": "WordLevel", "vocab": {"Hello": 0, "<unk>": 1}, "unk_token": "<unk>"}}
    seed("tokenizer", "word_level", json.dumps(word_level))
    seed("tokenizers", "bpe", json.dumps(tokenizer))
    seed("tokenizers", "whitespace", json.dumps(tokenizer | {"normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "decoder": None}))
    seed("tokenizers", "unigram", json.dumps(tokenizer | {"normalizer": None, "pre_tokenizer": None, "decoder": None, "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2.0]]}}))
    seed("template", "chatml", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    seed("template", "macros", "{%- macro show(x, n=2) -%}{{ x.upper()[:n] ~ n }}{%- endmacro -%}{% set ns = namespace(i=0) %}{% for m in messages if m.role != 'system' %}{% set ns.i = ns.i + 1 %}{{ show(m.content, ns.i) }}{{ loop.index0 }}{% else %}none{% endfor %}{{ messages | map(attribute='role') | join(', ') }}{{ {'a': 1e-5} | tojson(indent=2) }}")
    rows = ['{"question": "1 + 1?", "answer": "2 #### 2"}\n', '{"text": "a", "code": "b", "task_id": 11, "test_list": ["assert 1"]}\n',
            '{"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}\n', '{"messages": []}\n',
            '{"question": "q", "answer": "a"}\n', "plain text\n", '{"ids": [0, 17, 4]}\n']
    conversations = ['{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
                     '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]}\n']
    for i, row in enumerate(conversations):
        seed("data", f"conversation_{i}", bytes([3]) + row.encode() * 2)
    rules = ['{"instruction_id_list": ["length_constraints:number_words", "keywords:existence", "punctuation:no_comma"], "kwargs": [{"relation": "at least", "num_words": 3}, {"keywords": ["a.b", "c"]}, {}]}',
             '{"instruction_id_list": ["detectable_format:json_format", "language:response_language", "change_case:english_capital", "startend:end_checker"], "kwargs": [{}, {"language": "de"}, {}, {"end_phrase": "end"}]}',
             '{"instruction_id_list": ["length_constraints:number_sentences", "length_constraints:number_paragraphs", "length_constraints:nth_paragraph_first_word", "keywords:letter_frequency"], "kwargs": [{"relation": "less than", "num_sentences": 3}, {"num_paragraphs": 2}, {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}, {"letter": "e", "let_frequency": 2, "let_relation": "at least"}]}',
             '{"instruction_id_list": ["detectable_content:postscript", "detectable_content:number_placeholders", "detectable_format:number_bullet_lists", "detectable_format:multiple_sections", "detectable_format:title", "combination:two_responses", "keywords:forbidden_words", "keywords:frequency"], "kwargs": [{"postscript_marker": "P.S."}, {"num_placeholders": 1}, {"num_bullets": 2}, {"section_spliter": "Section", "num_sections": 2}, {}, {}, {"forbidden_words": ["x"]}, {"keyword": "a", "frequency": 1, "relation": "at least"}]}']
    for i, row in enumerate(rules):
        seed("answer", f"rules_{i}", row + "\n<<A title>>\n\nThe answer is 3. #### 3\n\n***\n\n* one\n* two [place]\n\nSection 1\nP.S. a.b c, end\n")
    for i, row in enumerate(rows):
        seed("data", f"format_{i}", bytes([i]) + row.encode() * 2)
    seed("task", "gsm8k", "task: my\ndata: q.jsonl\nprompt: \"Q: {question} {list[0]} {{\"\ntarget: \"{answer}\"\nstops: [\"Q:\"]\nshots: 1\nshots_data: q.jsonl\n"
         "answer: {regex: '#### ([0-9]+)', match: last, group: 1}\ncompare: {remove: [','], ignore_case: true}\n")
    seed("task", "python", "data: q.jsonl\nprompt: x\npython: {program: '{generated}', tests: 'assert {answer}'}\n")
    records = [{"item": i, "scores": [[i % 2, 1], [0.5, 3]], "response": "a\u00e9", "filtered": ["a", "b"], "details": {"passed": True}} for i in (0, 2)]
    seed("journal_eval", "two_items", "\n".join(map(json.dumps, records)))
    seed("journal_tune", "answers", "\n".join(json.dumps({"question": q, "answer": a}) for q, a in (("x=1", 0.5), ("x=2", {"losses": [1, 2]}))))
    seed("results", "harness", json.dumps({"results": {"gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1}},
                                           "config": {"model": "hf", "model_args": "pretrained=a"}, "n-samples": {"gsm8k": {"original": 4, "effective": 4}},
                                           "versions": {"gsm8k": 3}, "higher_is_better": {"gsm8k": {"exact_match": True}}, "model_name": "a", "date": 1.7e9}))
    seed("regex", "groups", "(\\d+)(?:\\.(\\d+))?|(?i)[a-f]{1,3}\\b\nThe 3.14 and 27 cafe FEE\n")
    seed("escaping", "controls", b"a\x1b]0;x\x07\n\xe2\x80\xae\xc3\x28\xf0\x9f\x98\x80\xed\xa0\x80<b>&\"\xc2\x85\r\t")
    seed("journal", "not_one", '{"lewis_journal":"evaluation","key":"key","program":"0","xxh3":"0"}\n')


def program_seeds(lewis):
    with tempfile.TemporaryDirectory() as scratch:
        recipe = pathlib.Path(scratch, "r.yml")
        recipe.write_text("merge_method: linear\nmodels: [{model: demo/models/base, parameters: {weight: 1}}]\ndtype: bfloat16\n")
        out = pathlib.Path(scratch, "out")
        subprocess.run([lewis, "merge", recipe, out, "-q"], check=True, cwd=HERE, stderr=subprocess.DEVNULL)
        manifest = json.loads((out / "lewis_manifest.json").read_text())
        seed("manifest", "whole", json.dumps(manifest))
        seed("manifest", "shard", json.dumps(manifest["shards"][0] if isinstance(manifest.get("shards"), list) else manifest))


def table_seeds():
    tables = HERE / "tests" / "data" / "tables"  # tools/make_parquet_samples.py
    for name in ("snappy_v1", "zstd_v2", "gzip_v1", "lz4_v2", "values"):
        seed("parquet", name, (tables / f"{name}.parquet").read_bytes())
    seed("csv", "quotes", 'q,a\r\n"two\r\nlines, ""quoted""",4\r\nx,\n')
    lines = b'{"a": 1}\n' * 3
    seed("packed", "gzip", gzip.compress(lines, mtime=0))
    block = (len(lines) << 3 | 1).to_bytes(3, "little")  # the last block, raw
    seed("packed", "zstd", b"\x28\xb5\x2f\xfd\x00\x58" + block + lines)
    seed("data_set", "configs", "---\nconfigs:\n- config_name: a\n  default: true\n  data_files:\n"
         "  - split: train\n    path: tra*.jsonl\n- config_name: b\n  data_dir: x\n---\n")


def main():
    binary_seeds()
    quantized_seeds()
    table_seeds()
    text_seeds()
    program_seeds(sys.argv[1])


if __name__ == "__main__":
    main()
