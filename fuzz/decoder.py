"""Fuzzes the whole way from bytes to picture files: python -m fuzz.decoder FOLDER [-runs=N].

FOLDER keeps the inputs that reached new code. Further options are libFuzzer's; see fuzz/README.md.
"""

import atheris

with atheris.instrument_imports(include=["rnn_codec"]):
    from fuzz import harness
    from tests import hostile, testing  # noqa: F401 (loads what is to be instrumented)

if __name__ == "__main__":
    harness.run(hostile.check_decoder)
