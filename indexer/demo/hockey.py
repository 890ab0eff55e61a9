"""Draw each kind of ice hockey gear, one function a kind."""

import numpy as np

from indexer.demo.drawing import (
    GREY,
    INK,
    MARKS,
    STEEL,
    WHITE,
    Design,
    Sheet,
    both,
    box,
    curve,
    ink,
    mix,
    oval,
    points,
    tube,
)


def hockey_stick(s: Sheet, d: Design) -> None:
    w, bend, grip = 5.4 + 2 * d.p, 6 * d.q, INK if d.style % 2 == 0 else WHITE
    blade = curve(f"42,71 42,80 {38 - d.r * 4},95 24,97 6,{95 - bend} 2,{88 - bend} 8,{81 - bend} 26,84 35,79 38,70")
    s.fill(d.paint(7, (30, 88), 10), blade)
    if d.style % 3:
        tape = [tube(f"{x + 3},76 {x},99", 3) for x in range(6 + 2 * d.style, 31, 4)]
        s.fill(INK if d.style % 2 else WHITE, *tape, puff=0.4, clip=blade)
    s.fill(d.paint(9, (63, 42), 31), tube("88,5 40,80", w, w - 0.6), puff=1.8)
    s.gloss(tube("85,8 41,76", 0.8))
    s.fill(grip, tube(f"88,5 {79 - 4 * d.p},{19 + 6 * d.p}", w + 0.6), tube("87.6,4.8 88.4,5.4", w + 2.4))
    s.line(mix(grip, GREY, 0.7), *[f"{82 - i * 1.6},{9 + i * 2.5} {89 - i * 1.6},{11 + i * 2.5}" for i in range(6)])
    s.word(d, 64, 42.5, w * 0.62, d.accent, -57.4)
    s.mark(d, 48 - 2 * d.q, 67.5 + 3 * d.q, w * 0.42, d.accent)


def ice_skate(s: Sheet, d: Design) -> None:
    t = 12 - 8 * d.p
    s.fill(STEEL, curve("5,85 5,85 86,85 87,90 82,95 20,95 7,92"), puff=0.9)
    holder = curve("10,73 40,73 36,82 50,84 54,74 80,73 78,80 81,88 8,88 15,80")
    s.fill((d.accent, GREY, INK)[d.style % 3], holder, box(9, 83, 82, 88))
    s.fill(mix(d.second, WHITE, 0.3), curve(f"41,{t - 5} 43,{t - 8} 54,{t - 7} 58,{t + 8} 48,30 42,30"))
    boot = curve(f"45,{t} 46,{t} 71,{t - 3} 75,{t - 2} 73,26 69,44 79,56 79,70 77,74 12,74 5,72 5,58 18,54 36,47 44,34")
    s.fill(d.paint(6 + 4 * d.q, (52, 50)), boot, puff=2.6)
    s.fill(INK if d.style % 2 else d.second, oval(4, 70, 15 + 6 * d.r, 16), clip=boot)
    s.fill(mix(d.main, INK, 0.45), curve("84,74 60,74 58,58 70,48 82,52"), clip=boot)
    s.fill(d.accent, tube(f"44,{t + 3} 58,{t + 2} 76,{t}", 5), clip=boot, puff=0.8)
    s.fill(INK, box(4, 71, 80, 75))
    s.stitch(WHITE, f"74,{t + 6} 70,26 62,42 52,54 34,60 22,60")
    for y in np.linspace(t + 9, 50, 7).tolist():
        x, low = 45.5 - max(0, y - 32) * 1.1, 3 + 3 * (y > 32)
        s.line(WHITE if d.style % 4 else d.accent, f"{x - 2},{y} {x + 8},{y + low}", width=1.5)
        s.fill(INK, oval(x + 8.5, y + low + 0.3, 0.9), puff=0.2)
    s.mark(d, 63, 37 + 3 * d.q, 6)


