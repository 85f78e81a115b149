"""Tiny entropy models with random weights, and indices for them."""

import numpy as np

from rnn_codec.embedded import entropy_model

PLANES, LATENTS, RUNS = 4, 10, 3


def arrays(seed=0, planes=PLANES, latents=LATENTS, scale=25, threshold=-24):
    """Arrays of an `EntropyModel` whose probabilities differ much."""
    rng = np.random.default_rng(seed)
    mixed, features = [0] + [4] * (planes - 1), [6] * planes
    found = {}
    for name, (shape, kind) in entropy_model.shapes(planes, latents, RUNS, mixed, features).items():
        values = rng.normal(0, scale, shape)
        found[name] = np.clip(values, -127, 127).astype(kind)
    for name in found:
        if name.startswith(("gain", "table")):
            found[name] = np.abs(found[name])
        elif name.startswith(("refine", "more", "late")):
            found[name] = np.clip(found[name] // 2, -63, 63)
        elif name.startswith("out_bias"):
            found[name] = found[name] * 40 - 1200
    found["order"] = rng.permutation(latents).astype(np.int16)
    inner = np.sort(rng.integers(0, latents, (planes, RUNS - 1)))
    ends = [np.concatenate([[0], row, [latents]]) for row in inner]
    found["runs"] = np.stack(ends).astype(np.int16)
    found["threshold"][:] = threshold
    # Some channels come to life late, one never.
    born = rng.integers(0, planes, latents)
    born[0], born[1] = 0, planes
    found["live"] = (np.arange(planes)[:, None] >= born).astype(np.uint8)
    return found


def index(rows, columns, seed=0, planes=PLANES, latents=LATENTS, spread=1.0):
    """Indices of the last plane, `[h, w, K]`: mostly zeros, some of them large."""
    rng = np.random.default_rng((seed, 1))
    scale = spread * 2.0 ** rng.uniform(-1, planes, latents)
    values = rng.laplace(0, 1, (rows, columns, latents)) * scale
    limit = entropy_model.index_limit(planes)
    return np.clip(np.trunc(values), -limit, limit).astype(np.int16)
