"""What a person watches while training: a progress bar with an honest remaining time."""

import math
import sys

import keras
from tqdm import tqdm


class Progress(keras.callbacks.Callback):
    """A bar over all steps of the run, on stderr.

    Remaining time is from the mean rate since the first step of this process, validations and
    checkpoints included, compilation excluded: it does not jump and does not flatter.
    """

    def __init__(self, first_step, total_steps):
        super().__init__()
        self.step = first_step
        self.total_steps = total_steps
        self.bar = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
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
        self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        figures = validation_figures(logs)
        loss = figures.pop("loss", math.nan)
        quality = []
        for metric, form in (("ms_ssim", "{:.4f}"), ("psnr_db", "{:.2f}")):
            values = [figures[name] for name in sorted(figures) if name.startswith(f"{metric}/")]
            quality.append(f"{metric} " + " ".join(form.format(value) for value in values))
        line = f"step {self.step}: validation loss {loss:.4f}; " + "; ".join(quality)
        tqdm.write(line, file=sys.stderr)

    def on_train_end(self, logs=None):
        if self.bar is not None:
            self.bar.close()


def validation_figures(logs):
    """The validation's figures, without their `val_`, as floats."""
    figures = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
    return {name.removeprefix("val_"): float(value) for name, value in figures.items()}
