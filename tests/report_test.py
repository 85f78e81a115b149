"""Tests for rnn_codec/evaluation/: report.py, plots.py, and page.html in a browser."""

import base64
import dataclasses
import html
import html.parser
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
import pytest

pytest.importorskip("matplotlib", reason="the report needs the extra [eval]")

from matplotlib.figure import Figure  # noqa: E402

from rnn_codec.evaluation import plots, report  # noqa: E402

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OURS = "our_preset"
HOSTILE = "</script><script>document.title = 'taken'</script>\"'><img src=x onerror=alert(1)> $data"
SIDE = 200  # pixels
PIXEL = plots.png(Figure((0.01, 0.01), 100))
RED, GREEN = (200, 10, 20), (10, 180, 30)


def make_row(image="a.png", codec=OURS, setting=1, ms_ssim=0.9, bpp=0.25, **figures):
    row = {
        "image": image,
        "codec": codec,
        "setting": setting,
        "bytes": 1234,
        "bpp": bpp,
        "psnr_rgb_db": 30.0,
        "ms_ssim_rgb": ms_ssim,
        "ms_ssim_luma": ms_ssim,
        "psnr_hvs_m_db": 31.0,
        "ssimulacra2": 60.0,
        "ciede2000_mean": 2.5,
        "ciede2000_p95": 6.0,
        "mean_error_r": 0.5,
        "mean_error_g": -0.25,
        "mean_error_b": 0.0,
        "encode_seconds": 0.5,
        "decode_seconds": 0.25,
    }
    return row | figures


def make_means(codecs=(OURS, "jpeg420", "webp")):
    return {
        codec: [make_row(codec=codec, bpp=bpp, ms_ssim=ms_ssim) for bpp, ms_ssim in POINTS]
        for codec in codecs
    }


POINTS = ((0.25, 0.9), (0.5, 0.95))
SUMMARY = {
    "images": ["a.png"],
    "baseline": "jpeg420",
    "codecs": {
        OURS: {
            "auc_ms_ssim": 1.8116,
            "covered_bpp": [0.125, 2.0],
            "bpp_at_ms_ssim_0.9": 0.321,
            "bpp_relative_to_baseline": 0.75,
            "ciede2000_at_ms_ssim_0.9": 3.21,
        },
        "jpeg420": {"auc_ms_ssim": None, "ciede2000_at_ms_ssim_0.9": 4.56},
    },
    "bd_rate": [
        {
            "codec": OURS,
            "reference": "jpeg420",
            "reference_is_published": False,
            "metric": "ms_ssim_rgb",
            "percent": -13.34,
            "overlap": [9.25, 17.5],
        },
        {
            "codec": OURS,
            "reference": "bpg444",
            "reference_is_published": True,
            "metric": "ms_ssim_rgb",
            "percent": None,
            "overlap": None,
        },
    ],
    "versions": {"pillow": "1.2.3"},
    "command": "evaluate.py --images=a&b",
}
PUBLISHED = {
    "toderici-2017-cvpr": {"ms_ssim_rgb": [(0.25, 0.88), (0.5, 0.94), (9.0, 0.999)]},
    "theis-2017-iclr": {"ms_ssim_rgb": [(0.3, 0.9)]},
}


def noise(side):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def make_version(codec, colour, ms_ssim=0.9321):
    pixels = np.full((SIDE, SIDE, 3), colour, np.uint8)
    return report.Version(codec, 7, 4812, 0.251, ms_ssim, 28.125, 2.415, pixels)


def make_comparison(name="a.png at 4,900 bytes", ms_ssim=0.9321):
    """A flat red and a flat green version of noise in the lower right corner of black."""
    original = np.zeros((SIDE, SIDE, 3), np.uint8)
    original[100:, 100:] = noise(100)
    versions = [make_version("jpeg420", GREEN), make_version(OURS, RED, ms_ssim)]
    return report.Comparison(name, original, versions)


class ReportTest(parameterized.TestCase):
    """A test with a folder for a report."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    @classmethod
    def write(cls, rows=(make_row(),), means=None, summary=SUMMARY, pictures=()):
        """Writes a report whose plots, which take long, are a pixel; returns its page."""
        means = make_means() if means is None else means
        with mock.patch.object(report, "_plot", return_value=PIXEL):
            report.write(cls.folder, list(rows), means, summary, PUBLISHED, list(pictures))
        return (cls.folder / "report.html").read_text(encoding="utf-8")


def text_of(page):
    """What a page says, without markup."""
    body = re.sub(r"<(style|script|template).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def data_of(page):
    """What the page's script is given."""
    return json.loads(re.search(r'<script [^>]*id="data">(.*)</script>', page)[1])