def hockey_helmet(s: Sheet, d: Design) -> None:
    t = 4 * d.p
    s.fill(mix(d.main, INK, 0.75), curve("22,48 60,44 84,50 80,76 66,82 58,70 54,60 24,58"))
    s.line(INK, "70,74 62,90 40,98 26,90", width=2.4)
    shell = curve(f"11,50 9,32 22,{14 + t} 48,{6 + t} 74,{10 + t} 91,30 92,52 86,66 72,66 66,56 52,55 30,52 13,54")
    s.fill(d.paint(8 + 4 * d.q), shell, puff=3.4)
    s.fill(d.second if d.style % 2 else INK, curve("54,52 76,52 80,64 74,80 62,82 54,70"))
    s.fill(mix(d.main, INK, 0.6), oval(66, 66, 6 + 2 * d.r, 8))
    s.shade(tube(f"46,{6 + t} 50,24 47,56", 1.6), clip=shell)
    for i in range(3 + d.style % 3):
        vent = tube(f"{56 + i * 7},{16 + i * 3 + t} {58 + i * 7},{26 + i * 3 + t}", 2 + 1.6 * d.r)
        s.fill(INK, vent, tube(f"{38 - i * 6},{15 + i * 3 + t} {37 - i * 6},{24 + i * 2 + t}", 2 + d.r), puff=0.3)
    s.gloss(tube(f"18,26 32,{14 + t} 52,{11 + t}", 3, 1))
    s.mark(d, 81, 46, 5.5)
    s.word(d, 29, 42, 4.6)
    if d.style < 5:
        tint = (150, 190, 220) if d.style % 2 else (90, 98, 110)
        s.fill(tint, curve("9,51 40,52 47,56 44,74 34,82 12,80 5,70"), puff=0.8, alpha=0.55)
        s.gloss(tube("14,58 12,74", 3), tube("20,58 17,77", 1.2))
    else:
        bars = [f"{12 + 5 * i},52 {6 + 6 * i},66 {9 + 6 * i},84" for i in range(6)]
        s.line(GREY, *bars, *[f"7,{58 + 6 * i} 24,{59 + 7 * i} 47,{57 + 5 * i}" for i in range(5)], width=1.3)


def puck(s: Sheet, d: Design) -> None:
    ry, deep, inner = 25 + 8 * d.p, 12 + 9 * d.q, 27 + 8 * d.r
    base, y, flat = INK if d.style % 4 else mix(d.main, INK, 0.25), 50 - deep / 2, ry / 43
    side = np.vstack([oval(50, y, 43, ry, 180, 360), oval(50, y + deep, 43, ry, 0, 180)])
    s.fill(base, side, puff=3)
    k, rim = d.style % 3 - 1, oval(50, y, 43, ry, 3, 177).tolist()
    s.line(
        mix(base, GREY, 0.4), *[points(f"{x + k},{v + deep / 4} {x - k},{v + deep * 0.8}") for x, v in rim], width=0.5
    )
    s.fill(mix(base, GREY, 0.18), oval(50, y, 42.5, ry - 0.5), puff=0.7)
    s.fill(d.accent, oval(50, y, inner + 2, (inner + 2) * flat), puff=0.2)
    s.fill(d.paint(9, (50, y)), oval(50, y, inner, inner * flat), puff=0.4)
    s.fill(WHITE if d.style % 2 else INK, oval(50, y, 14, 14 * flat), puff=0.2)
    s.fill(mix(d.main, INK, 0.3) if d.style % 2 else d.accent, MARKS[d.mark] * (9.5, 9.5 * flat) + (50, y), puff=0.2)
    s.gloss(curve("14,36 30,22 52,18 30,30 20,44"), alpha=0.22, soft=2, clip=oval(50, y, 42, ry))


def hockey_glove(s: Sheet, d: Design) -> None:
    flare, dark, rolls = 4 * d.p, mix(d.main, INK, 0.55), 3 + d.style % 2
    s.fill(dark, tube("30,66 20,56 11,40", 16, 13), box(28, 34, 76, 72, 6))
    s.fill(d.main, tube("24,60 19,52", 12), puff=1.6)
    s.fill(d.second, tube("15,46 11,38", 12), puff=1.6)
    for i, top in enumerate((14, 8, 10, 18)):
        x, y, long = 34.5 + i * 11.2, top + 3 * d.q, (36 - top) / 2
        s.fill(d.second if d.style % 2 else d.main, box(x + i - 6.8, y, x + i + 3.8, y + long, 4), puff=1.8)
        s.fill(d.main, box(x - 5.3, y + long, x + 5.3, y + 2 * long, 4), puff=1.8)
    back = curve("29,37 29,37 78,37 78,37 76,68 76,68 30,68 30,68")
    s.fill(d.paint(6 + 3 * d.r, (53, 52)), back, puff=2)
    s.shade(*[tube(f"29,{y} 52,{y - 1.5} 78,{y}", 1.2) for y in np.arange(1, rolls) * 31 / rolls + 37], clip=back)
    s.fill(INK, box(30, 65, 76, 71), puff=0.8)
    cuff = curve(f"31,68 31,68 75,68 75,68 {82 + flare},95 {82 + flare},95 53,97 {24 - flare},95 {24 - flare},95")
    s.fill(d.second if d.style % 3 else dark, cuff, puff=2.2)
    s.line(d.accent, f"{25 - flare},92 53,94 {81 + flare},92", width=1.6, clip=cuff)
    s.word(d, 53, 78, 6.4, d.main if d.style % 3 else d.accent)
    s.mark(d, 53, 87.5, 3.6, d.accent)
    s.stitch(WHITE, "32,73 53,72 75,73")


