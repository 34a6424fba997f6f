import errno
import html
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from nbconvert.filters.markdown import markdown2html
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnbook.files import (
    InputError,
    markdown_text,
    one_line,
    read_image,
    read_json,
    read_labels,
    write_atomic,
    write_error,
    write_json,
)


@pytest.fixture
def pixels():
    rows, cols = np.mgrid[0:24, 0:32]
    return np.stack([rows * 8, cols * 6, rows + cols], axis=-1).astype(np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def exif_with_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


class TestReadImage:
    def test_rgb_png_is_read_exactly_and_may_be_written_to(self, tmp_path, pixels):
        image = read_image(save(tmp_path / "a.png", pixels))
        np.testing.assert_array_equal(image, pixels)
        image[0, 0] = 7

    @pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK"])
    def test_every_mode_becomes_rgb(self, tmp_path, pixels, mode):
        converted = Image.fromarray(pixels).convert(mode)
        path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        converted.save(path)
        image = read_image(path)
        assert image.shape == (24, 32, 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.asarray(converted.convert("RGB")))

    def test_sixteen_bits_are_scaled_not_clipped(self, tmp_path):
        grey = np.array([[0, 256, 32768, 65535]], np.uint16)
        image = read_image(save(tmp_path / "a.png", grey))
        np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])

    def test_floating_point_is_refused(self, tmp_path):
        path = save(tmp_path / "a.tif", np.zeros((2, 2), np.float32))
        with pytest.raises(InputError, match=r"a\.tif holds floating point"):
            read_image(path)

    def test_a_photograph_is_turned_upright(self, tmp_path, pixels):
        path = save(tmp_path / "a.png", pixels, exif=exif_with_orientation(6))  # turn clockwise to view
        np.testing.assert_array_equal(read_image(path), np.rot90(pixels, -1))

    def test_an_image_that_imagemagick_says_is_turned(self, tmp_path, pixels):
        exif = b"Exif\0\0" + exif_with_orientation(6).tobytes().removeprefix(b"Exif\0\0")
        text = f"\nexif\n{len(exif):8d}\n{exif.hex()}\n"
        chunk = PngInfo()
        chunk.add_text("Raw profile type exif", text, zip=True)
        path = save(tmp_path / "a.png", pixels, pnginfo=chunk)
        np.testing.assert_array_equal(read_image(path), np.rot90(pixels, -1))

    @pytest.mark.parametrize("missing", [20, 300])  # the end of the pixels, and some of the header
    def test_truncated_jpeg(self, tmp_path, pixels, missing):
        path = save(tmp_path / "street.jpg", pixels)
        path.write_bytes(path.read_bytes()[:-missing])
        with pytest.raises(InputError, match=r"street\.jpg is truncated.*Fetch it again"):
            read_image(path)

    @pytest.mark.parametrize(
        "options", [{}, {"transparency": (1, 2, 3)}, {"compress_level": 0}, {"dpi": (72, 72)}]
    )
    def test_plain_png_is_read_as_pillow_reads_it(self, tmp_path, pixels, options):
        path = save(tmp_path / "a.png", pixels, **options)
        np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))

    @pytest.mark.parametrize("kept", [8, 40, 0.5, 0.9, 0.99])
    def test_truncated_png(self, tmp_path, kept):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = save(tmp_path / "street.png", noise)
        data = path.read_bytes()
        path.write_bytes(data[: kept if kept > 1 else int(kept * len(data))])
        with pytest.raises(InputError, match=r"street\.png .*[Ff]etch it again"):
            read_image(path)

    def test_damaged_png(self, tmp_path, pixels):
        path = save(tmp_path / "a.png", pixels)
        data = bytearray(path.read_bytes())
        data[60:90] = bytes(30)
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.png .*fetch it again"):
            read_image(path)

    def test_other_unusable_paths(self, tmp_path):
        (tmp_path / "page.jpg").write_text("<html>not found</html>")
        (tmp_path / "empty.jpg").touch()
        (tmp_path / "folder.jpg").mkdir()
        for name, said in {
            "page.jpg": "not an image",
            "empty.jpg": "(0 bytes) is not an image",
            "folder.jpg": "is a folder",
            "none.jpg": "There is no file",
        }.items():
            with pytest.raises(InputError) as caught:
                read_image(tmp_path / name)
            assert name in str(caught.value)
            assert said in str(caught.value)


