"""Images are compared pixel by pixel with values worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from fcnbook import draw
from fcnbook.datasets.table import DATASETS
from fcnbook.labels import STREETS, LabelSet
from fcnbook.types import Sample

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
PALETTE = (RED, GREEN, BLUE)
VOID = 255


@pytest.fixture
def image():
    """(2, 3, 3): every pixel another grey, so that none can stand for another."""
    return np.repeat(np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3, 1), 3, axis=2)


def contains(page, part):
    """Whether `part` stands somewhere on the page, unchanged."""
    windows = np.lib.stride_tricks.sliding_window_view(page, part.shape)
    corner = windows[..., 0, 0, :] == part[0, 0]
    return any(np.array_equal(windows[tuple(at)], part) for at in np.argwhere(corner.all(-1)))


def ink(page):
    """Number of pixels that are not paper."""
    return int((page != 255).any(-1).sum())


class TestColorize:
    def test_each_id_has_its_colour_and_void_is_black(self):
        coloured = draw.colorize(np.array([[0, 1], [2, VOID]], np.uint8), PALETTE)
        assert coloured.dtype == np.uint8
        assert coloured.tolist() == [[list(RED), list(GREEN)], [list(BLUE), [0, 0, 0]]]

    @pytest.mark.parametrize(("value", "dtype"), [(3, np.uint8), (-1, np.int64), (300, np.int64)])
    def test_a_value_that_is_no_class_is_named(self, value, dtype):
        with pytest.raises(ValueError, match=f"the value {value}, .* classes 0 to 2 and for 255"):
            draw.colorize(np.array([[0, value]], dtype), PALETTE)

    def test_logits_are_refused(self):
        with pytest.raises(ValueError, match=r"class ids, got shape .* float64"):
            draw.colorize(np.zeros((2, 2)), PALETTE)

    @pytest.mark.parametrize("name", [name for name, facts in DATASETS.items() if facts.labels])
    def test_it_inverts_for_the_palettes_we_ship_but_for_the_published_doubles(self, name):
        """Two classes of one colour could not be told apart; black is void. Published palettes have a few doubles."""
        palette = DATASETS[name].labels.palette
        ids = np.arange(len(palette), dtype=np.uint8)[None]
        drawn = [tuple(c) for c in draw.colorize(ids, palette)[0].tolist()]
        colours = [*drawn, draw.VOID_COLOUR]
        doubles = {colour for colour in colours if colours.count(colour) > 1}
        assert doubles == PUBLISHED_DOUBLES.get(name, set())


BLACK, GREY = (0, 0, 0), (140, 140, 140)
PUBLISHED_DOUBLES = {
    "ade20k": {GREY},  # road and skyscraper
    "voc12aug": {BLACK},  # background is drawn as void is
    "voc11": {BLACK},
    "pascal_context": {GREY},  # bicycle and snow
    "pascal_context_59": {GREY},
}


class TestOverlay:
    labels = np.array([[0, 1, VOID], [1, 1, 2]], np.uint8)

    def test_half_opacity_is_the_mean_and_void_stays_image(self, image):
        shown = draw.overlay(image, self.labels, PALETTE, 0.5)
        assert shown[0, 0].tolist() == [100, 0, 0]  # image 0, colour (200, 0, 0)
        assert shown[0, 1].tolist() == [20, 120, 20]  # image 40, colour (0, 200, 0)
        assert shown[0, 2].tolist() == image[0, 2].tolist()

    def test_opacity_0_is_the_image_and_1_the_colours(self, image):
        assert np.array_equal(draw.overlay(image, self.labels, PALETTE, 0.0), image)
        opaque = draw.overlay(image, self.labels, PALETTE, 1.0)
        expected = draw.colorize(self.labels, PALETTE)
        expected[0, 2] = image[0, 2]
        assert np.array_equal(opaque, expected)

    def test_one_class_stands_out_from_grey(self, image):
        coloured = image.copy()
        coloured[..., 0] = 255
        shown = draw.overlay(coloured, self.labels, PALETTE, 1.0, only=1)
        chosen = self.labels == 1
        assert (shown[chosen] == GREEN).all()
        rest = shown[~chosen]
        assert (rest == rest[:, :1]).all()
        assert rest.max() <= 132

    @pytest.mark.parametrize("opacity", [-0.1, 1.1])
    def test_opacity_outside_0_to_1_is_refused(self, image, opacity):
        with pytest.raises(ValueError, match="between 0 and 1"):
            draw.overlay(image, self.labels, PALETTE, opacity)

    def test_labels_of_another_size_are_refused(self, image):
        with pytest.raises(ValueError, match=r"image is 2x3 and its labels have shape \(3, 2\)"):
            draw.overlay(image, self.labels.T, PALETTE)

    def test_a_grey_image_is_refused(self):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8 RGB, got shape \(2, 3\)"):
            draw.overlay(np.zeros((2, 3), np.uint8), self.labels, PALETTE)


class TestErrorMap:
    labels = np.array([[0, 1, VOID], [1, 1, 2]], np.uint8)
    pred = np.array([[0, 0, 0], [1, 2, 1]], np.uint8)

    def test_wrong_is_orange_right_is_grey_void_is_black(self, image):
        shown = draw.error_map(image, self.labels, self.pred)
        wrong = [(0, 1), (1, 1), (1, 2)]
        assert all(tuple(shown[at]) == draw.MISSED_COLOUR for at in wrong)
        assert shown[0, 2].tolist() == [0, 0, 0]
        assert shown[0, 0].tolist() == [30, 30, 30]  # image 0
        assert shown[1, 0].tolist() == [78, 78, 78]  # 30 + 0.4 * 120

    def test_one_class_missed_and_too_much(self, image):
        shown = draw.error_map(image, self.labels, self.pred, only=1)
        missed = [(0, 1), (1, 1)]
        assert all(tuple(shown[at]) == draw.MISSED_COLOUR for at in missed)
        assert tuple(shown[1, 2]) == draw.EXTRA_COLOUR
        assert [shown[at].tolist() for at in [(0, 0), (1, 0)]] == [[30] * 3, [78] * 3]

    def test_what_is_predicted_on_void_is_no_error(self, image):
        labels = np.full((2, 3), VOID, np.uint8)
        assert not draw.error_map(image, labels, self.pred, only=0).any()

    def test_the_image_is_not_written_to(self, image):
        before = image.copy()
        draw.error_map(image, self.labels, self.pred)
        draw.overlay(image, self.labels, PALETTE, only=1)
        assert np.array_equal(image, before)

    def test_colours_differ_in_lightness_from_the_dimmed_image(self):
        """Without any colour sight, orange and blue are still lighter than the lightest grey."""
        grey = np.array([0.299, 0.587, 0.114])
        for colour in (draw.MISSED_COLOUR, draw.EXTRA_COLOUR):
            assert grey @ colour > 132 + 5


class TestZoom:
    def test_small_images_grow_by_whole_factors_with_crisp_pixels(self, image):
        grown = draw.zoom(image, width=8)  # 8 / 3 = 2.7: three times
        assert grown.shape == (6, 9, 3)
        assert np.array_equal(grown[1::3, 1::3], image)
        assert len(np.unique(grown)) == len(np.unique(image))

    def test_streets_are_doubled_and_cityscapes_shrunk(self):
        assert draw.zoom(np.zeros((96, 192, 3), np.uint8)).shape == (192, 384, 3)
        assert draw.zoom(np.zeros((360, 480, 3), np.uint8)).shape == (360, 480, 3)
        assert draw.zoom(np.zeros((1024, 2048, 3), np.uint8)).shape == (192, 384, 3)

    def test_large_images_are_averaged(self):
        stripes = np.zeros((4, 8, 3), np.uint8)
        stripes[:, ::2] = 100
        assert np.array_equal(draw.zoom(stripes, width=4), np.full((2, 4, 3), 50))


class TestGrid:
    def test_every_image_stands_on_the_page_in_its_place(self):
        images = [np.full((5, 7, 3), value, np.uint8) for value in (10, 20, 30, 40)]
        page = draw.grid([images[:2], images[2:]], width=None)
        where = {value: np.argwhere((page == value).all(-1)) for value in (10, 20, 30, 40)}
        assert {value: len(at) for value, at in where.items()} == dict.fromkeys(where, 35)
        (top, left), (_, second_column), (second_row, _) = (where[v].min(0) for v in (10, 20, 30))
        assert where[40].min(0).tolist() == [second_row, second_column]
        assert second_row > top + 5
        assert second_column > left + 7

    def test_images_of_different_sizes_do_not_overlap(self):
        wide, high = np.full((4, 30, 3), 10, np.uint8), np.full((20, 6, 3), 20, np.uint8)
        page = draw.grid([[wide, high], [high, wide]], width=None)
        assert (page == 10).all(-1).sum() == 2 * wide[..., 0].size
        assert (page == 20).all(-1).sum() == 2 * high[..., 0].size

    def test_titles_stand_above_and_captions_below(self):
        image = np.zeros((20, 120, 3), np.uint8)
        plain = draw.grid([[image, image]], width=None)
        page = draw.grid([[image, image]], ["truth", "guess"], ["a street"], width=None)
        rows = np.flatnonzero((page[:, :128] != 255).any((1, 2)))
        black = np.flatnonzero((page == 0).all(-1).sum(1) == 240)
        assert page.shape[0] > plain.shape[0]
        assert rows.min() < black.min() - 8
        assert rows.max() > black.max() + 8

    def test_a_title_is_cut_to_its_column(self):
        image = np.zeros((20, 60, 3), np.uint8)
        page = draw.grid([[image, image]], ["a very long title indeed", ""], width=None)
        assert ink(page[:25, 8 + 60 : 8 + 60 + 8]) == 0  # nothing in the gap between the columns

    @pytest.mark.parametrize("rows", [[], [[]]])
    def test_no_images_is_an_error(self, rows):
        with pytest.raises(ValueError, match="at least one image"):
            draw.grid(rows)

    def test_side_by_side_is_a_grid_of_one_row(self, image):
        assert np.array_equal(
            draw.side_by_side([image, image], ["a", "b"]), draw.grid([[image, image]], ["a", "b"])
        )

    def test_stack_and_beside_keep_images_and_fill_up_with_paper(self, image):
        tall = np.zeros((4, 1, 3), np.uint8)
        page = draw.beside([image, tall])
        assert page.shape == (4, 4, 3)
        assert np.array_equal(page[:2, :3], image)
        assert (page[2:, :3] == 255).all()
        assert np.array_equal(draw.stack([image, tall])[:2], image)
        assert draw.stack([image, tall]).shape == (6, 3, 3)


class TestContactSheet:
    def samples(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, (8, 16)).astype(np.uint8)
        labels[0] = VOID
        image = rng.integers(0, 256, (8, 16, 3)).astype(np.uint8)
        return [Sample(image, labels, "one"), Sample(image[::-1].copy(), labels[::-1].copy(), "two")]

    def test_it_shows_image_truth_prediction_and_errors_of_each(self):
        samples = self.samples()
        preds = [np.zeros((8, 16), np.uint8), np.ones((8, 16), np.uint8)]
        sheet = draw.contact_sheet(samples, preds, LabelSet(("a", "b", "c"), PALETTE), width=16)
        for sample, pred in zip(samples, preds, strict=True):
            assert contains(sheet, sample.image)
            assert contains(sheet, draw.overlay(sample.image, sample.labels, PALETTE, 1.0))
            assert contains(sheet, draw.colorize(pred, PALETTE))
            assert contains(sheet, draw.error_map(sample.image, sample.labels, pred))

    def test_the_legend_can_be_left_out(self):
        samples, names = self.samples(), LabelSet(("a", "b", "c"), PALETTE)
        preds = [np.zeros((8, 16), np.uint8)] * 2
        full = draw.contact_sheet(samples, preds, names)
        bare = draw.contact_sheet(samples, preds, names, explain=False)
        assert np.array_equal(full[: bare.shape[0]], bare)
        assert full.shape[0] > bare.shape[0] + 20

    def test_a_missing_prediction_is_an_error(self):
        with pytest.raises(ValueError, match="shorter"):
            draw.contact_sheet(self.samples(), [np.zeros((8, 16), np.uint8)], STREETS)


class TestLegend:
    def test_every_colour_is_there_and_nothing_is_cut(self):
        for width in (150, 400, 1600):
            strip = draw.legend(STREETS, width)
            assert strip.shape[1] == width
            for colour in (*STREETS.palette, draw.VOID_COLOUR):
                assert (strip == colour).all(-1).sum() >= 15 * 15
        assert draw.legend(STREETS, 150).shape[0] > draw.legend(STREETS, 1600).shape[0]

    def test_values_are_written_and_void_can_be_left_out(self):
        plain, valued = (
            draw.legend(DATASETS["camvid"].labels),
            draw.legend(DATASETS["camvid"].labels, values=["12.5 %"] * 11),
        )
        assert ink(valued) > ink(plain)
        assert not (draw.legend(DATASETS["camvid"].labels, void=False) == 0).all(-1).any()


class TestPng:
    def test_another_decoder_reads_the_same_pixels(self, image):
        image[..., 1] += 3
        image[..., 2] += 7  # so that swapped channels show
        assert np.array_equal(np.array(Image.open(io.BytesIO(draw.png_bytes(image)))), image)

    def test_class_ids_are_stored_as_they_are(self):
        ids = np.array([[0, 9, 255]], np.uint8)
        read = Image.open(io.BytesIO(draw.png_bytes(ids)))
        assert (read.mode, np.array(read).tolist()) == ("L", [[0, 9, 255]])

    def test_few_colours_take_half_the_space_and_look_alike(self):
        rows, columns = np.mgrid[:96, :192]
        smooth = np.stack([columns, 2 * rows, (rows + columns) // 2], -1)
        noise = np.random.default_rng(0).integers(-12, 12, (96, 192, 3))
        image = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        image[40:44, 40:44] = (255, 0, 255)  # a small sign keeps its colour
        small = draw.png_bytes(image, few_colours=True)
        assert len(small) < len(draw.png_bytes(image)) / 2
        read = np.array(Image.open(io.BytesIO(small)).convert("RGB")).astype(int)
        assert np.abs(read - image).mean() < 10
        assert np.abs(read[41, 41] - (255, 0, 255)).max() < 20


class TestText:
    def test_letters_beyond_ascii_are_drawn(self):
        """A font without a letter draws the same box for all of them."""
        drawn = {letter: draw.text_block([letter], 60).tobytes() for letter in "×–äøΩя→"}
        assert len(set(drawn.values())) == len(drawn)

    def test_long_lines_are_cut_inside_the_page(self):
        page = draw.text_block(["m" * 200], 100)
        assert page.shape[1] == 100
        assert ink(page[:, 92:]) == 0

    def test_width_grows_with_the_text(self):
        assert draw.text_width("") == 0
        assert draw.text_width("road") < draw.text_width("sidewalk") < draw.text_width("sidewalk", 30)

    def test_a_text_is_wrapped_without_losing_a_letter(self):
        text = "one two " + "w" * 50 + " three"
        lines = draw.wrapped(text, 100)
        assert lines[0] == "one two" and lines[-1].endswith(" three") and len(lines) > 3
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(draw.shortened(line, 100 - 16) == line for line in lines)
        assert draw.wrapped("", 100) == [] and draw.wrapped("ab", 1) == ["a", "b"]

    def test_a_text_is_shortened_to_a_width(self):
        assert draw.shortened("road", draw.text_width("road")) == "road"
        cut = draw.shortened("a very long name", 60)
        assert cut.endswith("…")
        assert "a very long name".startswith(cut[:-1])
        assert 40 < draw.text_width(cut) <= 60


class TestColourBlindPalette:
    # Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009,
    # severity 1; on linear RGB.
    SIGHT = (
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    )
    TO_XYZ = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )

    def least_distance(self, colours):
        """Of any two colours to any kind of sight, in CIELAB."""
        rgb = np.array(colours, float) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        distances = []
        for matrix in self.SIGHT:
            seen = np.clip(linear @ np.array(matrix).T, 0, 1)
            xyz = seen @ self.TO_XYZ.T / (0.95047, 1.0, 1.08883)
            f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
            lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
            pairs = np.sqrt(((lab[:, None] - lab[None]) ** 2).sum(-1))
            distances.append(pairs[np.triu_indices(len(lab), 1)].min())
        return min(distances)

    def test_the_colours_can_be_told_apart_by_every_sight(self):
        black = draw.VOID_COLOUR
        assert self.least_distance([black, *draw.COLOUR_BLIND_SAFE[:11]]) > 24
        assert self.least_distance([black, *draw.COLOUR_BLIND_SAFE]) > 14
        for label_set in (STREETS, DATASETS["camvid"].labels):  # what it is there for
            assert self.least_distance([black, *label_set.palette]) < 7

    def test_names_stay_and_too_many_classes_are_refused(self):
        safe = draw.colour_blind(STREETS)
        assert safe.classes == STREETS.classes
        assert len(set(safe.palette)) == 10
        with pytest.raises(ValueError, match="150 classes cannot be told apart"):
            draw.colour_blind(LabelSet(tuple(map(str, range(150))), ((0, 0, 0),) * 150))


def test_id_cells_have_their_colour_and_their_number():
    palette = [(200, 30, 30), (20, 20, 60)]
    page = draw.id_cells(np.array([[0, 1, 255], [0, 0, 12]], np.uint8), palette, cell=24)
    assert page.shape == (48, 72, 3)
    corners = page[::24, ::24]
    assert corners.tolist() == [
        [[200, 30, 30], [20, 20, 60], [0, 0, 0]],
        [[200, 30, 30], [200, 30, 30], [0, 0, 0]],
    ]
    squares = page.reshape(2, 24, 3, 24, 3).swapaxes(1, 2)
    assert np.array_equal(squares[0, 0], squares[1, 0])
    assert not np.array_equal(squares[0, 2], squares[1, 2])  # 255 and 12, both black
    assert (squares[0, 1] > 200).any()  # light ink on a dark square
