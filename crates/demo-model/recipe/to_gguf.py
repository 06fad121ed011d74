"""Turns a model folder into one GGUF file: f16 matrices, f32 norms, tokenizer and chat template."""

import argparse
import json
from pathlib import Path

import ml_dtypes  # noqa: F401 - teaches NumPy the bfloat16 in which the weights lie
import numpy as np
import vocabulary as vocab
from gguf import GGUFWriter, LlamaFileType, TokenType
from safetensors.numpy import load_file

TENSOR_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensor_name(name: str) -> str:
    """`model.layers.0.mlp.up_proj.weight` is `blk.0.ffn_up.weight` in GGUF."""
    stem = name.removesuffix(".weight")
    if stem in TENSOR_NAMES:
        return f"{TENSOR_NAMES[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{TENSOR_NAMES[rest]}.weight"


def write_description(writer: GGUFWriter, name: str) -> None:
    """What the model is and under which licence."""
    writer.add_name(name)
    writer.add_description("A tiny chat model for demonstrations and tests of Inferyard.")
    writer.add_license("apache-2.0")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)


def write_shape(writer: GGUFWriter, config: dict) -> None:
    """The sizes of the network."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def token_type(token: str) -> TokenType:
    """Text markers are shown, the other special tokens are not."""
    return TokenType.USER_DEFINED if token in vocab.TEXT_MARKERS else TokenType.CONTROL


def write_tokenizer(writer: GGUFWriter, config: dict, tokenizer_config: dict) -> None:
    """Vocabulary, markers and chat template."""
    names = vocab.byte_names()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names + vocab.SPECIAL_TOKENS)
    writer.add_token_types(
        [TokenType.NORMAL] * len(names) + [token_type(token) for token in vocab.SPECIAL_TOKENS]
    )
    # llama.cpp wants a list of merges that is not empty; this one yields no token, so it never applies.
    writer.add_token_merges([f"{names[0]} {names[0]}"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer_config["chat_template"])


def write_tensors(writer: GGUFWriter, weights: dict[str, np.ndarray]) -> None:
    """The weights."""
    for name, weight in weights.items():
        precision = np.float16 if weight.ndim == 2 else np.float32
        writer.add_tensor(tensor_name(name), weight.astype(np.float32).astype(precision))


def convert(folder: Path, out: Path, name: str) -> None:
    """Writes the GGUF file."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    writer = GGUFWriter(out, "qwen3")
    write_description(writer, name)
    write_shape(writer, config)
    write_tokenizer(writer, config, tokenizer_config)
    write_tensors(writer, load_file(folder / "model.safetensors"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Reads the command line and converts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("--out", type=Path, default=Path("demo.gguf"))
    parser.add_argument("--name", default="demo", help="the name in the file's metadata")
    arguments = parser.parse_args()
    convert(arguments.model, arguments.out, arguments.name)


if __name__ == "__main__":
    main()
