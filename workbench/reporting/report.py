"""Figures become files, and files become a written report.

A report's folder holds `figures/` (see `export`), `tables/` (see
`workbench.support.tables`) and the pages that `write` fills from both. Knows nothing of models:
all of this can be done again without one.
"""

import base64
import hashlib
import inspect
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from workbench import figures
from workbench.reporting import images, png
from workbench.support import tables
from workbench.support.store import write_atomically
from workbench.support.tables import check_name, save_table, save_values
from workbench.support.versions import versions

if TYPE_CHECKING:
    from workbench.loading.models import LM

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
# A model's name, perhaps an owner's before it, that no other name or seed leads to.
_PART = r"(?!.*--)[A-Za-z0-9_](?:[\w.-]*[\w])?"
PLAIN = re.compile(rf"(?!.*-seed\d+$)(?!.*-[0-9a-f]{{8}}$){_PART}(?:/{_PART})?", re.ASCII)


def folder(model: str | Path | None = None, seed: int = 0) -> Path:
    """Where a run's report goes: `reports/` for the default model and seed 0, else one of its own.

    "reports/gpt2" for `model="gpt2"`, "reports/gpt2-seed1" for seed 1 of it (see `slug`). Relative
    to the working directory: beside the `notebooks` folder when called from within it, so that no
    path of the machine's gets into a notebook.
    """
    base = Path("..", "reports") if Path.cwd().name == "notebooks" else Path("reports")
    name = slug(model, seed)
    return base / name if name else base


def slug(model: str | Path | None = None, seed: int = 0) -> str:
    """A folder's name for a model and seed, another one for each; "" for the default ones.

    A plain name stays as it is and the owner of a hub id is joined by two hyphens. Any other name,
    and that of a path, which is called by its last part, ends with letters of its hash, since
    different ones could look the same: "model-1f2e3d4c".
    """
    default = default_model()
    name = default if model is None else str(model)
    if name == default:
        return f"{name}-seed{seed}" if seed else ""
    path = Path(name).resolve() if Path(name).exists() else None
    if path is None and PLAIN.fullmatch(name):
        safe = name.replace("/", "--")
    else:
        last = re.sub(r"[^\w.-]+", "-", path.name if path else name).strip(".-") or "model"
        safe = f"{last}-{hashlib.sha256(str(path or name).encode()).hexdigest()[:8]}"
    return f"{safe}-seed{seed}" if seed else safe


def default_model() -> str:
    """The model that `models.load()` loads."""
    from workbench.loading import models

    return str(inspect.signature(models.load).parameters["name_or_model"].default)


@dataclass(frozen=True, eq=False)
class Export:
    """A figure and the files that were written for it; shows itself in a notebook."""

    figure: go.Figure
    files: tuple[Path, ...]

    def __repr__(self) -> str:
        return ", ".join(path.name for path in self.files)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        picture = next((path for path in self.files if path.suffix == ".png"), None)
        return _mimebundle(self.figure, picture.read_bytes() if picture else None)


def export(
    figure: go.Figure,
    name: str,
    *,
    data: pd.DataFrame | None = None,
    directory: str | Path = "reports",
    provenance: Mapping[str, Any] | None = None,
) -> Export:
    """Write a figure for readers, for papers and for machines.

    In `directory/figures`: NAME.png (two pixels a point), .svg, .pdf, an interactive .html, the
    data as .csv and its provenance as .json. The page loads plotly's script from the file beside
    it, or from the network where that file is missing. Without Chrome or Chromium only the last
    three are written, and the command that helps is printed.

    Args:
        figure: any plotly figure; one made by `workbench.figures` can be drawn again (`redraw`).
        name: of the files: letters, digits, hyphens, underscores.
        data: the frame that the figure shows, with its `attrs`; the points drawn when left out.
        directory: the report's folder.
        provenance: what the figure was made from: model, fingerprints, layer, method, seeds.

    Raises ValueError for a name that is not a plain file name, OSError when a file
    cannot be written.
    """
    tables.check_name(name)
    path = Path(directory) / "figures" / name
    frame = _points(figure) if data is None else data
    digest = tables.write_csv(frame, path.with_suffix(".csv"))
    record = {
        **frame.attrs,
        **(provenance or {}),
        "data": {"rows": len(frame), "columns": list(frame.columns), "sha256": digest},
        "drawing": _drawing(figure, data),
        "versions": versions(),
    }
    write_atomically(path.with_suffix(".json"), tables.to_json(record).encode())
    return Export(figure, (*images.draw({path: figure}), path.with_suffix(".csv")))