def decode(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))) as picture:
        return np.asarray(picture)


class _BalanceParser(html.parser.HTMLParser):
    VOID = {"meta", "link", "img", "input", "br", "hr"}

    def __init__(self):
        super().__init__()
        self.open, self.faults = [], []

    def handle_starttag(self, tag, attrs):
        if len(dict(attrs)) < len(attrs):
            self.faults.append(f"an attribute twice in {tag}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


class PageTest(ReportTest):
    def test_writes_page_plots_and_logs(self):
        report.write(self.folder, [make_row()], make_means(), SUMMARY, PUBLISHED, [])
        names = {path.name for path in self.folder.iterdir()}
        plot_names = {f"rate_distortion_{measure.name}.png" for measure in plots.MEASURES}
        self.assertEqual(names, {"report.html", "logs"} | plot_names)
        for name in plot_names:
            with Image.open(self.folder / name) as picture:
                self.assertEqual((picture.format, picture.size), ("PNG", (1200, 960)))

    def test_says_the_figures_of_the_summary(self):
        text = text_of(self.write())
        self.assertIn("our_preset 0.321 0.75 3.21 1.8116 0.125 to 2.000", text)
        self.assertIn("relative to JPEG 4:2:0", text)
        self.assertIn("JPEG 4:2:0 – – 4.56 – –", text)
        self.assertIn("JPEG 4:2:0 -13.3 % 9.25 to 17.50 4.56 – –", text)
        self.assertIn("bpg444 (published) no overlap – – – –", text)
        self.assertIn("pillow 1.2.3", text)
        self.assertIn("evaluate.py --images=a&b", text)

    def test_the_colour_error_stands_beside_every_ms_ssim(self):
        page = self.write(pictures=[make_comparison()])
        for head in re.findall(r"<thead>.*?</thead>", page):
            if "MS-SSIM" in head:
                self.assertIn("CIEDE2000", head)
        for comparison in data_of(page)["comparisons"]:
            for version in comparison["versions"][1:]:
                self.assertRegex(version["figures"], r"MS-SSIM .*\nCIEDE2000 2\.4")

    def test_means_have_a_row_for_each_setting(self):
        text = text_of(self.write(means={OURS: [make_row(setting=5, mean_error_g=-1.5)]}))
        self.assertIn(
            "5 0.250 1,234 0.9000 2.50 6.00 0.9000 30.00 31.00 60.0 +0.50 -1.50 +0.00 0.500 0.250",
            text,
        )

    def test_ours_come_first_and_open(self):
        page = self.write(means=make_means(("webp", OURS)), summary={})
        self.assertEqual(
            re.findall(r"<details( open)?><summary>(.*?)</summary>", page),
            [(" open", OURS), ("", "WebP")],
        )

    def test_names_images_too_small_for_ms_ssim(self):
        rows = [make_row(), make_row("tiny.png", ms_ssim=None), make_row("tiny.png", ms_ssim=None)]
        means = {OURS: [make_row(ms_ssim=None, encode_seconds=None)]}
        page = self.write(rows, means, pictures=[make_comparison(ms_ssim=None)])
        self.assertIn(
            "2 images. Means are over 1 of them. Without MS-SSIM, as too small for five scales: "
            "tiny.png.",
            text_of(page),
        )
        figures = data_of(page)["comparisons"][0]["versions"][1]["figures"]
        self.assertIn("MS-SSIM too small for five scales\n", figures)

    @parameterized.named_parameters(
        ("nothing", {}, {}, {}),
        ("one_codec", make_means(("jpeg420",)), {}, {}),
        ("only_published", {}, {}, PUBLISHED),
        ("no_published", make_means(), SUMMARY, {}),
    )
    def test_does_with_little(self, means, summary, published):
        report.write(self.folder, [], means, summary, published, [])
        page = (self.folder / "report.html").read_text(encoding="utf-8")
        self.assertEqual(data_of(page), {"pictures": [], "comparisons": []})

    def test_hostile_names_stay_text(self):
        comparison = make_comparison(HOSTILE)
        version = dataclasses.replace(comparison.versions[0], codec=HOSTILE, setting=HOSTILE)
        comparison.versions.append(version)
        rows = [make_row(HOSTILE, HOSTILE, HOSTILE, ms_ssim=None)]
        entry = SUMMARY["bd_rate"][0] | {"codec": HOSTILE, "reference": HOSTILE}
        summary = {"bd_rate": [entry], "versions": {HOSTILE: HOSTILE}, "command": HOSTILE}
        page = self.write(rows, {HOSTILE: rows}, summary, pictures=[comparison])
        self.assertEqual(page.count("<script"), 2)
        self.assertNotIn("<img src=x", page)
        self.assertEqual(data_of(page)["comparisons"][0]["name"], HOSTILE)
        self.assertGreaterEqual(text_of(page).count("document.title = 'taken'"), 9)

    def test_every_element_is_closed_and_no_address_is_named(self):
        page = self.write(pictures=[make_comparison()])
        parser = _BalanceParser()
        parser.feed(page)
        self.assertEqual((parser.open, parser.faults), ([], []))
        self.assertNotRegex(page, r"https?:|//[a-z]+\.")


class PicturesTest(ReportTest):
    def test_pictures_are_embedded_once_and_without_loss(self):
        comparison = make_comparison()
        other = dataclasses.replace(comparison, versions=[make_version("webp", GREEN)])
        data = data_of(self.write(pictures=[comparison, other]))
        indices = [
            [version["picture"] for version in shown["versions"]] for shown in data["comparisons"]
        ]
        self.assertEqual(indices, [[0, 1, 2], [0, 2]])
        np.testing.assert_array_equal(decode(data["pictures"][0]), comparison.original)
        np.testing.assert_array_equal(decode(data["pictures"][1])[0, 0], RED)

    def test_pictures_that_webp_cannot_hold_are_png(self):
        wide = np.zeros((1, 16384, 3), np.uint8)
        data = data_of(self.write(pictures=[report.Comparison("wide", wide, [])]))
        self.assertStartsWith(data["pictures"][0], "data:image/png;")
        self.assertEqual(decode(data["pictures"][0]).shape, wide.shape)

    def test_the_crop_shows_the_most_detailed_place(self):
        original = np.zeros((400, 600, 3), np.uint8)
        original[:, :300] = 255
        original[180:356, 360:536] = noise(176)
        comparison = report.Comparison("a", original, [])
        (shown,) = data_of(self.write(pictures=[comparison]))["comparisons"]
        crop = shown["crop"]
        self.assertEqual((crop["width"], crop["height"]), (176, 176))
        np.testing.assert_allclose([crop["top"], crop["left"]], [180, 360], atol=1)

    def test_the_crop_of_a_tiny_image_is_all_of_it(self):
        comparison = report.Comparison("a", np.zeros((5, 9, 3), np.uint8), [])
        (shown,) = data_of(self.write(pictures=[comparison]))["comparisons"]
        self.assertEqual(shown["crop"], {"left": 0, "top": 0, "width": 9, "height": 5})


class EventsTest(ReportTest):
    def test_tensorboard_shows_the_figures_of_the_last_report(self):
        accumulators = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="TensorBoard's figures need the extra [train]",
        )
        self.write()
        report.write(self.folder, [], make_means(), {}, {}, [])
        log = accumulators.EventAccumulator(str(self.folder / "logs"), {"images": 0})
        log.Reload()
        self.assertCountEqual(
            log.Tags()["images"], ["rate_distortion/ms_ssim", "rate_distortion/psnr"]
        )
        (image,) = log.Images("rate_distortion/psnr")
        with (
            Image.open(io.BytesIO(image.encoded_image_string)) as logged,
            Image.open(self.folder / "rate_distortion_psnr.png") as plot,
        ):
            np.testing.assert_array_equal(logged, plot.convert("RGB"))

    def test_without_tensorboard_a_line_says_what_brings_it(self):
        missing = dict.fromkeys(name for name in sys.modules if name.startswith("tensorboard"))
        missing["tensorboard.compat.proto"] = None
        with mock.patch.dict(sys.modules, missing), self.assertLogs(level="WARNING") as logs:
            self.write()
        self.assertLen(logs.output, 1)
        self.assertIn("pip install 'rnn-codec[train]'", logs.output[0])


