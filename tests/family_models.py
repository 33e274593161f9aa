"""Tiny models of the real classes of transformers, one for each family that people use."""

import torch
import transformers

LLAMA = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 64}}  # fmt: skip
YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 64}}  # fmt: skip
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
           "max_position_embeddings": 24}  # fmt: skip
LONG = {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.1 * i for i in range(8)],
        "long_factor": [2.0 + 0.5 * i for i in range(8)], "factor": 4.0,
        "original_max_position_embeddings": 24},
        "original_max_position_embeddings": 24}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SLIDE = ["sliding_attention", "full_attention"]

FAMILIES = {
    "llama 3.1": ("Llama", LLAMA),
    "llama yarn": ("Llama", YARN),
    "llama dynamic": ("Llama", DYNAMIC),
    "qwen 2.5": ("Qwen2", {}),
    "qwen 2.5 sliding": ("Qwen2", {"use_sliding_window": True, "sliding_window": 8,
                                   "layer_types": SLIDE}),
    "qwen 3": ("Qwen3", {}),
    "gemma 1": ("Gemma", {}),
    "gemma 2": ("Gemma2", {"sliding_window": 8}),
    "gemma 3": ("Gemma3Text", {"sliding_window": 8, "layer_types": SLIDE}),
    "gemma 3n": ("Gemma3nText", {"sliding_window": 8, "layer_types": SLIDE * 2,
                 "num_hidden_layers": 4, "num_kv_shared_layers": 2, "laurel_rank": 4,
                 "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": None,
                 "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0] * 4,
                 "intermediate_size": 64}),
    "gemma 4": ("Gemma4Text", {"sliding_window": 8, "layer_types": SLIDE, "global_head_dim": 32,
                "num_global_key_value_heads": 1, "hidden_size_per_layer_input": 8,
                "vocab_size_per_layer_input": None, "num_kv_shared_layers": 0}),
    "mistral": ("Mistral", {"sliding_window": 8}),
    "ministral": ("Ministral", {"sliding_window": 8, "layer_types": SLIDE}),
    "ministral 3": ("Ministral3", {}),
    "phi 2": ("Phi", {}),
    "phi 3": ("Phi3", {"pad_token_id": 0, "partial_rotary_factor": 0.5}),
    "phi 3 longrope": ("Phi3", {"pad_token_id": 0, **LONG}),
    "exaone 4": ("Exaone4", {"sliding_window": 8, "layer_types": SLIDE}),
    "k-exaone": ("ExaoneMoe", {**MOE, "sliding_window": 8, "layer_types": SLIDE}),
    "hyperclova x": ("HyperCLOVAX", {"logits_scaling": 0.5}),
    "granite": ("Granite", {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "cohere": ("Cohere", {"logit_scale": 0.25}),
    "cohere 2": ("Cohere2", {"sliding_window": 8, "layer_types": SLIDE, "logit_scale": 0.25}),
    "smollm 3": ("SmolLM3", {"pad_token_id": 0, "no_rope_layer_interval": 2}),
    "olmo 2": ("Olmo2", {}),
    "olmo 3": ("Olmo3", {"sliding_window": 8, "layer_types": SLIDE}),
    "glm 4": ("Glm4", {"pad_token_id": 0}),
    "seed-oss": ("SeedOss", {}),
    "apertus": ("Apertus", {}),
    "starcoder 2": ("Starcoder2", {}),
    "gpt-neox": ("GPTNeoX", {}),
    "gpt-2": ("GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 4}),
    "hunyuan": ("HunYuanDenseV1", {"head_dim": 16}),
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "qwen 2 moe": ("Qwen2Moe", {**MOE, "shared_expert_intermediate_size": 32}),
    "qwen 3 moe": ("Qwen3Moe", MOE),
    "glm 4 moe": ("Glm4Moe", {**MOE, "n_routed_experts": 4, "first_k_dense_replace": 1,
                              "n_group": 1, "topk_group": 1}),
    "solar open": ("SolarOpen", {**MOE, "n_routed_experts": 4, "first_k_dense_replace": 1,
                                 "n_group": 1, "topk_group": 1}),
    "deepseek v3": ("DeepseekV3", {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
                    "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
                    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8,
                    "qk_nope_head_dim": 16, "v_head_dim": 32, "num_key_value_heads": 4,
                    "head_dim": None}),
    "gpt-oss": ("GptOss", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
                           "layer_types": SLIDE}),
    "llama 4": ("Llama4Text", {"intermediate_size_mlp": 64, "num_local_experts": 2,
                "num_experts_per_tok": 1, "attention_chunk_size": 8, "pad_token_id": 0,
                "layer_types": ["chunked_attention", "full_attention"]}),
    "qwen 3.5": ("Qwen3_5Text", {"linear_num_value_heads": 4, "linear_num_key_heads": 2,
                 "linear_key_head_dim": 16, "linear_value_head_dim": 16,
                 "layer_types": ["linear_attention", "full_attention"]}),
    "qwen 3 next": ("Qwen3Next", {**MOE, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
                    "linear_key_head_dim": 16, "linear_value_head_dim": 16,
                    "shared_expert_intermediate_size": 32,
                    "layer_types": ["linear_attention", "full_attention"]}),
    "granite 4": ("GraniteMoeHybrid", {"num_local_experts": 4, "num_experts_per_tok": 2,
                  "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 16,
                  "mamba_d_state": 16, "mamba_chunk_size": 16, "shared_intermediate_size": 64}),
    "lfm 2": ("Lfm2", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16}),
    "falcon-h1": ("FalconH1", {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16,
                  "mamba_d_state": 16, "mamba_chunk_size": 16}),
    "nemotron-h": ("NemotronH", {"layers_block_type": ["mamba", "attention", "mlp"],
                   "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16,
                   "chunk_size": 16, "n_groups": 2}),
    "bamba": ("Bamba", {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16,
              "mamba_chunk_size": 16, "attn_layer_indices": [1]}),
    "jamba": ("Jamba", {"num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 8,
              "attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1,
              "expert_layer_period": 2, "use_mamba_kernels": False}),
    "zamba 2": ("Zamba2", {"mamba_ngroups": 2, "mamba_d_state": 16, "mamba_headdim": 16,
                "n_mamba_heads": 8, "chunk_size": 16, "num_mem_blocks": 1, "adapter_rank": 4,
                "num_key_value_heads": 4, "layers_block_type": ["mamba", "hybrid"],
                "use_mamba_kernels": False}),
    "recurrentgemma": ("RecurrentGemma", {"lru_width": 64, "attention_window_size": 8,
                       "num_hidden_layers": 3}),
    "minimax": ("MiniMax", {"num_local_experts": 4, "block_size": 16,
                "layer_types": ["linear_attention", "full_attention"]}),
    "kimi linear": ("KimiLinear", {"num_local_experts": 4, "num_experts_per_token": 2,
                    "moe_intermediate_size": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
                    "qk_nope_head_dim": 16, "v_head_dim": 16, "num_key_value_heads": 4,
                    "head_dim": None, "linear_head_dim": 16, "linear_num_heads": 4,
                    "layer_types": ["linear_attention", "full_attention"],
                    "mlp_layer_types": ["dense", "sparse"]}),
    "mamba 2": ("Mamba2", {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 2,
                "chunk_size": 16, "expand": 2}),
    "stablelm": ("StableLm", {}),
    "falcon": ("Falcon", {"num_kv_heads": 1, "head_dim": None}),
    "bloom": ("Bloom", {"n_layer": 2, "n_head": 4}),
}  # fmt: skip
"""{family: (prefix of its classes, what its config needs beside `SHAPE`)}."""
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
}


def family_model(family, tokenizer, seed=0):
    """A model of a family with random weights for a vocabulary, in evaluation mode."""
    prefix, own = FAMILIES[family]
    config_class = getattr(transformers, f"{prefix}Config")
    options = {
        **SHAPE,
        **own,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if "vocab_size_per_layer_input" in own:
        options["vocab_size_per_layer_input"] = len(tokenizer)
    options = {name: value for name, value in options.items() if value is not None}
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config_class(**options)).eval()
