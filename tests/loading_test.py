"""Tests for rnn_codec/loading.py and rnn_codec/wings.py."""

import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import pytest
import testing

import rnn_codec
from rnn_codec import loading, presets, wings
from rnn_codec.errors import ModelMismatchError, PresetError


@pytest.mark.network
class LoadingTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.image = testing.make_array(40, 33)
        path = {presets.PATH_VARIABLE: str(testing.GOLDEN)}
        self.enterContext(mock.patch.dict(os.environ, path))
        loading._kept.cache_clear()

    def test_a_file_finds_its_preset(self):
        for name in (testing.BLOCKS, testing.STACKED):
            codec = testing.make_codec(name)
            data = codec.encode(self.image)
            np.testing.assert_array_equal(rnn_codec.decode(data), codec.decode(data))
            np.testing.assert_array_equal(
                rnn_codec.decode(data, iterations=1), codec.decode(data, iterations=1)
            )

    def test_a_file_of_an_unknown_preset_says_what_to_do(self):
        data = testing.make_codec().encode(self.image)
        with mock.patch.dict(os.environ, {presets.PATH_VARIABLE: ""}):
            message = "expected a file of a preset that is known .*[0-9a-f]{16}.*RNN_CODEC_PRESETS"
            with self.assertRaisesRegex(ModelMismatchError, message):
                rnn_codec.decode(data)

    def test_encodes_with_a_preset_and_keeps_the_codec(self):
        folder = testing.preset_folder()
        with mock.patch.object(loading, "load", return_value=testing.make_codec()) as load:
            files = [rnn_codec.encode(self.image, folder, iterations=2) for _ in range(2)]
        load.assert_called_once_with(folder)
        expected = testing.make_codec().encode(self.image, iterations=2)
        self.assertEqual(files, [expected, expected])

    def test_from_preset_is_an_alias(self):
        with self.assertRaisesRegex(PresetError, "^'absent': expected a preset's folder"):
            rnn_codec.Codec.from_preset("absent")
        loaded = rnn_codec.Codec.from_preset(testing.preset_folder())
        self.assertEqual(loaded.identity, testing.make_codec().identity)


class WingsTest(parameterized.TestCase):
    def test_each_has_a_folder_and_is_found(self):
        for wing in wings.every():
            self.assertIs(wings.named(wing.name), wing)
            self.assertIs(wings.of(wing.presets[0]), wing)
            self.assertIn(wing.rates, ("iterations", "quality"))
            self.assertTrue(os.path.isdir(os.path.join(testing.ROOT, "rnn_codec", wing.name)))

    def test_the_first_has_the_default(self):
        self.assertEqual(wings.every()[0].default, presets.DEFAULT)

    def test_records_need_no_keras(self):
        code = "import sys; from rnn_codec import loading, presets; print('keras' in sys.modules)"
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, cwd=testing.ROOT, capture_output=True, text=True)
        self.assertEqual((result.stdout, result.stderr), ("False\n", ""))


if __name__ == "__main__":
    absltest.main()
