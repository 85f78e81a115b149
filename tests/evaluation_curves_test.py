"""Tests for rnn_codec/evaluation/curves.py."""

import pathlib
import tempfile

from absl.testing import absltest, parameterized

from rnn_codec.errors import CodecError
from rnn_codec.evaluation import curves

# The points of four published curves on Kodak: MS-SSIM over RGB.
PUBLISHED = pathlib.Path(__file__).parent / "published_points.csv"


def make_row(image="a", codec="ours", setting=1, **columns):
    row = dict.fromkeys(curves.MEAN_COLUMNS, 1.0)
    return {"image": image, "codec": codec, "setting": setting, **row, **columns}


def make_means(points, codec="ours"):
    """Means with (bpp, MS-SSIM, CIEDE2000) given, and a PSNR that follows the MS-SSIM."""
    rows = [
        make_row(
            codec=codec,
            setting=number,
            bpp=bpp,
            ms_ssim_rgb=ms_ssim,
            psnr_rgb_db=20 + curves.ms_ssim_db(ms_ssim),
            ciede2000_mean=ciede2000,
        )
        for number, (bpp, ms_ssim, ciede2000) in enumerate(points, start=1)
    ]
    return curves.means(rows, [codec])


class PublishedCurvesTest(parameterized.TestCase):
    """What follows from the published curves is known."""

    def setUp(self):
        super().setUp()
        self.published = curves.read_published(PUBLISHED, "kodak")

    @parameterized.parameters(
        ("toderici-2017-cvpr", "jpeg420", -13.3), ("johnston-2017-cvpr", "bpg420", -6.8)
    )
    def test_bd_rate_on_ms_ssim(self, codec, reference, expected):
        pair = (self.published[name]["ms_ssim_rgb"] for name in (codec, reference))
        percent, _ = curves.bd_rate(*pair, "ms_ssim_rgb")
        self.assertAlmostEqual(percent, expected, delta=0.5)

    def test_area_of_the_release_of_2017(self):
        points = self.published["toderici-2017-cvpr"]["ms_ssim_rgb"]
        self.assertAlmostEqual(curves.area(points), 1.8116, 4)

    def test_only_the_data_set_and_the_metrics_asked_for_are_read(self):
        published = self.read(
            "kodak,x,ms_ssim_rgb,0.5,0.9",
            "kodak,x,ms_ssim_luma,0.5,0.8",
            "tecnick,x,psnr_rgb_db,1,30",
        )
        self.assertEqual(published, {"x": {"ms_ssim_rgb": [(0.5, 0.9)]}})

    @parameterized.parameters("kodak,x,psnr_rgb_db,one,30", "kodak,x,psnr_rgb_db,1")
    def test_damaged_rows_are_a_fault(self, row):
        with self.assertRaisesRegex(CodecError, "expected published curves as CSV"):
            self.read(row)

    def read(self, *rows):
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.write("\n".join(["dataset,codec,metric,bpp,value", *rows]))
            file.flush()
            return curves.read_published(file.name, "kodak")

    def test_a_missing_file_is_a_fault(self):
        with self.assertRaisesRegex(CodecError, "nowhere.csv: expected published curves"):
            curves.read_published("nowhere.csv", "kodak")


