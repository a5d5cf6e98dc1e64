"""Files of a figure, saved tables, and the page that quotes them."""

import base64
import hashlib
import json
import re
import struct
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from kaleido.errors import ChromeNotFoundError
from typer.testing import CliRunner

from workbench import figures
from workbench.cli import app
from workbench.reporting import images, report
from workbench.support import tables

FRAME = pd.DataFrame(
    {"layer": [0, 1, 2], "pair_accuracy": [0.5, 0.75, 1 / 3 + 0.6], "d_prime": [0.1, 1.7, 2.9]}
)
PICTURES = {"png", "svg", "pdf"}
OTHERS = {"html", "csv", "json"}


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """kaleido as it behaves where there is no Chrome."""

    def browser() -> None:
        raise ChromeNotFoundError

    monkeypatch.setattr(images, "browser", browser)


def suffixes(folder: Path, name: str) -> set[str]:
    return {path.suffix[1:] for path in folder.glob(f"figures/{name}.*")}


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_folder_that_is_not_there_is_not_redrawn(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["figures", str(tmp_path / "nope")])
    assert said.exit_code == 1
    assert f"no folder at {str(tmp_path / 'nope')!r}: give a report's" in said.stderr
    assert CliRunner().invoke(app, ["figures", str(tmp_path)]).exit_code == 0


def test_export_and_redraw_write_the_same_bytes(tmp_path: Path) -> None:
    """All seven files; drawn again from the CSV, none of them changes."""
    frame = FRAME.copy()
    frame.attrs = {"model": "tiny"}
    figure = figures.separation(frame, layer=1)
    done = report.export(
        figure, "layers", data=frame, directory=tmp_path, provenance={"seed": np.int64(3)}
    )
    if not (tmp_path / "figures" / "layers.png").exists():
        pytest.skip("no Chrome or Chromium on this machine")
    assert suffixes(tmp_path, "layers") == PICTURES | OTHERS
    figure_files = tmp_path / "figures"
    assert (figure_files / "layers.png").read_bytes()[:4] == b"\x89PNG"
    assert (figure_files / "layers.pdf").read_bytes()[:5] == b"%PDF-"
    assert (figure_files / "layers.svg").read_bytes()[:4] == b"<svg"
    bundle = done._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "image/png"}
    shown = base64.b64decode(bundle["image/png"])
    assert len(shown) < (figure_files / "layers.png").stat().st_size / 2
    assert shown[16:24] == struct.pack(">II", figure.layout.width, figure.layout.height)
    before = contents(tmp_path)
    for path in figure_files.glob("layers.[psh]*"):
        path.unlink()
    assert report.redraw(tmp_path) == ["layers"]
    assert contents(tmp_path) == before


def test_provenance(tmp_path: Path, no_browser: None) -> None:
    frame = FRAME.copy()
    frame.attrs = {"model": "tiny", "seed": 1}
    report.export(
        figures.separation(frame, layer=1),
        "layers",
        data=frame,
        directory=tmp_path,
        provenance={"seed": np.int64(3)},
    )
    record = json.loads((tmp_path / "figures" / "layers.json").read_text())
    csv = (tmp_path / "figures" / "layers.csv").read_bytes()
    assert record["model"] == "tiny"
    assert record["seed"] == 3
    assert record["data"] == {
        "rows": 3,
        "columns": ["layer", "pair_accuracy", "d_prime"],
        "sha256": hashlib.sha256(csv).hexdigest(),
    }
    assert record["drawing"] == {"function": "separation", "arguments": {"layer": 1}}
    assert record["versions"]["pandas"] == pd.__version__
    pd.testing.assert_frame_equal(
        tables.read_csv(tmp_path / "figures" / "layers.csv"), FRAME, check_exact=True
    )


def test_without_a_browser_the_page_and_the_data_are_written(
    tmp_path: Path, no_browser: None, capsys: pytest.CaptureFixture[str]
) -> None:
    done = report.export(figures.separation(FRAME), "layers", data=FRAME, directory=tmp_path)
    assert suffixes(tmp_path, "layers") == OTHERS
    assert {path.suffix for path in done.files} == {".html", ".csv"}
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "chromium" in said or "plotly_get_chrome" in said
    assert set(done._repr_mimebundle_()) == {"application/vnd.plotly.v1+json"}


