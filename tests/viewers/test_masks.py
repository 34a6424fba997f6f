"""The mask viewer without a front end: what it draws, in which order, what it keeps and what it says."""

import base64
import html
import json
import time

import numpy as np
import pytest
from pngs import pixels

from fcnbook import draw
from fcnbook.inference import Prediction
from fcnbook.labels import STREETS, LabelSet
from fcnbook.types import Sample
from fcnbook.viewers import MaskViewer, mask_view

NAMES = LabelSet(("sky", "road & <kerb>", "car"), ((70, 130, 180), (128, 64, 128), (0, 0, 142)))


@pytest.fixture
def samples():
    """Three images of 4 x 6 pixels: the upper half sky, the lower road; the first column void."""
    labels = np.array([[0] * 6] * 2 + [[1] * 6] * 2, np.uint8)
    labels[:, 0] = 255
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    return [Sample(image, labels, f"street {k}") for k, image in enumerate(images)]


@pytest.fixture
def preds(samples):
    """The first has 5 of 20 pixels wrong, the second none, the third 10."""
    wrong = []
    for rows in (1, 0, 2):
        pred = np.where(samples[0].labels == 255, 0, samples[0].labels)
        pred[:rows] = 1  # sky taken for road
        wrong.append(pred)
    return wrong


class TestMaskView:
    def test_image_truth_prediction_and_errors(self, samples, preds):
        sample, pred = samples[0], preds[0]
        page = mask_view(sample.image, sample.labels, pred, NAMES, 0.7, width=6)
        upper = [sample.image, draw.overlay(sample.image, sample.labels, NAMES.palette, 0.7)]
        lower = [
            draw.overlay(sample.image, pred, NAMES.palette, 0.7),
            draw.error_map(sample.image, sample.labels, pred),
        ]
        titles = (["image", "truth"], ["prediction", "errors (orange)"])
        rows = [draw.side_by_side(row, names, 6) for row, names in zip((upper, lower), titles, strict=True)]
        assert np.array_equal(page, draw.stack(rows))

    def test_one_class_alone(self, samples, preds):
        sample, pred = samples[0], preds[0]
        page = mask_view(sample.image, sample.labels, pred, NAMES, 1.0, only=1, width=96)
        road, sky = NAMES.palette[1], NAMES.palette[0]
        enlarged = 16 * 16
        assert (page == road).all(-1).sum() == enlarged * (10 + 16)  # of truth and of prediction
        assert not (page == sky).all(-1).any()
        assert (page == draw.EXTRA_COLOUR).all(-1).sum() == enlarged * 5

    def test_two_predictions_stand_beside_each_other(self, samples, preds):
        sample = samples[0]
        page = mask_view(sample.image, sample.labels, preds[0], NAMES, second=preds[2], width=96)
        alone = mask_view(sample.image, sample.labels, preds[0], NAMES, width=96)
        assert page.shape == (alone.shape[0], alone.shape[1] + 96 + 8, 3)
        assert (page == draw.MISSED_COLOUR).all(-1).sum() == 16 * 16 * (5 + 10)


