"""Terminal output with SGR colours -> an SVG picture for README.
usage: script -qc COMMAND /dev/null | python3 tools/terminal_svg.py > docs/x.svg"""
import html
import re
import sys

BASIC = {31: "#e06c75", 32: "#98c379", 33: "#e5c07b", 34: "#61afef", 35: "#c678dd", 36: "#56b6c2", 37: "#d7dae0"}
LEVELS = [0, 95, 135, 175, 215, 255]
WIDTH, HEIGHT = 8.4, 18  # of a character


def color256(n):
    if n < 16:
        return "#000000" if n == 0 else "#d7dae0"
    if n >= 232:
        return "#%02x%02x%02x" % ((8 + 10 * (n - 232),) * 3)
    n -= 16
    return "#%02x%02x%02x" % (LEVELS[n // 36], LEVELS[n // 6 % 6], LEVELS[n % 6])


def cells(line):
    """(character, foreground, background, bold, dim) for each column."""
    fg, bg, bold, dim, out = None, None, False, False, []
    for text, codes in re.findall(r"([^\x1b]+)|\x1b\[([0-9;]*)m", line):
        for c in text:
            out.append((c, fg, bg, bold, dim))
        if text:
            continue
        codes = [int(c or 0) for c in codes.split(";")]
        while codes:
            c = codes.pop(0)
            if c == 0:
                fg, bg, bold, dim = None, None, False, False
            elif c == 1:
                bold = True
            elif c == 2:
                dim = True
            elif c in BASIC:
                fg = BASIC[c]
            elif c in (38, 48) and codes[:1] == [5]:
                if c == 38:
                    fg = color256(codes[1])
                else:
                    bg = color256(codes[1])
                codes = codes[2:]
    return out


def final_line(raw):
    """What stays of a line that was written over by carriage returns."""
    raw = re.sub(r"\x1b\[[0-9;?]*[A-Zac-ln-z]", "", raw.rstrip("\r\n"))
    return [part for part in raw.split("\r") if part][-1] if raw.replace("\r", "") else ""


lines = [cells(final_line(l)) for l in sys.stdin.buffer.read().decode().split("\n")]
while lines and not lines[-1]:
    lines.pop()
columns = max(len(l) for l in lines)
w, h = columns * WIDTH + 24, len(lines) * HEIGHT + 24
print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h}" viewBox="0 0 {w:.0f} {h}">')
print(f'<rect width="100%" height="100%" rx="6" fill="#1e2127"/>')
print('<g font-family="ui-monospace,SFMono-Regular,Menlo,DejaVu Sans Mono,monospace" font-size="14" fill="#d7dae0">')
for y, line in enumerate(lines):
    x = 0
    while x < len(line):
        end = x
        while end < len(line) and line[end][1:] == line[x][1:]:
            end += 1
        _, fg, bg, bold, dim = line[x]
        left, n = 12 + x * WIDTH, end - x
        if bg:
            print(f'<rect x="{left:.1f}" y="{12 + y * HEIGHT}" width="{n * WIDTH:.1f}" height="{HEIGHT}" fill="{bg}"/>')
        text = "".join(c[0] for c in line[x:end])
        if text.strip():
            shown = html.escape(text).replace(" ", "&#160;")
            style = (f' fill="{fg}"' if fg else "") + (' font-weight="bold"' if bold else "") + (' opacity="0.6"' if dim else "")
            print(f'<text x="{left:.1f}" y="{12 + y * HEIGHT + 13.5:.1f}" textLength="{n * WIDTH:.1f}"{style}>{shown}</text>')
        x = end
print("</g></svg>")