def test_a_browser_that_does_not_start_is_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def browser() -> None:
        raise RuntimeError("the browser crashed")

    monkeypatch.setattr(images, "browser", browser)
    with pytest.raises(RuntimeError, match="the browser crashed"):
        report.export(figures.separation(FRAME), "layers", data=FRAME, directory=tmp_path)


def test_a_picture_that_was_not_drawn_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def write(self, _: object) -> list[Exception]:
            return [TimeoutError("90 s")]

    monkeypatch.setattr(images, "browser", Slow)
    drawn = r"drew no layers\.png, layers\.svg, layers\.pdf \(TimeoutError\('90 s'\)\)"
    with pytest.raises(RuntimeError, match=drawn):
        report.export(figures.separation(FRAME), "layers", data=FRAME, directory=tmp_path)


def test_the_buttons_of_a_page_have_room_of_their_own(tmp_path: Path, no_browser: None) -> None:
    figure = figures.separation(FRAME)
    report.export(figure, "layers", data=FRAME, directory=tmp_path)
    page = (tmp_path / "figures" / "layers.html").read_text()
    assert f'"width":{figure.layout.width + images.BAR}' in page
    assert f'"r":{figure.layout.template.layout.margin.r + images.BAR}' in page


def test_a_page_has_a_title_and_a_caption(tmp_path: Path, no_browser: None) -> None:
    for name in figures.__all__:
        figure = go.Figure().update_layout(meta={"function": name, "arguments": {}})
        images.draw({tmp_path / name: figure})
        page = (tmp_path / f"{name}.html").read_text()
        assert f"({name})</title>" in page
        heading = page.split("<h1>")[1].split("</h1>")[0]
        assert len(heading) > 30
        caption = page.split("</div>")[-1]
        for told in ("Args", "title:", "Raises", "`"):
            assert told not in heading + caption
    images.draw({tmp_path / "link": go.Figure().update_layout(meta={"function": "distance_link"})})
    page = (tmp_path / "link.html").read_text()
    assert "<h1>Utility, coherence and distance of one vector over the same" in page
    assert "<p>Means with 95 % intervals over pairs, prompts and texts.</p>" in page
    images.draw({tmp_path / "own": go.Figure().update_layout(title_text="a < b")})
    assert "<h1>a &lt; b</h1>" in (tmp_path / "own.html").read_text()


def test_page_carries_no_script_from_a_text(tmp_path: Path, no_browser: None) -> None:
    frame = pd.DataFrame({"token": ["</script><script>alert(1)</script>"], "logit": [1.0]})
    report.export(figures.token_bars(frame), "tokens", data=frame, directory=tmp_path)
    page = (tmp_path / "figures" / "tokens.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    assert 'src="plotly.min.js"' in page
    assert (tmp_path / "figures" / "plotly.min.js").stat().st_size > 1_000_000


def test_any_figure_is_redrawn_from_its_description(tmp_path: Path, no_browser: None) -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name="line"))
    report.export(figure, "plain", directory=tmp_path)
    assert tables.read_csv(tmp_path / "figures" / "plain.csv").to_dict("list") == {
        "trace": ["line", "line"],
        "x": [1, 2],
        "y": [3, 4],
    }
    page = tmp_path / "figures" / "plain.html"
    page.unlink()
    assert report.redraw(tmp_path) == ["plain"]
    assert '"name":"line"' in page.read_text()


