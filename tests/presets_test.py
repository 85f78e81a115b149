"""Tests for rnn_codec/presets.py."""

import contextlib
import dataclasses
import json
import os
import pathlib
import pickle
import shutil
import tempfile
from unittest import mock
import zipfile

from absl.testing import absltest, parameterized
from keras import ops
import numpy as np
import pytest

from rnn_codec import presets
from rnn_codec.errors import PresetError
from rnn_codec.recurrent.config import CodecConfig
from rnn_codec.recurrent.progressive import ProgressiveNetwork

CONFIG = CodecConfig("tiny", "two_scale", "gru", "gru", width=0.01, bits=4, iterations=2)

HAND_MADE = presets.Preset(
    CONFIG,
    {
        "codec/b": np.array([[1.5, -0.25], [0.0, 6e-8]], np.float16),
        "codec/a": np.array([-2.0], np.float16),
    },
)


def make_network(seed):
    network = ProgressiveNetwork.create(CONFIG)
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return network


def to_numpy(variable):
    return ops.convert_to_numpy(variable)


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


class PresetTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # Below a folder of its own: one test looks at all that lie beside it.
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "preset"
        self.folder.mkdir()
        self.config_file = self.folder / "config.json"
        self.weights_file = self.folder / "model.weights.npz"

    def save(self, preset=HAND_MADE):
        presets.save(preset, str(self.folder))
        return str(self.folder)

    def assert_refused(self, pattern):
        """Loading fails with one line that names the file or preset."""
        with self.assertRaisesRegex(PresetError, pattern) as caught:
            presets.load(str(self.folder))
        self.assertNotIn("\n", str(caught.exception))


@pytest.mark.network
class RoundTripTest(PresetTest):
    def test_a_network_gets_the_weights_of_another_in_half_precision(self):
        one, other = make_network(1), make_network(2)
        preset = presets.from_network(one)
        loaded = presets.load(self.save(preset))
        presets.assign(loaded, other)

        self.assertEqual(loaded.config, CONFIG)
        self.assertEqual(loaded.identity, preset.identity)
        self.assertEqual({array.dtype for array in loaded.weights.values()}, {np.dtype("float16")})
        for variable, expected in zip(other.trainable_variables, one.trainable_variables):
            self.assertEqual(variable.dtype, "float32")
            half = to_numpy(expected).astype(np.float16)
            np.testing.assert_array_equal(to_numpy(variable), half.astype(np.float32))
        self.assertEqual(presets.from_network(other).identity, preset.identity)

    def test_weights_of_another_network_are_refused(self):
        preset = presets.from_network(make_network(1))
        for name, array in (
            ("codec/other", np.zeros(3)),
            ("codec/synthesis/pixels/bias", np.zeros(3)),
        ):
            changed = dataclasses.replace(preset, weights={**preset.weights, name: array})
            with self.assertRaisesRegex(PresetError, f"^preset 'tiny': [^\n]*{name}[^\n]*$"):
                presets.assign(changed, make_network(2))

    def test_a_model_card_is_left_alone(self):
        card = self.folder / "README.md"
        card.write_text("a card")
        self.save()
        self.assertEqual(card.read_text(), "a card")
        self.assertEqual(
            {path.name for path in self.folder.iterdir()},
            {"README.md", "config.json", "model.weights.npz"},
        )

    def test_configuration_can_be_read_alone(self):
        folder = self.save()
        self.weights_file.unlink()
        self.assertEqual(presets.load(folder, load_weights=False), presets.Preset(CONFIG, None))
        self.assert_refused("model.weights.npz: ")


