"""The chart: messages per second of server CPU time, a group of bars a case. Text in, text out."""

from xml.sax.saxutils import escape

from plan import THROUGHPUT
from report import Session, number

WIDTH, LEFT, RIGHT = 860, 190, 120
BAR, GAP, TITLE, GROUP_GAP, TOP = 15, 4, 24, 16, 14

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #8c959f } .rohrpost { fill: #0969da } .floor { fill: #c6ccd2 } .smtp-sink { fill: #afb8c1 }
.spread { stroke: #24292f; stroke-width: 1 }
.ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 } .rohrpost { fill: #4493f8 } .floor { fill: #3d444d } .smtp-sink { fill: #545d68 }
  .spread { stroke: #e6edf3 }
  .ground { fill: #0d1117 }
}
"""


def svg(results):
    """Each group has a scale of its own, since a message of 100 KiB is not one of 4 KiB."""
    session = Session(results)
    parts, y = [], TOP
    for case in THROUGHPUT:
        figures = [(server, session.figure(case.name, server, "per_cpu_second"))
                   for server in session.servers()]
        figures = [(server, figure) for server, figure in figures if figure]
        if not figures:
            continue
        parts.append(text(LEFT, y + 12, case.title, "title"))
        y += TITLE
        scale = (WIDTH - LEFT - RIGHT) / max(figure.high for _, figure in figures)
        for server, figure in figures:
            parts += bar(results["titles"][server], server, figure, scale, y)
            y += BAR + GAP
        y += GROUP_GAP
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}"'
            f' height="{y}" role="img">\n'
            "<title>Messages per second of CPU time that the server took</title>\n"
            f"<style>{STYLE}</style>\n"
            f'<rect class="ground" width="{WIDTH}" height="{y}"/>\n{body}\n</svg>\n')


def bar(title, server, figure, scale, y):
    """A bar to the median, a line over the spread, and the figure."""
    middle, low, high = (LEFT + value * scale for value in (figure.middle, figure.low, figure.high))
    yield text(LEFT - 8, y + 12, title, anchor="end")
    yield (f'<rect class="bar {server}" x="{LEFT}" y="{y}" width="{middle - LEFT:.1f}"'
           f' height="{BAR}"/>')
    if figure.runs > 1:
        centre = y + BAR / 2
        yield (f'<path class="spread" d="M{low:.1f} {centre}H{high:.1f}M{low:.1f} {centre - 3}v6'
               f'M{high:.1f} {centre - 3}v6"/>')
    yield text(max(middle, high) + 6, y + 12, number(figure.middle))


def text(x, y, words, kind="", anchor="start"):
    return (f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" class="{kind}">'
            f"{escape(words)}</text>")
