"""Encodes pictures: python encode.py --help."""

from rnn_codec.commands import encode, scripts

if __name__ == "__main__":
    scripts.run(encode.COMMAND)
