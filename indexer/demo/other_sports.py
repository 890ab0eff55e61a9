"""Draw each kind of gear for other sports, one function a kind."""

from dataclasses import replace
from functools import partial

import numpy as np

from indexer.demo.drawing import (
    GREY,
    INK,
    STEEL,
    WHITE,
    Design,
    Shape,
    Sheet,
    box,
    curve,
    ink,
    mix,
    oval,
    placed,
    points,
    tube,
)


def football(s: Sheet, d: Design) -> None:
    ball, golden = oval(50, 50, 45), (1 + 5**0.5) / 2
    s.fill(mix(WHITE, d.second, 0.12) if d.style % 3 else d.second, ball, puff=6)
    corners = np.array([np.roll((0, i, j * golden), k) for k in range(3) for i in (-1, 1) for j in (-1, 1)])
    spin, _ = np.linalg.qr(np.random.default_rng(d.seed).normal(size=(3, 3)))
    corners = corners @ spin / (1 + golden**2) ** 0.5

    def on_ball(start: Shape, end: Shape) -> Shape:
        path = np.linspace(start, end, 8)
        return np.asarray(path / np.linalg.norm(path, axis=1, keepdims=True))

    for corner in corners[corners[:, 2] > -0.4]:  # a football's pentagons are where an icosahedron has corners
        near = corners[np.argsort(-corners @ corner)[1:6]]
        east = near[0] - corner * (corner @ near[0])
        near = near[np.argsort([np.arctan2(other @ np.cross(corner, east), other @ east) for other in near])]
        ring = corner + (0.27 + 0.1 * d.p) * (near - corner)
        seams = [on_ball(knot, (corner + other) / 2) for knot, other in zip(ring, near, strict=True)]
        s.line(GREY, *[50 + 45 * seam[:, :2] for seam in seams if seam[:, 2].min() > 0], width=0.7)
        edges = np.concatenate([on_ball(ring[k - 1], ring[k]) for k in range(5)])
        if (edges[:, 2] > -0.02).sum() > 6:
            s.fill(d.paint(5 + 3 * d.r), 50 + 45 * edges[edges[:, 2] > -0.02, :2], puff=0.4, clip=ball)
    _round(s, ball)


def basketball(s: Sheet, d: Design) -> None:
    ball, seam, turn, bow = oval(50, 50, 45), INK if d.style % 3 else d.accent, 60 * d.p + 60, 10 * d.r - 14
    leather = ((222, 118, 48), (196, 92, 40), (234, 146, 78), (170, 84, 46))[d.style % 4]
    s.fill(d.paint(9 + 4 * d.q) if d.style % 5 < 3 else leather, ball, puff=6)
    lines = ["-50,0 0,6 50,0", "0,-50 -5,0 0,50", f"-46,-34 0,{bow} 46,-34", f"-46,34 0,{-bow} 46,34"]
    paths = [placed(curve(line, closed=False), 50, 50, 1, turn) for line in lines]
    if d.style % 5 >= 3:
        s.fill(d.paint(8), np.vstack([paths[2], paths[3][::-1]]), puff=0.6, clip=ball)
    dots = [placed(oval(x, y, 0.3)[::10], 50, 50, 1, 30) for x in range(-44, 45, 3) for y in range(-44, 45, 3)]
    s.shade(*dots, alpha=0.25, soft=0.1, clip=ball)
    s.line(seam, *paths, width=1.5, clip=ball)
    _round(s, ball)
    s.word(d, 52, 68, 6, seam, turn / 2 - 45)
    s.mark(d, 33, 40, 7, seam, turn - 90)


def _round(s: Sheet, ball: Shape) -> None:
    s.shade(np.vstack([ball, placed(ball - 50, 42, 42)[::-1]]), alpha=0.35, soft=4, clip=ball)
    s.gloss(oval(36, 28, 13, 9), alpha=0.35, soft=5)


