"""Timing: what is inside a timed call and what is not, how many calls there are, and which of them count."""

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from small_runs import small_recipe
from torch.utils._python_dispatch import TorchDispatchMode

from fcnbook.build import build_segmenter
from fcnbook.cost import count_cost
from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError
from fcnbook.published import PUBLISHED
from fcnbook.recipe import EvalSpec, OptimSpec
from fcnbook.recipes import RECIPES, find_network, scaled
from fcnbook.reproduce.bench import _network as network
from fcnbook.reproduce.bench import _no_search_for_algorithms as no_search_for_algorithms
from fcnbook.reproduce.bench import (
    bench,
    find_images,
    measure_memory,
    procedure_of,
    time_images,
    time_ones,
    train_steps,
)

RECIPE = small_recipe()
CPU = torch.device("cpu")
TIMED_OPERATIONS = ["aten._to_copy.default", "forward", "aten._softmax.default", "aten.max.dim"]


class Clock:
    """A clock that tells the times of a list, and notes in `events` when it was asked."""

    def __init__(self, seconds, events=None):
        self.times = iter([0.0, *np.cumsum([value for one in seconds for value in (one, 100.0)]).tolist()])
        self.events = [] if events is None else events

    def __call__(self):
        self.events.append("clock")
        return next(self.times)


class Operations(TorchDispatchMode):
    """Notes the name of each operation of torch."""

    def __init__(self, events):
        super().__init__()
        self.events = events

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.events.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return network(RECIPE)


def count_forwards(model):
    """A list that has the size of each input of the network."""
    sizes = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape)))
    return sizes


def silent(line):
    """Drop a line of progress."""


