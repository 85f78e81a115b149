"""Tests for BUILD, and for tools/update_build.py, which writes it."""

import ast
import graphlib
import pathlib
import re
import runpy
import tempfile

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parent.parent
FIX = "run python tools/update_build.py"

# By its path: tools/ is a folder of scripts, not a package.
generate = runpy.run_path(str(ROOT / "tools/update_build.py"))["generate"]


def parse(text):
    """The Python rules of a BUILD file: {target: {attribute: value}}, lists as sets."""
    targets = {}
    for node in ast.parse(text).body:
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            continue
        rule = ast.unparse(node.value.func)
        if not rule.startswith("py_"):
            continue
        values = {word.arg: ast.literal_eval(word.value) for word in node.value.keywords}
        attributes = {
            key: set(value) if isinstance(value, list) else value for key, value in values.items()
        }
        name = attributes.pop("name")
        if name in targets:
            raise ValueError(f"expected one target //:{name}, received two; {FIX}")
        targets[name] = {"rule": rule, **attributes}
    return targets


def differences(root):
    """What BUILD in a folder has to change: one line each, none if it says what the files do."""
    actual = parse((root / "BUILD").read_text())
    expected = parse(generate(root))
    lines = []
    for name in sorted(actual.keys() | expected.keys()):
        if name not in actual:
            lines.append(f"//:{name} is missing, for {', '.join(expected[name]['srcs'])}")
        elif name not in expected:
            lines.append(f"//:{name} is stale: no file asks for it")
        else:
            lines += _attribute_differences(name, actual[name], expected[name])
    return [f"{line}; {FIX}" for line in lines]


def _attribute_differences(name, actual, expected):
    for key in sorted(actual.keys() | expected.keys()):
        is_set = isinstance(actual.get(key, expected.get(key)), set)
        have, want = (values.get(key, set() if is_set else None) for values in (actual, expected))
        if not is_set:
            if have != want:
                yield f"//:{name} has {key} = {have}, expected {want}"
            continue
        for label in sorted(want - have):
            yield f"//:{name} lacks {label} in {key}"
        for label in sorted(have - want):
            yield f"//:{name} has the stale {label} in {key}"


class BuildTest(absltest.TestCase):
    """The BUILD file of this repository."""

    def test_says_what_the_files_import(self):
        self.assertEmpty(differences(ROOT), f"BUILD differs from the imports; {FIX}")

    def test_has_no_cycle(self):
        targets = parse((ROOT / "BUILD").read_text())
        deps = {f":{name}": target.get("deps", ()) for name, target in targets.items()}
        graphlib.TopologicalSorter(deps).prepare()  # names the cycle

    def test_tests_run_when_started_as_scripts(self):
        # A py_test is a script: without these lines it would pass without a test.
        for path in ROOT.glob("tests/*_test.py"):
            self.assertRegex(path.read_text(), r'\nif __name__ == "__main__":\n    absltest.main\(')


# A repository in small, and a BUILD for it as a hand might write it: other order, other layout.
TREE = {
    "setup.py": "from rnn_codec import codec",
    "run.py": 'import start\nif __name__ == "__main__":\n    start.start()',
    "start.py": "def start():\n    from rnn_codec.commands import run\n",
    "rnn_codec/__init__.py": "from .errors import Error\ndef f():\n    from rnn_codec import codec",
    "rnn_codec/errors.py": "import errno, json\nfrom xml import dom",
    "rnn_codec/codec.py": "import numpy.codec, rnn_codec.errors as e\nfrom . import presets",
    "rnn_codec/presets.py": "codec = 'rnn_codec.codec'",
    "rnn_codec/commands/__init__.py": "",
    "rnn_codec/commands/run.py": "from ..codec import Codec\nfrom rnn_codec.errors import *",
    "benchmarks/__init__.py": "",
    "benchmarks/run.py": 'import shared\nif __name__ == "__main__":\n    shared.f("run.py")',
    "benchmarks/shared.py": "if 1:\n    import rnn_codec\nelse:\n    import run",
    "tests/codec_test.py": "from rnn_codec import Error, codec\nimport helpers",
    "tests/helpers.py": "START = ['-m', 'rnn_codec.commands.run', 'rnn_codec/errors.py']",
    "other/not_ours.py": "this is no Python",
}
BUILD = """
py_library(name="rnn_codec", srcs=["rnn_codec/__init__.py"], deps=[":errors", ":codec"])
py_library(name="errors", srcs=["rnn_codec/errors.py"])
py_library(name="codec", srcs=["rnn_codec/codec.py"], deps=[":errors", ":presets"])
py_library(name="presets", srcs=["rnn_codec/presets.py"], data=[":weights"])
py_library(name="commands", srcs=["rnn_codec/commands/__init__.py"])
py_library(name="commands_run", srcs=["rnn_codec/commands/run.py"], deps=[":codec", ":errors"])
py_library(name="start", srcs=["start.py"], deps=[":commands_run"])
py_binary(name="run", srcs=["run.py"], deps=[":start"])
py_library(
    name="benchmarks_shared",
    srcs=["benchmarks/shared.py"],
    deps=[":rnn_codec", ":benchmarks_run"],
)
py_binary(
    name="benchmarks_run",
    main="benchmarks/run.py",
    srcs=["benchmarks/run.py"],
    deps=[":benchmarks_shared"],
    data=[":run"],
)
py_test(
    name="codec_test",
    srcs=["tests/codec_test.py"],
    data=[":test_files"],
    deps=[":helpers", ":codec", ":rnn_codec"],
)
py_library(name="helpers", srcs=["tests/helpers.py"], data=[":commands_run"])
"""


class DifferencesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for path, text in (TREE | {"BUILD": BUILD}).items():
            self.write(path, text)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def assert_one_difference(self, expected):
        self.assertEqual(differences(self.root), [f"{expected}; {FIX}"])

    def test_none_where_build_says_what_the_files_do(self):
        self.assertEqual(differences(self.root), [])
        self.write("BUILD", generate(self.root))
        self.assertEqual(differences(self.root), [])

    @parameterized.named_parameters(
        (
            "missing_dep",
            'deps=[":errors", ":presets"]',
            'deps=[":errors"]',
            "//:codec lacks :presets in deps",
        ),
        (
            "missing_lazy_dep",
            'deps=[":commands_run"]',
            "",
            "//:start lacks :commands_run in deps",
        ),
        (
            "stale_dep",
            'deps=[":start"]',
            'deps=[":start", ":codec"]',
            "//:run has the stale :codec in deps",
        ),
        (
            "missing_data",
            'data=[":weights"]',
            "",
            "//:presets lacks :weights in data",
        ),
        (
            "missing_module",
            'py_library(name="errors", srcs=["rnn_codec/errors.py"])',
            "",
            "//:errors is missing, for rnn_codec/errors.py",
        ),
        (
            "missing_main",
            'py_binary(\n    name="benchmarks_run",',
            'sh_binary(\n    name="benchmarks_run",',
            "//:benchmarks_run is missing, for benchmarks/run.py",
        ),
        (
            "missing_test",
            'py_test(\n    name="codec_test",',
            'sh_test(\n    name="codec_test",',
            "//:codec_test is missing, for tests/codec_test.py",
        ),
        (
            "stale_target",
            'py_library(name="errors",',
            'py_library(name="gone", srcs=["gone.py"])\npy_library(name="errors",',
            "//:gone is stale: no file asks for it",
        ),
        (
            "other_rule",
            'py_library(name="helpers"',
            'py_binary(name="helpers"',
            "//:helpers has rule = py_binary, expected py_library",
        ),
        (
            "other_main",
            'main="benchmarks/run.py"',
            'main="run.py"',
            "//:benchmarks_run has main = run.py, expected benchmarks/run.py",
        ),
    )
    def test_one_where_build_differs(self, old, new, expected):
        self.assertEqual(BUILD.count(old), 1)
        self.write("BUILD", BUILD.replace(old, new))
        self.assert_one_difference(expected)

    @parameterized.parameters(
        ("rnn_codec/added.py", "", "//:added is missing, for rnn_codec/added.py"),
        ("tests/added_test.py", "", "//:added_test is missing, for tests/added_test.py"),
        ("added.py", "", "//:added is missing, for added.py"),
        ("start.py", "import this", "//:start has the stale :commands_run in deps"),
        ("rnn_codec/presets.py", "import rnn_codec.codec", "//:presets lacks :codec in deps"),
    )
    def test_one_where_a_file_differs(self, path, text, expected):
        self.write(path, text)
        self.assert_one_difference(expected)

    def test_one_where_a_file_is_gone(self):
        (self.root / "tests/codec_test.py").unlink()
        self.assert_one_difference("//:codec_test is stale: no file asks for it")

    def test_a_name_claimed_twice_is_an_error(self):
        self.write("rnn_codec/run.py", "")
        message = "received rnn_codec/run.py and run.py; rename one"
        with self.assertRaisesRegex(ValueError, re.escape(message)):
            generate(self.root)

    def test_a_target_given_twice_is_an_error(self):
        self.write("BUILD", BUILD + 'py_library(name="codec", srcs=[])')
        with self.assertRaisesRegex(ValueError, "expected one target //:codec, received two"):
            differences(self.root)


if __name__ == "__main__":
    absltest.main()
