"""Every option in every mode: it changes what a command does, or is refused with one line.

What "changes" means: the exit code, the lines, the files, or which codec is loaded and how. The
values come from the declarations; what they cannot tell stands in `VALUES`.
"""

import ast
import contextlib
import dataclasses
import io
import itertools
import os
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
from PIL import Image
import pytest
import testing

from rnn_codec import loading, options, presets, wings
from rnn_codec.commands import files, rnnc, texts, train
from rnn_codec.pictures.picture import Picture

ROOT = pathlib.Path(__file__).parent.parent

# Of options whose type and bounds do not tell a value that makes a difference.
VALUES = {
    "input": ["other"],
    "output": ["out.png", "out.rnnc"],
    "max_pixels": ["100"],
    "format": ["webp"],
    "preset": ["another"],
    "iterations": ["1", "9"],
    "target_bpp": ["0.05", "0.3", "0.5", "0.7"],
    "target_bytes": ["45", "900"],
    "target_psnr": ["10"],
    "target_msssim": ["0.5"],
    "quality": ["3"],
    "threshold": ["-40"],
}
# Further numbers and texts to try of the others.
_CANDIDATES = ("1", "2", "3", "16", "32", "0.5", "auto", "2,3", "webp", "some")


def values_for(declared):
    """Texts that differ from the default."""
    if declared.name in VALUES:
        return VALUES[declared.name]
    if declared.choices and declared.count == 1:
        return [choice for choice in declared.choices if choice != declared.default]
    found = []
    for text in _CANDIDATES:
        with contextlib.suppress(Exception):
            if declared.read(text) != declared.default:
                found.append(text)
    return found[:3]


def arguments_for(declared):
    """What to add to a command line, one after the other, to try an option."""
    if declared.kind is bool:
        return [f"--{declared.name}", f"--no{declared.name}"]
    return [f"--{declared.name}={text}" for text in values_for(declared)]


class ModesTest(parameterized.TestCase):
    def assert_effect(self, where, expected, outcomes, declared, is_taken):
        """An option is refused in a line, or one of its values makes an outcome another."""
        for code, err, *_ in outcomes:
            if not is_taken:
                self.assertEqual(code, 1, where)
                self.assertRegex(err, rf"^\w+: --{declared.name}: has no meaning .*\n$", where)
            if code and not expected[0]:
                self.assertEqual(err.count("\n"), 1, f"{where}: {err}")
        self.assertTrue(any(outcome != expected for outcome in outcomes), f"{where}: is ignored")


# The files of the commands: what is asked for to be in a mode, and the file to read.
_MODES = {
    ("encode", "recurrent"): ([], "photo.png"),
    ("encode", "hybrid"): (["--preset=hybrid"], "photo.png"),
    ("decode", "recurrent"): ([], "recurrent.rnnc"),
    ("decode", "hybrid"): ([], "hybrid.rnnc"),
    ("info", ""): (["--info"], "recurrent.rnnc"),
    ("extract", ""): (["--extract"], "hybrid.rnnc"),
    ("restore", ""): (["--restore", "--preset=hybrid"], "photo.png"),
}


