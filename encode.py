"""Encodes pictures: python encode.py --help."""

from rnn_codec.commands import encode

if __name__ == "__main__":
    encode.run()
