"""Bars in SVG: one group for each work, one bar for each row, with a line from the least to the most of its rounds."""
from xml.sax.saxutils import escape

WIDTH, LABEL, RIGHT, BAR, GAP, HEAD = 860, 210, 70, 20, 6, 34
COLOURS = (("whole policy", "#0b6e4f"), ("sallyport", "#54a68a"), ("haproxy", "#4878a8"), ("nginx", "#a87848"), ("floor", "#9a9a9a"))


def colour(name):
    return next((shade for word, shade in COLOURS if name.startswith(word)), "#777777")


def bar(name, spread, y, scale):
    x, middle, end = LABEL, y + BAR / 2, LABEL + spread["median"] * scale
    least, most = (LABEL + spread[which] * scale for which in ("least", "most"))
    return [f'<text x="{x - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{x}" y="{y}" width="{end - x:.1f}" height="{BAR}" rx="2" fill="{colour(name)}"/>',
            f'<path d="M{least:.1f} {middle}H{most:.1f}M{least:.1f} {middle - 4}V{middle + 4}M{most:.1f} {middle - 4}V{middle + 4}" stroke="#222222" fill="none"/>',
            f'<text x="{max(end, most) + 8:.1f}" y="{middle + 4:.1f}">{spread["median"]:.1f}</text>']


def svg(groups, title):
    """groups: {work: [(name, {"median", "least", "most"})]}; each group has a scale of its own, from zero."""
    body, y = [f'<text x="16" y="28" font-size="16" font-weight="bold">{escape(title)}</text>'], 44
    for work, bars in groups.items():
        scale = (WIDTH - LABEL - RIGHT) / max(1e-9, max(spread["most"] for _, spread in bars))
        body.append(f'<text x="16" y="{y + 20}" font-weight="bold">{escape(work)}</text>')
        y += HEAD
        body.append(f'<path d="M{LABEL} {y - 2}V{y + len(bars) * (BAR + GAP)}" stroke="#222222"/>')
        for name, spread in bars:
            body += bar(name, spread, y, scale)
            y += BAR + GAP
        y += GAP
    height = y + 16
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="system-ui, sans-serif" font-size="13" fill="#222222">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
            + "\n".join(body) + "\n</svg>\n")
