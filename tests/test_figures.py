"""Figures on made-up frames: what is drawn, what is escaped, what is refused."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.figures import look
from workbench.figures import sweeps as sweep_figures

MARKS = [
    {"mark": "recommended", "value": -0.5, "low": -0.6, "high": -0.4},
    {"mark": "onset", "value": 0.25, "low": 0.2, "high": 0.3},
    {"mark": "ceiling", "value": 1.0, "low": None, "high": None},
    {"mark": "ceiling", "value": float("nan"), "low": None, "high": None},
]


def sweep(prompts: int = 3, coefficients: int = 5, vector: str = "vector") -> pd.DataFrame:
    """One row per (prompt, coefficient); every measure is a plain function of both."""
    return pd.DataFrame(
        [
            {
                "prompt": f"prompt {prompt}",
                "prompt_index": prompt,
                "coefficient": 10 * x,
                "coefficient_norm": x,
                "text": f"<script>alert({prompt})</script> & more",
                "tokens": 20,
                "logprob_unsteered": -1 - abs(x) - prompt,
                "logprob_steered": -1.0,
                "distinct_2": 0.75,
                "longest_repeat": 5,
                "coherence": 1.0,
                "trait": x / 2,
                "vector": vector,
            }
            for prompt in range(prompts)
            for x in np.linspace(-1, 1, coefficients)
        ]
    )


def traces(figure, name: str) -> list:
    return [trace for trace in figure.data if trace.name == name]


def test_sweep_draws_means_over_prompts() -> None:
    figure = figures.sweep_curves(sweep(), trait="mood")
    (unsteered,) = traces(figure, "read by the unsteered model")
    assert list(unsteered.x) == [-1, -0.5, 0, 0.5, 1]
    assert np.allclose(unsteered.y, [-3, -2.5, -2, -2.5, -3])
    (mood,) = traces(figure, "mood")
    assert np.allclose(mood.y, [-0.5, -0.25, 0, 0.25, 0.5])
    (repeat,) = traces(figure, "longest repeat")
    assert np.allclose(repeat.y, 0.25)
    (pairs,) = traces(figure, "repeated pairs of tokens")
    assert np.allclose(pairs.y, 1 - 0.75)


def test_sweep_axes_say_what_and_in_which_unit() -> None:
    figure = figures.sweep_curves(sweep(), trait="mood")
    layout = figure.layout
    assert layout.xaxis4.title.text == "Steering coefficient (residual-stream norms)"
    titles = [layout[f"yaxis{row}"].title.text for row in ("", 2, 3, 4)]
    assert titles == [
        "Log-probability<br>(nats per token)",
        "Coherence<br>(0 to 1)",
        "Mood<br>(−1 to 1)",
        "Repetition<br>(share of text)",
    ]


def test_sweep_leaves_out_panels_without_values() -> None:
    frame = sweep().drop(columns=["coherence"]).assign(trait=np.nan)
    figure = figures.sweep_curves(frame)
    assert figure.layout.yaxis2.title.text.startswith("Repetition")
    assert "yaxis3" not in figure.layout


def test_sweep_shows_every_text_on_hover_escaped() -> None:
    figure = figures.sweep_curves(sweep())
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.hovertext) for trace in dots] == [5, 5, 5]
    assert dots[1].hovertext[0] == "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"
    assert "prompt 1" in dots[1].hovertemplate
    assert "<script" not in figure.to_json().replace("\\u003c", "<")


def test_a_long_text_and_a_prompt_like_a_template_are_cut_and_kept_plain() -> None:
    frame = sweep(prompts=1).assign(text="word " * 100, prompt="%{x} {y} " + "p" * 100)
    (dots,) = [t for t in figures.sweep_curves(frame).data if t.mode == "markers"]
    assert all(len(text.replace("<br>", " ")) <= sweep_figures.TEXT for text in dots.hovertext)
    assert dots.hovertext[0].endswith("…")
    assert re.findall(r"%\{\w+", dots.hovertemplate) == ["%{x", "%{hovertext"]


def test_sweep_without_norms_is_drawn_over_raw_coefficients() -> None:
    frame = pd.concat([sweep(), sweep(vector="random")]).assign(coefficient_norm=np.nan)
    figure = figures.sweep_curves(frame, ceiling=[{"mark": "ceiling", "value": 5.0}])
    (unsteered,) = traces(figure, "read by the unsteered model")
    assert list(unsteered.x) == [-10, -5, 0, 5, 10]
    assert np.allclose(unsteered.y, [-3, -2.5, -2, -2.5, -3])
    assert figure.layout.xaxis4.title.text == (
        "Steering coefficient (raw: multiples of the change as it is)"
    )
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert list(dots[0].x) == [-10, -5, 0, 5, 10]
    assert figure.layout.annotations[0].text == "ceiling +5"


def test_sweep_marks_with_intervals() -> None:
    figure = figures.sweep_curves(sweep(), ceiling=MARKS)
    labels = [annotation.text for annotation in figure.layout.annotations]
    assert labels == ["recommended −0.5", "onset +0.25", "ceiling +1"]
    # No line of a mark, which ends at the height of its name, runs through the name of another.
    names = {note.x: note.yshift for note in figure.layout.annotations}
    tops = {shape.x0: shape.y1 for shape in figure.layout.shapes if shape.ysizemode == "pixel"}
    assert all(names[x] < tops[x] for x in names)
    assert names[1.0] < names[0.25] >= tops[1.0]
    spans = {(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"}
    lines = {shape.x0 for shape in figure.layout.shapes if shape.type == "line"}
    assert spans == {(-0.6, -0.4), (0.2, 0.3)}
    assert lines == {-0.5, 0.25, 1.0}


def test_sweep_takes_an_object_that_has_marks() -> None:
    class Ceiling:
        def marks(self) -> list[dict]:
            return MARKS[:1]

    figure = figures.sweep_curves(sweep(), ceiling=Ceiling())
    assert [annotation.text for annotation in figure.layout.annotations] == ["recommended −0.5"]


def test_sweep_refuses_an_unknown_mark() -> None:
    with pytest.raises(ValueError, match=r"unknown mark 'peak'.*onset.*recommended.*ceiling"):
        figures.sweep_curves(sweep(), ceiling=[{"mark": "peak", "value": 1.0}])


def test_sweep_draws_every_control_apart() -> None:
    values = {"random": 0.1, "shuffled": 0.3, "other <trait>": 0.5}
    controls = [sweep(vector=kind).assign(trait=value) for kind, value in values.items()]
    prompted = sweep(1, 1, vector="prompted").assign(trait=0.8, coefficient_norm=0.0)
    frame = pd.concat([sweep(), *controls, prompted], ignore_index=True)
    figure = figures.sweep_curves(frame, trait="mood")
    (mood,) = traces(figure, "mood")
    assert np.allclose(mood.y, [-0.5, -0.25, 0, 0.25, 0.5])
    drawn = {"random": 0.1, "shuffled": 0.3, "other &lt;trait&gt;": 0.5}
    patterns = ["solid", "dashdot", "dot"]
    for (name, value), dash in zip(drawn.items(), patterns, strict=True):
        every = traces(figure, f"control: {name}")
        assert [trace.yaxis for trace in every] == ["y", "y2", "y3", "y4"]
        assert [trace.showlegend for trace in every] == [True, False, False, False]
        assert np.allclose(every[2].y, value)
        assert every[2].line.dash == dash
    level = [t for t in traces(figure, "asked in the prompt") if t.yaxis == "y3"]
    assert list(level[0].y) == [0.8, 0.8]


def test_sweep_without_its_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no rows of the vector itself.*\['random'\]"):
        figures.sweep_curves(sweep(vector="random"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "frame is None; give a sweep's frame, such as frame = sweep"),
        (pd.DataFrame({"m": [0.0]}), r"columns \['m'\], and no coefficient"),
        (sweep()[["vector", "coefficient", "coefficient_norm"]], "no measure of a sweep"),
    ],
)
def test_what_is_no_sweep_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.sweep_curves(wrong)


def test_a_vector_in_place_of_its_separation_is_told_so() -> None:
    with pytest.raises(ValueError, match=r"frame is 'v'; give .* separation\(vector\.separation\)"):
        figures.separation("v")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"lacks the columns \['d_prime'\]"):
        figures.separation(layers().drop(columns="d_prime"))


def layers() -> pd.DataFrame:
    rows = [
        {"layer": layer, "pair_accuracy": 0.5 + layer / 10, "d_prime": layer / 2, "method": method}
        for method in ("mean", "pca")
        for layer in (2, 0, 1)
    ]
    return pd.DataFrame(rows)


def test_separation_draws_layers_in_order() -> None:
    figure = figures.separation(layers().query("method == 'pca'"), layer=1)
    pairs, d_prime = figure.data
    assert list(pairs.x) == [0, 1, 2]
    assert np.allclose(pairs.y, [0.5, 0.6, 0.7])
    assert np.allclose(d_prime.y, [0, 0.5, 1])
    assert pairs.error_y.array is None
    assert "1" in figure.layout.xaxis2.title.text
    vertical = {shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1}
    assert vertical == {1}


def test_separation_draws_intervals_where_there_are_some() -> None:
    frame = layers().query("method == 'pca'")
    frame = frame.assign(d_prime_low=frame["d_prime"] - 0.25, d_prime_high=frame["d_prime"] + 0.5)
    pairs, d_prime = figures.separation(frame).data
    assert pairs.error_y.array is None
    assert np.allclose(d_prime.error_y.array, 0.5)
    assert np.allclose(d_prime.error_y.arrayminus, 0.25)


def test_separation_gives_each_method_a_line_of_its_own_place() -> None:
    figure = figures.separation(layers(), by="method")
    assert [trace.name for trace in figure.data] == ["mean", "mean", "pca", "pca"]
    assert [trace.showlegend for trace in figure.data] == [True, False, True, False]
    assert np.allclose(figure.data[0].x, [-0.125, 0.875, 1.875])
    assert np.allclose(figure.data[2].x, [0.125, 1.125, 2.125])
    assert list(figure.data[2].customdata) == [0, 1, 2]
    known = figures.separation(layers().replace({"method": {"pca": "pca_diff"}}), by="method")
    assert known.data[2].name == "PCA of differences"


def test_slopes_by_layer_marks_the_chosen_layer() -> None:
    frame = pd.DataFrame(
        {"layer": [1, 0, 2], "slope": [4.0, 1.0, 3.0], "low": [3.0, 0.0, 1.0], "high": [5.0] * 3}
    )
    figure = figures.slopes_by_layer(frame, layer=1)
    shaded, line, dots = figure.data
    assert list(line.x) == list(dots.x) == [0, 1, 2]
    assert list(line.y) == [1, 4, 3]
    assert list(shaded.y) == [5, 5, 5, 1, 3, 0]
    assert "chosen by steering, 1" in figure.layout.xaxis.title.text
    assert figure.layout.meta["function"] == "slopes_by_layer"
    assert figures.slopes_by_layer(frame).layout.xaxis.title.text.endswith("(output of the block)")


def test_token_bars_show_both_ends() -> None:
    frame = pd.DataFrame(
        {"token": [" sad", "<b>", " glad", "\n", " flat"], "logit": [-2.0, 1.0, 3.0, -1.0, 0.0]}
    )
    figure = figures.token_bars(frame, count=2)
    favoured, hindered = figure.data
    assert list(favoured.x) == [3, 1]
    assert list(hindered.x) == [-1, -2]
    assert list(figure.layout.yaxis.ticktext) == ["␣glad", "&lt;b&gt;", "↵", "␣sad"]
    assert list(hindered.y) == [2, 3]
    assert not figure.layout.shapes
    judged = figures.token_bars(frame, count=2, chance=1.5)
    pale = [[each < 1 for each in bars.marker.opacity] for bars in judged.data]
    assert pale == [[False, True], [True, False]]
    assert not any(each < 1 for bars in figure.data for each in bars.marker.opacity)
    (shade,) = judged.layout.shapes
    assert (shade.x0, shade.x1) == (-1.5, 1.5)
    assert shade.showlegend
    assert "95 %" in shade.name


def test_the_mean_of_a_few_survivors_is_not_drawn() -> None:
    """Of eight prompts six, then four, have a trait; of three prompts all that there are."""
    frame = sweep(prompts=8)
    frame.loc[(frame["coefficient_norm"] == 1) & (frame["prompt_index"] < 2), "trait"] = np.nan
    frame.loc[(frame["coefficient_norm"] == -1) & (frame["prompt_index"] < 4), "trait"] = np.nan
    places = [float(x) for x in traces(figures.sweep_curves(frame), "trait")[0].x]
    assert 1.0 in places
    assert -1.0 not in places
    assert -1.0 in [float(x) for x in traces(figures.sweep_curves(sweep()), "trait")[0].x]


def test_token_bars_of_cosines_are_named_so() -> None:
    frame = pd.DataFrame({"token": ["a", "b", "c"], "cosine": [0.5, -0.25, 0.1]})
    figure = figures.token_bars(frame, value="cosine", chance=0.3)
    assert [(bar.name, list(bar.x)) for bar in figure.data] == [
        ("nearest", [0.5, 0.1]),
        ("opposite", [-0.25]),
    ]
    assert figure.layout.xaxis.title.text == "Cosine with the token's input embedding"
    with pytest.raises(ValueError, match="value 'p' is unknown; choose one of logit, cosine"):
        figures.token_bars(frame, value="p")  # type: ignore[arg-type]


def test_token_bars_without_an_effect_are_refused() -> None:
    with pytest.raises(ValueError, match="no token to draw"):
        figures.token_bars(pd.DataFrame({"token": ["a"], "logit": [0.0]}))


def test_a_figure_says_how_it_was_drawn() -> None:
    figure = figures.sweep_curves(sweep(), ceiling=pd.DataFrame(MARKS[:1]), trait="mood")
    meta = json.loads(figure.to_json())["layout"]["meta"]
    assert meta["function"] == "sweep_curves"
    assert meta["arguments"] == {"ceiling": MARKS[:1], "trait": "mood"}
    again = getattr(figures, meta["function"])(sweep(), **meta["arguments"])
    assert again.to_json() == figure.to_json()


def test_arguments_that_cannot_be_saved_are_refused() -> None:
    with pytest.raises(TypeError, match="plain values, not set"):
        figures.separation(layers(), title={"a"})  # type: ignore[arg-type]


def test_safe_text() -> None:
    assert look.safe("a <b>&\nc") == "a &lt;b&gt;&amp;<br>c"
    assert look.safe(None) == look.safe(float("nan")) == look.safe("")
    assert look.safe("x" * 500, limit=10) == "x" * 9 + "…"
    assert look.safe("aa bb cc", width=5) == "aa bb<br>cc"


def test_drawing_leaves_the_frame_alone() -> None:
    frame = sweep()
    before = frame.copy()
    figures.sweep_curves(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_control_characters_do_not_reach_a_picture() -> None:
    assert look.visible("a\x19 b") == "a\\x19␣b"
    assert look.safe("line\x00 one\nline two") == "line\\x00 one<br>line two"
