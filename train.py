"""Trains a codec: python train.py --help."""

from rnn_codec.commands import train

if __name__ == "__main__":
    train.run()
