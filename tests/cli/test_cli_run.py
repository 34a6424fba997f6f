"""What `fcnbook run` says before it starts anything."""

import pytest

from fcnbook.cli import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["000-01"],
            "There is no folder data/cityscapes. `fcnbook data prepare cityscapes` makes it; or give",
        ),
        (["fcn8s_vgg16_voc11"], "There is no folder data/voc12aug."),
        (["fcn_r50-d8_4xb2-40k_cityscapes-512x1024"], "There is no folder data/cityscapes."),
        (["002-04"], "Row 002-04 names a network and no training; `fcnbook bench 002-04` measures it."),
        (["fcn_r18-d8"], "Nearest: fcn_r18-d8_512x1024_80k_cityscapes"),
        (
            ["fcn_r18-d8_360x480_10k_camvid", "--scale", "smoke", "--init", "a.pth"],
            "--init is for full scale: at smoke scale",
        ),
        (
            ["fcn32s_vgg16_late_nyud", "--init", "a.pth"],
            "starts from fcn32s_vgg16_nyud and fcn32s_vgg16_hha_nyud; give --init 2 times, or not at all.",
        ),
        (
            ["fcn_r18-d8_360x480_10k_camvid", "--init", "a.pth"],
            "starts from random weights; give --init 0 times",
        ),
        (["000-01", "--init", "a.pth"], "a.pth: there is no such file or run folder to start from."),
        (
            ["fcn_r18-d8_360x480_10k_camvid", "--scale", "smoke", "--device", "abacus"],
            "abacus",
        ),
    ],
)
def test_what_cannot_start_is_said_at_once(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
