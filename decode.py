"""Decodes pictures: python decode.py --help."""

from rnn_codec.commands import decode

if __name__ == "__main__":
    decode.run()