def goalie_mask(s: Sheet, d: Design) -> None:
    chin, wide, step = 92 + 5 * d.p, 3 * d.q, 7 if d.style % 2 else 9.5
    shell = curve(
        f"50,3 74,3 91,22 {88 + wide},54 74,72 64,{chin} 50,{chin + 3} 36,{chin} 26,72 {12 - wide},54 9,22 26,3"
    )
    s.fill(d.paint(9 + 3 * d.r), shell, puff=4)
    s.gloss(tube("22,22 32,11 48,8", 4, 1.5), soft=1)
    hole = curve("24,34 38,30 62,30 76,34 80,46 74,62 62,74 50,77 38,74 26,62 20,46")
    s.fill((24, 25, 30), hole, puff=0.5)
    s.gloss(oval(50, 42, 24, 4), oval(50, 66, 14, 4), soft=3, alpha=0.2, clip=hole)
    cage = STEEL if d.style % 3 else mix(d.accent, WHITE, 0.15)
    rows = [f"20,{y + 1} 50,{y - 2} 80,{y + 1}" for y in np.arange(38, 76, step)]
    columns = [f"{50 + 0.9 * x},28 {50 + x},50 {50 + 0.7 * x},78" for x in np.arange(-3, 4) * step]
    s.line(cage, *rows, *columns, width=1.4, clip=hole)
    s.line(cage, np.vstack([hole, hole[:1]]), width=1.8)
    s.fill(INK, *[oval(x, y, 1.6) for x in (12, 88) for y in (40, 50)], puff=0.3)
    s.line(INK, *[f"{50 + x},83 {50 + 0.8 * x},{88 + 3 * d.p}" for x in (-10, -4, 4, 10)], width=1.6)
    s.mark(d, 50, 18, 7)


def goalie_leg_pad(s: Sheet, d: Design) -> None:
    w, t, y = 2.5 * d.p, 4 + 5 * d.q, 70 + 3 * d.r
    s.line(INK, *[f"3,{y} 12,{y}" for y in (53, 65, 77)], width=2.6)
    pad = curve(f"{8 - w},{t} 12,{t - 3} 40,{t - 3} 45,{t} 47,24 45,58 46,84 41,97 18,97 11,84 9,58 {7 - w},24")
    s.fill(d.paint(8, (26, 50)), pad, puff=3)
    for roll in range(28, 41 + 4 * (d.style % 3), 5):
        s.fill(d.second if d.style % 2 else WHITE, tube(f"13,{roll} 27,{roll - 1} 40,{roll}", 4.4), clip=pad)
    s.fill(d.second, tube("44,6 45,30 43,60 44,84 38,97", 5), clip=pad, puff=1.4)
    s.fill(d.accent, tube("10,8 10,30 12,60 14,84 20,97", 3), clip=pad)
    s.shade(*[tube(f"8,{y} 27,{y + 1.5} 44,{y}", 0.8) for y in (t + 7, 82, t + 13, 89)[: 2 + d.style % 3]], clip=pad)
    s.fill(WHITE if sum(d.main) < 400 else d.accent, tube("14,54 26,60 41,54", 2.2), clip=pad, puff=0.3)
    s.fill(INK, oval(26, y, 7.4), puff=0.3)
    s.fill(WHITE, oval(26, y, 6.6), puff=0.3)
    s.mirror()
    for x in (26, 74):
        s.mark(d, x, y, 4.4, mix(d.main, INK, 0.3))
        s.word(d, x, t + 17, 4)


