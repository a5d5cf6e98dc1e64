"""What the demo shows beside its figures, as HTML: shaded texts, chat turns, messages.

Texts come from models and strangers: each is escaped here, its control characters and marks of
direction are shown by their codes, and letters that run right to left stay within their token.
Colours are of the theme where the page has one. Knows nothing of widgets.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.demo.zones import Color, Span
from workbench.figures.look import GREEN, GREY, ORANGE, VERMILLION, printable
from workbench.generation.live import Finish, Piece, Text

ZONE_COLORS: dict[Color, str] = {
    "green": GREEN, "amber": ORANGE, "red": VERMILLION, "unknown": GREY,
}  # fmt: skip
# Shading begins where a token has one chance in e, and is full at e to the minus this.
_FIRST, _FULL = 1.0, 9.0
_STRONGEST = 0.62  # opacity: letters over it keep a contrast that can be read in either theme
# Letters of one text that a page shows: more would slow a browser, and nobody reads them.
SHOWN = 20_000

STYLE = """<style>
.wb-texts, .wb-say { color: var(--jp-content-font-color1, var(--vscode-foreground, #1b1b1b));
  font: 15px/1.65 var(--jp-content-font-family, system-ui, sans-serif); }
.wb-texts { display: flex; flex-direction: column; height: 100%; }
.wb-text { flex: 1 1 auto; white-space: pre-wrap; overflow-wrap: anywhere;
  min-height: 8.5em; max-height: 24em; overflow-y: auto; padding: 10px 14px; border-radius: 6px;
  border: 1px solid var(--jp-border-color2, var(--vscode-panel-border, #c8c8c8));
  background: var(--jp-layout-color1, var(--vscode-editor-background, #fff)); }
.wb-text span { unicode-bidi: isolate; border-radius: 3px; padding: 1px 0; }
.wb-text i, .wb-title small, .wb-say small { opacity: .72; font-size: 13px; font-style: normal; }
.wb-title { margin: 0 0 5px; font-weight: 600; font-size: 14px; line-height: 1.5; }
.wb-title small { font-weight: 400; margin-left: 8px; }
.wb-title .wb-likely { display: block; margin: 0; min-height: 1.5em; }
.wb-zone { display: inline-block; width: 11px; height: 11px; border-radius: 50%;
  margin-right: 7px; }
.wb-zone[hidden] { display: none; }
.wb-say { line-height: 1.5; font-size: 14px; overflow-wrap: anywhere; white-space: pre-wrap; }
.wb-plot > * { flex: 1 1 auto; width: 100%; height: 100%; min-width: 0; }
.wb-empty { opacity: .8; text-align: center; padding: 24px 8px; border-radius: 6px;
  border: 1px dashed var(--jp-border-color2, var(--vscode-panel-border, #c8c8c8)); }
.wb-small { opacity: .8; font-size: 13px; }
.wb-turn { margin: 2px 0; unicode-bidi: isolate; overflow-wrap: anywhere; white-space: pre-wrap; }
</style>"""


def visible(text: str, limit: int = SHOWN) -> str:
    """Text to be shown as it is: with codes for what has no shape, cut at `limit`. Not escaped."""
    kept = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(map(_shown, kept))


def plain(text: str, limit: int = SHOWN) -> str:
    """The same as HTML: escaped."""
    return html.escape(visible(text, limit))


def _shown(letter: str) -> str:
    return letter if letter == "\t" else printable(letter)


def opacity(logprob: float) -> float:
    """How strongly a token is shaded, 0 to 1, by its log-probability in nats."""
    if math.isnan(logprob):
        return 0.0
    share = (-logprob - _FIRST) / (_FULL - _FIRST)
    return _STRONGEST * min(1.0, max(0.0, share))


def _shade(depth: float) -> str:
    """The colour of a token, in CSS."""
    red, green, blue = (int(VERMILLION[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{depth:.2f})"


@dataclass(frozen=True)
class Cell:
    """A token on the page: its visible letters (not escaped), its CSS background, its number."""

    text: str
    background: str
    said: str


def cells(pieces: Sequence[Piece], limit: int = SHOWN) -> list[Cell]:
    """Pieces of a text as they are shown, each shaded by how unlikely it is, cut at `limit`."""
    found, room = [], limit
    for piece in pieces:
        if room <= 0:
            found.append(Cell("…", "", ""))
            break
        depth = opacity(piece.logprob)
        back = _shade(depth) if depth else ""
        said = "" if math.isnan(piece.logprob) else f"{piece.logprob:.2f} nats".replace("-", "−")
        found.append(Cell(visible(piece.text, room), back, said))
        room -= len(piece.text)
    return found


def shaded(pieces: Sequence[Piece], limit: int = SHOWN) -> str:
    """The cells of a text as HTML; hovering says the number."""
    return "".join(
        f'<span style="{f"background:{cell.background}" if cell.background else ""}" '
        f'title="{cell.said}">{html.escape(cell.text)}</span>'
        for cell in cells(pieces, limit)
    )


def likelihood(text: Text) -> str:
    """How likely a text is to the unsteered model, in words; "" before its first token."""
    mean = text.mean_logprob
    return "" if math.isnan(mean) else f"{mean:.2f} nats per token".replace("-", "−")


# How a text ended.
ENDED: dict[Finish, str] = {
    "": "",
    "end": " ■ the model ended its text",
    "length": " … (length reached)",
    "stopped": " ■ stopped",
}


def zone(color: Color, words: str) -> str:
    """The zone of a coefficient with a dot in its colour, in small letters."""
    dot = f'<span class="wb-zone" style="background:{ZONE_COLORS[color]}"></span>'
    return f'<div class="wb-say wb-small" style="white-space:normal">{dot}{plain(words)}</div>'


def column(title: str, note: str, text: Text, *, mark: Color | None = None) -> str:
    """One of the two texts with its title. `mark` puts the colour of a zone before it."""
    dot = f'<span class="wb-zone" style="background:{ZONE_COLORS[mark]}"></span>' if mark else ""
    label = plain(title)
    ended = f"<i>{ENDED[text.finish]}</i>" if text.finish else ""
    return (
        f'<div class="wb-texts" role="region" aria-label="{label} text">'
        f'<div class="wb-title">{dot}{label}<small>{plain(note)}</small>'
        f'<small class="wb-likely">{likelihood(text)}</small>'
        f'</div><div class="wb-text" tabindex="0" aria-label="{label} text, scrollable">'
        f"{shaded(text.pieces)}{ended}</div></div>"
    )


def side_by_side(columns: Sequence[str]) -> str:
    """Columns beside each other in one piece of HTML, for a page without widgets."""
    cells = "".join(f'<div style="flex:1 1 280px;min-width:0">{each}</div>' for each in columns)
    return f'{STYLE}<div style="display:flex;flex-wrap:wrap;gap:16px">{cells}</div>'


def say(message: str) -> str:
    """A message as HTML, for a page without widgets."""
    return f'<div class="wb-say">{plain(message, 2000)}</div>'


def legend() -> str:
    """What the shading means."""
    steps = [
        f'<span style="background:{_shade(opacity(-nats))};padding:0 9px">'
        f"{f'−{nats}' if nats else '0'}</span>"
        for nats in (0, 3, 5, 7, 9)
    ]
    return (
        '<div class="wb-say"><small>Shading: log-probability of a token under the unsteered model, '
        f"in nats {''.join(steps)} Hover a token for its number.</small></div>"
    )


def gradient(spans: Sequence[Span], reach: float) -> list[dict[str, float | str]]:
    """Zones for the slider's track: colour, and where it begins and ends in percent."""
    return [
        {
            "color": ZONE_COLORS[span.color],
            "name": span.color,
            "from": 50 + 50 * span.low / reach,
            "to": 50 + 50 * span.high / reach,
        }
        for span in spans
    ]
