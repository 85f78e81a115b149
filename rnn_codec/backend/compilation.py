"""The steps of a network as compiled functions, on whichever backend Keras runs.

Encoder and decoder must call the very same compiled functions: that is what makes a decoded picture
equal the encoder's own on one machine, to the last bit where both compute it whole and alone. In
tiles and batches a pixel may round to the level beside.
"""

import time

import keras
from keras import ops
import numpy as np

# Instructions that multiply bfloat16, as Linux names them.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def fastest_precision():
    """ "bfloat16" where the device multiplies in it, else "float32".

    Half the precision is then about twice as fast, and changes a decoded picture by less than 8-bit
    rounding does: docs/results/performance.md.
    """
    return "bfloat16" if _on_accelerator() or _BFLOAT16_FLAGS & _cpu_flags() else "float32"


def faster_training_precision() -> str:
    """The Keras policy in which convolutions take less time here: measured, in a second.

    Processors that multiply in bfloat16 gain half as much again; others would take three times as
    long.
    """
    seconds = {"mixed_bfloat16": _seconds("bfloat16"), "float32": _seconds("float32")}
    return min(seconds, key=seconds.get)


def _seconds(dtype, repetitions=8):
    """Time of a convolution, the shortest of three measurements."""
    rng = np.random.default_rng(0)
    inputs = ops.cast(rng.standard_normal((4, 32, 32, 128), np.float32), dtype)
    kernel = ops.cast(rng.standard_normal((5, 5, 128, 128), np.float32), dtype)

    def convolve():
        outputs = ops.conv(inputs, kernel, padding="same", data_format="channels_last")
        return float(ops.convert_to_numpy(ops.cast(outputs[0, 0, 0, 0], "float32")))

    convolve()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(repetitions):
            convolve()
        times.append(time.perf_counter() - begin)
    return min(times)


def fuse(function):
    """`function` of tensors with its arithmetic fused, forward and backward, where that pays.

    TensorFlow runs element-wise arithmetic operation by operation, each over all of the memory; XLA
    does not. JAX compiles everything anyway.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def _on_accelerator():
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return False


def _cpu_flags():
    """Names of the processor's features, where the system tells them (Linux on x86)."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("flags")]
    except OSError:
        return set()
    return set(lines[0].split()) if lines else set()


def compiles_each_size():
    """Whether a graph serves only pictures of one size, and batches of one length."""
    return keras.backend.backend() == "jax"


def compile_for_inference(function, network):
    """`function` of tensors, compiled; the variables of `network` are its inputs, not constants."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _compile_tensorflow(function)
    if backend == "jax":
        return _compile_jax(function, network)
    return function


def _compile_tensorflow(function):
    """One graph for pictures of any size: no retracing, and no other rounding for another size.

    Its signature comes from the first call: all but the last axis of each tensor is left open.
    """
    import tensorflow as tf

    compiled = None

    def call(*arguments):
        nonlocal compiled
        arguments = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        if compiled is None:
            signature = tf.nest.map_structure(_open_spec, arguments)
            compiled = tf.function(function, input_signature=signature, autograph=False)
        return compiled(*arguments)

    def _open_spec(tensor):
        shape = [None] * (tensor.shape.rank - 1) + tensor.shape[-1:]
        return tf.TensorSpec(shape, tensor.dtype)

    return call


def _compile_jax(function, network):
    import jax

    def stateless(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
            return function(*arguments)

    compiled = jax.jit(stateless)
    return lambda *arguments: compiled([v.value for v in network.variables], *arguments)
