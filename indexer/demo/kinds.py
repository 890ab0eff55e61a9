"""The sample's kinds of products, and the picture of one."""

from PIL import Image

from indexer.demo import hockey, other_sports
from indexer.demo.drawing import Design, Sheet

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
    other_sports.football,
    other_sports.basketball,
    other_sports.tennis_racket,
    other_sports.tennis_balls,
    other_sports.running_shoe,
    other_sports.backpack,
    other_sports.water_bottle,
    other_sports.bicycle_helmet,
    other_sports.ski_goggles,
    other_sports.skis,
    other_sports.yoga_mat,
    other_sports.dumbbell,
)
KINDS = {kind.__name__.replace("_", " "): kind for kind in _EVERY}


def draw(design: Design) -> Image.Image:
    """Draw the product alone, on nothing: RGBA, `SIDE` x `SIDE`."""
    sheet = Sheet()
    KINDS[design.kind](sheet, design)
    return sheet.image
