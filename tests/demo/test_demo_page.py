"""The demo's HTML, zones and code: hostile texts stay texts, colours say what the words say."""

import ast
import math
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.demo import page, plots, zones
from workbench.demo.code import as_python
from workbench.demo.slider import ZoneSlider
from workbench.demo.state import State
from workbench.figures.look import TEMPLATE, stack
from workbench.generation.live import Piece, Text
from workbench.sweeps.marks import Ceiling, Estimate, Side

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u202egnirts\u202c",
    "a\x00\x1b[2J", "&lt;b&gt;", "\"'><b>", "</div></span><style>*{display:none}</style>",
    "日本語 עברית\n\ttab",
]  # fmt: skip


class Parsed(HTMLParser):
    """The tags and the text of a page, as a browser finds them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.names: set[str] = set()
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def written(*texts: str, logprob: float = -2.0) -> Text:
    return Text(tuple(Piece(text, logprob) for text in texts), (1,), (logprob,), "end")


def side(
    sign: int, recommended: float, ceiling: float, effect: str = "effect", swept: float = 0.6
) -> Side:
    def estimate(value: float) -> Estimate:
        return Estimate(sign * value, math.nan, math.nan)

    return Side(
        sign, effect, 0.01, True, estimate(0.1), estimate(recommended), estimate(ceiling),  # type: ignore[arg-type]
        math.nan, (), pd.DataFrame({"coefficient": [0.0, sign * swept]}),
    )  # fmt: skip


def found(**sides: Side) -> Ceiling:
    return Ceiling(
        {1 if name == "up" else -1: each for name, each in sides.items()},
        "norm", "trait", False, 0.9, 10, 0, 8, 8, {},
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_and_changes_nothing_else(text: str) -> None:
    calm = Parsed(page.column("Steered", "+0.1", written("calm"), mark="red"))
    wild = Parsed(page.column("Steered", "+0.1", written(text), mark="red"))
    assert wild.tags == calm.tags
    assert wild.names == calm.names
    shown = "".join(wild.texts)
    for letter in text:
        assert letter.isprintable() or letter in "\n\t" or letter not in shown
    printable = "".join(letter for letter in text if letter.isprintable())
    rest = iter(shown)
    assert all(letter in rest for letter in printable), "letters were lost"
    assert Parsed(page.say(text)).tags == Parsed(page.say("calm")).tags


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_pieces_make_as_many_spans(texts: list[str]) -> None:
    parsed = Parsed(page.shaded(written(*texts).pieces))
    assert parsed.tags == ["span"] * len(texts)


def test_100_000_letters_are_cut() -> None:
    text = page.shaded([Piece("<" * 50_000, -1.0), Piece("x" * 50_000, -1.0)])
    assert text.count("&lt;") == page.SHOWN - 1
    assert Parsed(text).texts[-1] == "…"
    assert len(page.plain("x" * 100_000)) == page.SHOWN


def test_the_less_likely_the_darker_and_the_number_is_said() -> None:
    depths = [page.opacity(-nats) for nats in (0, 1, 3, 6, 9, 30)]
    assert depths == sorted(depths)
    assert depths[0] == depths[1] == 0
    assert depths[2] < depths[3] < depths[4] == depths[5]
    assert page.opacity(math.nan) == 0
    assert "−6.00 nats" in page.shaded([Piece("x", -6.0)])


def test_zones_follow_the_marks_of_each_side() -> None:
    ceiling = found(up=side(1, 0.3, 0.5), down=side(-1, 0.2, math.nan))
    said = {c: zones.color(ceiling, c) for c in (0, 0.3, 0.31, 0.5, 0.51, -0.2, -0.21, -9)}
    assert said == {
        0: "green", 0.3: "green", 0.31: "amber", 0.5: "amber", 0.51: "red",
        -0.2: "green", -0.21: "amber", -9: "unknown",
    }  # fmt: skip
    spans = zones.spans(ceiling, 1.0)
    assert [(s.low, s.high, s.color) for s in spans] == [
        (-1.0, -0.6, "unknown"), (-0.6, -0.2, "amber"), (-0.2, 0.0, "green"), (0.0, 0.3, "green"),
        (0.3, 0.5, "amber"), (0.5, 1.0, "red"),
    ]  # fmt: skip
    for span in spans:
        assert zones.color(ceiling, (span.low + span.high) / 2) == span.color
    track = page.gradient(spans, 1.0)
    assert track[0]["from"] == 0
    assert track[-1]["to"] == 100


def test_a_side_without_effect_has_no_green_and_says_why() -> None:
    ceiling = found(up=side(1, math.nan, 0.5, "no effect"))
    assert zones.color(ceiling, 0.1) == "amber"
    assert zones.words(ceiling, 0.1) == (
        "Amber: no effect was found on this side; up to +0.50 [no interval] find_ceiling calls at "
        "least half of 8 texts intact."
    )
    assert zones.color(ceiling, -0.1) == "unknown"
    assert zones.words(ceiling, -0.1) == "Unknown: this side was not swept."
    assert [span.color for span in zones.spans(None, 1.0)] == ["unknown"]


def test_nothing_is_claimed_of_what_was_not_swept() -> None:
    """As in every round of a sweep but the last, and where the reach is widened afterwards."""
    ceiling = found(up=side(1, 0.2, math.nan, swept=0.25), down=side(-1, 0.2, 0.22, swept=0.25))
    assert [(s.low, s.high, s.color) for s in zones.spans(ceiling, 0.75)] == [
        (-0.75, -0.22, "red"), (-0.22, -0.2, "amber"), (-0.2, 0.0, "green"), (0.0, 0.2, "green"),
        (0.2, 0.25, "amber"), (0.25, 0.75, "unknown"),
    ]  # fmt: skip
    assert zones.words(ceiling, 0.7) == (
        "Unknown: the sweep ended at +0.25, and at least half of the texts held there."
    )
    assert "in all the swept range" in zones.words(ceiling, 0.24)


def test_where_texts_come_back_it_is_said() -> None:
    back = replace(side(1, 0.2, 0.3), reentry=0.5)
    assert "fewer than half" in zones.words(found(up=back), 0.4)
    assert "more of them intact again" in zones.words(found(up=back), 0.5)


def test_the_words_name_the_colour() -> None:
    ceiling = found(up=side(1, 0.3, 0.5), down=side(-1, 0.2, math.nan))
    for coefficient in (-0.7, -0.3, -0.1, 0.1, 0.4, 0.9):
        color = zones.color(ceiling, coefficient)
        assert zones.words(ceiling, coefficient).lower().startswith(color)


def test_the_words_hold_the_interval_the_number_of_texts_and_the_conditions() -> None:
    known = replace(
        side(1, 0.28, 0.5), recommended=Estimate(0.28, 0.19, 0.38), reasons=("p = 0.01", "why")
    )
    ceiling = found(up=known, down=side(-1, 0.2, math.nan))
    assert zones.words(ceiling, 0.1, "32 tokens, temperature 1") == (
        "Green: up to +0.28 [+0.19, +0.38] find_ceiling calls at least 9 in 10 of 8 texts intact "
        "(32 tokens, temperature 1)."
    )
    assert zones.words(ceiling, 0.9) == (
        "Red: beyond the ceiling +0.50 [no interval] find_ceiling calls fewer than half of 8 texts "
        "intact."
    )
    counted = "Counted are the 8 of 8 prompts whose unsteered text is intact."
    assert zones.reasons(ceiling, 0.1) == f"+: effect; p = 0.01; why.\n{counted}"
    assert zones.reasons(ceiling, 0).splitlines()[1] == "−: effect."
    assert zones.reasons(None, 0.1) == ""


def test_no_mark_of_the_slider_vanishes() -> None:
    ceiling = found(up=side(1, 0.28, 0.38), down=side(-1, 0.375, 0.375))
    slider = ZoneSlider()
    slider.show(ceiling, 0.28, 0.75)
    rows = {mark["text"]: mark["row"] for mark in slider.marks}
    assert rows == {"0": 0, "−0.75": 0, "+0.75": 0, "+0.38": 0, "−0.38": 0, "+0.28": 1}


@pytest.mark.parametrize("text", [*HOSTILE, "'''\"\"\"\\", "x' + __import__('os').getcwd() + '"])
def test_copied_code_holds_texts_as_literals(text: str) -> None:
    state = State(
        model="a'b\\", prompt=text, positive=text, negative=text, template="{persona}" + text,
        source="own", second="wren-bell", second_coefficient=0.1, style="chat",
        history=(("user", text),),
    )  # fmt: skip
    given = as_python(state, state, 2, 3, dtype="bfloat16")
    assert "# The demo was given a loaded model" in given
    assert f"wb.load({state.model!r}, dtype='bfloat16')" in given
    code = as_python(state, state, 2, 3)
    assert "#" not in code.partition("written")[0]
    assert all(letter.isprintable() or letter == "\n" for letter in code)
    tree = ast.parse(code)
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert literals.count(text) == 4  # prompt, history, both personas
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called == {
        "wb.load", "contrasts.data_prompts", "contrasts.own_pairs", "wb.extract", "wb.pairs.load",
        "wb.pairs.load('wren-bell').split", "vector.at", "second.at", "live.stream", "print",
    }  # fmt: skip


def test_a_legend_stays_above_the_names_of_marks_at_another_height() -> None:
    figure = stack(4, above=100, title="")
    figure.layout.legend.y = 1.1
    edges = 100 + TEMPLATE.layout.margin.b
    pixels = 0.1 * (figure.layout.height - edges)
    plots.fit_height(figure, 470)
    assert figure.layout.height == 470
    assert (figure.layout.legend.y - 1) * (470 - edges) == pytest.approx(pixels)