def shin_guard(s: Sheet, d: Design) -> None:
    r, cap = 13 + 3 * d.p, d.main if d.style % 2 else d.second
    s.fill(mix(d.second, INK, 0.5), curve("8,8 27,3 46,8 47,36 43,60 40,93 34,97 20,97 14,93 8,60 6,36"), puff=2)
    s.fill(INK, box(5, 50, 47, 54.5, 1), box(7, 80, 46, 84.5, 1), puff=0.6)
    s.fill(d.accent, box(39, 49.5, 45, 55, 1), box(38, 79.5, 44, 85, 1), puff=0.5)
    s.fill(
        d.paint(7 + 2 * d.q, (27, 64)), curve("14,36 27,32 40,36 41,50 37,80 35,92 27,95 19,92 17,80 13,50"), puff=2.6
    )
    s.gloss(tube("20,42 22,84", 1.4))
    s.fill(cap, oval(27, 21, r, r + 2), puff=3)
    s.line(d.accent, oval(27, 21, r - 4), width=1.6)
    s.line(INK, *[f"22,{44 + i * 5} 27,{46 + i * 5} 32,{44 + i * 5}" for i in range(2 + d.style % 4)], width=1.6)
    s.mirror()
    for x in (27, 73):
        s.mark(d, x, 21, 5.2, ink(cap))
        s.word(d, x, 76 - 4 * d.r, 4.4, angle=90 if d.style % 2 else 0)


def shoulder_pads(s: Sheet, d: Design) -> None:
    low = 74 + 12 * d.p
    s.fill(mix(d.second, INK, 0.65), oval(50, 17, 19, 12))
    s.fill(mix(d.main, INK, 0.5), curve("10,44 26,42 30,58 26,78 12,80 6,70 6,54"), puff=2)
    s.fill(d.second, curve("11,56 24,55 26,66 22,75 12,76 9,66"), puff=2)
    s.fill(mix(d.main, INK, 0.35), curve(f"28,18 42,22 51,26 51,{low} 38,{low} 28,{low - 4} 26,56 20,36"), puff=2.6)
    s.fill(d.paint(7 + 2 * d.q), curve(f"30,28 47,30 48,44 48,{low - 20} 36,{low - 18} 28,50"), puff=2)
    s.fill(d.second, box(31, low - 17, 48, low - 10, 2.5), box(33, low - 9, 48, low - 3, 2.5), puff=1)
    cap = curve("4,40 6,22 20,10 36,12 40,24 30,34 20,46 8,52")
    s.fill(d.paint(8 + 2 * d.q, (20, 30)), cap, puff=3.2)
    s.line(d.accent, "7,46 20,38 32,25 36,16", width=1.6, clip=cap)
    s.stitch(WHITE, "31,36 30,48 34,60")
    s.mirror()
    s.line(INK, f"50,28 50,{low - 2}", f"45,{55 + 6 * d.r} 55,{55 + 6 * d.r}", width=2)
    for x in (17, 83):
        s.mark(d, x, 27, 4.4)
    s.fill(WHITE, box(38, 37, 62, 44.5, 2), puff=0.4)
    s.word(d, 50, 40.8, 4.4, mix(d.main, INK, 0.3))


def hockey_pants(s: Sheet, d: Design) -> None:
    hem, w = 84 + 8 * d.p, 6 * d.q
    body = curve(
        f"26,12 26,12 74,12 74,12 80,40 {88 + w},{hem - 4} {87 + w},{hem} 84,{hem} 56,{hem} 54,{hem - 2} 52,56 50,50 "
        f"48,56 46,{hem - 2} 44,{hem} 16,{hem} {13 - w},{hem} {12 - w},{hem - 4} 20,40"
    )
    s.fill(d.paint(9 + 2 * d.r, (50, 55)), body, puff=3)
    if d.style % 3:
        s.fill(d.second, *both(curve(f"20,10 30,20 26,50 {22 - w},96 4,98 6,60")), clip=body, puff=1.6)
        s.line(d.accent, *both(curve(f"30,16 29,24 26,50 {22 - w},96", closed=False)), width=1.6, clip=body)
    s.shade(*both(tube(f"50,50 40,58 34,{hem}", 0.7)), *both(tube("28,34 38,36 48,30", 0.7)), clip=body)
    s.line(d.accent, *both(points(f"4,{hem - 7} 50,{hem - 6}")), width=1 + 2.4 * (d.style % 2), clip=body)
    s.fill(mix(d.main, INK, 0.5), box(24, 7, 76, 17, 2.5))
    s.line(INK, "50,18 50,52")
    laces = [f"{50 + k},{18 + i * 3.4} {50 - k},{20.5 + i * 3.4}" for i in range(4) for k in (-4, 4)]
    s.line(WHITE, *laces, "49,10 44,20 42,28", "51,10 56,20 59,27")
    s.word(d, 65, 12, 3.4, WHITE)
    s.mark(d, 33 - 2 * d.q, hem - 20, 6.4)


