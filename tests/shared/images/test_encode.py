"""Pictures as JPEG files: the one encoder."""

import numpy as np
from PIL import Image

from shared.images.decode import decode
from shared.images.encode import jpeg, thumbnail
from shared.refusals import Kind, Refusal
from tests.support.pictures import drawn


def test_an_array_and_an_image_become_the_same_jpeg() -> None:
    picture = decode(drawn(1, kind="PNG"))
    assert isinstance(picture, np.ndarray)
    data = jpeg(picture, 90)
    assert data == jpeg(Image.fromarray(picture), 90)
    again = decode(data)
    assert isinstance(again, np.ndarray)
    assert np.abs(again.astype(int) - picture).mean() < 4


def test_a_thumbnail_is_as_small_as_asked_and_never_larger_than_its_picture() -> None:
    for edge, size in ((50, (50, 25)), (1000, (200, 100))):
        small = thumbnail(drawn(1, (200, 100), "PNG"), edge)
        assert isinstance(small, bytes)
        assert small.startswith(b"\xff\xd8\xff")
        picture = decode(small)
        assert isinstance(picture, np.ndarray)
        assert picture.shape[1::-1] == size
    refused = thumbnail(b"hello", 50)
    assert isinstance(refused, Refusal)
    assert refused.kind is Kind.UNSUPPORTED_FORMAT