def test_redraw_says_when_a_function_is_gone(tmp_path: Path, no_browser: None) -> None:
    report.export(figures.separation(FRAME), "layers", data=FRAME, directory=tmp_path)
    record = tmp_path / "figures" / "layers.json"
    record.write_text(record.read_text().replace('"separation"', '"seperation"'))
    with pytest.raises(ValueError, match=r"figures\.seperation, which is no more"):
        report.redraw(tmp_path)


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", "a.b"])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a file") as caught:
        report.export(go.Figure(), name, directory=tmp_path)
    assert repr(name) in str(caught.value)
    with pytest.raises(ValueError, match="cannot name a file"):
        tables.save_table(FRAME, name, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pdf_and_an_svg_lose_what_differs_between_runs() -> None:
    pdf = b"/CreationDate (D:20261121010948+00'00')\n/ModDate (D:20261121010948+00'00')"
    same = images._same_every_time(pdf, Path("a.pdf"))
    assert same == pdf.replace(b"20261121010948", b"20000101000000")
    svg = (
        b'<defs id="defs-0a1b2c"><clipPath id="clip0a1b2cxy"/><g class="trace scatter trace9f8e7d">'
        b'<g class="cb9a8b7c colorbar" id="g0a1b2c-cb9a8b7c">'
    )
    same = images._same_every_time(svg, Path("a.svg"))
    assert same == (
        b'<defs id="defs-figure"><clipPath id="clipfigurexy"/><g class="trace scatter trace000000">'
        b'<g class="cb000000 colorbar" id="gfigure-cb000000">'
    )


# Templates


def test_render_fills_numbers_words_and_tables() -> None:
    table = pd.DataFrame({"trait": ["a|b", "<i>"], "ceiling": [0.12345, np.nan], "n": [3, 4]})
    text = report.render(
        "At {{ sweep.mood.ceiling:.2f }} ({{model}}, {{ n:,d }}):\n\n{{ table:.2f }}\n",
        {"sweep": {"mood": {"ceiling": 0.987}}, "model": "wren", "n": 12345, "table": table},
    )
    assert text == (
        "At 0.99 (wren, 12,345):\n\n"
        "| trait | ceiling | n |\n| --- | ---: | ---: |\n"
        "| a\\|b | 0.12 | 3 |\n| &lt;i&gt; | – | 4 |\n"
    )


def test_render_lists_every_unfilled_field_once() -> None:
    template = "{{ here }} {{ gone }} {{ none }} {{ here.deeper }} {{ gap:.2f }} {{ gone }}"
    values = {"here": 1, "none": None, "gap": float("nan")}
    with pytest.raises(report.Unfilled, match=r"fields gone, none, here\.deeper, gap:"):
        report.render(template, values)


@pytest.mark.parametrize("template", ["{{ two words }}", "{{ open", "{{}}"])
def test_render_refuses_what_is_no_field(template: str) -> None:
    with pytest.raises(ValueError, match="not a field"):
        report.render(template, {"two": 1, "open": 1})


def test_braces_in_a_text_are_no_fields() -> None:
    assert report.render("{{ text }}", {"text": "a {{ b }}"}) == "a {{ b }}"


def test_a_report_is_written_from_what_is_saved(tmp_path: Path, no_browser: None) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "page.md").write_text(
        "{{ sweep.best:.1f }}\n\n{{ layers }}\n\n{{ figure.plot }}\n"
    )
    folder = tmp_path / "reports"
    with pytest.raises(report.Unfilled, match=r"page\.md: .*sweep\.best, layers, figure\.plot"):
        report.write(folder, templates=templates)
    assert not (folder / "page.md").exists()
    tables.save_values({"best": np.float64(0.75)}, "sweep", directory=folder)
    tables.save_table(FRAME.head(1), "layers", directory=folder)
    report.export(figures.separation(FRAME), "plot", data=FRAME, directory=folder)
    assert report.write(folder, templates=templates) == [folder / "page.md"]
    assert (folder / "page.md").read_text() == (
        "0.8\n\n| layer | pair_accuracy | d_prime |\n| ---: | ---: | ---: |\n| 0 | 0.5 | 0.1 |\n\n"
        "[plot (interactive)](figures/plot.html)\n"
    )


# Tables


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["NA", "null", 'a "b"\nc,d'], "value": [0.1, 1 / 3, 1e-300]})
    tables.save_table(frame, "texts", directory=tmp_path, provenance={"model": "tiny"})
    back = tables.load_table("texts", directory=tmp_path)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert back.attrs["model"] == "tiny"
    assert tables.table_names(tmp_path) == ["texts"]


def test_a_long_table_is_kept_compactly(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["NA", "é\n"], "value": np.float32([0.1, np.nan])})
    frame.attrs = {"seed": 3}
    path = tables.save_table(frame, "long", directory=tmp_path, modules=(), compact=True)
    assert path.name == "long.parquet"
    back = tables.load_table("long", directory=tmp_path)
    assert back["text"].tolist() == ["NA", "é\n"]
    assert back["value"].dtype == np.float32
    assert back.attrs["seed"] == 3
    assert tables.table_names(tmp_path) == ["long"]
    assert tables.stale("long", directory=tmp_path) == []
    assert "long" not in report.saved_values(tmp_path)
    frame.head(1).to_parquet(path)
    assert tables.stale("long", directory=tmp_path) == [
        "long.parquet is not the file that was written"
    ]


