# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Two kinds of plots as SVG: bars in panels, and lines over a logarithmic axis. Nothing but text is made.

Colours are Okabe and Ito's, which people with any colour vision can tell apart; lines differ in their marks as well.
Each panel of bars has a scale of its own that begins at zero.
"""
import math
from xml.sax.saxutils import escape

COLOURS = {'blue': '#0072b2', 'sky': '#56b4e9', 'orange': '#e69f00', 'vermilion': '#d55e00', 'green': '#009e73',
           'pink': '#cc79a7', 'grey': '#8c8c8c', 'black': '#222222'}
INK, PALE, PAPER = '#222222', '#d9d9d9', '#ffffff'
FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'
CHAR_PX = 7.2  # of a letter of 12 pixels, on the wide side


def text(x, y, words, size=12, anchor='start', weight='normal', colour=INK, turn=None):
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn is not None else ''
    return (f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}"{turned}>{escape(words)}</text>')


def rect(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>'


def stroke(x1, y1, x2, y2, colour=PALE, width=1.0):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"/>')


def document(width, height, parts, title):
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">', f'<title>{escape(title)}</title>',
        rect(0, 0, width, height, PAPER), *parts, '</svg>', ''])


def nice_step(top, count=4):
    """A step of 1, 2 or 5 times a power of ten, so that about @count of them reach @top."""
    if top <= 0:
        return 1.0
    raw = top / count
    power = 10 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)


def number(value):
    """A figure as people write it: three digits that mean something, then k or M."""
    for limit, unit in ((1e6, ' M'), (1e3, ' k')):
        if abs(value) >= limit * 0.9995:
            return f'{value / limit:.3g}{unit}'
    return f'{value:.3g}'


# ---- bars

BAR, BAR_GAP, PANEL_GAP, MARGIN = 16, 6, 46, 16
PLOT_WIDTH, SIDE_GAP, VALUE_ROOM = 300, 28, 96


class Bar:
    """A bar: its name, a value for each side (or None), its colour, and the values' extremes over the rounds."""

    def __init__(self, name, values, colour, extremes=None):
        self.name, self.values, self.colour, self.extremes = name, values, colour, extremes


def _panel_side(x, y, panel, side, height):
    bars = panel['bars']
    top = max((bar.values[side] for bar in bars if bar.values[side] is not None), default=0) or 1
    step = nice_step(top)
    # The longest bar ends where the plot does; its figure stands behind it.
    scale = PLOT_WIDTH / (math.ceil(top / step - 1e-9) * step)
    parts = []
    for tick in range(int(PLOT_WIDTH / (step * scale) + 1.5)):
        at = x + tick * step * scale
        parts += [stroke(at, y, at, y + height),
                  text(at, y + height + 14, number(tick * step), 10, 'middle', colour='#555555')]
    for at, bar in enumerate(bars):
        value, above = bar.values[side], y + at * (BAR + BAR_GAP) + BAR_GAP / 2
        if value is None:
            parts.append(text(x + 6, above + BAR - 4, '–', 11, colour='#777777'))
            continue
        end = x + value * scale
        parts.append(rect(x, above, value * scale, BAR, COLOURS[bar.colour]))
        if bar.extremes and bar.extremes[side]:
            low, high = (x + min(extreme * scale, PLOT_WIDTH + 4) for extreme in bar.extremes[side])
            middle = above + BAR / 2
            parts += [stroke(low, middle, high, middle, INK, 1.2), stroke(low, middle - 4, low, middle + 4, INK, 1.2),
                      stroke(high, middle - 4, high, middle + 4, INK, 1.2)]
            end = max(end, high)
        parts.append(text(end + 6, above + BAR - 4, number(value), 11))
    return parts + [stroke(x, y, x, y + height, INK)]


def bars(title, sides, panels, note='', warning=''):
    """@panels of horizontal bars, {'name', 'bars'}; each of @sides (titles of the values) is a column of plots."""
    longest = max((len(bar.name) for panel in panels for bar in panel['bars']), default=0)
    left = MARGIN + longest * CHAR_PX + 10
    column = PLOT_WIDTH + VALUE_ROOM + SIDE_GAP
    width = left + len(sides) * column
    parts, y = [text(MARGIN, 28, title, 16, weight='bold')], 50
    for side, words in enumerate(sides):
        parts.append(text(left + side * column, y, words, 12, weight='bold'))
    y += 24
    for panel in panels:
        height = len(panel['bars']) * (BAR + BAR_GAP)
        parts.append(text(MARGIN, y, panel['name'], 12, weight='bold'))
        y += 8
        for at, bar in enumerate(panel['bars']):
            parts.append(text(left - 8, y + at * (BAR + BAR_GAP) + BAR_GAP / 2 + BAR - 4, bar.name, 12, 'end'))
        for side in range(len(sides)):
            parts += _panel_side(left + side * column, y, panel, side, height)
        y += height + PANEL_GAP
    for words, colour in ((note, '#555555'), (warning, COLOURS['vermilion'])):
        if words:
            parts.append(text(MARGIN, y - 12, words, 11, colour=colour))
            y += 16
    return document(width, y, parts, title)


