"""Counting the steps of a run, and a progress bar with an honest remaining time."""

import math
import sys

import keras
from tqdm import tqdm

# In the line after each epoch, as far as a model has them.
_SHOWN = (
    ("ms_ssim", "{:.4f}"),
    ("psnr_db", "{:.2f}"),
    ("bits_per_bit", "{:.4f}"),
    ("bits_per_pixel", "{:.3f}"),
    ("living_channels", "{:.0f}"),
)


class StepCallback(keras.callbacks.Callback):
    """Counts the steps of a run: `step` of them are done, those before it was resumed included.

    `close` is called when `fit` ends in any way, `on_train_end` only when it ends well.
    """

    def __init__(self, first_step):
        super().__init__()
        self.step = first_step

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1

    def close(self):
        pass


class Progress(StepCallback):
    """A bar over all steps of the run, on stderr.

    Remaining time is from the mean rate since the first step of this process, validations and
    checkpoints included, compilation excluded: it does not jump and does not flatter.
    """

    def __init__(self, first_step, total_steps):
        super().__init__(first_step)
        self.total_steps = total_steps
        self.bar = None

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.bar is None:
            self.bar = tqdm(
                total=self.total_steps,
                initial=self.step,
                smoothing=0,
                unit="step",
                mininterval=2.0 if sys.stderr.isatty() else 60.0,
                dynamic_ncols=True,
            )
            return
        drawn = self.bar.update()
        if drawn:  # only then, as asking for the loss waits for the step
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}")

    def on_epoch_end(self, epoch, logs=None):
        figures = validation_figures(logs)
        quality = []
        for metric, form in _SHOWN:
            values = [form.format(value) for value in by_iteration(figures, metric)]
            quality.extend([f"{metric} " + " ".join(values)] if values else [])
        loss = figures.get("loss", math.nan)
        line = f"step {self.step}: validation loss {loss:.4f}; " + "; ".join(quality)
        tqdm.write(line, file=sys.stderr)

    def close(self):
        if self.bar is not None:
            self.bar.close()


def validation_figures(logs: dict | None) -> dict[str, float]:
    """The validation's figures, without their `val_`, as floats."""
    figures = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
    return {name.removeprefix("val_"): float(value) for name, value in figures.items()}


def by_iteration(figures: dict[str, float], metric: str) -> list[float]:
    """The figures of a metric, iteration by iteration."""
    return [figures[name] for name in sorted(figures) if name.startswith(f"{metric}/")]
