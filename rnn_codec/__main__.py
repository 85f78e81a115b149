"""python -m rnn_codec: the program `rnnc`."""

import sys

from rnn_codec.commands import rnnc

if __name__ == "__main__":
    sys.exit(rnnc.main())