def test_a_missing_table_names_its_remedy(tmp_path: Path) -> None:
    for call in (tables.load_table, tables.stale):
        with pytest.raises(FileNotFoundError, match=r"no table 'gone'.*make study"):
            call("gone", directory=tmp_path)


def test_a_table_grows_stale_by_code_model_or_a_touched_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    code = package / "made.py"
    code.write_text('"""What."""\n\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    monkeypatch.setattr(tables, "PACKAGE", package)
    tables.save_table(
        FRAME, "t", directory=tmp_path, provenance={"model": "one"}, modules=("made",)
    )
    assert tables.stale("t", directory=tmp_path, model="one") == []
    code.write_text('def f(x):\n\n    # why\n    "à bas"\n    return x + 1  # so\n')
    assert tables.stale("t", directory=tmp_path, model="one") == []
    code.write_text("def f(x):\n    return x + 2\n")
    assert tables.stale("t", directory=tmp_path) == ["the code of made has changed since"]
    for other in (
        'def f(x):\n    return x + 1; "à"; 2\n',
        "def f(x):\n    pass\nreturn x + 1\n",
        "def f(x):\n    if x:\n        x = 1\n    return x + 1\n",
    ):
        code.write_text(other)
        assert tables.stale("t", directory=tmp_path) == ["the code of made has changed since"]
    inside = "def f(x):\n    if x:\n        x = 1\n        return x + 1\n"
    assert tables._bare(inside) != tables._bare(other), "what stands in a block is code"
    code.write_text("def f(x):\n    return x + 1\n")
    assert tables.stale("t", directory=tmp_path, model="two") == [
        "model was 'one' and is now 'two'"
    ]
    (tmp_path / "tables" / "t.csv").write_text("edited\n")
    assert tables.stale("t", directory=tmp_path) == ["t.csv is not the file that was written"]


def test_standing_names_what_is_stale(tmp_path: Path) -> None:
    for name in ("study_laws", "study_laws_cases", "study_laws_pairs", "marks"):
        tables.save_table(FRAME, name, directory=tmp_path, modules=("support.tables",))
    (tmp_path / "tables" / "study_laws_cases.csv").write_text("edited\n")
    edited = "study_laws_cases: STALE: study_laws_cases.csv is not the file that was written"
    sound = "stand for this code: study_laws, study_laws_pairs"
    assert tables.standing("study_laws", directory=tmp_path) == f"{sound}\n{edited}"
    assert tables.standing("marks", "study_laws_p", directory=tmp_path) == (
        "stand for this code: marks, study_laws_pairs"
    )
    assert "marks" in tables.standing(directory=tmp_path)
    many = ("support.tables", "support.store", "reporting.png", "figures.look", "cli", "gone")
    record = tmp_path / "tables" / "marks.json"
    known = json.loads(record.read_text())
    known["code"]["modules"] = many
    record.write_text(json.dumps(known))
    assert tables.stale("marks", directory=tmp_path) == [
        f"the code of {', '.join(many[:4])} and 2 more modules has changed since"
    ]
    with pytest.raises(FileNotFoundError, match=r"no table 'study_odds'.*make study"):
        tables.standing("study_laws", "study_odds", directory=tmp_path)


def test_what_a_notebook_keeps_says_whose_run_it_was(tmp_path: Path) -> None:
    class Run:
        name, fingerprint, in_memory = "tiny", "0123456789abcdef", True

    run = {"model": "tiny", "seed": 3, "fingerprint": "0123456789ab"}
    studied = FRAME.copy()
    studied.attrs = {"model": "wren"}
    keep = partial(report.keep, tmp_path, lm=cast(Any, Run()), seed=3)
    keep("page", tables={"marks": studied}, values={"said": "so"})
    back = tables.load_table("page_marks", directory=tmp_path)
    assert (back.attrs["model"], back.attrs["kept_by"]) == ("wren", run)
    assert report.saved_values(tmp_path)["page"] == run | {"said": "so"}
    with pytest.raises(ValueError, match="cannot name a file"):
        keep("other", tables={"fine": FRAME, "a b": FRAME})
    assert tables.table_names(tmp_path) == ["page_marks"]


def test_a_table_is_one_file_and_speaks_for_itself_alone(tmp_path: Path) -> None:
    """Saved again in the other format it replaces the first; what was said of one file and its
    code goes into no other table."""
    tables.save_table(FRAME, "t", directory=tmp_path, modules=("support.tables",))
    tables.save_table(
        FRAME.assign(x=1), "t", directory=tmp_path, modules=("reporting.png",), compact=True
    )
    assert tables.table_names(tmp_path) == ["t"]
    again = tables.load_table("t", directory=tmp_path)
    assert again["x"].tolist() == [1] * len(FRAME)
    tables.save_table(again, "other", directory=tmp_path)
    assert "code" not in tables.load_table("other", directory=tmp_path).attrs
    tables.save_values({"a": 1}, "other", directory=tmp_path)
    with pytest.raises(ValueError, match="'other' names both a table and values"):
        report.saved_values(tmp_path)


def test_texts_stay_texts_in_a_table(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": ["007", "", "NA"],
            "digits": ["007", "01", "1e5"],
            "flag": [True, False, True],
            "gap": [1.5, np.nan, 2.0],
            "count": [1, 2, 3],
        }
    )
    tables.write_csv(frame, tmp_path / "t.csv")
    again = tables.read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(again, frame)


