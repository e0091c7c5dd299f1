"""Tiny float32 models, PEFT adapters on them, and what PEFT's merge_and_unload makes of the two.

usage: python make_adapters.py OUT       needs torch, transformers, peft
OUT/{llama,gpt2}            the base models (gpt2 has Conv1D layers, whose weights are [in, out])
OUT/<name>/                 adapter_config.json, adapter_model.safetensors (<base>_<what>)
OUT/<name>/merged.safetensors    the merged model
"""
import os, sys
import peft
import torch
import transformers as tf
from safetensors.torch import save_file

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


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    os.chdir(sys.argv[1])
    torch.manual_seed(11)
    make_bases()
    for name, options in ADAPTERS.items():
        make_adapter(name, options)
        print(name, "ok", flush=True)
