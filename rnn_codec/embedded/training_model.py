"""The embedded codec with its loss and its figures by plane, for `fit` and `evaluate`."""

import functools
import math

import keras
from keras import ops

from rnn_codec.backend import compilation, distribution
from rnn_codec.embedded import losses
from rnn_codec.embedded.network import planes_known, truncate
from rnn_codec.training import run, similarity

# Decibels of a natural logarithm.
_DECIBELS = 10.0 / math.log(10.0)


class TrainingModel(keras.Model):
    """One random plane and cut for each patch.

    The gradient past the quantiser, here and in the rate, is the difference between half a step up
    and half a step down, which is that of the mean over uniform noise; it is zero deep in the dead
    zone. Straight-through gradients instead let coarse planes, where most latents are zero, pull at
    latents that they do not even see, and spoil the fine planes.

    Args:
        network: `network.EmbeddedNetwork`.
        rate: `rate.RateEstimate`.
        seen_share: float. The weight of SSIMULACRA2's error in the loss.
        alpha: float. The weight of the rate.
        fuse: bool. Whether `compilation.fuse` is to make the loss faster.

    Call arguments:
        inputs: dictionary of `pictures`, `[B, H, W, 3]` in 0..255; `plane`, int32 `[B]`; `sent`,
            int32 `[B]`, how many channels of that plane are sent.
        training: bool.

    Output:
        Dictionary of `original` and `restored`, `[B, H, W, 3]` in -1..1, `rate`, `[B]` bits per
        pixel, and `index`, `[B, h, w, K]`.
    """

    def __init__(self, network, rate, seen_share=0.5, alpha=0.5, fuse=False, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.rate = rate
        loss = functools.partial(losses.rate_distortion, seen_share=seen_share, alpha=alpha)
        self.rate_distortion = compilation.fuse(loss) if fuse else loss
        planes, latents = network.config.iterations, network.config.latents
        self.figures = {
            name: ByPlane(planes, name=name) for name in ("loss", "bits_per_pixel", "psnr_db")
        }
        self.ms_ssim = ByPlane(planes, name="ms_ssim")
        self.seen = ByPlane(planes, name="visible_error")
        self.living = LivingChannels(planes, latents, name="living_channels")

    def build(self, input_shape=None):
        pass  # Its parts are built before it is.

    def call(self, inputs, training=False):
        original = ops.cast(inputs["pictures"], "float32") / 127.5 - 1.0
        plane, sent = inputs["plane"], inputs["sent"]
        quantiser = self.network.quantiser
        known = planes_known(plane, sent, self.network.config.latents)
        is_sent = ops.cast(known >= 0, "float32")[:, None, None, :]
        scaled = quantiser.scaled(self.network.analyse(original), known)
        index = ops.stop_gradient(truncate(scaled)) * is_sent
        rate = self.rate(scaled, index=index, known=known, plane=plane, training=training)
        values = quantiser.dequantise(index, known)
        if training:
            up = quantiser.dequantise(truncate(scaled + 0.5), known)
            slope = (up - quantiser.dequantise(truncate(scaled - 0.5), known)) * is_sent
            values = values + ops.stop_gradient(slope) * (scaled - ops.stop_gradient(scaled))
        restored = self.network.synthesise(quantiser.unscale(values, known), plane, sent)
        return {"original": original, "restored": restored, "rate": rate, "index": index}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        plane = x["plane"]
        original, restored, rate = y_pred["original"], y_pred["restored"], y_pred["rate"]
        share = ops.cast(x["sent"], "float32") / self.network.config.latents
        loss, parts = self.rate_distortion(original, restored, rate, plane, share)
        shown = ops.clip(restored, -1.0, 1.0)
        error = ops.mean(ops.square(original - shown), axis=(1, 2, 3))
        # The peak is 2, and an error of a hundredth of a level is enough for any picture.
        psnr = _DECIBELS * ops.log(4.0 / (error + 1e-8))
        weights = ops.one_hot(plane, self.network.config.iterations, dtype="float32")
        for name, values in (("loss", loss), ("bits_per_pixel", rate), ("psnr_db", psnr)):
            self.figures[name].update_state(values, weights)
        if not training:  # These take too long for every step.
            pictures = 0.5 + 0.5 * original, 0.5 + 0.5 * shown
            self.ms_ssim.update_state(similarity.ms_ssim(*pictures), weights)
            if "seen" in parts:
                self.seen.update_state(parts["seen"], weights)
            self.living.update_state(y_pred["index"], weights)
        return distribution.per_replica(ops.mean(loss))


class ByPlane(keras.metrics.Metric):
    """Mean of a figure at each plane: `name/iteration_01`, ...: for people, planes count from 1."""

    def __init__(self, planes, name):
        super().__init__(name=name)
        self.total = self.add_variable((planes,), "zeros", name="total")
        self.count = self.add_variable((planes,), "zeros", name="count")

    def update_state(self, values, weights):
        """Adds values `[B]`; `weights` are the rows of their planes, one-hot, `[B, N]`."""
        values = ops.cast(values, self.dtype)
        self.total.assign(self.total + ops.sum(values[:, None] * weights, axis=0))
        self.count.assign(self.count + ops.sum(weights, axis=0))

    def result(self):
        return run.by_iteration(self.name, self.total / ops.maximum(self.count, 1.0))


class LivingChannels(keras.metrics.Metric):
    """How many latent channels leave zero at one in ten thousand positions or more, by plane."""

    def __init__(self, planes, latents, name):
        super().__init__(name=name)
        self.active = self.add_variable((planes, latents), "zeros", name="active")
        self.count = self.add_variable((planes,), "zeros", name="count")

    def update_state(self, index, weights):
        """Adds indices `[B, h, w, K]`; `weights` as for `ByPlane`."""
        active = ops.mean(ops.cast(index != 0, self.dtype), axis=(1, 2))  # [B, K]
        self.active.assign(self.active + ops.matmul(ops.transpose(weights), active))
        self.count.assign(self.count + ops.sum(weights, axis=0))

    def result(self):
        shares = self.active / ops.maximum(self.count, 1.0)[:, None]
        living = ops.sum(ops.cast(shares > 1e-4, self.dtype), axis=1)
        return run.by_iteration(self.name, living)