class TestMaskViewer:
    def test_the_worst_image_comes_first(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        shown = []
        for place in (1, 2, 3):
            viewer.position.value = place
            shown.append(viewer.index)
        assert shown == [2, 0, 1]

    def test_the_widget_shows_the_view_of_its_controls(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES, opacity=0.5)
        viewer.position.value = 2
        viewer.opacity.value = 0.25
        viewer.only.value = "car"
        viewer.safe_colours.value = True
        sample, colours = samples[0], draw.colour_blind(NAMES)
        expected = mask_view(sample.image, sample.labels, preds[0], colours, 0.25, only=2)
        assert np.array_equal(pixels(viewer.image.value), expected)

    def test_every_control_redraws(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        seen = [bytes(viewer.image.value)]
        changes = [
            ("position", 3),
            ("opacity", 0.1),
            ("only", "sky"),
            ("safe_colours", True),
            ("order", "given"),
        ]
        for control, value in changes:
            getattr(viewer, control).value = value
            seen.append(bytes(viewer.image.value))
        assert len(set(seen)) == len(seen)

    def test_iou_of_the_shown_image_by_hand(self, samples, preds):
        """Image 0: sky 5 of 10 found, nothing else called sky; road 10 of 10, 5 too many; void not counted."""
        viewer = MaskViewer(samples, preds, NAMES, opacity=0.5)
        viewer.position.value = 2
        rows = [line.split("<td") for line in viewer.table.value.split("<tr")[2:]]
        cells = [[cell.split(">", 1)[1].split("</td>")[0] for cell in row[2:]] for row in rows]
        assert cells == [
            ["sky", "41.7 %", "50.0 %"],  # 10 of 24 pixels
            ["road &amp; &lt;kerb&gt;", "41.7 %", "66.7 %"],
            ["car", "0.0 %", "–"],
        ]
        assert viewer.summary() == "street 0: mIoU of this image 58.3 % (prediction); 2 of 3, worst first"
        assert viewer.headline.value == f"<b>{html.escape(viewer.summary())}</b>"

    def test_orders(self, samples, preds):
        other = [preds[0], preds[2], preds[2]]  # far worse on the second image
        viewer = MaskViewer(samples, preds, NAMES, second=other, names=("A", "B"))
        viewer.position.value = 3
        viewer.order.value = "difference"
        assert (viewer.position.value, viewer.index) == (1, 1)
        viewer.order.value = "given"
        assert viewer.index == 0

    def test_worst_in_the_class_first(self, samples, preds):
        preds[1][3, 1:] = 2  # road called car: the best image is now the worst for road, not in the mean
        viewer = MaskViewer(samples, preds, NAMES)
        first = viewer.index
        viewer.only.value = "road & <kerb>"
        viewer.order.value = "class"
        iou_of_road = [10 / 15, 5 / 10, 10 / 20]
        assert viewer._scores[0][1].iou_per_class[1] == pytest.approx(iou_of_road[1])
        assert [viewer._scores[0][k].iou_per_class[1] for k in viewer._order] == sorted(iou_of_road)
        viewer.only.value = "sky"
        assert [viewer._scores[0][k].iou_per_class[0] for k in viewer._order] == [0.0, 0.5, 1.0]
        assert first == 2

    def test_an_image_stays_when_the_class_does_not_change_the_order(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        viewer.position.value = 3
        viewer.only.value = "sky"
        assert viewer.position.value == 3

    def test_a_data_set_and_predictions_as_predict_returns_them(self, samples, preds):
        class Dataset:
            def __len__(self):
                return 1000

            def __getitem__(self, index):
                assert index < 3, "only what is shown is read"
                return samples[index]

        made = [
            Prediction(image=s.image, mask=p, classes=NAMES.classes, palette=NAMES.palette)
            for s, p in zip(samples, preds, strict=True)
        ]
        viewer = MaskViewer(Dataset(), made, NAMES)
        assert np.array_equal(viewer.view(), MaskViewer(samples, preds, NAMES).view())

    def test_a_single_image(self, samples, preds):
        viewer = MaskViewer(samples[:1], preds[:1], NAMES)
        assert viewer.position.disabled
        viewer.opacity.value = 1.0
        assert viewer.index == 0

    def test_images_without_labelled_pixels_come_last(self, samples, preds):
        void = samples[0]._replace(labels=np.full((4, 6), 255, np.uint8))
        viewer = MaskViewer([void, *samples[:1]], preds[:2], NAMES)
        assert viewer._order == [1, 0]
        viewer.position.value = 2
        assert "mIoU of this image –" in viewer.summary()

    @pytest.mark.parametrize("count", [0, 4])
    def test_wrong_number_of_predictions(self, samples, preds, count):
        with pytest.raises(ValueError, match=f"got 3 samples and {count} predictions"):
            MaskViewer(samples, (preds * 2)[:count], NAMES)

    def test_second_predictions_of_another_number(self, samples, preds):
        with pytest.raises(ValueError, match="got 3 samples and 3 and 2 predictions"):
            MaskViewer(samples, preds, NAMES, second=preds[:2])

    def test_a_prediction_of_another_size_is_named(self, samples, preds):
        preds[1] = preds[1][:, :3]
        with pytest.raises(
            ValueError, match=r"prediction of street 1 has shape \(4, 3\), its labels \(4, 6\)"
        ):
            MaskViewer(samples, preds, NAMES)

    def test_errors_of_a_callback_are_shown_in_the_widget(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        samples[0] = samples[0]._replace(image=np.zeros((9, 9, 3), np.uint8))
        with pytest.raises(ValueError, match="image is 9x9"):
            viewer.position.value = 2
        assert "the image is 9x9 and its labels have shape (4, 6)" in html.unescape(viewer.error.value)
        viewer.position.value = 3
        assert viewer.error.value == ""

    def test_it_carries_an_image_and_a_line_of_itself(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        bundle = viewer._repr_mimebundle_(include=None, exclude=None)
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == viewer.model_id
        assert bundle["text/plain"] == viewer.summary()
        assert json.dumps(bundle)
        kept = pixels(base64.b64decode(bundle["image/png"]))
        page = viewer.still_image()
        assert kept.shape == page.shape
        assert np.abs(kept.astype(int) - page).mean() < 6  # 256 colours
        upper = page.shape[0] - draw.legend(NAMES, page.shape[1], ["100.0 %"] * 3).shape[0]
        view = viewer.view()
        assert np.array_equal(page[upper - view.shape[0] : upper], view)

    def test_a_long_headline_is_wrapped_in_the_still_and_not_cut(self, samples, preds):
        """What is cut ends in an ellipsis, so the same page with the lines written one by one must have all words."""
        long = [s._replace(name="streets/val/" + "a_long_file_name_" * 5) for s in samples]
        viewer = MaskViewer(long, preds, NAMES, second=preds, names=("FCN on JPU", "FCN-D8"), width=96)
        page, view = viewer.still_image(), viewer.view()
        lines = draw.wrapped(viewer.summary(), view.shape[1])
        assert len(lines) > 2 and "".join(lines).replace(" ", "") == viewer.summary().replace(" ", "")
        assert all(draw.shortened(line, view.shape[1] - 16) == line for line in lines)
        headline = draw.text_block(lines, view.shape[1])
        assert np.array_equal(page[: len(headline), : view.shape[1]], headline)
        assert np.array_equal(page[len(headline) :][: len(view)], view)

    @pytest.mark.parametrize("only", [None, 1])
    def test_the_titles_fit_the_width_that_chapters_use(self, samples, preds, only, monkeypatch):
        cut = []

        def shortened(text, width, *size):
            short = whole(text, width, *size)
            cut.extend([text] if short != text else [])
            return short

        whole = draw.shortened
        monkeypatch.setattr(draw, "shortened", shortened)
        sample, names = samples[0], ("FCN on JPU", "FCN-D8")
        mask_view(
            sample.image, sample.labels, preds[0], STREETS, only=only, second=preds[1], names=names, width=240
        )
        assert cut == []

    def test_redrawing_is_fast_enough_for_a_slider(self):
        """0.07 s for four images of CamVid's size, measured."""
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (360, 480, 3)).astype(np.uint8)
        ids = rng.integers(0, 10, (360, 480)).astype(np.uint8)
        viewer = MaskViewer([Sample(image, ids, "noise")], [ids], STREETS)
        seconds = []
        for opacity in (0.1, 0.2, 0.3, 0.4):
            started = time.process_time()  # of the processor: the machine may be busy
            viewer.opacity.value = opacity
            seconds.append(time.process_time() - started)
        assert min(seconds) < 0.2

    def test_names_out_of_files_are_shown_as_text(self, samples, preds):
        names = ("$\\frac{", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>")
        hostile = [sample._replace(name=f"{names[2]}\x1b[2J\n") for sample in samples]
        viewer = MaskViewer(hostile, preds, LabelSet(names, NAMES.palette))
        page = viewer.table.value + viewer.headline.value
        assert "<script" not in page and "<img" not in page
        assert viewer.summary().isprintable()
        assert all(name in html.unescape(viewer.table.value) for name in names)
        assert viewer.still_image().shape[1] > 100
