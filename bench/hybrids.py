"""config.json of hybrids with published shapes: Qwen 3.5 0.8B and Granite 4.0 350M."""

CONFIGS = {
    "qwen3_5_0.8b": {
        "model_type": "qwen3_5_text", "vocab_size": 248320, "hidden_size": 1024,
        "intermediate_size": 3584, "num_hidden_layers": 24, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
        "linear_num_value_heads": 16, "tie_word_embeddings": True,
    },
    "granite4_350m": {
        "model_type": "granitemoehybrid", "vocab_size": 100352, "hidden_size": 768,
        "intermediate_size": 2048, "shared_intermediate_size": 2048, "num_local_experts": 0,
        "num_experts_per_tok": 0, "num_hidden_layers": 32, "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "layer_types": ["attention" if i in (10, 13, 17, 27) else "mamba" for i in range(32)],
        "mamba_n_heads": 48, "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_head": 32,
        "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 256,
        "tie_word_embeddings": True, "position_embedding_type": "nope",
    },
}
