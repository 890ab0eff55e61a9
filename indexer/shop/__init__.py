"""The sample's kinds of products, and the picture of one."""

from PIL import Image

from indexer.shop import hockey, othersports
from indexer.shop.drawing import Design, Sheet

_EVERY = (
    hockey.hockey_stick,
    hockey.ice_skate,
    hockey.hockey_helmet,
    hockey.puck,
    hockey.hockey_glove,
    hockey.goalie_mask,
    hockey.goalie_leg_pad,
    hockey.shin_guard,
    hockey.shoulder_pads,
    hockey.hockey_pants,
    hockey.hockey_jersey,
    hockey.hockey_bag,
    othersports.football,
    othersports.basketball,
    othersports.tennis_racket,
    othersports.tennis_balls,
    othersports.running_shoe,
    othersports.backpack,
    othersports.water_bottle,
    othersports.bicycle_helmet,
    othersports.ski_goggles,
    othersports.skis,
    othersports.yoga_mat,
    othersports.dumbbell,
)
KINDS = {kind.__name__.replace("_", " "): kind for kind in _EVERY}


def draw(design: Design) -> Image.Image:
    """The product alone, on nothing: RGBA, `SIDE` x `SIDE`."""
    sheet = Sheet()
    KINDS[design.kind](sheet, design)
    return sheet.image
