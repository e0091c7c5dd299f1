"""Runs in compare_llama_cpp.py's virtual environment: writes a random model as GGUF, or times one.

usage: llama_cpp_inside.py write SIZE FILE | time FILE THREADS   (prints tokens/s of the fastest)
"""
import sys
import time

# hidden, intermediate, layers, heads, key-value heads, vocabulary, tied: as in generate_bench.cc
SIZES = {"tiny": (256, 768, 4, 4, 2, 4096, True),  # to try the script with
         "135m": (576, 1536, 30, 9, 3, 49152, True),
         "1.1b": (2048, 5632, 22, 32, 4, 32000, False)}
STEPS = 48


def write(size, file):
    import gguf
    import numpy as np
    hidden, intermediate, layers, heads, kv_heads, vocab, tied = SIZES[size]
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(2048)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(intermediate)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")  # any vocabulary: only ids are used
    writer.add_token_list([f"t{i}" for i in range(vocab)])
    writer.add_token_scores([0.0] * vocab)
    writer.add_token_types([gguf.TokenType.NORMAL] * vocab)

    def weight(name, *shape):
        values = random.random(shape, dtype=np.float32) * 0.05 - 0.025
        writer.add_tensor(name + ".weight", values.astype(np.float16))

    def norm(name):
        writer.add_tensor(name + ".weight", np.ones(hidden, dtype=np.float32))

    kv = hidden // heads * kv_heads
    weight("token_embd", vocab, hidden)
    norm("output_norm")
    if not tied:
        weight("output", vocab, hidden)
    for layer in range(layers):
        block = f"blk.{layer}."
        for name in "attn_norm", "ffn_norm":
            norm(block + name)
        for name, out, inputs in (("attn_q", hidden, hidden), ("attn_k", kv, hidden),
                                  ("attn_v", kv, hidden), ("attn_output", hidden, hidden),
                                  ("ffn_gate", intermediate, hidden),
                                  ("ffn_up", intermediate, hidden),
                                  ("ffn_down", hidden, intermediate)):
            weight(block + name, out, inputs)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokens_per_second(file, threads):
    import llama_cpp
    model = llama_cpp.Llama(file, n_ctx=256, n_threads=threads, n_threads_batch=threads,
                            type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
                            use_mlock=False, verbose=False)
    model.eval([7] * 16)
    seconds = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        model.eval([11])
        seconds.append(time.perf_counter() - begin)
    return 1 / min(seconds)


if sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[3])
else:
    print(tokens_per_second(sys.argv[2], int(sys.argv[3])))