def tennis_racket(s: Sheet, d: Design) -> None:
    rx, ry, y, step = 24 + 4 * d.p, 28 + 3 * d.q, 33, 2.6 + 0.8 * d.r
    string, hole = (GREY, INK, d.accent)[d.style % 3], oval(50, y, rx - 2, ry - 2)
    upright = [points(f"{x},0 {x},70") for x in 50 + step * np.arange(-12, 13)]
    s.line(string, *upright, *[points(f"10,{v} 90,{v}") for v in y + step * np.arange(-13, 14)], width=0.5, clip=hole)
    s.mark(d, 50, y, 8.5, d.second)
    sides = [
        tube(f"{50 + k * rx * 0.7},{y + ry * 0.7} {50 + k * 8},{y + ry + 4} {50 + k * 1.6},76", 4.4) for k in (-1, 1)
    ]
    s.fill(d.paint(8), *sides, tube("50,71 50,80", 6.4))
    s.fill(d.paint(9, (50, y)), tube(oval(50, y, rx - 2, ry - 2), 4.6))
    for start, end in ((200, 250), (290, 340), (60, 120))[: 1 + d.style % 3]:
        s.fill(d.accent, tube(oval(50, y, rx - 2, ry - 2, start, end), 4.6), puff=0.8)
    grip = WHITE if d.style % 4 == 0 else INK if d.style % 2 else d.second
    s.fill(grip, curve("46.4,76 46.4,76 53.6,76 53.6,76 54,94 55,98 55,98 45,98 45,98 46,94"), puff=1.6)
    s.shade(*[tube(f"46,{81 + i * 2.8} 54,{78.5 + i * 2.8}", 0.5) for i in range(6)], soft=0.15)
    s.fill(d.accent, box(46, 75.4, 54, 77.6, 0.6), puff=0.5)
    s.gloss(tube(oval(50, y, rx - 1.4, ry - 1.4, 190, 260), 0.7))


def tennis_balls(s: Sheet, d: Design) -> None:
    x, w, t, cut = 36, 17 + 3 * d.p, 10 + 6 * d.q, 40 + 14 * d.r
    felt = (214, 232, 68) if d.style % 4 else mix((244, 160, 60), d.accent, 0.2)
    beside = [(76, 79, 15), (82, 48, 15)][: 1 + d.style % 2]
    for at, y, r in ((x, t + 16, w - 2), (x, t + 46, w - 2), *beside):
        s.fill(felt, oval(at, y, r), puff=3)
        s.line(WHITE, oval(at - r * 1.25, y - r * 0.3, r), oval(at + r * 1.2, y + r * 0.5, r), clip=oval(at, y, r))
    can = np.vstack([oval(x, t, w, 3, 180, 360), oval(x, 93, w, 4, 0, 180)])
    s.fill((186, 206, 220), can, puff=2, alpha=0.42)
    label = np.vstack([oval(x, cut, w, 4, 0, 180)[::-1], oval(x, 91, w, 4, 0, 180)])
    s.fill(d.paint(8 + 3 * d.q, (x, 68)), label)
    s.shade(box(x + w - 6, t, x + w, 96), box(x - w, t, x - w + 2, 96), alpha=0.35, soft=2.4, clip=can)
    s.gloss(box(x - w + 4, t + 4, x - w + 7, 92), clip=can)
    s.fill(d.second if d.style % 2 else d.accent, box(x - w - 1, t - 5, x + w + 1, t + 3, 2))
    s.fill(GREY, box(x - w, 93, x + w, 97), puff=0.6)
    s.fill(WHITE, oval(x, 66, 10.5), puff=0.2)
    s.mark(d, x, 66, 6.6, mix(d.main, INK, 0.3))
    s.word(d, x, 83, 5)
    s.mark(d, 75, 80, 4, INK)


