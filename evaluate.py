"""Measures codecs: python evaluate.py --help."""

from rnn_codec.commands import evaluate, scripts

if __name__ == "__main__":
    scripts.run(evaluate.COMMAND)
