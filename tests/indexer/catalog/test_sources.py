"""Catalogs from a real S3 server, from files and from folders."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from indexer.catalog.sources import Source
from shared.errors import CatalogError, ConfigError
from shared.storage.s3_bucket import aws_keys, s3_client
from tests.support.pictures import drawn
from tests.support.snapshots import HOCKEY

DEFAULT = "https://cdn/{id}.jpg"
KEY = "images/data/pixlIDs_domain_id_0341_dpt_num_department_371000.gz"
URI = "s3://preprod.datamining/images/data/pixlIDs_domain_id_{domain}_dpt_num_department_{department}000.gz"


@pytest.fixture
def bucket(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return s3_client()


def source(catalog: str, image_url: str | None = None) -> Source:
    return Source.of(catalog, image_url, DEFAULT, HOCKEY)


@pytest.mark.slow
def test_a_catalog_in_s3(bucket: Any) -> None:
    body = gzip.compress(b"product_id_model;id\n0341;007\n")
    bucket.put_object(Bucket="preprod.datamining", Key=KEY, Body=body)
    catalog = source(URI).read()
    assert catalog.uri == f"s3://preprod.datamining/{KEY}"
    assert [(row.product_id, row.image_id) for row in catalog.rows] == [("0341", "007")]
    assert catalog.etag


@pytest.mark.slow
@pytest.mark.parametrize("uri", ["s3://preprod.datamining/none.gz", "s3://no-such-bucket/x.gz"])
def test_a_missing_object_is_named(bucket: Any, uri: str) -> None:
    with pytest.raises(CatalogError, match=f"{uri} cannot be read from S3 .NoSuch"):
        source(uri).read()


@pytest.mark.fault("O1")
@pytest.mark.slow
def test_wrong_keys_are_refused_without_being_shown(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(CatalogError, match="SignatureDoesNotMatch") as caught:
        source(URI).read()
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.slow
def test_the_first_librarys_config_py_is_read_as_text(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, s3: dict[str, str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    key, secret = s3["AWS_ACCESS_KEY_ID"], s3["AWS_SECRET_ACCESS_KEY"]
    text = f"raise SystemExit('executed')\naws_access_key_id = '{key}'  # ours\naws_secret_access_key=\"{secret}\"\n"
    Path("config.py").write_text(text)
    bucket.put_object(Bucket="preprod.datamining", Key=KEY, Body=b"product_id_model;id\n1;2\n")
    assert source(URI).read().count == 1
    Path("config.py").write_text("aws_access_key_id=only-this\n")
    with pytest.raises(ConfigError, match="both"):
        aws_keys()


def test_without_credentials_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(CatalogError, match=r"no AWS credentials .*CATALOG=path.* make demo"):
        source(URI).read()


@pytest.mark.parametrize("uri", ["none.csv", "s3://bucket", "s3:///key"])
def test_a_place_that_is_none_is_named(uri: str) -> None:
    with pytest.raises(CatalogError, match=uri):
        source(uri).read()


def test_a_folder_of_pictures_is_its_own_image_server(tmp_path: Path) -> None:
    folder = tmp_path / "my {pictures} é"
    (folder / "sub").mkdir(parents=True)
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to("nowhere")
    for name in ("stick1_1.jpg", "stick1_2.PNG", "sub/helmet.webp", "notes.txt"):
        (folder / name).write_bytes(drawn(1))
    found = source(str(folder))
    catalog = found.read()
    assert [row.product_id for row in catalog.rows] == ["stick1", "stick1", "sub/helmet"]
    for row in catalog.rows:
        url = found.image_url.fill(row.product_id, row.image_id, row.attributes)
        assert isinstance(url, str)
        assert url.startswith("file:///")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="no pictures"):
        source(str(tmp_path / "empty")).read()


def test_a_template_that_does_not_fit_the_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("product_id_model;id\n1;2\n")
    with pytest.raises(ConfigError, match="names 'path'; the catalog has: product_id_model, id"):
        source(str(tmp_path / "c.csv"), "http://cdn/{path}").read()
