"""A recipe from a JSON file: the forms that are accepted, overrides that tell the truth, and damaged files."""

import dataclasses
import json

import pytest

from fcnbook.cli import main
from fcnbook.files import InputError
from fcnbook.recipe import recipe_hash, recipe_to_dict
from fcnbook.recipes import RECIPES, chosen_recipe, override, read_recipe, scaled

FULL = RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"]


@pytest.fixture
def written(tmp_path):
    def write(content):
        file = tmp_path / "some.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write


def changed(**fields):
    return {**recipe_to_dict(FULL), **fields}


def test_a_bare_recipe(written):
    assert read_recipe(written(recipe_to_dict(FULL))) == FULL


def test_a_run_folder_and_its_recipe_json(tmp_path):
    tiny = override(scaled(FULL, "tiny"), "optim.lr=0.01")
    wrapper = {"recipe": recipe_to_dict(tiny), "recipe_hash": recipe_hash(tiny), "seed": 3}
    (tmp_path / "recipe.json").write_text(json.dumps(wrapper))
    assert read_recipe(tmp_path) == read_recipe(tmp_path / "recipe.json") == tiny


def test_what_list_prints(written, capsys):
    assert main(["list", "--dataset", "streets", "--method", "fcn", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) > 1
    name, entry = next(iter(listed.items()))
    assert read_recipe(written(entry)) == read_recipe(written({name: entry})) == RECIPES[name]
    with pytest.raises(InputError, match=rf"some\.json holds {len(listed)} recipes; keep the one"):
        read_recipe(written(listed))


def test_a_file_changed_by_hand_says_so_whatever_it_claims(written):
    fields = changed(base=FULL.name, overrides=[])
    fields["optim"]["lr"] = 0.5
    fields["model"]["head"] = {"kind": "PSPHeadSpec"}
    recipe = read_recipe(written(fields))
    assert recipe.overrides == ("model.head=PSPHeadSpec", "optim.lr=0.5")
    assert (recipe.name, recipe.base) == (FULL.name, FULL.name)


def test_a_shortened_run_is_no_changed_recipe(written):
    short = chosen_recipe(FULL.name, max_steps=100, changes=["optim.lr=0.02", "model.align_corners=false"])
    assert read_recipe(written(recipe_to_dict(short))) == short


def test_overrides_of_the_file_that_are_not_true_are_dropped(written):
    tiny = dataclasses.replace(scaled(FULL, "tiny"), overrides=("optim.lr=7", "no.field=1", "scale=full"))
    assert read_recipe(written(recipe_to_dict(tiny))).overrides == ("optim.lr=0.004",)


def test_scaling_a_changed_file_undoes_what_the_scale_sets(written):
    file = written(recipe_to_dict(override(FULL, ["optim.lr=0.5", "model.head.dropout=0"])))
    assert chosen_recipe(file=file).overrides == ("optim.lr=0.5", "model.head.dropout=0")
    tiny = chosen_recipe(file=file, scale="tiny", changes="batch_size=4")
    assert tiny.overrides == ("model.head.dropout=0", "batch_size=4")
    assert (tiny.optim.lr, tiny.model.head.dropout, tiny.scale) == (0.004, 0.0, "tiny")


def test_a_scaled_recipe_stays_at_its_scale(written):
    tiny = scaled(FULL, "tiny")
    file = written(recipe_to_dict(tiny))
    assert chosen_recipe(file=file) == chosen_recipe(file=file, scale="tiny") == tiny
    with pytest.raises(InputError, match=r"holds a recipe at tiny scale, which cannot be brought to full"):
        chosen_recipe(file=file, scale="full")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not readable as JSON"),
        ("{", "is not readable as JSON"),
        ("[" * 100_000, "is not readable as JSON"),
        ("[]", "holds no recipe. It should be like recipe.json"),
        ("{}", "holds no recipe. It should be"),
        ('{"model": 1}', "missing 4 required"),
        (changed(model=3), "model takes a part, and is 3"),
        (changed(augment=None), "augment takes a part, and is None"),
        (changed(model={"kind": "Foo"}), "no such kind of part: 'Foo'"),
        (changed(model={"backbone": {"kind": "PSPHeadSpec"}, "head": {"kind": "PSPHeadSpec"}}),
            "model.backbone cannot be a PSPHeadSpec"),
        (changed(optim={"lr": "fast"}), "optim.lr takes a number, and is 'fast'"),
        (changed(optim={"lr": True}), "optim.lr takes a number, and is True"),
        (changed(optim={"lr": float("nan")}), "optim.lr must be at least 0, got nan"),
        (changed(optim={"speed": 1}), "unexpected keyword argument 'speed'"),
        (changed(schedule={"num_steps": "9"}), "another version of fcnbook"),
        (changed(schedule={"num_steps": 0}), "num_steps must be at least 1, got 0"),
        (changed(schedule={"num_steps": 10**30}), "schedule.num_steps must be 1 to 100,000,000"),
        (changed(precision="fp8"), "precision takes fp32, fp16 or bf16, and is 'fp8'"),
        (changed(scale="huge"), "scale takes full, tiny or smoke, and is 'huge'"),
        (changed(accumulation=3), "batch_size 8 cannot be divided into 3 passes"),
        (changed(init=[["a"]]), "init takes words"),
        (changed(init=["a\x1b[31mb"]), "init takes words"),
        (changed(base="../../elsewhere"), "a recipe's name has letters, digits"),
        (changed(base="a\nb"), "base takes a word"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_recipe_is_named_with_the_reason(content, sentence, written):
    file = written(content)
    with pytest.raises(InputError) as caught:
        read_recipe(file)
    text = str(caught.value)
    assert text.startswith(str(file)) and sentence in text
    assert text.isprintable()


def test_bytes_that_are_no_text_and_a_missing_file(tmp_path):
    file = tmp_path / "bytes.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes\.json is not readable as JSON"):
        read_recipe(file)
    with pytest.raises(InputError, match=r"There is no file .*recipe\.json"):
        read_recipe(tmp_path)
