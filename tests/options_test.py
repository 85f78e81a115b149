"""Tests for rnn_codec/options.py and for what is made of declarations: parsers, help, docs."""

import contextlib
import dataclasses
import io
import pathlib
import re
import subprocess
import sys
from unittest import mock

from absl import flags
from absl.testing import absltest, parameterized

from rnn_codec import options, wings
from rnn_codec.commands import documentation, rnnc, scripts, texts
from rnn_codec.commands.command import Command, refuse_others, simple
from rnn_codec.errors import CodecError
from rnn_codec.options import option

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Options:
    """One of each kind."""

    count: int | None = option(None, "Count so many.", lower=1, upper=9)
    rate: float = option(0.5, "Learn at this rate.", lower=0, short="r", common=True)
    kind: str = option("a", "Take this kind.", choices=("a", "b"))
    kinds: tuple[str, ...] = option((), "Take these kinds.", choices=lambda: ("a", "b"))
    span: tuple[int, int] | None = option(
        None, "Take these.", check=lambda pair: pair[0] < pair[1], expects="two, FIRST,LAST"
    )
    loud: bool = option(False, "Be loud.")
    input: tuple[str, ...] = option((), "Read this.", repeated=True, positional="FILE")
    hidden: int = 7


@dataclasses.dataclass(frozen=True)
class Others:
    """Another mode's."""

    rate: float = option(2.0, "Learn at this rate.", lower=0, common=True)
    size: int = option(1, "Cut so large.", required=True)


RECEIVED = []
COMMAND = Command(
    "try",
    "Tries.\n\nrnnc try a -o b\n",
    lambda: {"one": (Options,), "two": (Others,)},
    lambda given: RECEIVED.append(given) or 0,
    where="with --mode={}",
)


class ReadTest(parameterized.TestCase):
    @parameterized.parameters(
        ("count", "3", 3),
        ("rate", "1e-3", 0.001),
        ("kind", "b", "b"),
        ("kinds", "b,a", ("b", "a")),
        ("kinds", "", ()),
        ("span", "3,5", (3, 5)),
        ("loud", True, True),
        ("input", ["x,y", "z"], ("x,y", "z")),
    )
    def test_values(self, name, text, expected):
        self.assertEqual(getattr(options.make(Options, {name: text}), name), expected)

    @parameterized.parameters(
        ("count", "0", "--count=0: expected a whole number from 1 to 9"),
        ("count", "10", "--count=10: expected a whole number from 1 to 9"),
        ("count", "2.0", "--count=2.0: expected a whole number from 1 to 9"),
        ("rate", "-1", "--rate=-1: expected a number of at least 0"),
        ("rate", "nan", "--rate=nan: expected a number of at least 0"),
        ("kind", "c", "--kind=c: expected a or b"),
        ("kinds", "a,c", "--kinds=a,c: expected any of a, b"),
        ("span", "5,3", "--span=5,3: expected two, FIRST,LAST"),
        ("span", "5", "--span=5: expected two, FIRST,LAST"),
    )
    def test_faults(self, name, text, expected):
        with self.assertRaises(CodecError) as caught:
            options.make(Options, {name: text})
        self.assertEqual(str(caught.exception), expected)

    def test_defaults_required_ones_and_names(self):
        self.assertEqual(options.make(Options, {"size": "4"}), Options())
        with self.assertRaisesRegex(CodecError, "^expected --size; see --help$"):
            options.make(Others, {})
        self.assertEqual(options.names((Others, Others)), ("rate", "size"))
        self.assertNotIn("hidden", options.names((Options,)))
        self.assertEqual(options.as_arguments(Others(size=3)), {"rate": 2.0, "size": 3})

    def test_others_are_refused(self):
        refuse_others({"rate": "1"}, (Others,), "here")
        with self.assertRaisesRegex(CodecError, "^--kind: has no meaning here; leave it out, pl"):
            refuse_others({"kind": "a"}, (Others,), "here", ", please")


