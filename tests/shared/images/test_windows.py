"""Windows: around the things that lie on a plain ground, wherever; none where there is no ground."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shared.images.crop import Crop
from shared.images.decode import Picture
from shared.images.windows import QUARTERS, shared_part, windows
from shared.refusals import Refusal


@pytest.mark.parametrize("crop", [Crop(0.25, 0.00001, 0.5, 0.1), Crop(12345, 0, 3000, 1)])
def test_a_crop_as_an_answer_gives_it_can_be_asked_for(crop: Crop) -> None:
    again = Crop.parse(str(crop))
    assert (again.x, again.y, again.width, again.height) == pytest.approx(
        (crop.x, crop.y, crop.width, crop.height), abs=1e-4
    )


def ground(width: int = 640, height: int = 480, seed: int = 0) -> Image.Image:
    """A floor of two tones, grained."""
    grain = np.random.default_rng(seed).normal(0, 8, (height, width, 1))
    tone = np.array([120, 100, 80]) + 12 * (np.arange(width) // 80 % 2)[None, :, None]
    return Image.fromarray((tone + grain).clip(0, 255).astype(np.uint8))


def photo(*boxes: tuple[int, int, int, int]) -> Picture:
    """Things of several colours on a floor."""
    scene = ground()
    pen = ImageDraw.Draw(scene)
    for box, fill in zip(boxes, ("navy", "orange", "white"), strict=False):
        pen.ellipse(box, fill=fill)
    return np.asarray(scene)


def overlap(found: Crop, box: tuple[int, int, int, int]) -> float:
    """The intersection over the union of a window and a box in pixels of 640 x 480."""
    wanted = Crop(box[0] / 640, box[1] / 480, (box[2] - box[0]) / 640, (box[3] - box[1]) / 480)
    areas = [one.width * one.height for one in (found, wanted)]
    both = shared_part(found, wanted) * min(areas)
    return both / (sum(areas) - both)


@pytest.mark.parametrize("box", [(40, 30, 200, 190), (420, 260, 560, 400), (0, 200, 160, 420), (300, 20, 630, 460)])
def test_a_thing_is_found_wherever_it_lies(box: tuple[int, int, int, int]) -> None:
    (found,) = windows(photo(box), 6)
    assert overlap(found, box) > 0.6


def test_of_several_things_the_largest_comes_first_and_no_more_than_wanted() -> None:
    large, small = (320, 100, 600, 400), (40, 60, 140, 160)
    both = windows(photo(small, large), 6)
    assert [overlap(found, box) > 0.6 for found, box in zip(both, (large, small), strict=True)] == [True, True]
    assert windows(photo(small, large), 1) == both[:1]


@pytest.mark.parametrize("what", ["one colour", "a floor alone", "a shelf", "a thing that fills it"])
def test_where_no_ground_shows_there_is_no_window(what: str) -> None:
    rng = np.random.default_rng(0)
    picture = {
        "one colour": np.full((300, 400, 3), 90, np.uint8),
        "a floor alone": np.asarray(ground()),
        "a shelf": rng.integers(0, 256, (12, 16, 3), np.uint8).repeat(40, 0).repeat(40, 1),
        "a thing that fills it": photo((-20, -20, 660, 500)),
    }[what]
    assert windows(picture, 6) == []


@pytest.mark.parametrize("seed", range(30))
def test_a_window_can_be_cut_out_and_sent_back_as_a_crop(seed: int) -> None:
    """Pictures of any size and content."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 3 if seed % 5 == 0 else 900, 2).tolist()
    picture = np.full((height, width, 3), 200, np.uint8)
    for _ in range(rng.integers(4)):
        top, left = rng.integers(height), rng.integers(width)
        picture[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    for window in windows(picture, 6):
        sent = Crop.parse(str(window))
        box = sent.box(width, height)
        assert not isinstance(box, Refusal)
        assert box == window.box(width, height)


def test_the_quarters_lie_within_the_photo() -> None:
    assert len({str(window) for window in QUARTERS}) == 9
    assert all(window.x + window.width <= 1 and window.y + window.height <= 1 for window in QUARTERS)