@pytest.mark.network
class FilesTest(ModesTest):
    """Commands that turn files into files."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        array = testing.make_array(112, 96)
        exif = Image.Exif()
        exif[271] = "Maker"
        picture = Picture(array, exif=exif.tobytes())
        self.loaded = []
        codecs = {"recurrent": testing.make_codec(), "hybrid": testing.make_hybrid("all", 1)}
        others = {"recurrent": testing.make_codec(testing.STACKED), "hybrid": codecs["hybrid"]}
        self.by_place = {}
        for name, codec in codecs.items():
            codec.save_preset(name)
            others[name].save_preset(f"another/{name}")
            self.by_place.update({name: codec, f"another/{name}": others[name]})
            data = codec.encode_picture(picture).data
            # Damage that is a warning: the metadata can be done without.
            pathlib.Path(f"{name}.rnnc").write_bytes(data.replace(b"Maker", b"Mbker"))
        Image.fromarray(array).save("photo.png", exif=exif)
        os.mkdir("other")
        Image.fromarray(array).save("other/other.png")
        pathlib.Path("other/other.rnnc").write_bytes(data)
        for name in ("photo.png.rnnc", "recurrent.png", "hybrid.png", "photo.restored.png"):
            pathlib.Path(f"old.{name}").write_bytes(b"old")

    def load(self, name=None, precision="float32", *args):
        self.loaded.append((name, precision, *args))
        return self.by_place[name]

    def outcome(self, command, arguments):
        """Exit code, stderr, standard output, new and changed files, codecs loaded."""
        before, self.loaded[:] = self.contents(), []
        files.load_codec.cache_clear()
        places = {codec.identity: place for place, codec in reversed(self.by_place.items())}
        stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with (
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(io.StringIO()) as stderr,
            mock.patch.object(loading, "load", self.load),
            mock.patch.object(presets, "find", places.get),
        ):
            code = testing.call(command, *arguments)
        stdout.flush()
        new = {n: data for n, data in self.contents().items() if before.get(n) != data}
        for name in new:
            os.remove(name)
        for name in before.keys() & new.keys():
            pathlib.Path(name).write_bytes(before[name])
        out = re.sub(r'\d+\.\d s\b|"seconds": [\d.e-]+', "", stdout.buffer.getvalue().decode())
        return code, stderr.getvalue(), out, new, list(self.loaded)

    def contents(self):
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    @parameterized.parameters(*_MODES)
    def test_every_option(self, name, mode):
        selecting, source = _MODES[name, mode]
        script = "encode" if name == "encode" else "decode"
        commands = [rnnc.load(n) for n in testing.SCRIPTS.get(script, (script,))]
        own = rnnc.load(name).declared(mode)
        preset = {"encode": mode, "decode": mode}.get(name)
        defaults = [*selecting, source]
        if preset == "recurrent" and name == "encode":
            defaults.insert(0, "--preset=recurrent")
        expected = self.outcome(script, defaults)
        self.assertEqual(expected[0], 0, expected)
        tried = set()
        for one in commands:
            for declared in map(texts.merged, one.declared().values()):
                if declared.name in tried:
                    continue
                tried.add(declared.name)
                with self.subTest(option=declared.name):
                    self.try_option(script, mode, defaults, expected, declared, own)

    def try_option(self, script, mode, defaults, expected, declared, own):
        if declared.name == "overwrite":
            # Only names that were made up need it.
            for path in expected[3]:
                pathlib.Path(path).write_bytes(b"old")
            expected = self.outcome(script, defaults)
        arguments = arguments_for(declared)
        if declared.name == "preset":
            arguments = [f"--preset=another/{mode or 'hybrid'}"]
        outcomes = [self.outcome(script, [*defaults, argument]) for argument in arguments]
        if declared.name == "overwrite":
            for path in self.contents():
                if pathlib.Path(path).read_bytes() == b"old" and not path.startswith("old."):
                    os.remove(path)
        where = f"{script} {defaults} {arguments}"
        is_taken = declared.name in own
        self.assert_effect(where, expected, outcomes, declared, is_taken)


class TrainTest(ModesTest):
    """All models, with recipes that tell what they got."""

    def outcome(self, arguments):
        calls = []

        def record(config, photos, run_options, workdir, resume, initial_preset):
            calls.append((config, photos, run_options, workdir, resume, initial_preset is None))

        recipes = {
            name: (wing, dataclasses.replace(recipe, train=record))
            for name, (wing, recipe) in wings.recipes().items()
        }
        photos = mock.Mock(side_effect=lambda source, side: (source, side))
        with (
            contextlib.redirect_stderr(io.StringIO()) as stderr,
            mock.patch.object(wings, "recipes", return_value=recipes),
            mock.patch.object(train, "_photos", photos),
            mock.patch.object(files, "load_keras"),
        ):
            code = testing.call("train", *arguments)
        return code, stderr.getvalue(), calls

    @parameterized.parameters(*wings.recipes())
    def test_every_option(self, model):
        command = rnnc.load("train")
        wing, _ = wings.recipes()[model]
        required = {"workdir": "--workdir=w", "data": "--data=d"}
        selecting = [] if model == next(iter(wings.recipes())) else [f"--model={model}"]
        expected = self.outcome([*selecting, *required.values()])
        self.assertEqual(expected[:2], (0, ""))
        for name, by_mode in command.declared().items():
            with self.subTest(option=name):
                declared = by_mode.get(model) or texts.merged(by_mode)
                arguments = arguments_for(declared)
                if name == "preset":
                    arguments = [f"--preset={testing.preset_folder()}", "--preset=hybrid"]
                if name == "workdir":
                    arguments = ["--workdir=other"]
                outcomes = [
                    self.outcome([*selecting, *required.values(), argument])
                    for argument in arguments
                ]
                where = f"train --model={model} {arguments}"
                self.assert_effect(where, expected, outcomes, declared, model in by_mode)

    @parameterized.parameters(*wings.recipes())
    def test_every_option_of_a_run_is_read_by_its_recipe(self, model):
        wing, recipe = wings.recipes()[model]
        folder = ROOT / wing.config.__module__.replace(".", "/")
        read = attributes_read(folder.parent.glob("*.py"), {"options"})
        self.assertContainsSubset(options.names((recipe.options,)), read)


class OthersTest(absltest.TestCase):
    def test_every_option_is_read(self):
        for name in ("evaluate", "presets", "beam"):
            path = ROOT / "rnn_codec" / "commands" / f"{name}.py"
            read = attributes_read([path], {"request", "own"})
            groups = set(itertools.chain(*rnnc.load(name).modes().values()))
            here = [group for group in groups if group.__module__.endswith(f".{name}")]
            self.assertNotEmpty(here)
            self.assertContainsSubset(options.names(here), read, name)


def attributes_read(paths, owners):
    """The attributes that Python files read of variables of some names."""
    return {
        node.attr
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in owners
    }


if __name__ == "__main__":
    absltest.main()
