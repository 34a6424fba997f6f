"""Verdicts worked by hand, and who gets one."""

import dataclasses
import json
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

from fcnbook.published import (
    PUBLISHED,
    Measured,
    Verdict,
    judge,
    judge_scores,
    row_verdicts,
    rows_of,
    score_verdicts,
    verdicts,
    why_no_verdict,
)

FCN_R50 = "fcn_r50-d8_512x1024_40k_cityscapes"  # 72.25 / 73.36


@pytest.mark.parametrize(
    ("measured", "outcome", "difference"),
    [
        (0.7225, "PASS", 0.0),
        (0.7425, "PASS", 0.0200),  # exactly 2.0 above
        (0.7426, "TOO GOOD", 0.0201),
        (0.8000, "TOO GOOD", 0.0775),
        (1.0, "TOO GOOD", 0.2775),
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
        for points, expected in (
            (-201, "TOO GOOD"),
            (-200, "PASS"),
            (100, "PASS"),
            (101, "NOISE"),
            (200, "NOISE"),
            (201, "FAIL"),
        ):
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


def test_a_single_run_that_is_too_good_is_named_with_its_causes():
    assert judge("miou", 0.7225, [0.7426]).text() == (
        "mIoU 74.26 vs 72.25 published, +2.01, TOO GOOD (more than 2.0 above: it can be test images in training, "
        "another split or class list, an easier resize or handling of void, better start weights, or the best of "
        "many snapshots), one seed, indicative, n = 1"
    )


@pytest.mark.parametrize("scores", [[0.7125, 0.7125], [0.7025, 0.7225]])
def test_two_seeds_stay_indicative(scores):
    """Both means are 71.25, exactly 1.0 below; the spread plays no part."""
    verdict = judge("miou", 0.7225, scores)
    assert (verdict.outcome, verdict.tier, verdict.interval) == ("PASS", "indicative", None)
    assert verdict.text() == (
        "mIoU 71.25 vs 72.25 published, -1.00, PASS (at most 1.0 below), mean of 2 seeds, indicative, n = 2"
    )


# ---- Three seeds or more -------------------------------------------------------------------------------------------

T_975 = {2: 4.3027, 3: 3.1824, 4: 2.7764}
"""97.5 % quantiles of Student's t by degrees of freedom, from the printed tables."""


@pytest.mark.parametrize(
    ("published", "scores", "outcome", "interval", "reason"),
    [
        # s = 0.20, half = 4.3027 x 0.20 x sqrt(4/3) = 0.9937
        (0.7225, [0.7190, 0.7210, 0.7230], "PASS", (71.11, 73.09), "at most 1.0 from it, inside"),
        # the mean is exactly 1.0 off on either side: 71.25 -> half 0.50 (s = 0.10), so P is outside
        (0.7225, [0.7115, 0.7125, 0.7135], "PASS", (70.75, 71.75), "at most 1.0 from it, though outside"),
        (0.7225, [0.7315, 0.7325, 0.7335], "PASS", (72.75, 73.75), "at most 1.0 from it, though outside"),
        # one hundredth more
        (0.7226, [0.7115, 0.7125, 0.7135], "FAIL", (70.75, 71.75), "more than 1.0 below, and outside"),
        (0.7224, [0.7315, 0.7325, 0.7335], "TOO GOOD", (72.75, 73.75), "more than 1.0 above, and outside"),
        # s = 0.50, half = 2.4842: 2.25 off is inside, 2.49 off is not
        (0.7225, [0.6950, 0.7000, 0.7050], "UNDECIDED", (67.52, 72.48), "more than 1.0 below, but inside"),
        (0.7249, [0.6950, 0.7000, 0.7050], "FAIL", (67.52, 72.48), "more than 1.0 below, and outside"),
        (0.7248, [0.6950, 0.7000, 0.7050], "UNDECIDED", (67.52, 72.48), "more than 1.0 below, but inside"),
        (0.6752, [0.6950, 0.7000, 0.7050], "UNDECIDED", (67.52, 72.48), "more than 1.0 above, but inside"),
        (0.6751, [0.6950, 0.7000, 0.7050], "TOO GOOD", (67.52, 72.48), "more than 1.0 above, and outside"),
        # the mean fits, but the interval is too wide
        (
            0.7000,
            [0.6950, 0.7000, 0.7050],
            "UNDECIDED",
            (67.52, 72.48),
            "reaches more than 2.0 to either side",
        ),
        # four seeds: s = 0.2582, half = 3.1824 x 0.2582 x sqrt(5/4) = 0.9187
        (0.7225, [0.71, 0.712, 0.714, 0.716], "PASS", (70.38, 72.22), "at most 1.0 from it, though outside"),
    ],
)
def test_the_mean_of_three_seeds_or_more(published, scores, outcome, interval, reason):
    verdict = judge("miou", published, scores)
    assert (verdict.outcome, verdict.tier, verdict.seeds) == (outcome, "three seeds or more", len(scores))
    assert verdict.measured == pytest.approx(sum(scores) / len(scores))
    low, high = interval
    assert verdict.interval == pytest.approx((low / 100, high / 100), abs=1e-9)
    text = verdict.text()
    assert f"{outcome} ({reason}" in text or f"{outcome} (the 95% interval {low} to {high} {reason}" in text
    assert f"the 95% interval {low} to {high}" in text
    assert text.endswith(f"), mean of {len(scores)} seeds, n = {len(scores)}")
    assert ("test images in training" in text) == (outcome == "TOO GOOD")
    assert ("run more seeds" in text) == (outcome == "UNDECIDED")


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("runs", [1, 3])
def test_the_interval_by_the_printed_tables_of_t(count, runs):
    scores = [0.70 + 0.001 * k * k for k in range(count)]
    half = T_975[count - 1] * statistics.stdev(scores) * math.sqrt(1 / count + 1 / runs)
    found = judge("miou_avg", 0.70, scores, published_runs=runs).interval
    mean = statistics.fmean(scores)
    assert found == pytest.approx(
        (mean - half, mean + half), abs=1.1e-4
    )  # both rounded to 0.01 percent points


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("count", [3, 5])
def test_the_interval_holds_a_published_score_of_the_same_recipe_in_95_of_100_cases(count, runs):
    """By 4,000 drawn recipes; the share has an sd of 0.34 points. Without 1/k it is 84 at n = 3, k = 1."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.72, 0.004, (4000, count)), rng.normal(0.72, 0.004, (4000, runs)).mean(axis=1)
    held = 0
    for scores, published in zip(ours, theirs, strict=True):
        low, high = judge("miou_avg", float(published), list(scores), published_runs=runs).interval
        held += low <= published <= high
    assert held / 4000 == pytest.approx(0.95, abs=0.015)


def test_the_edges_of_the_mean_hold_for_every_published_score():
    """s = 0.01, half = 4.3027 x 0.01 x sqrt(4/3) = 0.05, so only the tolerance of 1.0 decides."""
    scores = {row.figure(c) for row in PUBLISHED.values() for c in ("miou", "miou_ms_flip")} - {None}
    for published in scores:
        for points, expected in ((-101, "FAIL"), (-100, "PASS"), (100, "PASS"), (101, "TOO GOOD")):
            middle = round(published * 10_000) + points
            runs = [(middle + k) / 10_000 for k in (-1, 0, 1)]
            assert judge("miou", published, runs).outcome == expected, (published, points)


@pytest.mark.parametrize("score", [0.7225, 0.70, 0.0, 1.0])
def test_seeds_with_one_and_the_same_score_decide_nothing(score):
    verdict = judge("miou", 0.7225, [score] * 3)
    assert (verdict.outcome, verdict.interval) == ("UNDECIDED", None)
    assert (
        "UNDECIDED (all 3 seeds have the same score, which says nothing of their spread: the seed changed nothing, or "
        "one run was copied), mean of 3 seeds, n = 3"
    ) in verdict.text()


def test_the_best_of_several_seeds_is_indicative():
    """It has no interval; the bands are those of one seed."""
    for scores, outcome in (
        ([0.7050, 0.7180, 0.7100], "PASS"),
        ([0.7, 0.69, 0.69], "NOISE"),
        ([0.75] * 3, "TOO GOOD"),
    ):
        verdict = judge("miou", 0.7155, scores, statistic="best")
        assert (verdict.measured, verdict.outcome, verdict.tier) == (max(scores), outcome, "indicative")
        assert verdict.text().endswith("), best of 3 seeds, indicative, n = 3")


def test_several_scores_of_the_same_weights_stay_in_their_tier():
    verdict = judge("miou", 0.7225, [0.7221, 0.7222, 0.7223], same_weights=True)
    assert (verdict.outcome, verdict.tier, verdict.interval) == ("PASS", "same weights", None)
    assert verdict.text().endswith("PASS (within 0.05 either way), same weights, n = 3")


def test_without_a_published_figure_there_is_no_interval():
    verdict = judge("miou", None, [0.70, 0.71, 0.72])
    assert (verdict.outcome, verdict.interval) == ("NO ROW", None)
    assert (
        verdict.text() == "mIoU 71.00, NO ROW (no published figure to compare with), mean of 3 seeds, n = 3"
    )


def test_every_published_average_is_of_the_runs_that_the_interval_counts():
    averages = [row for row in PUBLISHED.values() if row.miou_avg is not None]
    assert len(averages) == 3 and all("avg the mean of 3 runs" in row.protocol for row in averages)
    scores = [0.7050, 0.7100, 0.7180]
    found = {v.column: v for v in row_verdicts(averages[0], Measured(miou=scores))}
    half = T_975[2] * statistics.stdev(scores) * math.sqrt(1 / 3 + 1 / 3)
    assert found["miou_avg"].interval == pytest.approx((0.711 - half, 0.711 + half), abs=1.1e-4)
    assert found["miou"].interval is None  # the best


def test_a_single_run_is_judged_without_numpy():
    script = (
        "import sys; from fcnbook.published import judge; "
        "judge('miou', 0.7, [0.7]); print('numpy' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


# ---- Scores that are none ------------------------------------------------------------------------------------------

MISSING = [
    None,
    math.nan,
    math.inf,
    -math.inf,
    "0.7225",
    "",
    True,
    False,
    [0.7225],
    np.float64("nan"),
    1j,
    10**400,
]


@pytest.mark.parametrize("same_weights", [False, True])
@pytest.mark.parametrize("statistic", ["mean", "best"])
@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_a_score_that_is_missing_or_not_finite_fails(missing, statistic, same_weights):
    of_seeds = {1: "", 2: " of 1 of 2 seeds", 4: " of 1 of 4 seeds"}
    for scores in ([missing], [0.7225, missing], [0.7225, missing, 0.7220, 0.7230]):
        verdict = judge("miou", 0.7225, scores, statistic=statistic, same_weights=same_weights)
        assert (verdict.outcome, verdict.difference, verdict.interval) == ("FAIL", None, None)
        sentence = f"FAIL (the score{of_seeds[len(scores)]} is missing or not a finite number)"
        assert verdict.text().startswith(f"mIoU NaN vs 72.25 published, {sentence}, ")
        assert verdict.text().endswith(f"n = {len(scores)}")
        assert judge("miou", None, scores, statistic=statistic, same_weights=same_weights).outcome == "FAIL"
    asked = Measured(miou=(0.7225,), miou_ms_flip=(missing,), same_weights=same_weights)
    assert outcomes(row_verdicts(PUBLISHED["000-01"], asked)) == {"miou": "PASS", "miou_ms_flip": "FAIL"}


@pytest.mark.parametrize("same_weights", [False, True])
@pytest.mark.parametrize(
    ("outside", "shown"),
    [
        (73.1, "73.1"),
        (-0.01, "-0.01"),
        (1.0001, "1.0001"),
        (100, "100"),
        (np.float32(2), "2"),
    ],
    ids=str,
)
def test_a_score_outside_its_range_fails(outside, shown, same_weights):
    for scores in ([outside], [0.7225, outside, 0.7220]):
        verdict = judge("miou", 0.7225, scores, same_weights=same_weights)
        assert (verdict.outcome, verdict.difference) == ("FAIL", None)
        assert f"FAIL (the score {shown} lies outside [0, 1])" in verdict.text()


def test_scores_of_other_packages_are_numbers():
    assert judge("miou", 0.7225, [np.float32(0.72)]).outcome == "PASS"
    assert judge("miou", 0.7225, [np.float64(0.72), 0.721, np.float32(0.722)]).outcome == "PASS"
    assert judge("miou", 1.0, [1]).outcome == "PASS"


@pytest.mark.parametrize("published", [72.25, -0.1, math.nan, math.inf, True, "0.7"])
def test_a_published_figure_that_is_no_score_is_refused(published):
    with pytest.raises(ValueError, match=r"mIoU lies in \[0, 1\], got .*\. Divide percent by 100\."):
        judge("miou", published, [0.7])


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="no mIoU was measured"):
        judge("miou", 0.7225, [])


@pytest.mark.parametrize(
    ("scores", "tier", "interval"),
    [
        ([0.7225], "indicative", None),
        ([None], "indicative", None),
        ([0.7190, 0.7210, 0.7230], "three seeds or more", [0.7111, 0.7309]),
    ],
)
def test_a_verdict_as_json(scores, tier, interval):
    verdict = judge("miou", 0.7225, scores)
    plain = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert (plain["tier"], plain["seeds"], plain["outcome"]) == (tier, len(scores), verdict.outcome)
    assert plain["interval"] == (None if interval is None else pytest.approx(interval))
    assert plain["measured"] == (None if None in scores else verdict.measured)
    assert (plain["text"], plain["published"]) == (verdict.text(), 0.7225)
    assert judge("params_m", 51.95, [51.948]).as_dict()["tier"] is None


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
    assert outcomes(found) == {"miou": "PASS", "miou_avg": "UNDECIDED"}
    assert (
        found[0].text()
        == "mIoU 70.60 vs 71.55 published, -0.95, PASS (at most 1.0 below), best of 3 seeds, indicative, n = 3"
    )
    assert found[1].text() == (  # s = 0.80, half = 4.3027 x 0.80 x sqrt(2/3) = 2.81
        "mIoU(avg) 69.80 vs 70.91 published, -1.11, UNDECIDED (more than 1.0 below, but inside the 95% interval 66.99 "
        "to 72.61, run more seeds), mean of 3 seeds, n = 3"
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
    assert "FAIL (the score is missing" in judge_scores(rows_of(FCN_R50), math.nan)


def test_the_verdicts_behind_the_sentence_of_a_run():
    rows = rows_of(FCN_R50)
    found = score_verdicts(rows, 0.7310, 0.70)
    assert outcomes(found) == {"miou": "PASS", "miou_ms_flip": "FAIL"}
    assert "; ".join(verdict.text() for verdict in found) == judge_scores(rows, 0.7310, 0.70)
    assert score_verdicts([], 0.7) == score_verdicts(rows, 0.7, reason="trained for 2 of 4 steps") == []


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
