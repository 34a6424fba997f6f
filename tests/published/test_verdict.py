"""Verdicts worked by hand, and who gets one."""

import dataclasses
import math

import pytest

from fcnbook.published import (
    PUBLISHED,
    Measured,
    Verdict,
    judge,
    judge_scores,
    row_verdicts,
    rows_of,
    verdicts,
    why_no_verdict,
)

FCN_R50 = "fcn_r50-d8_512x1024_40k_cityscapes"  # 72.25 / 73.36


@pytest.mark.parametrize(
    ("measured", "outcome", "difference"),
    [
        (0.7225, "PASS", 0.0),
        (0.8000, "PASS", 0.0775),
        (0.7125, "PASS", -0.0100),  # exactly 1.0 below
        (0.7124, "NOISE", -0.0101),
        (0.71246, "PASS", -0.0100),  # printed 71.25
        (0.71244, "NOISE", -0.0101),  # printed 71.24
        (0.71245, "NOISE", -0.0101),  # halves go to the even digit, 71.24
        (0.71255, "PASS", -0.0099),  # and up here, to 71.26
        (0.7025, "NOISE", -0.0200),  # exactly 2.0 below
        (0.7024, "FAIL", -0.0201),
        (0.0, "FAIL", -0.7225),
    ],
)
def test_bands_of_a_score(measured, outcome, difference):
    verdict = judge("miou", 0.7225, [measured])
    assert (verdict.outcome, verdict.seeds) == (outcome, 1)
    assert verdict.difference == pytest.approx(difference, abs=1e-9)


def test_the_edges_of_the_bands_hold_for_every_published_score():
    """Floating point alone fails here: 100 * 0.6924 - 100 * 0.7024 is -1.0000000000000142."""
    scores = {row.figure(c) for row in PUBLISHED.values() for c in ("miou", "miou_ms_flip", "miou_avg")} - {
        None
    }
    assert len(scores) > 100
    for published in scores:
        for points, expected in ((100, "PASS"), (101, "NOISE"), (200, "NOISE"), (201, "FAIL")):
            measured = (round(published * 10_000) - points) / 10_000
            assert judge("miou", published, [measured]).outcome == expected, (published, points)


def test_the_sentence_of_a_single_run():
    assert (
        judge("miou", 0.7225, [0.7310]).text()
        == "mIoU 73.10 vs 72.25 published, +0.85, PASS (at most 1.0 below), one seed, indicative, n = 1"
    )
    assert judge("miou_ms_flip", 0.7336, [0.7186]).text() == (
        "mIoU(ms+flip) 71.86 vs 73.36 published, -1.50, NOISE (at most 2.0 below), one seed, indicative, n = 1"
    )
    assert judge("miou", 0.7225, [0.61]).text() == (
        "mIoU 61.00 vs 72.25 published, -11.25, FAIL (more than 2.0 below), one seed, indicative, n = 1"
    )
    assert (
        judge("miou", None, [0.731]).text()
        == "mIoU 73.10, NO ROW (no published figure to compare with), one seed, indicative, n = 1"
    )


def test_mean_and_best_of_several_seeds():
    """0.7050, 0.7100, 0.7180: the mean is 0.7110, 0.45 below 71.55; the best 0.25 above."""
    runs = [0.7050, 0.7180, 0.7100]
    mean, best = judge("miou", 0.7155, runs), judge("miou", 0.7155, runs, statistic="best")
    assert (mean.measured, best.measured) == (0.7110, 0.7180)
    assert (
        mean.text()
        == "mIoU 71.10 vs 71.55 published, -0.45, PASS (at most 1.0 below), mean of 3 seeds, n = 3"
    )
    assert (
        best.text()
        == "mIoU 71.80 vs 71.55 published, +0.25, PASS (at most 1.0 below), best of 3 seeds, n = 3"
    )


def test_the_mean_of_equal_runs_stays_on_the_edge():
    assert judge("miou", 0.72, [0.71, 0.71, 0.71]).outcome == "PASS"
    assert judge("miou", 0.72, [0.70, 0.70, 0.70]).outcome == "NOISE"


def test_a_score_that_is_no_number_fails():
    verdict = judge("miou", 0.7225, [0.73, math.nan], statistic="best")
    assert (verdict.outcome, verdict.difference) == ("FAIL", None)
    assert verdict.text() == (
        "mIoU NaN vs 72.25 published, FAIL (the score is missing or not a finite number), best of 2 seeds, n = 2"
    )