# ---- lines

LINE_LEFT, LINE_TOP, LINE_WIDTH, LINE_HEIGHT, LINE_BOTTOM = 84, 52, 560, 320, 70
MARKS = ('circle', 'square', 'diamond', 'triangle', 'cross')


def mark(kind, x, y, colour):
    if kind == 'circle':
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    if kind == 'cross':
        return (f'<path d="M{x - 4:.1f} {y - 4:.1f}L{x + 4:.1f} {y + 4:.1f}M{x - 4:.1f} {y + 4:.1f}'
                f'L{x + 4:.1f} {y - 4:.1f}" stroke="{colour}" stroke-width="2.2" fill="none"/>')
    corners = {'square': ((-4, -4), (4, -4), (4, 4), (-4, 4)), 'diamond': ((0, -5), (5, 0), (0, 5), (-5, 0)),
               'triangle': ((0, -5), (5, 4), (-5, 4))}[kind]
    points = ' '.join(f'{x + right:.1f},{y + down:.1f}' for right, down in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


class Line:
    """A line: its name, its points (x, y), its colour."""

    def __init__(self, name, points, colour):
        self.name, self.points, self.colour = name, points, colour


def decades(values):
    """The powers of ten around @values, all of them positive."""
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = math.ceil(math.log10(max(values)) - 1e-9)
    return low, max(high, low + 1)


def lines(title, x_title, y_title, series, zero_x=None, warning=''):
    """
    Lines with both axes logarithmic. A point at x = 0 has no place there: it is drawn left of the axis' first decade
    and its tick is called @zero_x.
    """
    points = [(x, y) for line in series for x, y in line.points]
    if not points:
        raise ValueError('a plot without a point')
    has_zero = any(x == 0 for x, _ in points)
    x_low, x_high = decades([x for x, _ in points if x > 0] or [1.0])
    y_low, y_high = decades([y for _, y in points if y > 0] or [1.0])
    begin = LINE_LEFT + (60 if has_zero else 0)

    def place(x, y):
        right = begin + (math.log10(x) - x_low) / (x_high - x_low) * (LINE_LEFT + LINE_WIDTH - begin) if x > 0 \
            else LINE_LEFT + 20
        down = LINE_TOP + LINE_HEIGHT - (math.log10(max(y, 10 ** y_low)) - y_low) / (y_high - y_low) * LINE_HEIGHT
        return right, down

    bottom = LINE_TOP + LINE_HEIGHT
    parts = [text(MARGIN, 28, title, 16, weight='bold')]
    for power in range(x_low, x_high + 1):
        at = place(10 ** power, 1)[0]
        parts += [stroke(at, LINE_TOP, at, bottom), text(at, bottom + 17, number(10.0 ** power), 11, 'middle')]
    if has_zero:
        parts += [stroke(LINE_LEFT + 20, LINE_TOP, LINE_LEFT + 20, bottom),
                  text(LINE_LEFT + 20, bottom + 17, zero_x or '0', 11, 'middle')]
    for power in range(y_low, y_high + 1):
        at = place(1, 10 ** power)[1]
        parts += [stroke(LINE_LEFT, at, LINE_LEFT + LINE_WIDTH, at),
                  text(LINE_LEFT - 8, at + 4, number(10.0 ** power), 11, 'end')]
    parts += [stroke(LINE_LEFT, LINE_TOP, LINE_LEFT, bottom, INK),
              stroke(LINE_LEFT, bottom, LINE_LEFT + LINE_WIDTH, bottom, INK),
              text(LINE_LEFT + LINE_WIDTH / 2, bottom + 40, x_title, 12, 'middle'),
              text(22, LINE_TOP + LINE_HEIGHT / 2, y_title, 12, 'middle', turn=-90)]
    for at, line in enumerate(series):
        colour, kind = COLOURS[line.colour], MARKS[at % len(MARKS)]
        placed = [place(x, y) for x, y in sorted(line.points)]
        route = ' '.join(f'{x:.1f},{y:.1f}' for x, y in placed)
        parts.append(f'<polyline points="{route}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [mark(kind, x, y, colour) for x, y in placed]
        key_x, key_y = LINE_LEFT + LINE_WIDTH + 24, LINE_TOP + 12 + at * 22
        parts += [stroke(key_x, key_y, key_x + 26, key_y, colour, 2), mark(kind, key_x + 13, key_y, colour),
                  text(key_x + 34, key_y + 4, line.name, 12)]
    if warning:
        parts.append(text(LINE_LEFT, bottom + 60, warning, 11, colour=COLOURS['vermilion']))
    longest = max(len(line.name) for line in series)
    return document(LINE_LEFT + LINE_WIDTH + 24 + 34 + longest * CHAR_PX + MARGIN, bottom + LINE_BOTTOM, parts, title)