class TestReadLabels:
    values = np.array([[0, 1, 2], [11, 254, 255]], np.uint8)

    def test_greyscale(self, tmp_path):
        np.testing.assert_array_equal(read_labels(save(tmp_path / "a.png", self.values)), self.values)

    @pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"compress_level": 0}])
    def test_greyscale_is_read_as_pillow_reads_it(self, tmp_path, options):
        values = np.random.default_rng(0).integers(0, 256, (31, 17), dtype=np.uint8)
        path = save(tmp_path / "a.png", values, **options)
        labels = read_labels(path)
        np.testing.assert_array_equal(labels, values)
        assert labels.dtype == np.uint8 and labels.flags.writeable

    def test_palette_gives_indices_not_colours(self, tmp_path):
        labels = Image.new("P", (3, 2))
        labels.putpalette([(i * 7 + 3) % 256 for i in range(768)])
        labels.putdata(self.values.reshape(-1).tolist())
        labels.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), self.values)

    def test_one_bit(self, tmp_path):
        labels = read_labels(save(tmp_path / "a.png", np.array([[True, False]])))
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, [[1, 0]])

    def test_sixteen_bits_are_read_when_the_values_fit(self, tmp_path):
        np.testing.assert_array_equal(
            read_labels(save(tmp_path / "a.png", self.values.astype(np.uint16))), self.values
        )

    def test_a_value_above_255_is_named(self, tmp_path):
        path = save(tmp_path / "a.png", np.array([[0, 0], [0, 7001]], np.uint16))
        with pytest.raises(InputError, match=r"a\.png .*value 7001 at row 1, column 1"):
            read_labels(path)

    @pytest.mark.parametrize("name", ["a.jpg", "a.png"])
    def test_jpeg_is_refused_whatever_its_name(self, tmp_path, name):
        Image.fromarray(self.values).save(tmp_path / name, format="JPEG")
        with pytest.raises(InputError, match=rf"{name} is a JPEG.*as PNG"):
            read_labels(tmp_path / name)

    def test_other_formats_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.bmp is a BMP file.*PNG"):
            read_labels(save(tmp_path / "a.bmp", self.values))

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
    def test_colours_are_refused(self, tmp_path, mode):
        Image.fromarray(self.values).convert(mode).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=rf"a\.png is a colour image \(mode {mode}\)"):
            read_labels(tmp_path / "a.png")


class TestWriteAtomic:
    def test_replaces_the_old_file_and_leaves_nothing_else(self, tmp_path):
        path = tmp_path / "weights"
        write_atomic(path, b"old")
        write_atomic(path, b"new" * 1000)
        assert path.read_bytes() == b"new" * 1000
        assert os.listdir(tmp_path) == ["weights"]

    def test_a_write_that_the_system_cuts_off_keeps_the_old_file(self, tmp_path):
        """A real limit on file size, set in a process of its own; a full disk takes the same way."""
        path = tmp_path / "weights"
        path.write_bytes(b"old")
        program = """
            import resource, sys
            from fcnbook.files import InputError, write_atomic
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                write_atomic(sys.argv[1], bytes(100_000))
            except InputError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), path], capture_output=True, text=True, check=True
        )
        assert f"Cannot write {path}: the file is larger" in done.stdout
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["weights"]

    def test_nothing_is_left_when_the_rename_fails(self, tmp_path):
        (tmp_path / "taken").mkdir()
        with pytest.raises(InputError, match="Cannot write"):
            write_atomic(tmp_path / "taken", b"data")
        assert os.listdir(tmp_path) == ["taken"]

    def test_missing_folder(self, tmp_path):
        with pytest.raises(InputError, match="check that the folder exists"):
            write_atomic(tmp_path / "none" / "file", b"data")

    def test_a_full_disk_is_said_in_words(self):
        error = write_error("run/model.safetensors", OSError(errno.ENOSPC, "No space left on device"))
        assert str(error).startswith("Cannot write run/model.safetensors: the disk is full; free some space")


class TestJson:
    def test_round_trip_keeps_letters_readable(self, tmp_path):
        value = {"name": "Zürich", "scores": [0.5, None]}
        write_json(tmp_path / "a.json", value)
        assert read_json(tmp_path / "a.json") == value
        assert "Zürich" in (tmp_path / "a.json").read_text(encoding="utf-8")
        assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value

    def test_damaged_and_missing_files_are_named(self, tmp_path):
        (tmp_path / "a.json").write_text('{"half":')
        with pytest.raises(InputError, match=r"a\.json is not readable as JSON"):
            read_json(tmp_path / "a.json")
        with pytest.raises(InputError, match=r"There is no file .*b\.json"):
            read_json(tmp_path / "b.json")

    def test_json_nested_without_end_is_a_sentence(self, tmp_path):
        (tmp_path / "a.json").write_text(100_000 * "[")
        with pytest.raises(InputError, match=r"a\.json is not readable as JSON"):
            read_json(tmp_path / "a.json")


HOSTILE = "a\nb\r\x1b[2Jc\x9b\u202e\u2028\udcff\x85"


class TestTextsOutOfFiles:
    def test_one_line_is_one_printable_line_whatever_stands_in_it(self):
        assert one_line(HOSTILE) == r"a\nb\r\x1b[2Jc\x9b\u202e\u2028\udcff\x85"
        assert one_line(HOSTILE).isprintable() and len(one_line(HOSTILE).splitlines()) == 1
        assert one_line(one_line(HOSTILE)) == one_line(HOSTILE)
        assert one_line("Zürich, 道\u3000路, a\xa0b, 5 × 5 – ✓") == "Zürich, 道 路, a b, 5 × 5 – ✓"
        assert one_line(Path("images/a\nb.png")) == r"images/a\nb.png"

    def test_an_error_has_the_lines_that_it_was_given_and_no_more(self):
        error = InputError(f"{HOSTILE} is damaged.", f"  {HOSTILE}")
        assert str(error).split("\n") == [f"{one_line(HOSTILE)} is damaged.", f"  {one_line(HOSTILE)}"]
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # out of a loader process

    def test_markdown_shows_every_text_as_it_is(self):
        page = markdown2html(
            f"| a |\n|---|\n| {markdown_text('<b> `x` [a](b) ![c](d) $e$ *f* | &lt; www.g.h')} |"
        )
        shown = re.search(r"<td>(.*)</td>", page)[1]
        assert html.unescape(shown) == "<b> `x` [a](b) ![c](d) $e$ *f* | &lt; www.g.h"
        assert "<" not in shown
        assert markdown_text("what's this? 5 %") == "what's this? 5 %"
