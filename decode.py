"""Decodes pictures: python decode.py --help."""

from rnn_codec.commands import decode, extract, info, restore, scripts

if __name__ == "__main__":
    scripts.run(decode.COMMAND, info.COMMAND, extract.COMMAND, restore.COMMAND)
