"""Other settings of the families of make_families_2026.py, by its function, as variants/.

usage: python make_variants_2026.py OUT [name...]
"""
import json, os, sys
from safetensors.torch import load_file, save_file
from make_families_2026 import make

SMALL = dict(vocab_size=256, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=512, pad_token_id=None, bos_token_id=None, eos_token_id=None)
EXPERTS = dict(SMALL, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, tie_word_embeddings=False)


def rope(kind="default", theta=10000.0, **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


VARIANTS = {
    "qwen3_next_other": ("Qwen3NextConfig", dict(EXPERTS, num_hidden_layers=4, head_dim=8, full_attention_interval=2, decoder_sparse_step=2,
                         attention_bias=True, linear_num_key_heads=1, linear_num_value_heads=3, linear_key_head_dim=6, linear_value_head_dim=10,
                         linear_conv_kernel_dim=3, shared_expert_intermediate_size=20, norm_topk_prob=False,
                         rope_parameters=rope(theta=1e6, partial_rotary_factor=0.5))),
    "qwen3_5_other": ("Qwen3_5TextConfig", dict(SMALL, num_hidden_layers=3, head_dim=16, linear_num_key_heads=2,
                      linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=6, linear_conv_kernel_dim=2,
                      layer_types=["full_attention", "linear_attention", "linear_attention"], tie_word_embeddings=False,
                      rope_parameters=rope(theta=1e6, mrope_section=[2, 1, 1], mrope_interleaved=True, partial_rotary_factor=0.5))),
    "lfm2_biases": ("Lfm2Config", dict(SMALL, num_hidden_layers=3, conv_bias=True, conv_L_cache=4, block_multiple_of=16,
                    block_ffn_dim_multiplier=1.3, full_attn_idxs=[1], tie_word_embeddings=False)),
    "nemotron_h_latent": ("NemotronHConfig", dict(SMALL, head_dim=8, layers_block_type=["moe", "linear_attention", "full_attention", "mlp", "moe"],
                          moe_latent_size=12, n_routed_experts=6, num_experts_per_tok=2, n_group=2, topk_group=1, moe_intermediate_size=20,
                          moe_shared_expert_intermediate_size=24, routed_scaling_factor=2.5, mamba_num_heads=4, mamba_head_dim=8, n_groups=2,
                          ssm_state_size=8, conv_kernel=3, use_bias=True, mlp_bias=True, use_conv_bias=False, chunk_size=16, time_step_min=0.3)),
    "granite4_mamba": ("GraniteMoeHybridConfig", dict(SMALL, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=40,
                       layer_types=["mamba", "attention"], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8, mamba_d_conv=3,
                       mamba_conv_bias=False, mamba_proj_bias=True, mamba_chunk_size=16, attention_bias=True, position_embedding_type="rope",
                       embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3, logits_scaling=2.0,
                       time_step_limit=(0.1, 0.9), tie_word_embeddings=False)),
    "falcon_h1_norms": ("FalconH1Config", dict(SMALL, head_dim=8, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head="auto", mamba_n_groups=2,
                        mamba_d_state=8, mamba_chunk_size=16, mamba_rms_norm=True, mamba_norm_before_gate=False, projectors_bias=True,
                        attention_bias=True, mlp_bias=True, mamba_proj_bias=True, mamba_conv_bias=False, ssm_in_multiplier=0.7,
                        tie_word_embeddings=True)),
    "deepseek_v3_plain": ("DeepseekV3Config", dict(SMALL, num_hidden_layers=3, num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=16,
                          qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=20, n_routed_experts=8, n_group=2, topk_group=1,
                          num_experts_per_tok=2, moe_intermediate_size=24, n_shared_experts=2, first_k_dense_replace=1, norm_topk_prob=False,
                          routed_scaling_factor=1.3, attention_bias=True, rope_interleave=False, rope_parameters=rope("yarn", factor=8.0,
                          original_max_position_embeddings=32, mscale=1.0, mscale_all_dim=0.7))),
    "deepseek_v3_yarn": ("DeepseekV3Config", dict(SMALL, num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8,
                         qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=3,
                         moe_intermediate_size=24, first_k_dense_replace=0, rope_parameters=rope("yarn", factor=40.0, mscale=1.0,
                         mscale_all_dim=1.0, original_max_position_embeddings=32, beta_fast=32.0, beta_slow=1.0))),
    "deepseek_v2_groups": ("DeepseekV2Config", dict(SMALL, num_key_value_heads=4, q_lora_rank=20, kv_lora_rank=16, qk_nope_head_dim=8,
                           qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=8, topk_method="group_limited_greedy", n_group=4, topk_group=2,
                           num_experts_per_tok=3, moe_intermediate_size=24, n_shared_experts=1, first_k_dense_replace=1,
                           routed_scaling_factor=2.0)),
    "glm4_moe_plain": ("Glm4MoeConfig", dict(SMALL, head_dim=12, n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=24,
                       first_k_dense_replace=1, norm_topk_prob=False, routed_scaling_factor=1.5, tie_word_embeddings=True)),
    "gpt_oss_other": ("GptOssConfig", dict(SMALL, head_dim=12, num_local_experts=5, num_experts_per_tok=3, sliding_window=9,
                      attention_bias=False, swiglu_limit=0.6, swiglu_alpha=1.3, layer_types=["full_attention", "sliding_attention"],
                      rope_parameters=rope(theta=1e4))),
    "llama4_other": ("Llama4TextConfig", dict(SMALL, num_hidden_layers=3, head_dim=12, intermediate_size_mlp=36, num_local_experts=4,
                     num_experts_per_tok=2, moe_layers=[0, 2], no_rope_layers=[1, 0, 1], attention_chunk_size=20, use_qk_norm=False,
                     attn_temperature_tuning=False, attention_bias=True, rope_parameters=rope(theta=1e5))),
    "gemma4_other": ("Gemma4TextConfig", dict(SMALL, num_hidden_layers=5, num_key_value_heads=2, head_dim=8, global_head_dim=12,
                     num_global_key_value_heads=1, attention_k_eq_v=True, sliding_window=11, hidden_size_per_layer_input=6,
                     vocab_size_per_layer_input=256, num_kv_shared_layers=1, attention_bias=True, layer_types=["full_attention",
                     "sliding_attention", "sliding_attention", "full_attention", "full_attention"])),
    # The rope that the family assumes, with another theta; square down projections.
    "gpt_oss_square": ("GptOssConfig", dict(SMALL, intermediate_size=32, num_key_value_heads=4, num_local_experts=4, num_experts_per_tok=1,
                       head_dim=8, sliding_window=14, rope_theta=5000.0, tie_word_embeddings=True)),
    "llama4_dense": ("Llama4TextConfig", dict(SMALL, num_hidden_layers=3, head_dim=8, intermediate_size_mlp=44, num_local_experts=3, moe_layers=[],
                     attention_chunk_size=None, no_rope_layer_interval=2, floor_scale=5, attn_scale=0.4, rms_norm_eps=1e-3,
                     tie_word_embeddings=True, rope_parameters=rope("yarn", 1e4, factor=4.0, original_max_position_embeddings=48))),
    "llama4_kinds": ("Llama4TextConfig", dict(SMALL, num_hidden_layers=4, num_key_value_heads=1, head_dim=8, intermediate_size_mlp=44,
                     num_local_experts=4, num_experts_per_tok=3, interleave_moe_layer_step=2, no_rope_layers=[1, 0, 0, 1],
                     layer_types=["full_attention", "chunked_attention", "full_attention", "chunked_attention"], attention_chunk_size=13,
                     floor_scale=3, attn_scale=0.3, rope_parameters=rope("linear", factor=2.0))),
    "gemma4_moe_shared": ("Gemma4TextConfig", dict(SMALL, num_hidden_layers=6, head_dim=8, global_head_dim=16, num_global_key_value_heads=1,
                          attention_k_eq_v=True, sliding_window=10, hidden_size_per_layer_input=5, vocab_size_per_layer_input=256,
                          num_kv_shared_layers=3, use_double_wide_mlp=True, enable_moe_block=True, num_experts=5, top_k_experts=2,
                          moe_intermediate_size=12, tie_word_embeddings=False, rms_norm_eps=1e-4, layer_types=["full_attention",
                          "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
                          rope_parameters=dict(full_attention=rope("proportional", 5e4, partial_rotary_factor=0.4, factor=3.0),
                          sliding_attention=rope("linear", 8e3, factor=2.0)))),
    "gemma4_layers": ("Gemma4TextConfig", dict(SMALL, num_hidden_layers=11, hidden_size=16, intermediate_size=24, head_dim=8, sliding_window=9,
                      hidden_size_per_layer_input=0, final_logit_softcapping=2.0, hidden_activation="silu", global_head_dim=20,
                      rope_parameters=dict(full_attention=rope("yarn", 1e5, factor=4.0, original_max_position_embeddings=40),
                      sliding_attention=rope("llama3", 1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                      original_max_position_embeddings=40)))),
}
LLAMA4_EYES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vision_output_dim=16, image_size=28,
                   patch_size=14, projector_input_dim=16, projector_output_dim=16)
GEMMA4_EYES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8, intermediate_size=16,
                   position_embedding_size=16)