def hockey_jersey(s: Sheet, d: Design) -> None:
    hem, arm = 88 + 7 * d.p, 6 * d.q
    wrist = f"{4 - arm / 2},{62 + arm} {4 - arm / 2},{62 + arm} 17,{67 + arm} 17,{67 + arm}"
    sleeve = curve(f"33,9 33,9 22,14 12,40 {wrist} 32,36")
    s.fill(d.main if d.style % 2 else d.second, sleeve, puff=2.2)
    for i, colour in enumerate((d.accent, WHITE, d.accent)[: 1 + d.style % 3]):
        s.line(colour, f"2,{50 + i * 4 + arm} 22,{58 + i * 4 + arm}", width=3, clip=sleeve)
    s.mirror()
    body = curve(f"34,9 34,9 28,14 29,40 27,{hem} 27,{hem} 50,{hem + 2} 73,{hem} 73,{hem} 71,40 72,14 66,9 66,9 50,16")
    s.fill(d.paint(9 + 3 * d.r, (50, 55)), body, puff=2.4)
    if d.style % 4 == 0:
        s.fill(d.second, curve("28,5 72,5 74,24 50,30 26,24"), clip=body, puff=0.6)
    if d.style % 3:
        s.fill(d.accent, box(20, hem - 12, 80, hem - 7), clip=body, puff=0.2)
    s.shade(tube(f"36,{hem} 40,70 38,50", 2.4, 0.4), tube(f"63,{hem} 58,70 65,50", 2.4, 0.4), alpha=0.25, soft=0.8)
    s.fill(mix(d.main, INK, 0.7), curve("36,8 64,8 56,16 50,20 44,16"), puff=0.6)
    s.line(d.accent, "35,8 43,16 50,22 57,16 65,8", width=2.6)
    if d.style % 2:
        s.line(WHITE, *[f"{50 - k},{y} {50 + k},{y + 2}" for y in (18, 21, 24) for k in (-3, 3)])
    s.fill(ink(d.main), oval(50, 46, 14 + 2 * d.r), puff=0.4)
    s.mark(d, 50, 46, 9.5 + d.r, d.main)
    s.word(d, 50, 68, 6)


def hockey_bag(s: Sheet, d: Design) -> None:
    t, end, x = 36 - 8 * d.p, 8 * d.q, 32 - 3 * d.r
    s.line(mix(d.second, INK, 0.4), f"16,{t + 8} 30,6 50,2 70,6 84,{t + 8}", width=3)
    if d.style % 3 == 0:
        s.fill(INK, oval(16, 83, 7), oval(84, 83, 7))
    body = curve(f"4,{t + 8} 7,{t} 30,{t - 2} 70,{t - 2} 93,{t} 96,{t + 8} 97,70 95,83 84,84 16,84 5,83 3,70")
    s.fill(d.paint(9 + 3 * d.r, (50, 58)), body, puff=4)
    seam = f"{14 + end},{t - 4} {18 + end},56 {14 + end},90"
    s.fill(d.second, *both(curve(f"0,{t} {seam} 0,90")), clip=body, puff=2)
    s.line(INK, *both(curve(seam, closed=False)), clip=body)
    s.fill(mix(d.main, INK, 0.6), box(0, 76, 100, 90), clip=body, puff=1)
    s.line(INK, *both(points(f"{x},{t + 4} {x},84")), width=3.4, clip=body)
    s.line(INK, f"10,{t + 5} 50,{t + 3} 90,{t + 5}", width=1.8)
    s.stitch(STEEL, f"10,{t + 5} 50,{t + 3} 90,{t + 5}", 1)
    s.line(INK, f"{x},{t + 10} 36,{t - 12} 64,{t - 12} {100 - x},{t + 10}", width=3)
    s.fill(d.accent, box(44, t - 9, 56, t - 4.5, 2))
    if d.style % 2:
        s.fill(mix(d.main, INK, 0.25), box(38, 55, 62, 75, 2), puff=1.4)
        s.line(STEEL, "40,58 50,57.5 60,58")
    s.word(d, 50, 50, 6)
    s.mark(d, 50, 66.5, 5, d.accent)
