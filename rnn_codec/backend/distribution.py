"""Which devices a run trains on. One needs nothing; several share each batch, weights in step.

On TensorFlow that is `tf.distribute` (MirroredStrategy, TPUStrategy), on JAX
`keras.distribution.DataParallel`, for GPUs and TPUs alike. On JAX one program sees the whole batch,
so nothing else changes. On TensorFlow each replica sees its own part, and `per_replica` and `Adam`
below make the sum of the parts what one device would have computed; where a loss is no plain mean
over the batch (`losses.perceptual` takes a logarithm of one), it is the mean of that of each part.
"""

import contextlib
import os

import keras
from keras import ops

from rnn_codec.errors import CodecError


@contextlib.contextmanager
def scope(devices="auto"):
    """Makes and trains models on several devices in a `with` block.

    Args:
        devices: "auto" for all GPUs (on JAX: or TPUs) and otherwise one device; a number; "tpu" for
            all cores of the TPU of this machine, or on TensorFlow of the one that the environment
            variable TPU_NAME names.

    Yields:
        int. How many devices share a batch.

    Raises:
        CodecError: there are no such devices.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        names = _chosen(devices, keras.distribution.list_devices())
        context = contextlib.nullcontext()
        if len(names) > 1:
            context = keras.distribution.DataParallel(
                devices=names, auto_shard_dataset=False
            ).scope()
    elif backend == "tensorflow":
        names, context = _tensorflow_scope(devices)
    else:
        names, context = _chosen(devices, [f"{backend}:0"]), contextlib.nullcontext()
    with context:
        yield len(names)


def _tensorflow_scope(devices):
    import tensorflow as tf

    if devices == "tpu":
        strategy = _tpu_strategy(tf)
        return range(strategy.num_replicas_in_sync), strategy.scope()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    known = [device.name for device in tf.config.list_logical_devices(kind)]
    names = _chosen(devices, known)
    if len(names) == 1:
        return names, contextlib.nullcontext()
    return names, tf.distribute.MirroredStrategy(names).scope()


def _tpu_strategy(tf):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=os.environ.get("TPU_NAME", "local")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).strip().split(". ")[0] or type(error).__name__
        reason = " ".join(reason.split())
        raise CodecError(f"--devices=tpu: TensorFlow finds no TPU ({reason})") from error


def _chosen(devices, known):
    """The names to use, of those that the backend knows."""
    kind = "CPU" if "cpu" in known[0].lower() else "TPU" if "tpu" in known[0].lower() else "GPU"
    if devices == "auto":
        return known[:1] if kind == "CPU" else known
    number = len(known) if devices == "tpu" and kind == "TPU" else devices
    if not str(number).isdecimal() or not 1 <= int(number) <= len(known):
        raise CodecError(
            f"--devices={devices}: expected at most the {len(known)} {kind} device(s) that "
            f"{keras.backend.backend()} finds here"
        )
    return known[: int(number)]


def per_replica(loss):
    """The share of one replica in the loss: TensorFlow sums the gradients of all."""
    return loss / _num_replicas()


class Adam(keras.optimizers.Adam):
    """Adam that clips the gradient of the whole batch.

    On TensorFlow Keras clips each replica's own part and sums afterwards, which is not the step of
    one device. So the parts are averaged first; the sum that follows, of equal parts, multiplies by
    the number of replicas, and the norm is divided by it here.

    Args:
        global_clipnorm: float or None.
        ema_ramps: bool. Whether the averages of the weights forget quickly at first, so that early
            ones already tell of a short run: the momentum rises to `ema_momentum`.
    """

    def __init__(self, *args, global_clipnorm=None, ema_ramps=False, **kwargs):
        if global_clipnorm is not None:
            global_clipnorm /= _num_replicas()
        super().__init__(*args, global_clipnorm=global_clipnorm, **kwargs)
        self.ema_ramps = ema_ramps

    def apply(self, grads, trainable_variables=None):
        if _num_replicas() > 1:
            import tensorflow as tf

            grads = tf.distribute.get_replica_context().all_reduce("mean", list(grads))
        super().apply(grads, trainable_variables)

    def _update_model_variables_moving_average(self, trainable_variables):
        if not (self.use_ema and self.ema_ramps):
            super()._update_model_variables_moving_average(trainable_variables)
            return
        done = ops.cast(self.iterations, "float32")
        change = 1.0 - ops.minimum(self.ema_momentum, (1.0 + done) / (10.0 + done))
        change = ops.where(done > 0, change, 1.0)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average):
            if average is not None:
                average.assign(average + change * (variable - average))


def _num_replicas():
    """How many programs share a batch: on JAX, or on one device, it is one."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