def running_shoe(s: Sheet, d: Design) -> None:
    low, t = 82 + 5 * d.p, 26 + 6 * d.q
    s.fill(mix(d.second, INK, 0.5), curve(f"48,{t + 2} 60,{t + 3} 80,{t + 3} 90,{t} 88,46 60,48"), puff=1)
    s.fill(mix(d.main, WHITE, 0.25), curve(f"40,38 48,{t - 5} 56,{t - 6} 60,{t + 2} 58,42 50,46"))
    heel = f"84,{t} 92,{t - 1} 92,36 94,52 95,68 90,74"
    upper = curve(f"4,66 5,58 16,52 30,46 42,34 50,{t} 57,{t - 1} 62,36 74,37 {heel} 8,74")
    s.fill(d.paint(6 + 3 * d.r, (60, 52)), upper, puff=2.4)
    s.fill(d.second, curve("2,60 12,54 20,60 22,76 0,76"), clip=upper)
    s.fill(d.accent, curve(f"97,{t - 4} 86,{t} 84,46 78,62 84,76 99,76"), clip=upper)
    s.line(INK if d.style % 2 else WHITE, f"61,37 74,38 84,{t + 1} 91,{t}", width=2.2, clip=upper)
    tread = [box(x, low - 2, x + 7, low + 2, 1) for x in range(9, 88, 9 + 3 * (d.style % 2))]
    s.fill(INK if d.style % 3 else d.main, *tread, puff=0.5)
    sole = f"3,67 3,70 20,72 50,71 70,70 96,66 98,72 95,{low - 1} 88,{low} 30,{low} 12,{low} 2,76"
    s.fill(WHITE if d.style % 3 else mix(d.accent, WHITE, 0.3), curve(sole), puff=1.8)
    s.line(d.second, "3,73 20,75 50,75 72,74 97,71", width=1 + d.style % 3)
    for i in range(5):
        x, y = 32 + i * 4.4, 46 - i * (46 - t) / 4.4
        s.line(WHITE if d.style % 4 else d.accent, f"{x - 3},{y - 1} {x + 7},{y + 5}", width=1.6)
        s.fill(INK, oval(x + 7.4, y + 5.4, 0.8), puff=0.1)
    s.stitch(WHITE, "8,62 20,58 28,68 24,71")
    s.stitch(WHITE, "78,50 75,62 80,69")
    s.mark(d, 61, 58, 8)


def backpack(s: Sheet, d: Design) -> None:
    w, t, y = 26 + 5 * d.p, 12 + 4 * d.q, 56 + 4 * d.r
    left, right, dark = 50 - w, 50 + w, mix(d.main, INK, 0.3)
    s.fill(mix(d.second, INK, 0.5), tube(f"{left + 4},{t + 8} {left - 4},40 {left - 6},70 {left + 2},88", 4))
    s.fill(mix(d.second, INK, 0.3), curve(f"{left + 6},58 {left - 4},62 {left - 5},86 {left + 6},90"))
    s.mirror()
    s.line(INK, f"42,{t + 4} 43,{t - 10} 57,{t - 10} 58,{t + 4}", width=3)
    top = f"{left},{t + 12} {left + 4},{t} 50,{t - 5} {right - 4},{t} {right},{t + 12}"
    body = curve(f"{top} {right + 2},84 {right - 2},95 {left + 2},95 {left - 2},84")
    s.fill(d.paint(8 + 3 * d.r), body, puff=3.4)
    s.line(INK, f"{left + 4},54 {left + 4},{t + 8} 50,{t} {right - 4},{t + 8} {right - 4},54", width=1.2, clip=body)
    if d.style % 3 == 0:
        s.line(d.accent, *[f"{50 + k},{34 + i * 4} {50 - k},{38 + i * 4}" for i in range(5) for k in (-12, 12)])
    elif d.style % 3 == 1:
        s.fill(
            dark, curve(f"{left + 5},40 {left + 5},28 50,25 {right - 5},28 {right - 5},40 {right - 5},51 {left + 5},51")
        )
        s.line(STEEL, f"{left + 7},34 50,31 {right - 7},34")
    low = f"{right - 2},88 {right - 6},92 {left + 6},92 {left + 2},88"
    pocket = curve(f"{left + 4},{y} {left + 4},{y} {right - 4},{y} {right - 4},{y} {low}")
    s.shade(pocket - (0, 0.8), soft=1, clip=body)
    s.fill(d.second if d.style % 2 else dark, pocket, puff=2.2)
    s.line(INK, f"{left + 6},{y + 5} 50,{y + 4} {right - 6},{y + 5}", width=1.2)
    s.line(d.accent, f"{right - 7},{y + 5} {right - 6},{y + 12}", width=1.8)
    for x in (50 - w * 0.6, 50 + w * 0.6) if d.style % 2 else ():
        s.fill(INK, box(x - 1.5, t + 12, x + 1.5, 92, 0.5), clip=body, puff=0.3)
        s.fill(GREY, box(x - 2.4, y - 7, x + 2.4, y - 3, 1), puff=0.6)
    s.mark(d, 50, y + 18, 7, d.accent)
    s.word(d, 50, t + 10, 4.4)


