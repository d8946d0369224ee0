"""The configs that the project ships."""

import re
from pathlib import Path

import pytest
import yaml

from mit_semseg.config import get_defaults, load_config
from mit_semseg.data.classes import load_classes
from mit_semseg.inference.load import model_spec
from mit_semseg.models.weights.pretrained import PUBLISHED
from mit_semseg.training.checks import check_batch
from mit_semseg.training.options import train_options

FOLDER = Path(__file__).resolve().parent.parent / "config"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.yaml"))

# The files of the published package, by name, with encoder, decoder, fc_dim, padding, rate and last epoch.
NAMED = {
    "ade20k-hrnetv2": ("hrnetv2", "c1", 720, 32, 4, 30),
    "ade20k-mobilenetv2dilated-c1_deepsup": ("mobilenetv2dilated", "c1_deepsup", 320, 8, 8, 20),
    "ade20k-resnet18dilated-ppm_deepsup": ("resnet18dilated", "ppm_deepsup", 512, 8, 8, 20),
    "ade20k-resnet50-upernet": ("resnet50", "upernet", 2048, 32, 4, 30),
    "ade20k-resnet50dilated-ppm_deepsup": ("resnet50dilated", "ppm_deepsup", 2048, 8, 8, 20),
    "ade20k-resnet101-upernet": ("resnet101", "upernet", 2048, 32, 4, 50),
    "ade20k-resnet101dilated-ppm_deepsup": ("resnet101dilated", "ppm_deepsup", 2048, 8, 8, 25),
}
# Without published weights in this project's form.
RECIPES = ("ade20k-mit_b0-segformer", "ade20k-dinov2_large-eomt", "ade20k-dinov3_large-eomt")
ADE20K = [name for name in CONFIGS if name.startswith("ade20k-") and name not in RECIPES]


@pytest.mark.parametrize("name", NAMED)
def test_the_published_configs_keep_their_names_and_figures(name):
    config = load_config(name)
    model, data = config.MODEL, config.DATASET
    figures = (data.padding_constant, data.segm_downsampling_rate, config.TRAIN.num_epoch)
    assert (model.arch_encoder, model.arch_decoder, model.fc_dim, *figures) == NAMED[name]


def test_every_published_checkpoint_has_one_config():
    assert sorted(Path(load_config(name).DIR).name for name in ADE20K) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", ADE20K)
def test_the_checkpoints_of_a_published_config_are_of_its_last_epoch(name):
    config = load_config(name)
    epoch = PUBLISHED[Path(config.DIR).name]
    assert config.VAL.checkpoint == config.TEST.checkpoint == f"epoch_{epoch}.pth"
    assert config.TRAIN.num_epoch == epoch
    assert config.DATASET.num_class == 150
    assert config.DATASET.imgSizes == (300, 375, 450, 525, 600)
    assert config.DATASET.imgMaxSize == 1000


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_can_be_read_without_this_package(name):
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert isinstance(tree["DIR"], str)
    assert tree["MODEL"]["arch_encoder"]
    assert set(tree) <= set(get_defaults())
    if name.startswith("ade20k-"):
        assert tree["DIR"].startswith("ckpt/ade20k-")


@pytest.mark.parametrize("name", CONFIGS)
def test_encoder_and_decoder_fit_each_other_and_the_figures(name):
    config = load_config(name)
    model_spec(config).check()
    check_batch(train_options(config), 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_names_a_class_table_of_the_project_or_of_the_rendered_scenes(name):
    data = load_config(name).DATASET
    if name.startswith("toy-"):
        assert data.classes == f"{data.root_dataset}/classes.csv"
    else:
        assert len(load_classes(data.classes, data.num_class).names) == data.num_class


def test_camvid_has_its_eleven_classes():
    data = load_config("camvid-resnet18dilated-c1").DATASET
    table = load_classes(data.classes, data.num_class)
    assert table.names[:4] == ("sky", "building", "pole", "road")
    assert table.colors[3].tolist() == [128, 64, 128]
    assert len(table.names) == 11


@pytest.mark.parametrize(
    "name",
    ["README.md", "Makefile", *(f"docs/{page}.md" for page in ("data", "models", "results", "training"))],
)
def test_the_configs_that_a_text_names_exist(name):
    text = (FOLDER.parent / name).read_text(encoding="utf-8")
    named = set(re.findall(r"config/([\w-]+)\.yaml", text))
    assert named
    assert named <= set(CONFIGS)
