"""Fuzzes the container's parser: python -m fuzz.parser FOLDER [-runs=N].

FOLDER keeps the inputs that reached new code. Further options are libFuzzer's; see fuzz/README.md.
"""

import atheris

with atheris.instrument_imports(include=["rnn_codec"]):
    from fuzz import harness
    from tests import hostile

if __name__ == "__main__":
    harness.run(hostile.check_parser)