def water_bottle(s: Sheet, d: Design) -> None:
    w, t, waist = 15 + 5 * d.p, 28 + 6 * d.q, 4 * d.r * (d.style % 2)
    half = f"0,{t - 4} {w * 0.7},{t - 4} {w},{t + 4} {w},{t + 14} {w - waist},50 {w},64 {w},94 {w},97 {w - 4},98 0,98"
    right = curve(half, closed=False)
    body = placed(np.vstack([right, (right * (-1, 1))[::-1]]), 50, 0)
    if d.style % 3 == 0:
        s.fill(d.second, tube(f"40,{t - 8} 38,{t - 26} 62,{t - 26} 60,{t - 8}", 4))
    elif d.style % 3 == 1:
        s.fill(d.second, box(44, t - 24, 56, t - 8, 4), puff=2)
        s.fill(INK, box(45.6, t - 27, 54.4, t - 20, 2.4))
    else:
        s.fill(d.accent, tube(f"52,{t - 10} 54,{t - 22} 66,{t - 24}", 5))
    s.fill(d.paint(8 + 2 * d.q, (50, 62)), body, puff=3)
    s.fill(d.second if d.style % 3 else INK, box(50 - w * 0.84, t - 13, 50 + w * 0.84, t - 1, 2.4), puff=2)
    s.shade(*[box(x, t - 11, x + 1, t - 3, 0.4) for x in np.arange(50 - w * 0.75, 50 + w * 0.7, 2.8)], soft=0.15)
    if d.style % 4 == 1:
        s.fill(WHITE, *[box(42 + w, y, 47 + w, y + 0.7, 0.3) for y in range(44, 92, 6)], puff=0.2)
    if d.style % 4 == 2:
        s.fill(mix(d.main, INK, 0.5), box(50 - w, 56, 50 + w, 64), clip=body, puff=0.8)
    s.shade(box(46 + w, t, 54 + w, 98), soft=2.4, clip=body)
    s.gloss(box(54 - w, t + 6, 57 - w, 92, 1.2), clip=body)
    s.mark(d, 50, 46, 6.6)
    s.word(d, 50, 76, 5.6 if d.style % 2 else 7, angle=0 if d.style % 2 else -90)


def bicycle_helmet(s: Sheet, d: Design) -> None:
    t, count = 14 + 7 * d.p, 4 + d.style % 2
    s.line(INK, "30,62 44,86 50,94 62,80 72,62", "50,92 56,76 56,60", width=2)
    s.fill(GREY, box(46, 90, 55, 96, 2))
    s.fill(mix(d.second, INK, 0.6), curve("12,52 30,70 60,72 90,64 92,50 50,40"))
    rim = "6,60 26,63 44,61 66,57 86,60 97,63"
    shell = curve(f"4,56 8,40 26,{t + 4} 50,{t - 2} 76,{t + 2} 95,34 99,54 96,66 86,62 66,60 44,64 26,66 10,64")
    s.fill(d.paint(9 + 3 * d.q, (50, 40)), shell, puff=3.6)
    s.fill(d.second, tube(rim, 4.6), clip=shell)
    for i in range(count):
        x, y = 22 + i * (15 - 2 * (count - 4)), 34 + abs(i - 1.5) * 2
        tip = f"{x + 8},{y - 9} {x + 12},{y - 6} {x + 6 + 3 * d.r},{y + 8}"
        s.fill((44, 46, 52), curve(f"{x - 8},{y + 18} {x - 3},{y + 2} {tip} {x + 2},{y + 20}"), clip=shell, puff=0.7)
        s.gloss(tube(f"{x - 6},{y + 20} {x - 1},{y + 5} {x + 9},{y - 7}", 0.7), soft=0.25, clip=shell)
        if d.style % 3 == 0:
            s.line(d.accent, f"{x + 3},{y + 22} {x + 8},{y + 8} {x + 14},{y - 6}", width=1.6, clip=shell)
    if d.style % 2:
        s.fill(d.accent, curve("14,46 12,56 2,64 -3,62 2,54 6,46"))
    s.gloss(tube(f"20,{t + 14} 36,{t + 5} 54,{t + 2}", 2.4, 0.8), clip=shell)
    s.word(d, 50, 60.5, 3.2, ink(d.second), -2)
    s.mark(d, 89, 48, 4.6, d.accent)


