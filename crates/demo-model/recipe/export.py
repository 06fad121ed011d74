"""Turns a checkpoint into a model folder: bf16 safetensors, tokenizer and configuration files."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import ml_dtypes
import vocabulary as vocab
from network import SHAPE
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTEXT_LENGTH = 4096


def tokenizer() -> Tokenizer:
    """A byte-level tokenizer without merges: every byte is a token."""
    names = {name: byte for byte, name in enumerate(vocab.byte_names())}
    made = Tokenizer(models.BPE(vocab=names, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens(
        [
            AddedToken(token, special=token not in vocab.TEXT_MARKERS, normalized=False)
            for token in vocab.SPECIAL_TOKENS
        ]
    )
    return made


def tokenizer_config() -> dict:
    """`tokenizer_config.json`, with the chat template."""
    added = {
        str(vocab.special(token)): {
            "content": token,
            "special": token not in vocab.TEXT_MARKERS,
            "normalized": False,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
        }
        for token in vocab.SPECIAL_TOKENS
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT_LENGTH,
        "chat_template": vocab.CHAT_TEMPLATE,
        "added_tokens_decoder": added,
    }


def config() -> dict:
    """`config.json`."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        **asdict(SHAPE),
        "rope_scaling": None,
        "max_position_embeddings": CONTEXT_LENGTH,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": SHAPE.num_hidden_layers,
        "bos_token_id": vocab.BEGIN,
        "eos_token_id": vocab.END,
        "pad_token_id": vocab.END,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "initializer_range": 0.02,
    }


def generation_config() -> dict:
    """`generation_config.json`: greedy, and both end tokens."""
    return {
        "bos_token_id": vocab.BEGIN,
        "eos_token_id": [vocab.END, vocab.END_OF_TEXT],
        "pad_token_id": vocab.END,
        "do_sample": False,
    }


def export(checkpoint: Path, folder: Path) -> None:
    """Writes the model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: w.astype(ml_dtypes.bfloat16) for name, w in load_file(checkpoint).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer().save(str(folder / "tokenizer.json"))
    for name, content in [
        ("tokenizer_config.json", tokenizer_config()),
        ("config.json", config()),
        ("generation_config.json", generation_config()),
    ]:
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Reads the command line and exports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("model"))
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
