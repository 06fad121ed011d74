"""Trains the model from random weights on synthetic conversations; about an hour on two cores."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import jax
import jax.numpy as jnp
import network
import numpy as np
import optax
from conversations import Mix, packed_rows
from safetensors.numpy import save_file

WARM_UP_STEPS = 30
Schedule = Callable[[jax.Array], jax.Array]
Step = Callable[..., tuple[network.Params, optax.OptState, jax.Array]]


@dataclass(frozen=True)
class Stage:
    """A number of steps on rows of one kind."""

    steps: int
    rows: int
    length: int
    shortest: int
    longest: int
    rate_at_start: float
    rate_at_end: float
    mix: Mix


# Stages of one phase share an optimiser. The result is the mean of the weights after the last two
# phases.
PHASES: list[list[Stage]] = [
    [
        Stage(300, 32, 128, 1, 10, 0.020, 0.020, Mix(0, 0, 0.2, 0.97, 0)),
    ],
    [
        Stage(500, 16, 192, 1, 32, 0.020, 0.014, Mix(0.35, 0.1, 0.3, 0.82, 0.05)),
        Stage(700, 8, 384, 1, 64, 0.014, 0.006, Mix(0.4, 0.25, 0.4, 0.80, 0.08)),
        Stage(200, 4, 768, 1, 110, 0.006, 0.0, Mix(0.4, 0.25, 0.5, 0.82, 0.08)),
    ],
    [
        Stage(420, 10, 256, 1, 48, 0.012, 0.0, Mix(0.6, 0.15, 0.4, 0.82, 0.05)),
    ],
    [
        Stage(260, 8, 384, 1, 72, 0.010, 0.0, Mix(0.5, 0.2, 0.4, 0.82, 0.05)),
    ],
]


def loss(
    params: network.Params, inputs: jax.Array, targets: jax.Array, produced: jax.Array
) -> jax.Array:
    """Cross entropy of what the model produces; a little of the prompts as well helps it to copy."""
    entropy = optax.softmax_cross_entropy_with_integer_labels(
        network.logits(params, inputs), targets
    )
    return (entropy * produced).sum() / produced.sum() + 0.02 * entropy.mean()


def learning_rate(stages: list[Stage]) -> Schedule:
    """Straight lines from stage to stage, after a short warm-up."""

    def rate(step: jax.Array) -> jax.Array:
        value, begin = jnp.asarray(0.0), 0
        for stage in stages:
            slope = (stage.rate_at_end - stage.rate_at_start) / stage.steps
            inside = (step >= begin) & (step < begin + stage.steps)
            value = jnp.where(inside, stage.rate_at_start + slope * (step - begin), value)
            begin += stage.steps
        return value * jnp.minimum(1.0, (step + 1) / WARM_UP_STEPS)

    return rate


def optimiser(rate: Schedule) -> optax.GradientTransformation:
    """Muon for the matrices, Adam for the rest."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.contrib.muon(
            rate, adam_learning_rate=lambda step: rate(step) * 0.2, weight_decay=0.01
        ),
    )


def compiled_step(transformation: optax.GradientTransformation) -> Step:
    """One step of gradient descent."""

    @jax.jit
    def step(params, state, inputs, targets, produced):
        value, gradient = jax.value_and_grad(loss)(params, inputs, targets, produced)
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def train_phase(params: network.Params, rng: Random, stages: list[Stage]) -> network.Params:
    """Runs the stages of one phase, the optimiser's state made anew."""
    transformation = optimiser(learning_rate(stages))
    state, step = transformation.init(params), compiled_step(transformation)
    started, losses = time.monotonic(), []
    for number, stage in enumerate(stages, 1):
        for done in range(1, stage.steps + 1):
            batch = packed_rows(
                rng, stage.rows, stage.length, stage.shortest, stage.longest, stage.mix
            )
            params, state, value = step(params, state, *batch)
            losses.append(value)
            if done % 50 == 0 or done == stage.steps:
                mean = float(np.mean([float(one) for one in losses]))
                seconds = time.monotonic() - started
                print(f"  stage {number} step {done}: loss {mean:.4f}, {seconds:.0f} s", flush=True)
                losses.clear()
    return params


def train(scale: float, seed: int) -> network.Params:
    """The whole training; `scale` shortens every stage."""
    rng, params = Random(seed), network.initial(jax.random.PRNGKey(seed - 1))
    ends: list[network.Params] = []
    for number, stages in enumerate(PHASES, 1):
        print(f"phase {number} of {len(PHASES)}", flush=True)
        shortened = [replace(stage, steps=max(2, round(stage.steps * scale))) for stage in stages]
        params = train_phase(params, rng, shortened)
        ends.append(params)
    return jax.tree.map(lambda first, second: (first + second) / 2, *ends[-2:])


def main() -> None:
    """Reads the command line, trains, and writes the weights in 32 bits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("checkpoint.safetensors"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    params = train(arguments.scale, arguments.seed)
    save_file(network.to_tensors(params), arguments.out)


if __name__ == "__main__":
    main()
