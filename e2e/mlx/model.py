"""Turns the demo model's GGUF file into a folder that mlx_lm serves: `model.py FILE FOLDER`."""

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

# Every byte is a token; the special tokens come after them.
BYTES = 256
# GGUF's type of tokens that are not text.
CONTROL = 3

LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tensor_name(name: str) -> str:
    """`blk.0.ffn_up.weight` is `model.layers.0.mlp.up_proj.weight` there."""
    match name.removesuffix(".weight").split("."):
        case ["token_embd"]:
            return "model.embed_tokens.weight"
        case ["output_norm"]:
            return "model.norm.weight"
        case ["blk", layer, part]:
            return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"
    raise ValueError(f"a tensor that the demo model does not have: {name}")


def config(meta: dict[str, Any]) -> dict[str, Any]:
    """`config.json`."""
    number = lambda name: meta[f"qwen3.{name}"].item()  # noqa: E731
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "vocab_size": number("vocab_size"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": number("attention.key_length"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "rope_theta": number("rope.freq_base"),
        "max_position_embeddings": number("context_length"),
        "tie_word_embeddings": True,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"].item(),
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"].item(),
    }


def write_tokenizer(meta: dict[str, Any], folder: Path) -> None:
    """`tokenizer.json` and `tokenizer_config.json`, with the chat template."""
    tokens, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"].tolist()
    special = [kind == CONTROL for kind in kinds[BYTES:]]
    tokenizer = Tokenizer(models.BPE(vocab={name: byte for byte, name in enumerate(tokens[:BYTES])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [AddedToken(token, special=hidden, normalized=False) for token, hidden in zip(tokens[BYTES:], special)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    name = lambda role: tokens[meta[f"tokenizer.ggml.{role}_token_id"].item()]  # noqa: E731
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name("bos"),
        "eos_token": name("eos"),
        "pad_token": name("padding"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": meta["qwen3.context_length"].item(),
        "chat_template": meta["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def main() -> None:
    """Reads the command line and converts."""
    file, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    weights, meta = mx.load(file, return_metadata=True)
    named = {tensor_name(name): weight for name, weight in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), named, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config(meta)))
    write_tokenizer(meta, folder)


if __name__ == "__main__":
    main()