class PlotsTest(parameterized.TestCase):
    MS_SSIM, PSNR = plots.MEASURES[:2]

    def lines(self, measure, curves, published=None):
        """Label to line."""
        axes = plots.draw(measure, curves, published or {}).axes[0]
        return {line.get_label(): line for line in axes.lines}

    def test_ms_ssim_is_drawn_in_decibels(self):
        line = self.lines(self.MS_SSIM, {OURS: [(0.5, 0.99), (0.25, 0.9)]})[OURS]
        np.testing.assert_allclose(line.get_xydata(), [(0.25, 10.0), (0.5, 20.0)])

    @parameterized.parameters((0.0, 0.0), (0.9, 10.0), (0.999, 30.0), (1.0, math.inf))
    def test_decibels(self, ms_ssim, expected):
        self.assertAlmostEqual(plots.decibels(ms_ssim), expected)

    def test_what_has_no_value_or_place_is_left_out(self):
        curves = {
            OURS: [(0.25, 30.0), (0.5, None), (1.0, math.inf)],
            "jpeg420": [(0.25, None)],
        }
        lines = self.lines(self.PSNR, curves)
        self.assertEqual(list(lines), [OURS])
        self.assertEqual(lines[OURS].get_xydata().tolist(), [[0.25, 30.0]])

    def test_ours_stand_out_and_published_curves_stay_behind(self):
        curves = {"webp": [(0.25, 30.0), (1.0, 35.0)], OURS: [(0.25, 31.0), (1.0, 36.0)]}
        published = {
            "toderici-2017-cvpr": [(0.125, 22.0), (0.5, 24.0), (0.75, 26.0)],
            "theis-2017-iclr": [(0.5, 30.0)],
        }
        lines = self.lines(self.PSNR, curves, published)
        ours, peer, past = lines[OURS], lines["WebP"], lines["Toderici 2017 (published)"]
        self.assertLen(lines, 3)
        self.assertGreater(ours.get_linewidth(), peer.get_linewidth())
        self.assertGreater(peer.get_linewidth(), past.get_linewidth())
        self.assertGreater(peer.get_zorder(), past.get_zorder())
        self.assertEqual((peer.get_linestyle(), past.get_linestyle()), ("-", "--"))
        self.assertEqual(past.get_xdata().tolist(), [0.5, 0.75])  # within the rates run here

    def test_published_curves_of_other_names_are_drawn_where_none_is_known(self):
        lines = self.lines(self.PSNR, {OURS: [(0.5, 30.0)]}, {"someone-2030": [(0.5, 31.0)]})
        self.assertCountEqual(lines, [OURS, "someone-2030 (published)"])

    def test_two_presets_of_ours_differ(self):
        lines = self.lines(self.PSNR, {"one": [(0.5, 30.0)], "two": [(0.5, 31.0)]})
        self.assertNotEqual(lines["one"].get_color(), lines["two"].get_color())

    def test_without_a_value_the_plot_says_so(self):
        axes = plots.draw(self.MS_SSIM, {OURS: [(0.5, None)]}, {}).axes[0]
        self.assertEqual([text.get_text() for text in axes.texts], ["no values"])