def keep(
    folder: str | Path,
    name: str,
    *,
    lm: "LM",
    seed: int,
    tables: Mapping[str, pd.DataFrame] | None = None,
    values: Mapping[str, Any] | None = None,
) -> None:
    """Keep what a notebook found for the report's page: its tables, its numbers and its words.

    The table KEY becomes `NAME_KEY`; its provenance says in "kept_by" whose run kept it, which may
    be of another model than the study it was made from. The values become the mapping NAME, with
    the run's `model`, `seed` and `fingerprint` (twelve digits) beside them.

    Raises ValueError for a name that is not a plain file name, before anything is written.
    """
    frames = {f"{name}_{key}": frame for key, frame in (tables or {}).items()}
    for each in (name, *frames):
        check_name(each)
    fingerprint = lm.fingerprint[:12] if lm.in_memory else "unknown"
    run = {"model": lm.name, "seed": seed, "fingerprint": fingerprint}
    for each, frame in frames.items():
        save_table(frame, each, directory=folder, provenance={"kept_by": run})
    save_values(dict(values or {}) | run, name, directory=folder)


def redraw(directory: str | Path = "reports") -> list[str]:
    """Draw every figure of a report again from its saved data; the names of those drawn.

    Figures of `workbench.figures` are made anew, so that a change of their look arrives; any other
    is rendered from its saved description. Raises FileNotFoundError for a folder that is not there,
    and ValueError for a figure whose function is gone.
    """
    if not Path(directory).is_dir():
        raise FileNotFoundError(
            f"no folder at {str(directory)!r}: give a report's, which holds figures/"
        )
    drawings: dict[Path, go.Figure] = {}
    for path in sorted((Path(directory) / "figures").glob("*.json")):
        drawing = json.loads(path.read_text(encoding="utf-8"))["drawing"]
        if "plotly" in drawing:
            figure = go.Figure(drawing["plotly"])
        else:
            draw = getattr(figures, drawing["function"], None)
            if draw is None:
                raise ValueError(
                    f"{path} was drawn by figures.{drawing['function']}, which is no more: "
                    "run its notebook again"
                )
            figure = draw(tables.read_csv(path.with_suffix(".csv")), **drawing["arguments"])
        drawings[path.with_suffix("")] = figure
    images.draw(drawings)
    return [path.name for path in drawings]


def show(figure: go.Figure) -> None:
    """Show a figure in a notebook: interactive, with a PNG beside it for code hosts."""
    from IPython.display import display

    with tempfile.TemporaryDirectory() as place:
        picture = Path(place) / "figure.png"
        drawn = images.render({picture: figure})
        display(_mimebundle(figure, picture.read_bytes() if drawn else None), raw=True)


def _mimebundle(figure: go.Figure, picture: bytes | None) -> dict[str, Any]:
    """What a notebook keeps of a figure: it may be read where only a picture is shown."""
    plotly_json = json.loads(figure.to_json() or "{}")
    bundle: dict[str, Any] = {"application/vnd.plotly.v1+json": plotly_json}
    if picture is not None:
        bundle["image/png"] = base64.b64encode(png.preview(picture)).decode()
    return bundle