def ski_goggles(s: Sheet, d: Design) -> None:
    low, brow = 78 + 5 * d.p, 23 - 5 * d.p
    s.fill(d.paint(6 + 2 * d.r, (25, 51)), curve("0,38 0,38 12,36 24,34 24,70 12,66 0,62 0,62"), puff=1.4)
    s.stitch(WHITE, "1,41 12,39 20,37")
    s.fill(INK, box(12, 36, 17, 68), puff=0.8)
    half = curve(f"50,{brow - 2} 22,{brow} 14,40 14,62 22,{low} 38,{low} 43,{low - 9} 50,{low - 9}", closed=False)
    s.mirror()
    frame = np.vstack([half, ((100, 0) + half * (-1, 1))[::-1]])
    s.fill(d.main if d.style % 2 else d.second, frame, puff=2.4)
    lens = (frame - (50, 48)) * (0.86 + 0.05 * d.q, 0.78 + 0.06 * d.q) + (50, 48)
    tint = ((60, 70, 90), (240, 150, 60), (70, 150, 210), (150, 80, 180), (60, 160, 120))[d.style % 5]
    sky = replace(d, main=tint, second=mix(tint, d.accent, 0.85), pattern="fade")
    s.fill(sky.paint(6, (50, 46), 25 if d.style < 5 else -60), lens, puff=2)
    s.gloss(points("30,20 42,20 26,80 14,80"), points("47,20 50,20 34,80 31,80"), alpha=0.35, clip=lens)
    s.line(INK, *[f"{x},{brow + 1.4} {x + 3},{brow + 1.3}" for x in range(36, 66, 7)], width=1.4)
    s.word(d, 62, 60, 4.6, WHITE)
    s.mark(d, 7 if d.style % 2 else 93, 51, 4)


def skis(s: Sheet, d: Design) -> None:
    w, tip = 7.5 + 2.5 * d.p, 10 + 6 * d.q
    right = curve(f"0,-48 {w},-46 {w + 0.6},{tip - 44} {w * 0.72},0 {w * 0.95},38 {w * 0.8},47 0,48", closed=False)
    outline = np.vstack([right, (right * (-1, 1))[::-1]])
    for x, angle in ((34, -4 - 4 * d.r), (66, 4 + 4 * d.r)):
        on = partial(placed, x=x, y=50, angle=angle)
        sin, cos, ski = np.sin(np.radians(angle)), np.cos(np.radians(angle)), on(outline)
        s.fill(INK, ski, puff=0.6)
        s.fill(d.paint(8, (x, 34), angle), on(outline * (0.88, 0.985)), puff=1.6)
        s.fill(d.second, on(box(-w, 30, w, 34, 0.3)), on(box(-w, 36, w, 37.4, 0.3)), clip=ski, puff=0.2)
        s.fill(INK, on(box(-4.4, -9, 4.4, 16, 2)), puff=0.8)
        s.fill(d.accent if d.style % 2 else GREY, on(box(-3.8, -8, 3.8, -1, 2)), on(box(-3.4, 9, 3.4, 17)), puff=1.4)
        s.fill(STEEL, on(box(-1.4, -1, 1.4, 9, 0.6)), on(box(-4.8, -4.4, 4.8, -2.8, 0.7)), puff=0.5)
        s.gloss(on(tube(f"{-w * 0.5},-42 {-w * 0.45},-12", 1, 0.4)))
        s.mark(d, x + 33 * sin, 50 - 33 * cos, w * 0.55, angle=angle)
        s.word(d, x + 19 * sin, 50 - 19 * cos, w * 0.42, angle=angle - 90)


