"""The steps of a network as compiled functions, on whichever backend Keras runs.

Encoder and decoder must call the very same compiled functions: that is what makes a decoded picture
equal the encoder's own on one machine, to the last bit where both compute it whole and alone. In
tiles and batches a pixel may round to the level beside.
"""

import keras

# Instructions that multiply bfloat16, as Linux names them.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def fastest_precision():
    """ "bfloat16" where the device multiplies in it, else "float32".

    Half the precision is then about twice as fast, and changes a decoded picture by less than 8-bit
    rounding does: docs/results/performance.md.
    """
    return "bfloat16" if _on_accelerator() or _BFLOAT16_FLAGS & _cpu_flags() else "float32"


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