def _drawing(figure: go.Figure, data: pd.DataFrame | None) -> dict[str, Any]:
    """How to draw a figure again: the function and its arguments, or the figure itself."""
    meta = figure.layout.meta
    if data is not None and isinstance(meta, Mapping) and "function" in meta:
        return dict(meta)
    return {"plotly": json.loads(figure.to_json() or "{}")}


def _points(figure: go.Figure) -> pd.DataFrame:
    """What a figure's traces show, one row a point: trace, x, y."""
    parts = [
        pd.DataFrame({"trace": trace.name or index, "x": list(trace.x), "y": list(trace.y)})
        for index, trace in enumerate(figure.data)
        if getattr(trace, "x", None) is not None and getattr(trace, "y", None) is not None
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


class Unfilled(ValueError):
    """A template has fields without a value."""


FIELD = re.compile(r"\{\{\s*([\w.-]+)\s*(?::([^{}]*?))?\s*\}\}")


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill the fields of a Markdown template.

    A field is `{{ name }}`, `{{ outer.inner }}` for nested mappings, or `{{ name:.2f }}` with a
    format of Python's. A DataFrame becomes a Markdown table, its numbers in the field's format.

    Raises Unfilled, a ValueError that lists every field without a value: not there, None or NaN.
    """
    missing: list[str] = []
    unread = re.search(r"\{\{.{0,40}", FIELD.sub("", template))
    if unread:
        raise ValueError(f"not a field: {unread[0]!r}; write {{{{ name }}}} or {{{{ name:.2f }}}}")

    def fill(match: re.Match[str]) -> str:
        name, spec = match[1], match[2] or ""
        value = _look_up(values, name)
        if isinstance(value, pd.DataFrame):
            return tables.markdown_table(value, spec or ".3g")
        if value is None or value != value:
            missing.append(name)
            return ""
        return format(value, spec)

    filled = FIELD.sub(fill, template)
    if missing:
        raise Unfilled(
            f"no value for the fields {', '.join(dict.fromkeys(missing))}: "
            "run the notebooks that make them"
        )
    return filled


def _look_up(values: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return None
        values = values[part]
    return values


def saved_values(directory: str | Path = "reports") -> dict[str, Any]:
    """All that a template can quote from a report's folder.

    Every table by its name (but compact ones, which are too long to quote), every
    `NAME.values.json` as the mapping NAME, and for every figure `figure.NAME`, its Markdown: the
    picture (where images could be made) linked to the page. Raises ValueError for a table and
    values of one name.
    """
    directory = Path(directory)
    values: dict[str, Any] = {
        path.name.removesuffix(".values.json"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((directory / "tables").glob("*.values.json"))
    }
    for path in sorted((directory / "tables").glob("*.csv")):
        if path.stem in values:
            raise ValueError(
                f"{path.stem!r} names both a table and values in {path.parent}: a template cannot "
                "tell them apart; save one of them under another name"
            )
        values[path.stem] = tables.read_csv(path)
    pages = sorted((directory / "figures").glob("*.html"))
    values["figure"] = {page.stem: _picture(page) for page in pages}
    return values


def _picture(page: Path) -> str:
    link = f"figures/{page.name}"
    if page.with_suffix(".png").is_file():
        return f"[![{page.stem}](figures/{page.stem}.png)]({link})"
    return f"[{page.stem} (interactive)]({link})"


def write(directory: str | Path = "reports", *, templates: str | Path = TEMPLATES) -> list[Path]:
    """Fill every template from what is saved in the report's folder; the pages written.

    Raises Unfilled, a ValueError that names the template and its fields without a value; then no
    page is written.
    """
    values = saved_values(directory)
    pages: dict[Path, str] = {}
    for template in sorted(Path(templates).glob("*.md")):
        try:
            text = render(template.read_text(encoding="utf-8"), values)
        except ValueError as error:
            raise type(error)(f"{template.name}: {error}") from None
        pages[Path(directory) / template.name] = text
    for path, text in pages.items():
        write_atomically(path, text.encode())
    return list(pages)