# Uses the page as a reader would; what came of it goes into an element of its own.
DRIVER = """
<script>
const section = document.querySelector("#comparisons section");
const part = (name) => section.querySelector("[data-part=" + name + "]");
const frame = part("frame").getBoundingClientRect();

function set(name, value, type) {
  part(name).value = value;
  part(name).dispatchEvent(new Event(type, { bubbles: true }));
}
function divider() {
  const line = section.querySelector(".line").getBoundingClientRect();
  return (line.left + line.width / 2 - frame.left) / frame.width;
}
function pointer(type, across, down) {
  const point = {
    bubbles: true,
    clientX: frame.left + across * frame.width,
    clientY: frame.top + down * frame.height,
  };
  part("frame").dispatchEvent(new PointerEvent(type, point));
}
function shown(side) {
  const picture = data.pictures.indexOf(part(side).src);
  return [part(side + "-caption").textContent.split("\\n")[0], part(side).alt, picture];
}
function crops() {
  return Array.from(part("crops").querySelectorAll("img"), (image) => image.style.objectPosition);
}

function drive() {
  const outcome = { title: document.title, heading: section.querySelector("h3").textContent };
  outcome.sizes = Array.from(section.querySelectorAll("img"), (image) => image.naturalWidth);
  outcome.choices = Array.from(part("left-choice").options, (option) => option.text);
  outcome.first = [shown("left"), shown("right")];
  set("left-choice", 2, "change");
  set("right-choice", 0, "change");
  outcome.chosen = [shown("left"), shown("right")];

  outcome.divider = [divider()];
  set("divider", 20, "input");
  outcome.divider.push(divider());
  outcome.clip = getComputedStyle(part("left")).clipPath;
  pointer("pointerdown", 0.5, 0.5);
  outcome.divider.push(divider());
  pointer("pointermove", 0.75, 0.5);
  pointer("pointerup", 0.75, 0.5);
  pointer("click", 0.75, 0.5);
  pointer("pointermove", 0.1, 0.5);
  outcome.divider.push(divider());
  outcome.control = part("divider").value;

  outcome.crops = [crops()];
  pointer("pointerdown", 0.1, 0.5);
  pointer("pointerup", 0.1, 0.5);
  pointer("click", 0.1, 0.5);
  outcome.crops.push(crops());
  set("crop-left", 5, "input");
  outcome.crops.push(crops());
  return outcome;
}

addEventListener("load", () => {
  const element = document.createElement("pre");
  element.id = "outcome";
  element.textContent = JSON.stringify(drive());
  document.body.append(element);
});
</script>
"""


