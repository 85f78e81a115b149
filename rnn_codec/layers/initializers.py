"""Random weights without compilation.

Keras draws them on the backend, and JAX compiles a program for the shape of each: ten seconds for
a network whose weights are then loaded from a file.
"""

import math

import keras
from keras import ops
import numpy as np


class GlorotUniform(keras.initializers.Initializer):
    """`keras.initializers.GlorotUniform`, drawn by NumPy (`keras.utils.set_random_seed` seeds it).

    Reference:
        Glorot and Bengio, 2010, "Understanding the difficulty of training deep feedforward neural
        networks".
    """

    def __call__(self, shape, dtype=None):
        area = math.prod(shape[:-2])
        limit = math.sqrt(6.0 / (area * (shape[-2] + shape[-1])))
        values = np.random.uniform(-limit, limit, shape).astype(np.float32)
        return ops.convert_to_tensor(values, dtype=dtype or keras.config.floatx())
