"""Trains a codec: python train.py --help."""

from rnn_codec.commands import scripts, train

if __name__ == "__main__":
    scripts.run(train.COMMAND)
