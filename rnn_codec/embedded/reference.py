"""Weights of the reference implementation, which is in torch, as this network has them.

The reference orders kernels `[out, in, row, column]` and the samples of a block `(channel, row,
column)`; here kernels are `[row, column, in, out]` and blocks `(row, column, channel)`.
"""

import numpy as np

from rnn_codec.embedded.config import BLOCK, EmbeddedConfig
from rnn_codec.embedded.layers import block_kernel

_ANALYSIS = {0: "conv_1", 1: "gdn_1", 2: "conv_2", 3: "gdn_2", 4: "conv_3"}
_SYNTHESIS = {0: "expand_1", 1: "gdn_1", 2: "expand_2", 3: "gdn_2", 4: "pixels"}
# How many times each of these convolutions enlarges what it gives.
_ENLARGE = {"expand_1": 2, "expand_2": 2, "pixels": 4}


def from_reference(arrays, name="embedded"):
    """Configuration and weights of a reference's archive.

    Args:
        arrays: dictionary of the reference's names to arrays.
        name: str. Of the configuration.

    Returns:
        `EmbeddedConfig`; weights of `network.EmbeddedNetwork`, and of `rate.RateEstimate`, each a
        dictionary of variable path to float32 array.
    """
    arrays = {key: np.asarray(value, np.float32) for key, value in arrays.items()}
    planes, latents = arrays["gain"].shape
    config = EmbeddedConfig(
        name, channels=arrays["analysis.0.bias"].shape[0], latents=latents, iterations=planes
    )
    weights = {
        "block_analysis/kernel": block_kernel(_samples_last(arrays["block_analysis"]).T),
        "block_analysis/log_scale": arrays["block_analysis_log_scale"],
        "block_synthesis/kernel": block_kernel(_samples_last(arrays["block_synthesis"].T)),
        "block_synthesis/log_scale": arrays["block_synthesis_log_scale"],
        "quantiser/log_scale": arrays["log_scale"],
        "quantiser/offset": arrays["offset"],
        "quantiser/gain": arrays["gain"],
        "synthesis/gain_1": arrays["plane_gain.0"],
        "synthesis/gain_2": arrays["plane_gain.1"],
    }
    for part, layers in (("analysis", _ANALYSIS), ("synthesis", _SYNTHESIS)):
        for index, layer in layers.items():
            source = f"{part}.{index}."
            if layer.startswith("gdn"):
                weights[f"{part}/{layer}/gamma"] = arrays[source + "gamma"].T
                weights[f"{part}/{layer}/beta"] = arrays[source + "beta"]
            else:
                kernel, bias = arrays[source + "weight"], arrays[source + "bias"]
                kernel = np.transpose(kernel, (2, 3, 1, 0))
                if layer in _ENLARGE:
                    kernel, bias = (_blocks_first(a, _ENLARGE[layer]) for a in (kernel, bias))
                weights[f"{part}/{layer}/kernel"] = kernel
                weights[f"{part}/{layer}/bias"] = bias
    rate = {
        "log_scale": arrays["rate_log_scale"],
        "context_plane": arrays["context_plane"],
        "context/kernel": np.transpose(arrays["context.weight"], (2, 3, 1, 0)),
        "context/bias": arrays["context.bias"],
        "out/kernel": arrays["context_out.weight"][:, :, 0, 0].T,
        "out/bias": arrays["context_out.bias"],
    }
    weights = {f"codec/{path}": np.ascontiguousarray(a) for path, a in weights.items()}
    return config, weights, {f"rate/{path}": np.ascontiguousarray(a) for path, a in rate.items()}


def _samples_last(matrix):
    """`[K, 768]` with samples ordered (channel, row, column) -> (row, column, channel)."""
    blocks = matrix.reshape(-1, 3, BLOCK, BLOCK)
    return np.transpose(blocks, (0, 2, 3, 1)).reshape(len(matrix), -1)


def _blocks_first(array, block):
    """Last axis ordered (channel, row, column) of a block -> (row, column, channel)."""
    parts = array.reshape(*array.shape[:-1], -1, block, block)
    return np.moveaxis(parts, -3, -1).reshape(array.shape)