def test_json_is_sorted_and_has_no_nan() -> None:
    value = {"b": np.array([1.5, np.nan]), "a": (np.int64(2), Path("x")), "c": {1: True}}
    assert json.loads(tables.to_json(value)) == {"a": [2, "x"], "b": [1.5, None], "c": {"1": True}}
    assert list(json.loads(tables.to_json(value))) == ["a", "b", "c"]


# Folders


@pytest.mark.parametrize(
    ("model", "seed", "name"),
    [
        (None, 0, ""),
        ("wren", 0, ""),
        ("wren", 2, "wren-seed2"),
        ("gpt2", 0, "gpt2"),
        ("owner/name", 1, "owner--name-seed1"),
        ("meta/Llama-3.2-1B", 0, "meta--Llama-3.2-1B"),
        ("../..", 0, None),
        ("a b;c", 0, "a-b-c-ddb90c96"),
    ],
)
def test_slug(model: str | None, seed: int, name: str | None) -> None:
    found = report.slug(model, seed)
    assert "/" not in found
    assert not found.startswith(".")
    assert name is None or found == name


def test_no_two_models_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that differ in what a folder's name cannot hold, a seed's look-alike, equal paths."""
    monkeypatch.chdir(tmp_path)
    for folder in ("one/model", "two/model"):
        (tmp_path / folder).mkdir(parents=True)
    names = ["a-b", "a b", "a;b", "a/b", "a--b", "model", "one/model", "two/model", "x", "x-seed1"]
    runs = [(name, seed) for name in names for seed in (0, 1)] + [("wren", 1), (None, 0)]
    found = [report.slug(*run) for run in runs]
    assert len(set(found)) == len(runs)
    assert report.slug("one/model") == report.slug(tmp_path / "one" / "model")
    assert report.slug(report.slug("a b")) != report.slug("a b")


def test_folder_is_beside_the_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert report.folder() == Path("../reports")
    monkeypatch.chdir(tmp_path)
    assert report.folder("gpt2") == Path("reports/gpt2")
    model = tmp_path / "my model"
    model.mkdir()
    found = report.folder(model, 1)
    assert re.fullmatch(r"reports/my-model-[0-9a-f]{8}-seed1", found.as_posix())


def test_any_text_comes_back_from_a_table(tmp_path: Path) -> None:
    """Random models write carriage returns, which an unquoted field would not survive."""
    texts = ["a\rb", "\r", "x\r\ny", 'q"\r,z', "\x0b\x1c\x85\u2028", "1.0", "NA", " é", "\n"]
    frame = pd.DataFrame({"text": texts, "number": [1 / (3 + n) for n in range(len(texts))]})
    tables.write_csv(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(tables.read_csv(tmp_path / "t.csv"), frame, check_exact=True)
    tables.write_csv(pd.DataFrame({"text": ["a\0b"]}), tmp_path / "nul.csv")
    assert tables.read_csv(tmp_path / "nul.csv")["text"].tolist() == ["a\ufffdb"]
