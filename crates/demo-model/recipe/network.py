"""The network in JAX: Qwen3's architecture at its smallest, and the names of its tensors on disk."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import vocabulary as vocab

Params = dict


@dataclass(frozen=True)
class Shape:
    """The sizes of the network, under the names that `config.json` uses."""

    vocab_size: int = vocab.SIZE
    hidden_size: int = 128
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    intermediate_size: int = 256
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6


SHAPE = Shape()

# Our name -> (the name in safetensors files, whether it is a matrix; those are transposed on disk).
LAYER_TENSORS = {
    "q": ("self_attn.q_proj", True),
    "k": ("self_attn.k_proj", True),
    "v": ("self_attn.v_proj", True),
    "o": ("self_attn.o_proj", True),
    "gate": ("mlp.gate_proj", True),
    "up": ("mlp.up_proj", True),
    "down": ("mlp.down_proj", True),
    "q_norm": ("self_attn.q_norm", False),
    "k_norm": ("self_attn.k_norm", False),
    "attention_norm": ("input_layernorm", False),
    "mlp_norm": ("post_attention_layernorm", False),
}


def initial(key: jax.Array) -> Params:
    """Random weights; the matrices that write into the residual stream start small."""
    keys = iter(jax.random.split(key, 64))
    hidden, head = SHAPE.hidden_size, SHAPE.head_dim
    query, shared = SHAPE.num_attention_heads * head, SHAPE.num_key_value_heads * head

    def matrix(inputs: int, outputs: int) -> jax.Array:
        return jax.random.normal(next(keys), (inputs, outputs)) * inputs**-0.5

    def layer() -> Params:
        return {
            "q": matrix(hidden, query),
            "k": matrix(hidden, shared),
            "v": matrix(hidden, shared),
            "o": matrix(query, hidden) * 0.3,
            "q_norm": jnp.ones(head),
            "k_norm": jnp.ones(head),
            "attention_norm": jnp.ones(hidden),
            "mlp_norm": jnp.ones(hidden),
            "gate": matrix(hidden, SHAPE.intermediate_size),
            "up": matrix(hidden, SHAPE.intermediate_size),
            "down": matrix(SHAPE.intermediate_size, hidden) * 0.3,
        }

    embedding = jax.random.normal(next(keys), (SHAPE.vocab_size, hidden)) * 0.08
    layers = [layer() for _ in range(SHAPE.num_hidden_layers)]
    return {"embedding": embedding, "norm": jnp.ones(hidden), "layers": layers}


def rms_norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Root mean square normalisation over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + SHAPE.rms_norm_eps) * weight


def rotary(length: int) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotary positions 0 to `length` - 1."""
    frequencies = SHAPE.rope_theta ** (-jnp.arange(0, SHAPE.head_dim, 2) / SHAPE.head_dim)
    angles = jnp.arange(length)[:, None] * frequencies[None]
    angles = jnp.concatenate([angles, angles], -1)
    return jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]


def rotate(x: jax.Array, positions: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Applies the rotary positions."""
    cosines, sines = positions
    half = x.shape[-1] // 2
    turned = jnp.concatenate([-x[..., half:], x[..., :half]], -1)
    return x * cosines + turned * sines


def attention(layer: Params, x: jax.Array, positions: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Causal attention with grouped queries."""
    rows, length, _ = x.shape
    heads, groups, size = SHAPE.num_attention_heads, SHAPE.num_key_value_heads, SHAPE.head_dim
    query = (x @ layer["q"]).reshape(rows, length, heads, size)
    query = rotate(rms_norm(query, layer["q_norm"]), positions)
    key = (x @ layer["k"]).reshape(rows, length, groups, size)
    key = rotate(rms_norm(key, layer["k_norm"]), positions)
    value = (x @ layer["v"]).reshape(rows, length, groups, size)
    query = query.reshape(rows, length, groups, heads // groups, size)
    scores = jnp.einsum("btkgh,bskh->bkgts", query, key) * size**-0.5
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), -1)
    mixed = jnp.einsum("bkgts,bskh->btkgh", weights, value)
    return mixed.reshape(rows, length, heads * size) @ layer["o"]


def mlp(layer: Params, x: jax.Array) -> jax.Array:
    """The gated feed-forward part."""
    return (jax.nn.silu(x @ layer["gate"]) * (x @ layer["up"])) @ layer["down"]


def logits(params: Params, ids: jax.Array) -> jax.Array:
    """The logits of the token after each position."""
    x, positions = params["embedding"][ids], rotary(ids.shape[1])
    for layer in params["layers"]:
        x = x + attention(layer, rms_norm(x, layer["attention_norm"]), positions)
        x = x + mlp(layer, rms_norm(x, layer["mlp_norm"]))
    return rms_norm(x, params["norm"]) @ params["embedding"].T


@jax.jit
def greedy(params: Params, ids: jax.Array) -> jax.Array:
    """The likeliest token after each position."""
    return logits(params, ids).argmax(-1)


def to_tensors(params: Params) -> dict[str, np.ndarray]:
    """The weights under the names and in the orientation of Qwen3 checkpoints."""
    tensors = {
        "model.embed_tokens.weight": np.asarray(params["embedding"]),
        "model.norm.weight": np.asarray(params["norm"]),
    }
    for number, layer in enumerate(params["layers"]):
        for ours, (theirs, matrix) in LAYER_TENSORS.items():
            weight = np.asarray(layer[ours])
            name = f"model.layers.{number}.{theirs}.weight"
            tensors[name] = np.ascontiguousarray(weight.T if matrix else weight)
    return tensors


def from_tensors(tensors: dict[str, np.ndarray]) -> Params:
    """The inverse of `to_tensors`, in 32 bits."""

    def load(name: str, matrix: bool = False) -> jax.Array:
        weight = jnp.asarray(tensors[f"{name}.weight"].astype(np.float32))
        return weight.T if matrix else weight

    layers = [
        {
            ours: load(f"model.layers.{number}.{theirs}", matrix)
            for ours, (theirs, matrix) in LAYER_TENSORS.items()
        }
        for number in range(SHAPE.num_hidden_layers)
    ]
    embedding, norm = load("model.embed_tokens"), load("model.norm")
    return {"embedding": embedding, "norm": norm, "layers": layers}