class MeansTest(parameterized.TestCase):
    def test_are_taken_at_equal_setting_in_ascending_rate(self):
        rows = [
            make_row(image, setting=setting, bpp=bpp)
            for image, setting, bpp in (
                ("a", 10, 2.0),
                ("a", 25, 0.5),
                ("b", 10, 4.0),
                ("b", 25, 0.7),
            )
        ]
        points = curves.means(rows, ["ours"])["ours"]
        self.assertEqual([point["setting"] for point in points], [25, 10])
        self.assertAlmostEqual(points[0]["bpp"], 0.6)
        self.assertAlmostEqual(points[1]["bpp"], 3.0)

    def test_are_over_the_images_that_each_codec_coded(self):
        rows = [make_row("a"), make_row("b"), make_row("b", codec="jpeg420", bpp=9.0)]
        means = curves.means(rows, ["ours", "jpeg420"])
        self.assertEqual(curves.comparable_images(rows, ["ours", "jpeg420"]), ["b"])
        self.assertEqual(means["jpeg420"][0]["bpp"], 9.0)

    def test_leave_out_images_too_small_for_a_measure(self):
        rows = [make_row("tiny", bpp=50.0, ms_ssim_rgb=None), make_row("large", bpp=1.0)]
        self.assertEqual(curves.means(rows, ["ours"])["ours"][0]["bpp"], 1.0)

    def test_of_nothing_but_small_images_lack_that_measure(self):
        rows = [make_row(image, ms_ssim_rgb=None, bpp=2.0) for image in "ab"]
        (point,) = curves.means(rows, ["ours"])["ours"]
        self.assertIsNone(point["ms_ssim_rgb"])
        self.assertEqual(point["bpp"], 2.0)

    def test_a_time_that_is_not_known_leaves_no_image_out(self):
        rows = [make_row(encode_seconds=None, bpp=2.0)]
        self.assertIsNone(curves.means(rows, ["ours"])["ours"][0]["encode_seconds"])

    def test_of_nothing_in_common_are_none(self):
        rows = [make_row("a"), make_row("b", codec="jpeg420")]
        self.assertEqual(curves.means(rows, ["ours", "jpeg420"]), {})


class BdRateTest(parameterized.TestCase):
    CURVE = [(0.1, 24.0), (0.2, 27.0), (0.4, 30.0), (0.8, 33.0), (1.6, 36.0)]

    def test_half_the_rate_is_minus_half(self):
        halved = [(bpp / 2, value) for bpp, value in self.CURVE]
        percent, overlap = curves.bd_rate(halved, self.CURVE, "psnr_rgb_db")
        self.assertAlmostEqual(percent, -50.0, 6)
        self.assertEqual(overlap, [24.0, 36.0])

    def test_the_overlap_is_what_both_reach(self):
        _, overlap = curves.bd_rate(self.CURVE[2:], self.CURVE[:4], "psnr_rgb_db")
        self.assertEqual(overlap, [30.0, 33.0])

    def test_the_overlap_of_ms_ssim_is_in_decibels(self):
        points = [(0.1, 0.9), (0.3, 0.99)]
        _, overlap = curves.bd_rate(points, points, "ms_ssim_rgb")
        self.assertAlmostEqual(overlap[0], 10.0)
        self.assertAlmostEqual(overlap[1], 20.0)

    @parameterized.parameters(([(1.0, 50.0), (2.0, 60.0)],), ([(1.0, 30.0)],), ([],))
    def test_without_overlap_there_is_none(self, points):
        self.assertEqual(curves.bd_rate(points, self.CURVE, "psnr_rgb_db"), (None, None))

    def test_order_and_points_that_spend_more_for_less_do_not_matter(self):
        messy = [(0.5, 29.0), *reversed(self.CURVE), self.CURVE[1]]
        halved = [(bpp / 2, value) for bpp, value in self.CURVE]
        percent, _ = curves.bd_rate(halved, messy, "psnr_rgb_db")
        self.assertAlmostEqual(percent, -50.0, 6)

    def test_rising(self):
        points = [(2.0, 5.0), (1.0, 3.0), (1.0, 4.0), (1.5, 3.0)]
        self.assertEqual(curves.rising(points), [(1.0, 3.0), (2.0, 5.0)])


class AreaTest(parameterized.TestCase):
    def test_of_a_line_is_the_trapezoid(self):
        points = [(0.0, 0.5), (4.0, 0.9)]
        self.assertAlmostEqual(curves.area(points), 1.875 * (0.5125 + 0.7) / 2)

    def test_a_header_costs_no_area(self):
        points = [(0.13, 0.9), (2.01, 0.9)]
        self.assertAlmostEqual(curves.area(points), 1.875 * 0.9)

    @parameterized.parameters(([(0.14, 0.9), (2.0, 0.9)],), ([(0.125, 0.9), (1.9, 0.9)],), ([],))
    def test_of_less_than_the_range_is_none(self, points):
        self.assertIsNone(curves.area(points))


