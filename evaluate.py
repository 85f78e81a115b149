"""Measures codecs on a folder of images: python evaluate.py --help."""

from rnn_codec.commands import evaluate

if __name__ == "__main__":
    evaluate.run()
