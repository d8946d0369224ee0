import pytest

from mit_semseg.errors import UserError
from mit_semseg.runtime import resources
from mit_semseg.runtime.resources import find


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["config/ade20k-hrnetv2.yaml", "config/ade20k-hrnetv2", "ade20k-hrnetv2.yaml", "ade20k-hrnetv2"]
)
def test_a_shipped_config_is_found_from_any_folder_with_or_without_its_folder_and_suffix(name):
    assert find(name, suffix=".yaml", folder="config").name == "ade20k-hrnetv2.yaml"


def test_shipped_tables_are_found_as_the_configs_name_them():
    for name in ("object150_info.csv", "color150.mat", "ade20k_classes.csv", "camvid_classes.csv"):
        assert find(f"data/{name}").is_file()


def test_an_own_file_comes_before_a_shipped_one_of_that_name(tmp_path):
    (tmp_path / "config").mkdir()
    own = tmp_path / "config" / "ade20k-hrnetv2.yaml"
    own.write_text("")
    assert find("config/ade20k-hrnetv2.yaml", suffix=".yaml", folder="config").resolve() == own


def test_files_of_the_installed_package_are_found_where_there_is_no_checkout(tmp_path, monkeypatch):
    shipped = tmp_path / "site-packages" / "mit_semseg" / "shipped"
    (shipped / "config").mkdir(parents=True)
    (shipped / "config" / "x.yaml").write_text("")
    monkeypatch.setattr(resources, "_SHIPPED", (shipped.parent.parent, shipped))
    assert find("config/x.yaml", suffix=".yaml", folder="config") == shipped / "config" / "x.yaml"


def test_an_absolute_path_is_never_taken_for_a_shipped_one():
    with pytest.raises(UserError, match=r"/config/ade20k-hrnetv2\.yaml does not exist\."):
        find("/config/ade20k-hrnetv2.yaml", suffix=".yaml", folder="config")


def test_the_message_names_what_is_shipped():
    with pytest.raises(UserError, match=r"x\.yaml does not exist\. The project ships: .*ade20k-hrnetv2, "):
        find("x.yaml", suffix=".yaml", folder="config")
    with pytest.raises(UserError, match=r"^data/x\.csv does not exist\.$"):
        find("data/x.csv")


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a", ".", "/"):
        with pytest.raises(UserError, match="is a folder, not a file"):
            find(name, suffix=".yaml", folder="config")
