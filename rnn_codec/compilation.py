"""The steps of a network as compiled functions, on whichever backend Keras runs.

Encoder and decoder must call the very same compiled functions: that is what makes a decoded picture
equal the encoder's own to the last bit on one machine.
"""

import keras


class CompiledSteps:
    """The compiled twin of a `progressive.ProgressiveNetwork`, for `progressive.iterate`."""

    def __init__(self, network):
        self.accumulates = network.accumulates
        self.initial_states = network.initial_states
        self.analyse = compile_for_inference(network.analyse, network)
        self.decode_bits = compile_for_inference(network.decode_bits, network)
        self.synthesise = compile_for_inference(network.synthesise, network)


def compile_for_inference(function, network):
    """`function` of tensors, compiled; the variables of `network` are its inputs, not constants."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True, autograph=False)
    if backend == "jax":
        return _compile_jax(function, network)
    return function


def _compile_jax(function, network):
    import jax

    def stateless(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
            return function(*arguments)

    compiled = jax.jit(stateless)
    return lambda *arguments: compiled([v.value for v in network.variables], *arguments)