# Language models inside models that also see: settings of the text, of the eyes, of both.
WRAPPED = {
    "gemma4_vision": ("Gemma4Config", dict(SMALL, pad_token_id=0, num_hidden_layers=4, head_dim=8, global_head_dim=12, sliding_window=15,
                      hidden_size_per_layer_input=4, vocab_size_per_layer_input=256, num_kv_shared_layers=2, final_logit_softcapping=3.0,
                      layer_types=["sliding_attention", "full_attention"] * 2), GEMMA4_EYES, {}),
}
# Llama 4 inside a model that sees has this spelling when it is saved; transformers cannot run it without images.
INSIDE = {"llama4_vision": ("llama4_kinds", "llama4", "language_model.", dict(LLAMA4_EYES, model_type="llama4_vision_model"))}


def put_inside(out, name, text, model_type, prefix, eyes):
    """A model whose text model is the variant `text`."""
    os.makedirs(os.path.join(out, name), exist_ok=True)
    for file in ("model.safetensors", "golden.safetensors"):
        tensors = load_file(os.path.join(out, text, file))
        renamed = {}
        for key, value in tensors.items():
            kind, dot, module = key.partition(".") if file == "golden.safetensors" else ("", "", key)
            renamed[kind + dot + prefix + module if module else key] = value
        save_file(renamed, os.path.join(out, name, file), metadata={"format": "pt"})
    with open(os.path.join(out, text, "config.json")) as f:
        config = json.load(f)
    with open(os.path.join(out, name, "config.json"), "w") as f:
        json.dump(dict(model_type=model_type, architectures=["Llama4ForConditionalGeneration"], text_config=config, vision_config=eyes,
                       tie_word_embeddings=False), f, indent=2)


if __name__ == "__main__":
    for i, (name, (config, settings, *wrapped)) in enumerate([*VARIANTS.items(), *WRAPPED.items()]):
        if name in (sys.argv[2:] or [*VARIANTS, *WRAPPED]):
            try:
                make(sys.argv[1], name, config, settings, 500 + i, *wrapped)
            except Exception as e:
                print(name, "FAILED", type(e).__name__, str(e)[:300], flush=True)
    for name, (text, *how) in INSIDE.items():
        if name in (sys.argv[2:] or INSIDE):
            put_inside(sys.argv[1], name, text, *how)
