"""Tests for rnn_codec/training/checkpoints.py."""

import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import keras
import numpy as np

from rnn_codec.errors import CodecError
from rnn_codec.training import checkpoints


def make_groups(fill, shapes=((2, 3), ()), momenta=((2, 3),)):
    """Variables all of one value; a counter among them."""

    def variables(shapes):
        return [keras.Variable(np.full(shape, fill, np.float32)) for shape in shapes]

    counter = keras.Variable(fill, dtype="int32", trainable=False)
    return {"model": variables(shapes), "optimizer": [counter, *variables(momenta)]}


class CheckpointsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, checkpoints.FILE_NAME)

    def test_restores_what_was_saved(self):
        self.assertFalse(checkpoints.exists(self.folder))
        checkpoints.save(self.path, make_groups(7), {"step": 12})
        self.assertTrue(checkpoints.exists(self.folder))
        groups = make_groups(0)
        self.assertEqual(checkpoints.restore(self.path, groups), {"step": 12})
        for variables in groups.values():
            for variable in variables:
                np.testing.assert_array_equal(np.asarray(variable), 7)

    def test_keeps_the_order_of_many(self):
        groups = {"model": [keras.Variable(float(i)) for i in range(30)]}
        checkpoints.save(self.path, groups, {})
        restored = {"model": [keras.Variable(-1.0) for _ in range(30)]}
        checkpoints.restore(self.path, restored)
        self.assertEqual([float(np.asarray(v)) for v in restored["model"]], list(range(30)))

    @parameterized.named_parameters(
        ("other_shapes", {"shapes": ((2, 4), ())}, "its model holds 2 arrays"),
        ("fewer_variables", {"shapes": ((2, 3),)}, "its model holds 2 arrays .* the 1 of this run"),
        ("other_optimizer", {"momenta": ()}, "its optimizer holds 2 arrays"),
    )
    def test_refuses_another_network(self, shapes, message):
        checkpoints.save(self.path, make_groups(7), {"step": 12})
        groups = make_groups(0, **shapes)
        with self.assertRaisesRegex(CodecError, f"^{self.path}: {message}"):
            checkpoints.restore(self.path, groups)

    def test_damage_is_told_in_one_line(self):
        checkpoints.save(self.path, make_groups(7), {"step": 12})
        with open(self.path, "rb") as file:
            whole = file.read()
        damaged = [whole[:cut] for cut in range(0, len(whole), 37)]
        flipped = bytearray(whole)
        flipped[whole.index(b'"step"') + 1] ^= 0xFF
        for contents in (*damaged, bytes(flipped), b"no zip at all"):
            with open(self.path, "wb") as file:
                file.write(contents)
            with self.assertRaisesRegex(CodecError, f"^{self.path}: expected a checkpoint[^\n]*$"):
                checkpoints.restore(self.path, make_groups(0))

    def test_a_missing_file_is_told_in_one_line(self):
        with self.assertRaisesRegex(CodecError, f"^{self.path}: expected a checkpoint[^\n]*$"):
            checkpoints.restore(self.path, make_groups(0))

    def test_runs_no_code(self):
        np.savez(self.path, state=np.array([{"step": 1}], dtype=object))
        with self.assertRaisesRegex(CodecError, "expected a checkpoint"):
            checkpoints.restore(self.path, make_groups(0))

    @parameterized.parameters("fsync", "replace")
    def test_a_writer_that_dies_leaves_the_old_one(self, stage):
        checkpoints.save(self.path, make_groups(7), {"step": 12})
        with mock.patch.object(os, stage, side_effect=OSError(28, "No space left on device")):
            with self.assertRaisesRegex(CodecError, "No space left"):
                checkpoints.save(self.path, make_groups(8), {"step": 13})
        self.assertEqual(checkpoints.restore(self.path, make_groups(0)), {"step": 12})
        self.assertLen(os.listdir(self.folder), 1)


if __name__ == "__main__":
    absltest.main()