class StatedIdentityTest(PresetTest):
    def config(self):
        return json.loads(self.config_file.read_text())

    def change_config(self, **changes):
        values = {key: value for key, value in {**self.config(), **changes}.items() if value}
        self.config_file.write_text(json.dumps(values))

    def test_stands_in_the_configuration(self):
        self.save()
        self.assertEqual(self.config()["identity"], HAND_MADE.identity.hex())
        self.assertEqual(self.config()["codec"], "recurrent")

    def test_other_weights_are_refused(self):
        self.save()
        self.change_config(identity="00" * 8)
        self.assert_refused(
            "config.json: expected weights of model 0{16}, received those of model "
            f"{HAND_MADE.identity.hex()}"
        )

    def test_presets_of_before_state_none(self):
        self.save()
        self.change_config(identity=None, codec=None)
        self.assertEqual(presets.load(str(self.folder)).identity, HAND_MADE.identity)
        self.assertEqual(presets.identity_at(str(self.folder)), HAND_MADE.identity)

    def find(self, *folders):
        path = os.pathsep.join(map(str, folders))
        with mock.patch.dict(os.environ, {presets.PATH_VARIABLE: path}):
            return presets.find(HAND_MADE.identity)

    def test_is_found_on_the_path_without_the_weights(self):
        self.save()
        self.weights_file.unlink()
        self.assertEqual(self.find("/absent", self.folder), str(self.folder))
        # A folder of its own: others may hold what an interrupted run of the tests left.
        parent = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.assertIsNone(self.find(parent))
        copied = shutil.copytree(self.folder, parent / "preset")
        self.assertEqual(self.find(parent), str(copied))
        self.assertIsNone(self.find(""))

    def test_damaged_presets_on_the_path_are_passed_by(self):
        self.save()
        damaged = self.folder / "a_damaged_one"
        damaged.mkdir()
        (damaged / "config.json").write_text("{")
        self.assertEqual(self.find(damaged, self.folder), str(self.folder))

    def test_of_each_shipped_preset_is_stated(self):
        for name in presets.shipped():
            with open(os.path.join(presets._SHIPPED, name, "config.json")) as file:
                self.assertEqual(presets.load(name).identity.hex(), json.load(file)["identity"])


class IdentityTest(parameterized.TestCase):
    def test_is_frozen(self):
        # It stands in every file: another identity for the same model, and none can be decoded.
        self.assertEqual(HAND_MADE.identity.hex(), "7ed93be3496e568e")
        # Nor may a new default change it: a preset's folder holds all values.
        config = CodecConfig(
            name="any",
            architecture="stacked",
            encoder_cell="residual_gru",
            decoder_cell="residual_gru",
            reconstruction="one_shot",
            width=1.0,
            bits=32,
            iterations=16,
            stochastic_bits=True,
            encoder_sees_image=False,
        )
        other = dataclasses.replace(HAND_MADE, config=config)
        self.assertEqual(other.identity.hex(), "28cb30d5e8bcd9a6")

    def test_does_not_depend_on_the_order_of_weights(self):
        reversed_weights = dict(reversed(HAND_MADE.weights.items()))
        self.assertEqual(presets.Preset(CONFIG, reversed_weights).identity, HAND_MADE.identity)

    def test_changes_with_each_value_that_defines_the_network(self):
        others = dict(
            architecture="stacked",
            encoder_cell="lstm",
            decoder_cell="lstm",
            reconstruction="additive",
            width=0.02,
            bits=5,
            iterations=3,
            stochastic_bits=False,
            encoder_sees_image=True,
            residual_scale=2.0,
            atoms=6,
            good_enough=0.5,
        )
        self.assertEqual({"name", *others}, set(CONFIG.to_dict()))
        identities = {HAND_MADE.identity}
        for name, value in others.items():
            config = dataclasses.replace(CONFIG, **{name: value})
            identities.add(dataclasses.replace(HAND_MADE, config=config).identity)
        self.assertLen(identities, len(others) + 1)

    def test_does_not_change_with_the_name(self):
        config = dataclasses.replace(CONFIG, name="other")
        self.assertEqual(dataclasses.replace(HAND_MADE, config=config).identity, HAND_MADE.identity)

    def test_does_not_tell_whole_numbers_from_equal_fractions(self):
        presets_of_width = (
            dataclasses.replace(HAND_MADE, config=dataclasses.replace(CONFIG, width=width))
            for width in (2, 2.0)
        )
        self.assertLen({preset.identity for preset in presets_of_width}, 1)

    def test_changes_with_each_weight(self):
        identities = [HAND_MADE.identity]
        for path, array in HAND_MADE.weights.items():
            others = {name: value for name, value in HAND_MADE.weights.items() if name != path}
            for index in np.ndindex(array.shape):
                changed = array.copy()
                changed[index] = np.nextafter(changed[index], np.float16(9))
                identities.append(presets.Preset(CONFIG, {**others, path: changed}).identity)
            for changes in ({}, {path: array[None]}, {f"{path}_": array}):
                identities.append(presets.Preset(CONFIG, {**others, **changes}).identity)
        self.assertLen(set(identities), len(identities))