class ParsersTest(parameterized.TestCase):
    """That argparse and absl understand the same."""

    def by_absl(self, command, arguments):
        values = flags.FlagValues()
        scripts.define((command,), values)
        RECEIVED.clear()
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            code = scripts.main((command,), values([command.name, *arguments]), values)
        return RECEIVED[0] if code == 0 else stderr.getvalue()

    @parameterized.parameters(
        ([], {}),
        (["--count=3", "--rate=1"], {"count": "3", "rate": "1"}),
        (["--count", "3", "--count=4"], {"count": "4"}),
        (["--loud"], {"loud": True}),
        (["--noloud"], {"loud": False}),
        (["a", "--kind=b", "b", "--input=c"], {"kind": "b", "input": ["c", "a", "b"]}),
        (["--kinds=a,b", "-"], {"kinds": "a,b", "input": ["-"]}),
        (["--rate=-1"], {"rate": "-1"}),
    )
    def test_both_give_what_was_given(self, arguments, expected):
        self.assertEqual(rnnc.parse(COMMAND, arguments), (expected,))
        self.assertEqual(self.by_absl(COMMAND, arguments), expected)

    def test_only_rnnc_has_letters_and_words_joined_by_dashes(self):
        self.assertEqual(rnnc.parse(COMMAND, ["-r", "3"]), ({"rate": "3"},))
        self.assertEqual(rnnc._underscored("--target-bpp=a-b"), "--target_bpp=a-b")
        for same in ("-o", "-", "--", "a-b", "-1"):
            self.assertEqual(rnnc._underscored(same), same)

    @parameterized.parameters(["--bogus"], ["--count"], ["--cou=3"])
    def test_faults_of_rnnc(self, argument):
        with self.assertRaisesRegex(CodecError, "; see rnnc try --help$"):
            rnnc.parse(COMMAND, [argument])

    def test_arguments_where_none_belongs(self):
        command = Command("try", "Tries.", simple(Others), COMMAND.run)
        with self.assertRaisesRegex(CodecError, "^unexpected argument 'b'; see --help$"):
            rnnc.add_positionals(command, {}, ["b"])

    def test_one_option_of_two_kinds_cannot_be_parsed(self):
        @dataclasses.dataclass(frozen=True)
        class Loud:
            loud: int = option(1, "Be so loud.")

        command = Command("try", "", lambda: {"a": (Options,), "b": (Loud,)}, COMMAND.run)
        with self.assertRaisesRegex(TypeError, "loud: expected one kind of option in all modes"):
            rnnc.parse(command, [])


class HelpTest(parameterized.TestCase):
    def sentence(self, name):
        return texts.sentence(COMMAND, COMMAND.declared()[name])

    def test_sentences(self):
        self.assertEqual(
            self.sentence("count"),
            "Count so many. (a whole number from 1 to 9; only with --mode=one)",
        )
        self.assertEqual(
            self.sentence("rate"),
            "Learn at this rate. (a number of at least 0; default 0.5 with --mode=one; default 2 "
            "with --mode=two)",
        )
        self.assertEqual(
            self.sentence("size"), "Cut so large. (must be given; only with --mode=two)"
        )

    def test_help_of_one_mode_tells_its_own_defaults(self):
        train = rnnc.load("train")
        for model, steps in (("codec", 100_000), ("context", 3_000), ("hybrid", 40_000)):
            text = rnnc._help(train, [f"--model={model}"])
            self.assertIn(f"default {steps}", text)
            self.assertEqual(text.count("default 100000"), model == "codec")

    def test_short_help_has_the_common_options(self):
        for name in rnnc.COMMANDS:
            command = rnnc.load(name)
            short, long = rnnc._help(command, []), rnnc._help(command, ["--help_all"])
            self.assertIn(f"rnnc {name} --help_all shows all", short)
            for one, by_mode in command.declared().items():
                if not texts.merged(by_mode).positional:
                    self.assertIn(f"--{one}", long, name)
                    shown = bool(re.search(rf"(?m)^  (-.*, )?--{one}\b", short))
                    self.assertEqual(shown, texts.is_common(by_mode), one)

    def test_every_help_is_sentences(self):
        for name in rnnc.COMMANDS:
            for one, by_mode in rnnc.load(name).declared().items():
                for declared in by_mode.values():
                    with self.subTest(command=name, option=one):
                        self.assertRegex(declared.help, r"^[A-Z].* .*\.$")

    def test_the_page_is_current(self):
        page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
        self.assertEqual(page, documentation.text(), f"run {documentation.__doc__.splitlines()[2]}")


