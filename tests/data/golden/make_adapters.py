"""Tiny float32 models, PEFT adapters on them, and what PEFT's merge_and_unload makes of the two.

usage: python make_adapters.py OUT       needs torch, transformers, peft
OUT/{llama,gpt2}            the base models (gpt2 has Conv1D layers, whose weights are [in, out])
OUT/<name>/                 adapter_config.json, adapter_model.safetensors (<base>_<what>)
OUT/<name>/merged.safetensors    the merged model; of those in MORE the tensors that differ from the base
OUT/<name>/logits.safetensors    (MORE) token ids and the logits of the adapter at run time, never merged; the
                                 script ends where those of merge_and_unload are not the same
"""
import json, os, sys, tempfile
import peft
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ADAPTERS = {
    "llama_lora": dict(r=4, lora_alpha=6, target_modules=ATTENTION + ["gate_proj", "up_proj", "down_proj"]),
    "llama_rslora_patterns": dict(r=3, lora_alpha=5, use_rslora=True, target_modules=ATTENTION + ["down_proj"],
                                  rank_pattern={"k_proj": 9, r"layers\.1\..*_proj": 5}, alpha_pattern={"^model.layers.0.self_attn.q_proj": 7, "(o|down)_proj": 11}),
    "llama_dora": dict(r=4, lora_alpha=6, use_dora=True, target_modules=["q_proj", "v_proj", "down_proj", "lm_head", "embed_tokens"]),
    "llama_embedding_saved": dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "q_proj"], modules_to_save=["lm_head", "norm"]),
    "llama_bias_only": dict(r=2, lora_alpha=3, bias="lora_only", target_modules=["q_proj", "o_proj"]),
    "llama_bias_all": dict(r=2, lora_alpha=3, bias="all", target_modules=["q_proj"]),
    "llama_lora_bias": dict(r=2, lora_alpha=3, lora_bias=True, target_modules=ATTENTION),
    "llama_tokens": dict(r=2, lora_alpha=3, target_modules=["q_proj"], trainable_token_indices=[3, 17, 39]),
    "llama_tokens_by_module": dict(r=2, lora_alpha=3, target_modules=["q_proj"], trainable_token_indices={"lm_head": [5], "model.embed_tokens": [8, 2]}),
    "gpt2_lora": dict(r=4, lora_alpha=6, fan_in_fan_out=True, target_modules=["c_attn", "c_proj", "c_fc", "wpe"]),
    "gpt2_dora": dict(r=4, lora_alpha=6, fan_in_fan_out=True, use_dora=True, target_modules=["c_attn", "c_proj"]),
}

EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
MORE = {
    "llama_regex": dict(r=3, lora_alpha=5, target_modules=r".*layers\.0\..*\.(q|down)_proj"),
    "llama_layers": dict(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
    "llama_alllinear": dict(r=2, lora_alpha=3, target_modules="all-linear"),
    "llama_exclude": dict(r=2, lora_alpha=3, target_modules=ATTENTION, exclude_modules=["k_proj", "model.layers.1.self_attn.o_proj"]),
    "llama_rsdora": dict(r=4, lora_alpha=6, use_dora=True, use_rslora=True, target_modules=["k_proj", "gate_proj"], alpha_pattern={"k_proj": 3}),
    "tied_saved": dict(r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "tied_head": dict(r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "tied_tokens": dict(r=2, lora_alpha=3, target_modules=["v_proj"], trainable_token_indices=[1, 30]),
    "gpt2_rslora": dict(r=3, lora_alpha=5, fan_in_fan_out=True, use_rslora=True, target_modules=["c_attn", "c_fc"], rank_pattern={"c_fc": 5}),
    "qwen3moe_experts": dict(r=2, lora_alpha=3, target_modules=["q_proj"], target_parameters=EXPERTS),
    "qwen3moe_down": dict(r=2, lora_alpha=3, target_modules=["o_proj"], target_parameters=EXPERTS[1:], rank_pattern={"model.layers.1.mlp.experts.down_proj": 3}),
    "qwen3moe_router": dict(r=2, lora_alpha=3, target_modules=["v_proj"], target_parameters=["mlp.gate.weight"]),
    "qwen3moe_onebyone": dict(r=2, lora_alpha=3, target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"]),
    "gptoss_experts": dict(r=2, lora_alpha=3, target_modules=["q_proj"], target_parameters=EXPERTS),
    "gptoss_attention": dict(r=2, lora_alpha=3, target_modules=ATTENTION, use_rslora=True),
    "qwen35moe_experts": dict(r=2, lora_alpha=3, target_modules=["in_proj_qkv", "q_proj"], target_parameters=EXPERTS),
    "lfm2_hybrid": dict(r=2, lora_alpha=3, target_modules=["in_proj", "out_proj", "q_proj", "w1"]),
    "gemma3_wrapped": dict(r=2, lora_alpha=3, target_modules=["q_proj", "down_proj", "fc1"]),
}


def make_bases():
    llama = tf.LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                           max_position_embeddings=64, tie_word_embeddings=False, attention_bias=True, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    gpt2 = tf.GPT2Config(vocab_size=40, n_positions=24, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)
    for name, model in (("llama", tf.LlamaForCausalLM(llama)), ("gpt2", tf.GPT2LMHeadModel(gpt2))):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        model.save_pretrained(name)


def make_adapter(name, options):
    base = name.split("_")[0]
    model = peft.get_peft_model(tf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), peft.LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:  # what a training would have changed
                p.copy_(p * 1.3 + torch.randn_like(p) * 0.05)
    model.save_pretrained(name)
    os.remove(os.path.join(name, "README.md"))
    # As a stranger loads it: from the files.
    fresh = tf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(fresh, name).merge_and_unload()
    tied = {"lm_head.weight"} if fresh.config.tie_word_embeddings else set()
    save_file({k: v.contiguous().clone() for k, v in merged.state_dict().items() if k not in tied}, os.path.join(name, "merged.safetensors"))


def make_more_bases():
    common = dict(vocab_size=40, hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                  max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    moe = dict(common, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=4)
    oss = dict(common, intermediate_size=4, num_local_experts=3, num_experts_per_tok=2, sliding_window=8)
    vision = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4)
    bases = {
        "tied": tf.LlamaForCausalLM(tf.LlamaConfig(**dict(common, tie_word_embeddings=True))),
        "qwen3moe": tf.Qwen3MoeForCausalLM(tf.Qwen3MoeConfig(**moe)),
        "gptoss": tf.GptOssForCausalLM(tf.GptOssConfig(**oss)),
        "qwen35moe": tf.Qwen3_5MoeForCausalLM(tf.Qwen3_5MoeTextConfig(**dict(moe, layer_types=["linear_attention", "full_attention"], shared_expert_intermediate_size=4,
                     linear_num_key_heads=1, linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8))),
        "lfm2": tf.Lfm2ForCausalLM(tf.Lfm2Config(**dict(common, tie_word_embeddings=True, layer_types=["conv", "full_attention"], block_ff_dim=28, block_multiple_of=4))),
        "gemma3": tf.Gemma3ForConditionalGeneration(tf.Gemma3Config(text_config=dict(common, tie_word_embeddings=True), vision_config=vision, mm_tokens_per_image=1,
                  image_token_index=39, boi_token_index=38, eoi_token_index=37)),
    }
    for name, model in bases.items():
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        model.save_pretrained(name)


def load_base(name):
    kind = tf.Gemma3ForConditionalGeneration if name == "gemma3" else tf.AutoModelForCausalLM
    return kind.from_pretrained(name, dtype=torch.float32).eval()


def write_one_by_one(name, options):
    """The keys that PEFT writes where every expert is a module (transformers 4); PEFT 0.21 stacks them when it loads them."""
    tensors = {}
    for key, value in load_file(os.path.join("qwen3moe", "model.safetensors")).items():
        if key.endswith("weight") and any(key.endswith(m + ".weight") for m in options["target_modules"]):
            module = "base_model.model." + key[:-len(".weight")]
            tensors[module + ".lora_A.weight"] = torch.randn(options["r"], value.shape[1]) * 0.3
            tensors[module + ".lora_B.weight"] = torch.randn(value.shape[0], options["r"]) * 0.05
    os.makedirs(name, exist_ok=True)
    save_file(tensors, os.path.join(name, "adapter_model.safetensors"))
    with open(os.path.join(name, "adapter_config.json"), "w") as file:
        json.dump(dict(options, peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path="qwen3moe"), file, indent=1)


def make_more(name, options):
    base = name.split("_")[0]
    if name == "qwen3moe_onebyone":
        write_one_by_one(name, options)
    else:
        model = peft.get_peft_model(load_base(base), peft.LoraConfig(task_type="CAUSAL_LM", **options))
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.copy_(p * 1.3 + torch.randn_like(p) * 0.05)
        model.save_pretrained(name)
        os.remove(os.path.join(name, "README.md"))
    model = peft.PeftModel.from_pretrained(load_base(base), name).eval()
    ids = torch.tensor([[3, 17, 8, 30, 1, 22, 5]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        merged = model.merge_and_unload()
        apart = ((merged(input_ids=ids).logits - logits).abs().max() / logits.abs().max()).item()
    with tempfile.TemporaryDirectory() as folder:  # the names of files are not those of the classes
        merged.save_pretrained(folder)
        after, before = (load_file(os.path.join(f, "model.safetensors")) for f in (folder, base))
    changed = {k: v for k, v in after.items() if k not in before or not torch.equal(v, before[k])}
    save_file(changed, os.path.join(name, "merged.safetensors"))
    save_file({"ids": ids[0].int(), "logits": logits[0].contiguous()}, os.path.join(name, "logits.safetensors"))
    print(name, len(changed), "of", len(after), f"tensors; merged logits differ by {apart:.1e}", flush=True)
    assert changed and apart < 3e-6, name


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    os.chdir(sys.argv[1])
    torch.manual_seed(11)
    make_bases()
    for name, options in ADAPTERS.items():
        make_adapter(name, options)
        print(name, "ok", flush=True)
    torch.manual_seed(12)
    make_more_bases()
    for name, options in MORE.items():
        torch.manual_seed(len(name))
        make_more(name, options)
