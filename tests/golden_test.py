"""Files of every release decode for ever: tests/golden/README.md."""

import hashlib
import json

from absl.testing import absltest, parameterized
import make_golden
import numpy as np
from PIL import Image
import pytest
import testing

from rnn_codec.container import bitstream

pytestmark = pytest.mark.network

# Each set with the hash of its index, which has the hashes of the files. Never change a line.
SETS = {
    "format_1_raw": "13fdb6d7508013306cc030f6087e5a0c7380ca1aebc91509792a558905240d54",
    "format_1_coded": "34a8291ece5e3bbf071941e10cff98a33215e8d653d79ed49e6bc4b0a460e986",
    "format_1_blocks": "75c9f17df33ad4be62f3d2d1fad55772b70b228e6dd55d76a3f33741bb0b20b0",
}


def read_index(name):
    return json.loads((testing.GOLDEN / name / "index.json").read_text())


ALL_FILES = [(name, file) for name in SETS for file in read_index(name)]


class GoldenTest(parameterized.TestCase):
    @parameterized.parameters(SETS.items())
    def test_nothing_was_changed(self, name, expected):
        folder = testing.GOLDEN / name
        index = (folder / "index.json").read_bytes()
        self.assertEqual(hashlib.sha256(index).hexdigest(), expected)
        files = {path.relative_to(folder).with_suffix("").as_posix() for path in _files(folder)}
        self.assertEqual(files, set(read_index(name)))

    def test_every_set_is_tested(self):
        found = {path.parent.name for path in testing.GOLDEN.glob("*/index.json")}
        self.assertEqual(found, set(SETS))

    @parameterized.parameters(testing.TWO_SCALE, testing.STACKED, testing.WIDE, testing.BLOCKS)
    def test_identity_of_a_model_stays(self, preset):
        # It is in every file: what changes it (a new field of the configuration, say) makes all
        # files unreadable.
        models = {
            entry["model"]
            for name in SETS
            for file, entry in read_index(name).items()
            if file.startswith(preset)
        }
        self.assertEqual(models, {testing.make_codec(preset).identity.hex()})

    @parameterized.product(
        name_and_file=[(name, file) for name, file in ALL_FILES if name != "format_1_raw"],
        arithmetic=("definition", "keras"),
    )
    def test_bits_do_not_depend_on_the_arithmetic(self, name_and_file, arithmetic):
        name, file = name_and_file
        expected = read_index(name)[file]["bits"]
        data = (testing.GOLDEN / name / f"{file}.rnnc").read_bytes()
        codec = testing.make_codec(file.partition("/")[0], arithmetic)
        bits = [hashlib.sha256(plane.tobytes()).hexdigest() for plane in codec.read_planes(data)]
        self.assertEqual(bits, expected)

    @parameterized.parameters(ALL_FILES)
    def test_bits_and_metadata_are_those_that_were_written(self, name, file):
        expected = dict(read_index(name)[file])
        del expected["model"]
        data = (testing.GOLDEN / name / f"{file}.rnnc").read_bytes()
        self.assertEqual(make_golden.describe(_codec(file), data), expected)

    @parameterized.parameters(ALL_FILES)
    def test_pixels_are_within_one_level(self, name, file):
        path = testing.GOLDEN / name / file
        data = path.with_suffix(".rnnc").read_bytes()
        pictures = sorted(path.parent.glob(f"{path.name}_[0-9][0-9].png"))
        self.assertLen(pictures, 2)
        for picture in pictures:
            expected = np.array(Image.open(picture))
            restored = _codec(file).decode(data, int(picture.stem[-2:]))
            self.assertEqual(restored.shape, expected.shape)
            difference = np.abs(restored.astype(int) - expected)
            self.assertLessEqual(difference.max(), 1)
            # Rounding moves a sample here and there, not one in a hundred.
            self.assertLessEqual(np.count_nonzero(difference), 1 + difference.size // 100)
            if expected.ndim == 3 and expected.shape[2] in (2, 4):
                self.assertEqual(difference[..., -1].max(), 0)  # alpha is exact


class TruncationTest(absltest.TestCase):
    def test_truncated_file_is_what_truncate_makes(self):
        for preset in (testing.TWO_SCALE, testing.STACKED):
            folder = testing.GOLDEN / "format_1_raw" / preset
            whole, short, cut = (
                (folder / f"{name}.rnnc").read_bytes() for name in ("metadata", "truncated", "cut")
            )
            self.assertEqual(bitstream.truncate(whole, 2), short)
            self.assertEqual(bitstream.truncate(cut, 2), short)


def _codec(file):
    return testing.make_codec(file.partition("/")[0])


def _files(folder):
    return folder.glob("*/*.rnnc")


if __name__ == "__main__":
    absltest.main()