class WingTest(absltest.TestCase):
    """A new wing's options are its folder's and its record's alone."""

    def test_a_new_wing(self):
        @dataclasses.dataclass(frozen=True)
        class Encoding:
            quality: float = option(50, "Aim at this quality.", lower=0, upper=100)
            speed: str = option("auto", "Take your time.", choices=("auto", "never", "always"))

        @dataclasses.dataclass(frozen=True)
        class Decoding:
            scale: str = option("1", "Decode at this scale.", choices=("1", "1/2"))

        @dataclasses.dataclass(frozen=True)
        class Training:
            steps: int = option(9, "Train for this many steps.", lower=1)
            patch_size: int = option(128, "Cut patches of this many pixels a side.")

        recipe = wings.Recipe("other", "another codec", Training, mock.Mock())
        wing = dataclasses.replace(
            wings.every()[0],
            name="other",
            encode_options=Encoding,
            decode_options=Decoding,
            recipes=(recipe,),
        )
        with mock.patch.object(wings, "every", return_value=(*wings.every(), wing)):
            encode, decode, train = map(rnnc.load, ("encode", "decode", "train"))
            self.assertEqual(set(encode.declared()["quality"]), {"embedded", "hybrid", "other"})
            self.assertEqual(
                texts.sentence(encode, encode.declared()["speed"]),
                "Take your time. (auto, never or always; default auto; only with --codec=other)",
            )
            self.assertIn("scale", decode.declared("other"))
            self.assertNotIn("scale", decode.declared("hybrid"))
            text = texts.sentence(train, train.declared()["steps"])
            self.assertIn("default 9 with --model=other", text)
            given = {"model": "other", "steps": "3", "data": "d", "workdir": "w", "loss": "l1"}
            with self.assertRaisesRegex(CodecError, "--loss: has no meaning with --model=other"):
                train.run(given)
            rnnc._help(encode, ["--help_all"])


class ProgramTest(parameterized.TestCase):
    def run_program(self, *arguments):
        with (
            contextlib.redirect_stdout(io.StringIO()) as stdout,
            contextlib.redirect_stderr(io.StringIO()) as stderr,
            mock.patch.object(rnnc, "_log_to_stderr"),  # which would be for all tests after
        ):
            code = rnnc.main(list(arguments))
        return code, stdout.getvalue(), stderr.getvalue()

    def test_version(self):
        version = re.search('= "(.+)"', (ROOT / "rnn_codec/version.py").read_text()).group(1)
        self.assertEqual(self.run_program("--version"), (0, f"rnnc {version}\n", ""))

    @parameterized.parameters("-h", "--help", "help")
    def test_help(self, argument):
        code, out, err = self.run_program(argument)
        self.assertEqual((code, err), (0, ""))
        for name in rnnc.COMMANDS:
            self.assertIn(f"\n  {name} ", out)
        self.assertEqual(self.run_program(), (0, out, ""))

    @parameterized.parameters(*rnnc.COMMANDS)
    def test_help_of_a_command(self, name):
        code, out, err = self.run_program(name, "-h")
        self.assertEqual((code, err), (0, ""))
        self.assertStartsWith(out, f"usage: rnnc {name} [options]")
        self.assertEqual(self.run_program("help", name), (0, out, ""))

    @parameterized.parameters(
        (["bogus"], r"rnnc: bogus: expected a command \(encode, .*\); see rnnc --help"),
        (["encode", "--bogus"], "encode: .*--bogus; see rnnc encode --help"),
        (["restore", "a.jpg", "--iterations=2"], "restore: .*--iterations=2; see rnnc restore"),
        (["encode"], "encode: expected at least one --input .*"),
        (["presets", "x"], "presets: .*x; see .*"),
        (["train", "--data=d"], "train: expected --workdir; see --help"),
    )
    def test_faults_are_one_line(self, arguments, pattern):
        code, out, err = self.run_program(*arguments)
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, f"^{pattern}.*\n$")
        self.assertEqual(err.count("\n"), 1)

    def test_declarations_import_no_keras(self):
        # A process of its own, as other tests import them.
        code = (
            "import sys; from rnn_codec.commands import rnnc; list(map(rnnc.load, rnnc.COMMANDS));"
            "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
        )
        command = [sys.executable, "-c", code]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(process.stdout, "set()\n")


if __name__ == "__main__":
    absltest.main()