@dataclasses.dataclass(frozen=True)
class Visit:
    """What the browser did with a page."""

    dom: str
    console: list[str]
    requests: list[str]  # addresses that the page asked the network for


def visit(page):
    """Opens a page in the browser; no name resolves there."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path, log = pathlib.Path(folder, "page.html"), pathlib.Path(folder, "net.json")
        path.write_text(page, encoding="utf-8")
        result = subprocess.run(
            [
                BROWSER,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--no-first-run",
                "--dump-dom",
                "--enable-logging=stderr",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--log-net-log={log}",
                f"--user-data-dir={folder}/profile",
                path.as_uri(),
            ],
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=120,
        )
        console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
        return Visit(result.stdout, console, _requests(log.read_text(encoding="utf-8")))


def _requests(log):
    """Addresses that the page asked for; the browser's own errands have no file's key."""
    found = []
    for line in log.splitlines():
        key = re.search(r'"network_isolation_key":"([^"]*)"', line)
        if key and key[1].startswith("file:"):
            found.append(re.search(r'"url":"([^"]*)"', line)[1])
    return found


@unittest.skipUnless(BROWSER, "needs chromium, chromium-browser or google-chrome on the PATH")
class BrowserTest(ReportTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.page = cls.write(pictures=[make_comparison(HOSTILE), make_comparison()])
        cls.visit = visit(cls.page.replace("</body>", f"{DRIVER}</body>"))
        match = re.search(r'<pre id="outcome">(.*?)</pre>', cls.visit.dom, re.DOTALL)
        cls.outcome = json.loads(html.unescape(match[1]))

    def test_opens_without_a_message_in_the_console(self):
        self.assertEqual(self.visit.console, [])
        self.assertEqual(self.outcome["sizes"], [SIDE] * 5)  # every picture has been read

    def test_a_hostile_name_is_shown_as_it_is(self):
        self.assertEqual(self.outcome["heading"], HOSTILE)
        self.assertEqual(self.outcome["title"], "Image codecs compared")

    def test_offers_the_original_and_each_version(self):
        choices = ["original", "our_preset, setting\xa07", "JPEG 4:2:0, setting\xa07"]
        self.assertEqual(self.outcome["choices"], choices)

    def test_ours_and_the_next_are_shown_first(self):
        ours, peer = self.outcome["choices"][1:]
        self.assertEqual(self.outcome["first"], [[ours, ours, 1], [peer, peer, 2]])

    def test_a_choice_changes_picture_and_caption(self):
        peer = self.outcome["choices"][2]
        expected = [[peer, peer, 2], ["original", "original", 0]]
        self.assertEqual(self.outcome["chosen"], expected)
        colours = [decode(uri)[0, 0].tolist() for uri in data_of(self.page)["pictures"]]
        self.assertEqual(colours, [[0, 0, 0], [*RED], [*GREEN]])

    def test_the_divider_follows_its_control_and_a_drag(self):
        # At first; after the control's event; after the press; after a move, release and a move.
        np.testing.assert_allclose(self.outcome["divider"], [0.5, 0.2, 0.2, 0.75], atol=1e-3)
        self.assertEqual(self.outcome["clip"], "inset(0px 80% 0px 0px)")
        self.assertEqual(self.outcome["control"], "75")

    def test_a_click_chooses_what_all_crops_show(self):
        for crops in self.outcome["crops"]:  # of the original and both versions
            self.assertEqual(crops, crops[:1] * 3)
        at_first, after_click, after_control = (
            [int(offset) for offset in re.findall(r"-?\d+", crops[0])]
            for crops in self.outcome["crops"]
        )
        self.assertEqual(at_first, [-24, -24])  # the click that ends a drag is none
        np.testing.assert_allclose(after_click, [0, -12], atol=1)  # a pointer is at whole pixels
        self.assertEqual(after_control, [-5, after_click[1]])

    def test_no_request_leaves_the_page(self):
        self.assertEqual(self.visit.requests, [])

    def test_the_policy_stops_what_would_ask_the_network(self):
        address = "http://pictures.example/a.png"
        page = self.page.replace("</body>", f'<img src="{address}"></body>')
        self.assertEqual(visit(page).requests, [])
        without_policy = re.sub(r"<meta http-equiv[^>]*>", "", page)
        self.assertEqual(visit(without_policy).requests, [address])


if __name__ == "__main__":
    absltest.main()