class DamageTest(PresetTest):
    @pytest.mark.slow
    def test_no_byte_of_the_weights_whose_damage_is_another_error(self):
        self.save()
        intact = self.weights_file.read_bytes()
        for position in range(len(intact)):
            flipped = bytearray(intact)
            flipped[position] ^= 0xFF
            for data in (flipped, intact[:position]):
                self.weights_file.write_bytes(data)
                # A few bytes, dates for one, mean nothing.
                with contextlib.suppress(PresetError):
                    presets.load(str(self.folder))
        self.weights_file.write_bytes(intact[:-1])
        self.assert_refused("model.weights.npz: expected an archive of arrays; ")

    def test_pickles_are_refused(self):
        self.save()
        np.savez(self.weights_file, weights=np.array([{"an": "object"}]))
        self.assert_refused("model.weights.npz: expected an archive of arrays; .*allow_pickle")
        self.weights_file.write_bytes(pickle.dumps(HAND_MADE.weights))
        self.assert_refused("model.weights.npz: expected an archive of arrays; ")

    def test_pickles_run_no_code(self):
        self.save()
        trace = self.folder / "trace"
        for write in (np.savez, np.save):
            with open(self.weights_file, "wb") as file:
                write(file, np.array([Touch(str(trace))]))
            with open(self.weights_file, "rb") as file:
                stored = np.load(file, allow_pickle=True)
                _ = stored["arr_0"] if write is np.savez else stored
            self.assertTrue(trace.exists())  # so it would have run
            trace.unlink()
            self.assert_refused(
                "model.weights.npz: expected an archive of arrays; .*(allow_pickle|not a zip)"
            )
            self.assertFalse(trace.exists())

    @pytest.mark.slow
    def test_archives_that_unpack_to_far_more_are_refused(self):
        self.save()
        with zipfile.ZipFile(self.weights_file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("a.npy", "w", force_zip64=True) as entry:
                for _ in range(1 + 2**30 // 2**24):
                    entry.write(bytes(2**24))
        self.assertLess(self.weights_file.stat().st_size, 2**21)
        self.assert_refused("expected an archive of arrays; it declares 1,090,519,040 bytes, above")

    def test_an_array_alone_is_refused(self):
        self.save()
        with open(self.weights_file, "wb") as file:
            np.save(file, np.zeros(3))
        self.assert_refused("model.weights.npz: expected an archive of arrays; ")

    @parameterized.named_parameters(
        ("no_json", "{"),
        ("no_dictionary", "[1, 2]"),
        ("no_text", b"\xff\xfe"),
        ("no_name", "{}"),
        ("unknown_key", '{"name": "a", "colour": "red"}'),
        ("unknown_cell", '{"name": "a", "encoder_cell": "transformer"}'),
        ("bad_type", '{"name": "a", "iterations": "many"}'),
        ("out_of_range", '{"name": "a", "iterations": 0}'),
        ("deep", "[" * 100_000),
    )
    def test_a_damaged_configuration_is_refused(self, text):
        self.save()
        self.config_file.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.assert_refused("config.json: expected a codec's configuration; ")

    def test_a_folder_without_a_preset_is_refused(self):
        self.assert_refused("config.json: expected a codec's configuration; ")


class NameTest(PresetTest):
    def setUp(self):
        super().setUp()
        # As if nothing were shipped but what a test puts there.
        self.enterContext(mock.patch.object(presets, "_SHIPPED", str(self.folder)))

    def test_an_unknown_name_gets_the_known_ones(self):
        message = "^'residul_gru': expected a preset's folder or one of embedded, two_scale_gru"
        with self.assertRaisesRegex(PresetError, message):
            presets.load("residul_gru")

    def test_a_configuration_without_weights_says_so(self):
        for name in presets.names():
            with self.assertRaisesRegex(PresetError, f"^'{name}': no trained weights[^\n]*$"):
                presets.load(name)
            preset = presets.load(name, load_weights=False)
            self.assertEqual(preset, presets.Preset(presets.CONFIGS[name], None))

    def test_the_default_is_found_without_a_name(self):
        self.assertEqual(presets.names()[0], presets.DEFAULT)
        self.assertEmpty(presets.shipped())
        presets.save(HAND_MADE, str(self.folder / presets.DEFAULT))
        self.assertEqual(presets.shipped(), [presets.DEFAULT])
        self.assertEqual(presets.load().identity, HAND_MADE.identity)


class ShippedTest(absltest.TestCase):
    def test_weights_are_of_the_named_configuration(self):
        for name in presets.shipped():
            config = presets.load(name, load_weights=False).config
            self.assertEqual(config, presets.CONFIGS[name])


if __name__ == "__main__":
    absltest.main()