@pytest.mark.parametrize("same_weights", [False, True])
@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_is_missing_or_not_finite_fails(missing, same_weights):
    for scores in ([missing], [0.7225, missing]):
        verdict = judge("miou", 0.7225, scores, same_weights=same_weights)
        assert (verdict.outcome, verdict.difference) == ("FAIL", None)
        assert "FAIL (the score is missing or not a finite number)" in verdict.text()
    asked = Measured(miou=(0.7225,), miou_ms_flip=(missing,), same_weights=same_weights)
    assert outcomes(row_verdicts(PUBLISHED["000-01"], asked)) == {"miou": "PASS", "miou_ms_flip": "FAIL"}


# ---- The same weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "outcome", "difference"),
    [
        (0.7225, "PASS", 0.0),
        (0.7230, "PASS", 0.0005),  # exactly 0.05 above
        (0.7220, "PASS", -0.0005),  # exactly 0.05 below
        (0.7231, "FAIL", 0.0006),  # too good
        (0.7219, "FAIL", -0.0006),
        (0.72304, "PASS", 0.0005),  # printed 72.30
        (0.72306, "FAIL", 0.0006),  # printed 72.31
        (0.7125, "FAIL", -0.0100),  # as far as a training may be
        (0.9000, "FAIL", 0.1775),
        (0.0, "FAIL", -0.7225),
    ],
)
def test_the_same_weights_pass_within_five_hundredths_either_way(measured, outcome, difference):
    verdict = judge("miou", 0.7225, [measured], same_weights=True)
    assert verdict.outcome == outcome
    assert verdict.difference == pytest.approx(difference, abs=1e-9)


def test_the_edges_for_the_same_weights_hold_for_every_published_score():
    """Floating point alone fails here: 100 * 0.7104 - 100 * 0.7099 is 0.05000000000001137."""
    scores = {row.figure(c) for row in PUBLISHED.values() for c in ("miou", "miou_ms_flip")} - {None}
    for published in scores:
        for points in (-6, -5, 5, 6):
            measured = (round(published * 10_000) + points) / 10_000
            expected = "PASS" if abs(points) == 5 else "FAIL"
            assert judge("miou", published, [measured], same_weights=True).outcome == expected


def test_the_sentences_of_the_same_weights():
    close = judge("miou", 0.7225, [0.7223], same_weights=True)
    assert (
        close.text()
        == "mIoU 72.23 vs 72.25 published, -0.02, PASS (within 0.05 either way), same weights, n = 1"
    )
    assert judge("miou_ms_flip", 0.7336, [0.7436], same_weights=True).text() == (
        "mIoU(ms+flip) 74.36 vs 73.36 published, +1.00, FAIL (not within 0.05 either way: it can be another edition "
        "of the data or of its labels, another resize, align_corners, half precision, or the wrong file), "
        "same weights, n = 1"
    )
    assert judge("miou", None, [0.7], same_weights=True).text() == (
        "mIoU 70.00, NO ROW (no published figure to compare with), given weights, n = 1"
    )


def test_only_scores_are_judged_by_tier():
    measured = Measured(miou=[0.719], parameters=51_948_115, same_weights=True)
    row = dataclasses.replace(PUBLISHED["000-01"], params_m=51.95)
    score, parameters = row_verdicts(row, measured)
    assert (score.outcome, parameters.outcome) == ("FAIL", "PASS")
    assert parameters.text().endswith("PASS (equal in the printed digits)")


def test_percent_and_nothing_are_refused():
    with pytest.raises(ValueError, match=r"mIoU lies in \[0, 1\], got 73\.1\. Divide percent by 100\."):
        judge("miou", 0.7225, [73.1])
    with pytest.raises(ValueError, match=r"got 72\.25"):
        judge("miou", 72.25, [0.731])
    with pytest.raises(ValueError, match="no mIoU was measured"):
        judge("miou", 0.7225, [])


def test_parameters_and_flops_must_agree_in_the_printed_digits():
    """The 51,948,115 parameters of recipes.md §7 are printed as 51.95 M."""
    same, other = judge("params_m", 51.95, [51.948115]), judge("params_m", 51.95, [51.944])
    assert (same.outcome, other.outcome) == ("PASS", "FAIL")
    assert (
        same.text() == "parameters 51.95 M vs 51.95 M published, +0.00 M, PASS (equal in the printed digits)"
    )
    assert (
        other.text()
        == "parameters 51.94 M vs 51.95 M published, -0.01 M, FAIL (not equal in the printed digits)"
    )
    assert judge("flops_g", 216.42, [216.4249]).outcome == "PASS"
    assert judge("flops_g", 216.42, [108.21]).outcome == "FAIL"  # multiply-adds counted as one


