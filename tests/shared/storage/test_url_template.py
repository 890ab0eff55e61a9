import pytest

from shared.errors import ConfigError
from shared.refusals import Kind, Refusal
from shared.storage.url_template import UrlTemplate

IMAGE = ("830", "9001", {"path": "a b/é?.jpg", "up": "../../etc/passwd"})


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://cdn/p{id}/sq/{id}.jpg?f={size}x{size}", "https://cdn/p9001/sq/9001.jpg?f=512x512"),
        ("http://cdn/{path}", "http://cdn/a%20b/%C3%A9%3F.jpg"),
        ("file:///pics/{path}", "file:///pics/a%20b/%C3%A9%3F.jpg"),
        ("http://cdn/{product_id_model}.png", "http://cdn/830.png"),
    ],
)
def test_values_are_filled_in_and_escaped(template: str, url: str) -> None:
    assert UrlTemplate(template).fill(*IMAGE) == url


@pytest.mark.parametrize("template", ["file:///pics/{up}", "file:///pics/x/{up}"])
def test_a_file_cannot_leave_its_folder(template: str) -> None:
    refusal = UrlTemplate(template).fill(*IMAGE)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == Kind.BAD_URL


@pytest.mark.parametrize(
    "template",
    [
        "ftp://cdn/{id}",
        "cdn/{id}",
        "http://cdn/{colour}",
        "http://cdn/{id",
        "http://{}",
        "http://cdn/{id:d}",
        "http://cdn/{id!x}",
        "https://[cdn/{id}",
    ],
)
def test_a_bad_template_is_named(template: str) -> None:
    with pytest.raises(ConfigError, match="IMAGE_URL"):
        UrlTemplate(template).check(["product_id_model", "id", "path"])