def yoga_mat(s: Sheet, d: Design) -> None:
    r, y = 15 + 5 * d.p, 58 - 4 * d.q
    low, period = y + r, 7 + 2 * d.r
    if d.style % 2:
        near = f"98,{low + 6} 98,{low + 8} 34,{low + 18} 28,{low + 12}"
        s.fill(
            d.paint(period, (60, 70)), curve(f"20,{low - 4} 20,{low - 2} 84,{low - 14} 84,{low - 14} {near}"), puff=0.7
        )
    roll = np.vstack([oval(24, y, r * 0.72, r, 90, 270), oval(84, y - 12, r * 0.72, r, 270, 450)])
    s.fill(d.paint(period, (54, y - 6), -10.5), roll, puff=4.4)
    s.gloss(tube(f"26,{y - r * 0.55} 84,{y - 12 - r * 0.55}", 2.2), alpha=0.35, soft=1.2, clip=roll)
    s.fill(mix(d.main, WHITE, 0.2), oval(24, y, r * 0.72, r), puff=1)
    turns = np.linspace(0, 1, 240)[:, None]
    angle = turns * (5 + d.style % 3) * 2 * np.pi
    ends = np.hstack([0.7 * np.cos(angle), 0.97 * np.sin(angle)]) * (1 - 0.9 * turns) * r
    s.line(d.second, placed(ends, 24, y), width=0.9)
    for x in (42, 70) if d.style % 3 else (56,):
        at = x - 0.7 * r, y - (x - 24) * 0.2
        s.fill(d.accent, tube(oval(x, at[1], r * 0.72, r, 90, 270), 4 + 2 * d.q), clip=roll, puff=0.9)
        s.fill(INK, box(at[0] - 3, at[1] - 3, at[0] + 3, at[1] + 3), puff=0.5)
    if d.style % 3 == 1:
        s.line(d.accent, f"40,{y - r} 44,{y - r - 26} 66,{y - r - 30} 71,{y - r - 8}", width=3)
    s.word(d, 53, y - 3, 5.4, angle=-10.5)
    s.mark(d, 81, y - 10, 4.4)


def dumbbell(s: Sheet, d: Design) -> None:
    big, inner = 24 + 6 * d.p, 34 - 4 * d.q
    outer = inner - 22 - 4 * d.r
    x, high = (inner + outer) / 2, 0.7 * big
    s.fill(STEEL, box(inner - 6, 45, 51, 55, 2), puff=2)
    s.shade(*[tube(f"{k},45.5 {k + 1.6},54.5", 0.4) for k in np.arange(inner, 50, 2.2)], soft=0.1)
    if d.style % 3 == 2:
        s.fill(STEEL, box(outer - 6, 46.5, inner, 53.5, 2))
        for k, size in ((inner - 5, big), (inner - 12, big * 0.86), (inner - 19, big * 0.66)):
            s.fill(
                d.second if k == inner - 12 else d.paint(6), box(k - 1, 50 - size, k + 5.4, 50 + size, 2.4), puff=1.8
            )
    else:
        upper = f"{inner},{50 - high} {inner - 3},{50 - big} {outer + 4},{50 - big} {outer},{50 - high}"
        head = curve(f"{upper} {outer},{50 + high} {outer + 4},{50 + big} {inner - 3},{50 + big} {inner},{50 + high}")
        s.fill(INK if d.style % 2 else mix(d.main, INK, 0.2), head, puff=2.6)
        s.fill(d.paint(6 + 2 * d.r, (x, 50)), box(outer, 50 - 0.62 * big, inner, 50 + 0.62 * big, 1), clip=head)
        s.gloss(box(outer + 4, 51 - big, inner - 3, 53 - big, 0.6))
        s.fill(d.accent, box(inner - 3, 50 - big, inner - 0.6, 50 + big, 0.4), clip=head, puff=0.6)
        s.fill(WHITE, oval(x, 50, 8), puff=0.4)
    s.mirror()
    if d.style % 3 == 0:
        s.fill(INK, box(inner + 4, 44, 96 - inner, 56, 3), puff=2)
    for side in (x, 100 - x) if d.style % 3 != 2 else ():
        s.mark(d, side, 50, 5.2, mix(d.main, INK, 0.3))