class TestPictures:
    def test_the_first_five_are_not_counted(self, model):
        clock = Clock([50.0, 60.0, 70.0, 80.0, 90.0, 0.25, 0.5, 0.25])
        images = [np.zeros((32, 64, 3), np.uint8)] * 8
        timing = time_images(model, images, "8 of 200 images", RECIPE, clock=clock)
        assert timing.fps == 3.0  # 3 images in 1 s; the 100 s between two calls count as little
        assert timing.procedure.startswith("8 of 200 images, the first 5 not counted, one at a time, fp32;")

    def test_of_fewer_images_one_at_least_counts(self, model):
        images = [np.zeros((32, 64, 3), np.uint8)] * 3
        timing = time_images(model, images, "some", RECIPE, clock=Clock([9.0, 9.0, 0.5]))
        assert timing.fps == 2.0
        assert "the first 2 not counted" in timing.procedure

    def test_reading_and_scaling_are_outside_and_everything_else_is_inside(self, model):
        """An image of 30x50 is tested at 64x107, so two resizes of the logits can be told apart."""
        events, sizes = [], count_forwards(model)
        model.register_forward_pre_hook(lambda module, inputs: events.append("forward"))
        recipe = dataclasses.replace(RECIPE, evaluation=EvalSpec(size=(64, 128)))

        def read():
            for i in range(2):
                events.append("read")
                yield np.full((30, 50, 3), i, np.uint8)

        with Operations(events):
            time_images(model, read(), "", recipe, clock=Clock([1.0] * 2, events))
        assert sizes == [(1, 3, 64, 107)] * 2
        first = events[: events.index("read", 1)]
        assert first[0] == "read"
        start, end = (i for i, event in enumerate(first) if event == "clock")
        assert set(first[1:start]) <= {"aten.detach.default"}, "work of torch before the clock"
        assert first[end + 1 :] == []
        inside = first[start + 1 : end]
        places = [inside.index(name) for name in TIMED_OPERATIONS]
        assert places == sorted(places)
        # Once to the size of the input and once to the image's own, as mmsegmentation does, before the softmax.
        assert inside[places[1] : places[2]].count("aten.upsample_bilinear2d.default") == 2
        assert events.count("clock") == 4

    def test_all_windows_are_inside(self, model):
        sizes = count_forwards(model)
        windows = EvalSpec(window=(32, 32), window_stride=(16, 32))
        recipe = dataclasses.replace(RECIPE, evaluation=windows)
        time_images(model, [np.zeros((64, 64, 3), np.uint8)] * 2, "", recipe, clock=Clock([1.0, 1.0]))
        assert sizes == [(3 * 2, 3, 32, 32)] * 2  # rows at 0, 16, 32 and columns at 0, 32, in one pass

    def test_the_device_is_waited_for_at_both_ends(self, model, monkeypatch):
        events = []
        monkeypatch.setattr(
            "fcnbook.reproduce.bench._wait_for", lambda device: events.append(f"wait for {device}")
        )
        clock = Clock([1.0] * 2, events)
        time_images(model, [np.zeros((32, 64, 3), np.uint8)] * 2, "", RECIPE, clock=clock)
        assert events == ["wait for cpu", "clock", "wait for cpu", "clock"] * 2

    def test_scales_and_flip_are_left_out_and_the_mode_is_kept(self, model):
        model.train()
        sizes = count_forwards(model)
        recipe = dataclasses.replace(RECIPE, evaluation=EvalSpec(scales=(0.5, 1.0), flip=True))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        time_images(model, [np.zeros((32, 64, 3), np.uint8)], "", recipe, clock=Clock([1.0]))
        assert sizes == [(1, 3, 32, 64)]
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_half_precision_is_said_to_need_a_gpu(self, model):
        recipe = dataclasses.replace(RECIPE, precision="fp16")
        timing = time_images(model, [np.zeros((32, 64, 3), np.uint8)], "", recipe, clock=Clock([1.0]))
        assert "fp32, for fp16 needs a GPU;" in timing.procedure

    @pytest.mark.parametrize("name", sorted({r.data.name for r in RECIPES.values()} - {"streets"}))
    def test_generated_images_have_the_native_size_and_the_channels_of_the_recipe(self, name):
        for recipe in (r for r in RECIPES.values() if r.data.name == name):
            images, origin = find_images(recipe, None, 2)
            (first, second) = images
            assert first.shape == second.shape == (*DATASETS[name].image_size, len(recipe.data.mean))
            assert first.dtype == (np.float32 if recipe.data.inputs == "color_depth" else np.uint8)
            assert not np.array_equal(first, second)
            assert origin == "2 of 200 generated images of {}x{}".format(*DATASETS[name].image_size)
            if name in ("cityscapes", "ade20k"):
                break  # their recipes differ in nothing that matters here

    def test_real_images_are_as_many_as_there_are(self):
        images, origin = find_images(RECIPE, None, 9)
        assert [image.shape for image in images] == [(32, 64, 3)] * 4
        assert origin == "4 of 200 images of streets"

    def test_missing_data_is_a_sentence(self):
        with pytest.raises(InputError, match=r"There is no folder nowhere"):
            find_images(RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"], "nowhere", 2)


class TestOnes:
    def test_warm_ups_are_outside_and_the_best_of_three_trials_counts(self, model):
        events = []
        model.register_forward_pre_hook(lambda module, inputs: events.append("forward"))
        timing = time_ones(model, (32, 64), 300, clock=Clock([4.0, 2.0, 3.0], events))
        trial = ["forward"] * 10 + ["clock"] + ["forward"] * 300 + ["clock"]
        assert events == trial * 3
        assert timing.fps == 150.0
        assert timing.procedure.startswith(
            "a tensor of ones 1x3x32x64, best of 3 trials of 300 of 300 forwards"
        )

    def test_the_input_is_ones_and_the_upsampling_with_aligned_corners_is_inside(self, model, monkeypatch):
        seen, resized = [], []
        model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
        interpolate = torch.nn.functional.interpolate

        def note(x, **options):
            resized.append((tuple(options["size"]), options["mode"], options["align_corners"]))
            return interpolate(x, **options)

        monkeypatch.setattr(torch.nn.functional, "interpolate", note)
        timing = time_ones(model, (40, 56), 1, clock=Clock([1.0] * 3))
        assert len(seen) == 3 * (1 + 1)  # of 10 warm-ups as many as there are timed forwards
        assert all(torch.equal(one, torch.ones(1, 3, 40, 56)) for one in seen)
        assert resized[-1] == ((40, 56), "bilinear", True)
        assert resized.count(((40, 56), "bilinear", True)) == 6
        assert "1 of 300 forwards after 1 of 10 to warm up" in timing.procedure


class TestMemory:
    def test_training_steps_are_real(self):
        torch.manual_seed(0)
        recipe = dataclasses.replace(RECIPE, optim=OptimSpec(lr=0.1, weight_decay=0.0))
        model = train_steps(recipe, 2, CPU)
        torch.manual_seed(0)
        start = build_segmenter(recipe).state_dict()
        changed = {n for n, value in model.named_parameters() if not torch.equal(value, start[n])}
        assert changed == {name for name, _ in model.named_parameters()}
        assert model.state_dict()["backbone.stem.1.num_batches_tracked"] == 3

    @pytest.mark.parametrize("name", ["fcn32s_vgg16_early_nyud", "fcn32s_vgg16_siftflow"])
    def test_depth_and_geometric_classes_are_trained_too(self, name):
        """With the small network of each, at its tiny scale."""
        recipe = scaled(RECIPES[name], "smoke")
        recipe = dataclasses.replace(recipe, augment=RECIPE.augment)
        state = train_steps(recipe, 2, CPU, num_steps=1).state_dict()
        assert all(torch.isfinite(value).all() for value in state.values())

    def test_crops_are_those_of_the_recipe(self, monkeypatch):
        shapes = []
        hook = torch.nn.modules.module.register_module_forward_pre_hook(
            lambda module, inputs: (
                shapes.append(tuple(inputs[0].shape)) if type(module).__name__ == "Segmenter" else None
            )
        )
        try:
            train_steps(RECIPE, 3, CPU, num_steps=2)
        finally:
            hook.remove()
        assert shapes == [(3, 3, *RECIPE.augment.crop_size)] * 2

    @pytest.mark.parametrize(
        ("key", "said"), [("000-01", "only a GPU's is measured"), ("002-04", "the row has no training")]
    )
    def test_what_is_not_measured_says_why(self, key, said):
        memory, why = measure_memory(*find_network(key), CPU)
        assert memory is None
        assert said in why


class TestBench:
    @pytest.fixture
    def small(self, monkeypatch, tmp_path):
        """The small recipe in place of the one of its name, with a published row."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(RECIPES, RECIPE.name, RECIPE)
        row = dataclasses.replace(PUBLISHED["000-01"], recipe=RECIPE.name)
        monkeypatch.setitem(PUBLISHED, "000-01", row)
        return row

    def test_a_row_by_the_procedure_of_mmsegmentation(self, small, tmp_path):
        lines = []
        report = bench("000-01", images=3, device="cpu", every=0, say=lines.append)
        assert report.fps > 0
        assert report.milliseconds == pytest.approx(1000 / report.fps, rel=1e-3)
        assert report.memory_gib is None
        assert report.procedure.startswith("3 of 200 images of streets, the first 2 not counted")
        (fps,) = report.verdict  # the row has no parameters and FLOPs, and memory was not measured
        assert f"{small.fps:.2f} published on V100" in fps
        assert fps.endswith("SHOWN (depends on the hardware, not judged)")
        assert report.parameters == count_cost(RECIPE).parameters
        assert lines[0].startswith("1 done, the last took")
        assert json.loads((tmp_path / "runs/bench-000-01/result.json").read_text())["fps"] == report.fps
        text = report.text()
        assert lines[-1] == "result in runs/bench-000-01/result.json"
        for said in ("row       000-01, fcn_r18", "memory    not measured: the memory of a CPU", "CPU"):
            assert said in text

    def test_a_profiling_row_by_the_procedure_of_pytorch_auto_drive(self, small, monkeypatch):
        """A small network, so parameters and FLOPs fail; the published one is counted in tests of cost."""
        name = "autodrive_fcn_r101_256x512_60e_cityscapes_amp"
        recipe = dataclasses.replace(RECIPE, source="pytorch-auto-drive", base=name)
        monkeypatch.setitem(RECIPES, name, recipe)
        row = dataclasses.replace(PUBLISHED["002-04"], crop=(32, 64))
        monkeypatch.setitem(PUBLISHED, "002-04", row)
        report = bench("002-04", repeats=2, device="cpu", say=silent)
        assert report.size == (32, 64)
        assert "2 of 300 forwards" in report.procedure
        assert [(v["column"], v["outcome"]) for v in report.verdicts] == [
            ("params_m", "FAIL"),
            ("flops_g", "FAIL"),
            ("fps", "SHOWN"),
        ]
        params, flops, fps = report.verdict
        cost = count_cost(recipe, (32, 64))
        assert params.startswith(f"parameters {cost.parameters / 1e6:.2f} M vs 51.95 M published")
        assert flops.startswith(f"FLOPs {cost.published_flops / 1e9:.2f} G vs 216.42 G published")
        assert "43.32 published on RTX 2080 Ti" in fps
        assert report.memory_procedure == "the row has no training"
        rule = f"{cost.published_flops / 1e9:.2f} GFLOPs by the rule of the published profiling rows"
        assert f"\n          {rule}\n" in report.text()

    def test_sssegmentation_has_no_speed_to_compare_with(self, small, monkeypatch):
        row = dataclasses.replace(PUBLISHED["001-01"], recipe=RECIPE.name)
        monkeypatch.setitem(
            RECIPES, RECIPE.name, dataclasses.replace(RECIPE, source="sssegmentation", base=RECIPE.name)
        )
        monkeypatch.setitem(PUBLISHED, "001-01", row)
        report = bench("001-01", images=1, memory=False, device="cpu", out="there", say=silent)
        assert report.verdict == []
        assert report.remarks == [
            "sssegmentation never measured speed or memory; this is mmsegmentation's procedure."
        ]
        assert report.memory_procedure == "left out"
        assert os.listdir("there") == ["result.json"]

    @pytest.mark.parametrize(
        "options", [{"device": "foo"}, {"device": "meta"}, {"data_root": "nowhere"}, {"images": 0}]
    )
    def test_what_is_refused_leaves_no_folder(self, small, tmp_path, options, monkeypatch):
        camvid = RECIPES["fcn_r18-d8_360x480_10k_camvid"]
        monkeypatch.setitem(RECIPES, RECIPE.name, dataclasses.replace(camvid, base=RECIPE.name))
        with pytest.raises(InputError):
            bench("000-01", say=silent, **options)
        assert list(tmp_path.iterdir()) == []

    def test_a_recipe_without_row_says_so(self, small, monkeypatch):
        # Not deleted: the key would come back at the end of the table.
        monkeypatch.setitem(PUBLISHED, "000-01", dataclasses.replace(PUBLISHED["000-01"], recipe=None))
        report = bench(RECIPE.name, images=1, device="cpu", say=silent)
        assert (report.row, report.verdict) == (None, [])
        assert "remark    No published row belongs to this recipe." in report.text()


class TestNames:
    def test_each_source_has_its_procedure(self):
        by_source = {(r.source, procedure_of(r)) for r in RECIPES.values()}
        assert by_source == {
            ("mmsegmentation", "images"),
            ("sssegmentation", "images"),
            ("pytorch-auto-drive", "ones"),
            ("fcn", "images"),
            ("fcnbook", "images"),
        }

    @pytest.mark.parametrize("key", ["002-04", "002-05", "002-06"])
    def test_profiling_rows_have_the_network_that_they_name(self, key):
        row, recipe = find_network(key)
        assert (row.key, recipe.name) == (key, "autodrive_fcn_r101_256x512_60e_cityscapes_amp")

    def test_an_unknown_name(self):
        with pytest.raises(InputError, match=r'no recipe "000-42".*fcnbook list --rows'):
            bench("000-42", say=silent)

    @pytest.mark.parametrize("count", [{"images": 0}, {"repeats": 0}])
    def test_nothing_to_time(self, count):
        with pytest.raises(InputError, match="nothing to time"):
            bench("000-01", say=silent, **count)


def test_no_search_for_algorithms_while_timing(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with pytest.raises(RuntimeError), no_search_for_algorithms():
        assert torch.backends.cudnn.benchmark is False
        raise RuntimeError
    assert torch.backends.cudnn.benchmark is True


def test_random_weights_stay_in_the_range_of_float16():
    """A ResNet-101 as it is built reaches 1e5; a row is timed in half precision."""
    largest = []
    torch.manual_seed(0)
    model = network(RECIPES["fcn_r101-d8_fp16_512x1024_80k_cityscapes"]).eval()
    for module in model.modules():
        module.register_forward_hook(
            lambda module, inputs, output: (
                largest.append(float(output.abs().max())) if isinstance(output, torch.Tensor) else None
            )
        )
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    assert 1e-4 < min(largest)
    assert max(largest) < 1000