def test_speed_and_memory_are_shown_with_their_hardware():
    verdict = judge("fps", 4.17, [31.5], hardware="H200", published_hardware="V100")
    assert verdict.outcome == "SHOWN"
    assert (
        verdict.text()
        == "fps 31.50 on H200 vs 4.17 published on V100, SHOWN (depends on the hardware, not judged)"
    )
    assert judge("mem_gb", 5.7, [0.1]).outcome == "SHOWN"


def outcomes(found: list[Verdict]) -> dict[str, str]:
    return {verdict.column: verdict.outcome for verdict in found}


def test_verdicts_of_a_recipe_by_either_name():
    measured = Measured(miou=[0.715], miou_ms_flip=[0.716], parameters=49_000_000, fps=30.0, hardware="H200")
    found = verdicts(FCN_R50, measured)
    assert outcomes(found) == {
        "miou": "PASS",
        "miou_ms_flip": "NOISE",
        "fps": "SHOWN",
    }  # no parameters were printed
    assert (found[2].hardware, found[2].published_hardware) == ("H200", "V100")
    assert verdicts("fcn_r50-d8_4xb2-40k_cityscapes-512x1024", measured) == found


def test_only_what_was_measured_is_judged():
    assert outcomes(verdicts(FCN_R50, Measured(miou=[0.72]))) == {"miou": "PASS"}
    assert verdicts(FCN_R50, Measured()) == []


def test_autodrive_compares_best_with_best_and_mean_with_average():
    """FP32 row: best 71.55, average 70.91. Best of ours 70.60 is 0.95 below; our mean 69.80 is 1.11 below."""
    found = verdicts("autodrive_fcn_r101_321x321_30e_voc12aug", Measured(miou=[0.690, 0.706, 0.698]))
    assert outcomes(found) == {"miou": "PASS", "miou_avg": "NOISE"}
    assert (
        found[0].text()
        == "mIoU 70.60 vs 71.55 published, -0.95, PASS (at most 1.0 below), best of 3 seeds, n = 3"
    )
    assert (
        found[1].text()
        == "mIoU(avg) 69.80 vs 70.91 published, -1.11, NOISE (at most 2.0 below), mean of 3 seeds, n = 3"
    )


@pytest.mark.parametrize(
    "recipe",
    [
        "fcn_r18-d8_360x480_10k_camvid",  # no row
        "ssseg_fcn_r50-os8_512x1024_220e_cityscapes",  # blank cell
        "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes",  # placeholder
    ],
)
def test_no_row(recipe):
    found = verdicts(
        recipe, Measured(miou=[0.73], miou_ms_flip=[0.75], fps=10.0, memory_gib=5.0, parameters=10)
    )
    assert outcomes(found) == {"miou": "NO ROW", "miou_ms_flip": "NO ROW"}
    assert [verdict.published for verdict in found] == [None, None]


def test_profiling_rows_judge_a_network():
    found = row_verdicts(
        PUBLISHED["002-04"], Measured(parameters=51_948_115, flops=216_420_000_000, fps=100.0)
    )
    assert outcomes(found) == {"params_m": "PASS", "flops_g": "PASS", "fps": "SHOWN"}
    assert found[2].published_hardware == "RTX 2080 Ti"
    assert outcomes(row_verdicts(PUBLISHED["002-05"], Measured(flops=216_420_000_000))) == {"flops_g": "FAIL"}


def test_the_sentence_of_a_run():
    assert judge_scores(rows_of(FCN_R50), 0.7310, 0.7336) == (
        "mIoU 73.10 vs 72.25 published, +0.85, PASS (at most 1.0 below), one seed, indicative, n = 1; "
        "mIoU(ms+flip) 73.36 vs 73.36 published, +0.00, PASS (at most 1.0 below), one seed, indicative, n = 1"
    )
    assert judge_scores([], 0.7310, None) == "NO ROW"


# ---- Who may be judged ---------------------------------------------------------------------------------------------

ROWS = [PUBLISHED["000-01"]]
WHOLE = {
    "scale": "full",
    "num_steps": 40_000,
    "full_steps": 40_000,
    "images": {"train": (2975, 2975), "val": (500, 500)},
    "overrides": (),
    "data": "cityscapes",
}
"""A run of row 000-01 as published."""
SCORED = {"scale": "full", "num_steps": None, "full_steps": 40_000, "images": {"val": (500, 500)}}
"""Published weights, scored on the whole split."""


def test_a_whole_run_and_published_weights_are_judged():
    assert why_no_verdict(ROWS, **WHOLE) == why_no_verdict(ROWS, **SCORED) == ""


