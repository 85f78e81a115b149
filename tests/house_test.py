"""Tests that imports follow the floors of tools/house.py, which tells if they do not."""

import pathlib
import runpy
import tempfile

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parent.parent

# By its path: tools/ is a folder of scripts, not a package.
house = runpy.run_path(str(ROOT / "tools/house.py"))

GOOD = {
    "__init__.py": "from rnn_codec.errors import CodecError",
    "errors.py": "",
    "codec.py": (
        "from typing import TYPE_CHECKING\n"
        "from rnn_codec import errors\n"
        "if TYPE_CHECKING:\n    from rnn_codec.hybrid import codec"
    ),
    "hybrid/__init__.py": "",
    "hybrid/codec.py": "def load():\n    from rnn_codec.codec import Codec",
    "recurrent/__init__.py": "",
    "commands/__init__.py": "",
    "commands/encode.py": "from rnn_codec.codec import Codec",
}


class HouseTest(parameterized.TestCase):
    def test_imports_follow_the_floors(self):
        self.assertEqual(house["faults"](ROOT), [])

    def test_the_drawing_shows_every_room(self):
        drawing = house["drawing"](ROOT)
        for path in (ROOT / "rnn_codec").iterdir():
            if (path.is_dir() and list(path.glob("*.py"))) or path.suffix == ".py":
                if path.stem != "__init__":
                    self.assertIn(f"\n{path.stem} ", drawing)

    def faults(self, changes):
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in {**GOOD, **changes}.items():
            path = root / "rnn_codec" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return house["faults"](root)

    def test_a_good_house_has_no_faults(self):
        self.assertEqual(self.faults({}), [])

    @parameterized.named_parameters(
        ("upward", "storage.py", "import rnn_codec.codec", "storage: imports codec, which is on "),
        (
            "inside_a_function",
            "storage.py",
            "def f():\n    from rnn_codec.codec import Codec",
            "storage: imports codec, which",
        ),
        (
            "wing_to_wing",
            "recurrent/codec.py",
            "from rnn_codec.hybrid.codec import x",
            "recurrent.codec: imports hybrid.codec, which is on no floor below",
        ),
        (
            "a_wing_by_name",
            "evaluation/codecs.py",
            "from rnn_codec.hybrid import codec",
            "evaluation.codecs: imports hybrid.codec, a wing",
        ),
        ("no_floor", "attic/box.py", "", "attic: has no floor"),
        ("the_door", "codec.py", "from rnn_codec import load", "codec: imports a name from rnn_c"),
        ("long", "hybrid/networks.py", "\n" * 501, "hybrid/networks.py: has 501 lines"),
    )
    def test_a_fault_is_told(self, name, text, message):
        (line,) = self.faults({name: text})
        self.assertStartsWith(line, message)

    def test_a_circle_is_told(self):
        (line,) = self.faults({
            "hybrid/one.py": "from rnn_codec.hybrid import two",
            "hybrid/two.py": "from rnn_codec.hybrid import one",
        })  # fmt: skip
        self.assertIn(line, ["a circle: hybrid.one -> hybrid.two -> hybrid.one",
                             "a circle: hybrid.two -> hybrid.one -> hybrid.two"])  # fmt: skip


if __name__ == "__main__":
    absltest.main()