class AtMsSsimTest(parameterized.TestCase):
    def test_is_the_point_itself_where_there_is_one(self):
        points = make_means([(0.1, 0.8, 9.0), (0.3, 0.9, 5.0), (0.6, 0.95, 4.0)])["ours"]
        self.assertAlmostEqual(curves.at_ms_ssim(points, "bpp"), 0.3)
        self.assertAlmostEqual(curves.at_ms_ssim(points, "ciede2000_mean"), 5.0)

    def test_half_way_in_decibels_is_half_way_in_the_logarithm_of_the_rate(self):
        low, high = (1 - 10 ** (-db / 10) for db in (8.0, 12.0))
        points = make_means([(0.1, low, 8.0), (0.4, high, 4.0)])["ours"]
        self.assertAlmostEqual(curves.at_ms_ssim(points, "bpp"), 0.2)
        self.assertAlmostEqual(curves.at_ms_ssim(points, "ciede2000_mean"), 6.0)

    @parameterized.parameters(([(0.1, 0.91, 9.0), (0.2, 0.95, 5.0)],), ([(0.1, 0.8, 9.0)],))
    def test_out_of_reach_is_none(self, points):
        self.assertIsNone(curves.at_ms_ssim(make_means(points)["ours"], "bpp"))

    def test_without_ms_ssim_is_none(self):
        (point,) = make_means([(0.1, 0.8, 9.0)])["ours"]
        self.assertIsNone(curves.at_ms_ssim([{**point, "ms_ssim_rgb": None}], "bpp"))


class SummariseTest(absltest.TestCase):
    OURS = [(0.1, 0.85, 6.0), (0.2, 0.92, 5.0), (0.4, 0.96, 4.0)]
    JPEG = [(0.2, 0.85, 7.0), (0.4, 0.92, 6.0), (0.8, 0.96, 5.0)]

    def setUp(self):
        super().setUp()
        means = {**make_means(self.OURS), **make_means(self.JPEG, "jpeg420")}
        published = {"old": {"ms_ssim_rgb": [(0.4, 0.85), (1.6, 0.96)]}}
        self.summary = curves.summarise(means, published, "jpeg420")

    def find(self, **keys):
        (entry,) = (
            entry
            for entry in self.summary["bd_rate"]
            if all(entry[key] == value for key, value in keys.items())
        )
        return entry

    def test_every_codec_meets_every_other_and_every_published_one(self):
        pairs = {(entry["codec"], entry["reference"]) for entry in self.summary["bd_rate"]}
        expected = {("ours", "jpeg420"), ("jpeg420", "ours"), ("ours", "old"), ("jpeg420", "old")}
        self.assertEqual(pairs, expected)
        entry = self.find(codec="ours", reference="jpeg420", metric="psnr_rgb_db")
        self.assertAlmostEqual(entry["percent"], -50.0)
        self.assertFalse(entry["reference_is_published"])

    def test_a_metric_that_was_not_published_has_no_bd_rate(self):
        entry = self.find(codec="ours", reference="old", metric="psnr_rgb_db")
        self.assertIsNone(entry["percent"])
        self.assertIsNone(entry["overlap"])

    def test_colour_error_stands_beside_ms_ssim(self):
        figures = self.summary["codecs"]["ours"]
        self.assertBetween(figures["ciede2000_at_ms_ssim_0.9"], 5.0, 6.0)
        self.assertAlmostEqual(figures["bpp_relative_to_baseline"], 0.5)
        self.assertEqual(figures["covered_bpp"], [0.1, 0.4])
        self.assertIsNone(figures["auc_ms_ssim"])

    def test_perfect_similarity_is_100_db(self):
        self.assertAlmostEqual(curves.ms_ssim_db(1.0), 100.0, 4)
        self.assertAlmostEqual(curves.ms_ssim_db(0.9), 10.0)


if __name__ == "__main__":
    absltest.main()
