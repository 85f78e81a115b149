"""What the fuzzers share: libFuzzer, by way of atheris, with files that are hostile on purpose.

libFuzzer keeps inputs that reach new code and changes them further. Left to itself it would hardly
get past the first checksum, so `tests/hostile.py` changes the parts of a file here.
"""

import pathlib
import random
import sys

import atheris

from tests import hostile

# How much longer than a part libFuzzer may make it.
_GROWTH = 64


def run(check):
    """Calls `check` with inputs until libFuzzer's options, in `sys.argv`, say that it is enough.

    The first argument is the folder of the corpus, to which the golden files are added, or one
    input to try again.
    """
    corpus = pathlib.Path(sys.argv[1])
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        for index, seed in enumerate(hostile.SEEDS + hostile.MADE):
            (corpus / f"golden_{index:02d}").write_bytes(seed)
    atheris.Setup(sys.argv, check, custom_mutator=_mutate)
    atheris.Fuzz()


def _mutate(data, max_size, seed):
    def scramble(part):
        return atheris.Mutate(part, len(part) + _GROWTH)

    return hostile.mutate(data, random.Random(seed), scramble)[:max_size]