@pytest.mark.parametrize("scale", ["tiny", "smoke"])
def test_other_scales_are_not_judged(scale):
    reason = "row 000-01 is judged at full scale only"
    assert why_no_verdict(ROWS, **WHOLE | {"scale": scale}) == reason


@pytest.mark.parametrize(
    ("num_steps", "full_steps", "reason"),
    [
        (39_999, 40_000, "trained for 39,999 of 40,000 steps"),
        (2, 4, "trained for 2 of 4 steps"),
        (40_000, 40_000, ""),
        (40_001, 40_000, ""),
        (2, None, ""),  # nobody says how many
    ],
)
def test_a_shortened_run_is_not_judged(num_steps, full_steps, reason):
    assert why_no_verdict(ROWS, **WHOLE | {"num_steps": num_steps, "full_steps": full_steps}) == reason


@pytest.mark.parametrize(
    ("train", "val", "reason"),
    [
        ((2974, 2975), (500, 500), "2,974 of the 2,975 images of train are there"),
        ((2975, 2975), (499, 500), "499 of the 500 images of val are there"),
        ((2974, 2975), (499, 500), "2,974 of the 2,975 images of train are there"),
        ((2975, 2975), (500, 500), ""),
        ((2976, 2975), (501, 500), ""),
        ((1, None), (1, None), ""),
    ],
)
def test_a_run_on_a_part_of_the_data_set_is_not_judged(train, val, reason):
    assert why_no_verdict(ROWS, **WHOLE | {"images": {"train": train, "val": val}}) == reason


@pytest.mark.parametrize(
    ("val", "reason"),
    [
        ((2, 500), "the data set is not complete, 2 of the 500 images of its split are there"),
        ((499, 500), "the data set is not complete, 499 of the 500 images of its split are there"),
        ((500, 500), ""),
        ((2, None), ""),
    ],
)
def test_a_score_on_a_part_of_the_split_is_not_judged(val, reason):
    assert why_no_verdict(ROWS, **SCORED | {"images": {"val": val}}) == reason


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (1, "only the first 1 of 1,449 images was scored, as the limit asks"),
        (1448, "only the first 1,448 of 1,449 images were scored, as the limit asks"),
        (1449, ""),
        (2000, ""),
        (None, ""),
    ],
)
def test_a_score_of_the_first_images_is_not_judged(limit, reason):
    assert why_no_verdict(ROWS, **SCORED | {"images": {"val": (1449, 1449)}}, limit=limit) == reason


def test_a_limit_is_named_before_the_images_that_are_missing():
    images = {"val": (4, 500)}
    reason = "only the first 2 of 4 images were scored, as the limit asks"
    assert why_no_verdict(ROWS, **SCORED | {"images": images}, limit=2) == reason


@pytest.mark.parametrize(
    ("overrides", "data", "reason"),
    [
        (("optim.lr=0.003",), "cityscapes", "optim.lr=0.003 was changed by hand"),
        (("optim.lr=0.003", "batch_size=4"), None, "optim.lr=0.003, batch_size=4 were changed by hand"),
        ((), "own", "the data is your own"),
        (("batch_size=4",), "own", "the data is your own, and batch_size=4 was changed by hand"),
        ((), "cityscapes", ""),
        ((), None, ""),
    ],
)
@pytest.mark.parametrize("rows", [ROWS, []])
def test_overrides_and_own_data_are_named_with_or_without_a_row(rows, overrides, data, reason):
    assert why_no_verdict(rows, **WHOLE | {"overrides": overrides, "data": data}) == reason
    tiny = {"scale": "tiny", "overrides": overrides, "data": data}
    of_scale = "row 000-01 is judged at full scale only" if rows else ""
    assert why_no_verdict(rows, **WHOLE | tiny) == (reason or of_scale)


def test_without_a_row_nothing_else_is_missing():
    short = {"scale": "tiny", "num_steps": 2, "images": {"val": (1, 500)}}
    assert why_no_verdict([], **WHOLE | short) == why_no_verdict([], **SCORED, limit=1) == ""


def test_the_sentence_of_a_run_that_is_not_judged():
    assert (
        judge_scores(ROWS, 0.7, reason="trained for 2 of 4 steps") == "no verdict: trained for 2 of 4 steps"
    )
    changed = rows_of(FCN_R50, overrides=("optim.lr=0.003",))
    reason = "optim.lr=0.003 was changed by hand"
    assert judge_scores(changed, 0.7, reason=reason) == "NO ROW: optim.lr=0.003 was changed by hand"
