"""A condition's whole analysis: the search, what it reaches on held-out texts, what length and
words alone would, and the figures of it, in a folder by one call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from workbench import figures
from workbench.conditions.checks import all_scores, auc, curves, firmness, held_out, stability
from workbench.conditions.condition import Condition, Reads
from workbench.conditions.confounds import confound_scores, confounds, length_matched
from workbench.conditions.point import check_labels
from workbench.conditions.search import ConditionSearch, check_sets, find_condition_point
from workbench.forward.mean_streams import mean_streams
from workbench.reporting.report import Export, export
from workbench.statistics.intervals import Floats
from workbench.statistics.similarity import Similarity
from workbench.support import tables
from workbench.support.checks import check_whole
from workbench.text.positions import Positions, prompt
from workbench.text.splits import as_text
from workbench.text.tokens import Prompt, to_batch
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

_log = logging.getLogger(__name__)
_WORDS = {
    "cosine": "cosine similarity",
    "projection": "projection",
    "unsigned": "unsigned similarity",
}


@dataclass(frozen=True, eq=False)
class Analysis:
    """What `save_analysis` found: the `search`; of held-out texts `reached`
    (`conditions.checks.held_out`) and `beside` (`confounds.confounds`); how `firm` the search is on
    resamples of the making texts (`conditions.checks.firmness`, a row); the figures by name, which
    show themselves in a notebook; the folder they lie in."""

    search: ConditionSearch
    reached: pd.DataFrame
    beside: pd.DataFrame
    firm: pd.DataFrame
    figures: Mapping[str, Export]
    directory: Path


def save_analysis(
    directory: str | Path,
    lm: LM,
    vector: SteeringVector,
    making: Sequence[Prompt],
    making_labels: ArrayLike,
    prompts: Sequence[Prompt],
    labels: ArrayLike,
    *,
    layers: Sequence[int] | None = None,
    search_layers: Sequence[int] | None = None,
    most_layers: int = 1,
    similarity: Similarity = "cosine",
    reads: Reads = "output",
    positions: Positions = prompt,
    bias: Mapping[int, float] | None = None,
    groups: Sequence[str] | None = None,
    classes: tuple[str, str] = ("of the condition", "others"),
    prefix: str = "condition-",
) -> Analysis:
    """Find the condition point of a vector on some prompts, judge it on others, and write it all.

    making, making_labels  prompts that choose the point, and whether the condition shall be met
    prompts, labels        held-out prompts that judge it, likewise
    layers                 that are shown (default: all of the vector's)
    search_layers          of these, where the point may lie (default: all), such as those that
                           carry over to other topics (conditions/folds.py)
    bias                   of a probe, at every layer that is shown
    groups                 of the held-out prompts, what the intervals of areas draw whole
    classes                what prompts that meet the condition and others are called
    prefix                 what the names of all files begin with

    In `directory`: PREFIXsearch.json; tables/ with PREFIXreached, beside, layers and firm;
    figures/ with PREFIXplanes, variance, similarities and curves, each as `report.export` writes
    it. Planes and variances are of the making prompts, similarities and curves of the others.
    Raises ValueError, before the model runs, as `Condition.of` and `find_condition_point`, for two
    classes of one name, for layers to search that are not among those shown, and as `mean_streams`.
    """
    if len(set(classes)) != 2:
        raise ValueError(f"classes are {classes!r}; give two different names")
    condition = Condition.of(
        vector,
        threshold=0.0,
        layers=vector.layers if layers is None else layers,
        similarity=similarity,
        reads=reads,
        positions=positions,
        bias=bias,
    )
    chosen = condition.layers
    if isinstance(search_layers, int) or (search_layers is not None and not len(search_layers)):
        raise ValueError(f"search_layers is {search_layers!r}; give a list of one layer or more")
    among = chosen if search_layers is None else tuple(search_layers)
    check_whole("most_layers", most_layers, 1, len(among))
    check_sets(len(among), most_layers)
    lacking = [layer for layer in among if layer not in chosen]
    if lacking:
        raise ValueError(f"search_layers {lacking} are not among the layers shown, {list(chosen)}")
    batches = [to_batch(lm, making), to_batch(lm, prompts)]
    made = check_labels(making_labels, len(making))
    wanted = check_labels(labels, len(prompts))
    (first,), (second,) = (
        mean_streams(lm, batch, [(condition.places, condition.positions)]) for batch in batches
    )
    seen = [condition.resembles(each).cpu().numpy() for each in (first, second)]
    searched = seen[0][:, [chosen.index(layer) for layer in among]]
    search = find_condition_point(searched, made, among, most_layers=most_layers)
    point = search.best
    _log.info(
        "layers %s, fires %s %.6g: F1 %.3f on %d texts, one of %d points of %d",
        list(point.layers), point.fires, point.threshold, point.f1, len(made), point.ties,
        point.points,
    )  # fmt: skip
    tokens = [batch.attention.sum(dim=1).tolist() for batch in batches]
    texts = [[as_text(each) for each in given] for given in (making, prompts)]
    beside = {
        "gate": (point.score(seen[0], chosen), point.score(seen[1], chosen)),
        **confound_scores(texts[0], made, texts[1], making_tokens=tokens[0], tokens=tokens[1]),
    }
    # A score that is the same for all the making texts has no curve.
    drawn_beside = {name: each for name, each in beside.items() if np.ptp(each[0]) > 0}
    matched = _matched([len(each) for each in texts[1]], wanted)

    frame = planes(first.double().cpu().numpy(), made, chosen, classes)
    frames = {
        "planes": frame,
        "variance": _variance(frame, vector.explained_variance),
        "similarities": _similarities(seen[1], wanted, chosen, point.layers, classes),
        "curves": told(drawn_beside, made, wanted),
    }
    drawn = {
        "planes": figures.class_planes(frames["planes"]),
        "variance": figures.variance_by_layer(frames["variance"]),
        "similarities": figures.similarity_histograms(
            frames["similarities"],
            threshold=point.threshold,
            fires=point.fires,
            words=_WORDS[similarity],
        ),
        "curves": figures.gate_curves(frames["curves"]),
    }
    said: dict[str, Any] = {
        "model": lm.name,
        "fingerprint": lm.fingerprint,
        "method": vector.method,
        "similarity": similarity,
        "reads": reads,
        "positions": repr(positions),
        "texts": {"making": len(made), "held out": len(wanted)},
        "layers": list(point.layers),
        "threshold": point.threshold,
        "fires": point.fires,
    }
    directory = Path(directory)
    search.save(directory / f"{prefix}search.json")
    results = {
        "reached": held_out(point, seen[1], wanted, chosen),
        "beside": confounds(beside, made, wanted, matched, groups=groups),
        "layers": all_scores(seen[1], chosen, wanted),
        "firm": pd.DataFrame([firmness(stability(searched, made, among, most_layers=most_layers))]),
    }
    for name, table in results.items():
        tables.save_table(table, f"{prefix}{name}", directory=directory, provenance=said)
    written = {
        name: export(
            figure,
            f"{prefix}{name}",
            data=frames[name],
            directory=directory,
            provenance=said,
        )
        for name, figure in drawn.items()
    }
    return Analysis(
        search, results["reached"], results["beside"], results["firm"], written, directory
    )


def planes(
    means: Floats, labels: NDArray[np.bool_], layers: Sequence[int], classes: tuple[str, str]
) -> pd.DataFrame:
    """Of mean streams (N, L, D), the two components of greatest variance at every layer, centred:
    one row per layer and text with `layer`, `text`, its number, `class`, `first`, `second` and the
    components' shares of the variance, `first_share` and `second_share`.

    A component's sign is such that the class that meets the condition lies higher on it.
    """
    parts = []
    for index, layer in enumerate(layers):
        rows = means[:, index] - means[:, index].mean(axis=0)
        left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
        total = (sizes**2).sum()
        shares = sizes[:2] ** 2 / total if total else np.zeros(2)
        at = left[:, :2] * sizes[:2]
        at = at * np.where(at[labels].mean(axis=0) < at[~labels].mean(axis=0), -1, 1)
        parts.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "text": range(len(rows)),
                    "class": np.where(labels, *classes),
                    "first": at[:, 0],
                    "second": at[:, 1],
                    "first_share": shares[0],
                    "second_share": shares[1],
                }
            )
        )
    return _condition_first(pd.concat(parts, ignore_index=True), classes)


def told(
    scores: Mapping[str, tuple[ArrayLike, ArrayLike]],
    making_labels: ArrayLike,
    labels: ArrayLike,
) -> pd.DataFrame:
    """Both curves of every score of held-out texts, its direction chosen on the making ones:
    `score`, `curve` ("roc": recall `y` over false alarms `x`; "precision": precision `y` over
    recall `x`) and `auc`, the area under the first.

    scores  name -> (of making texts, of held-out texts)
    """
    wanted = check_labels(labels, len(np.asarray(labels)))
    parts = []
    for name, (making, own) in scores.items():
        column = np.asarray(making, dtype=float)[:, None]
        point = find_condition_point(column, making_labels).best
        rising = point.score(np.asarray(own, dtype=float)[:, None], [0])
        roc, precision = curves(rising, wanted)
        area = auc(rising, wanted).value
        for curve, table, x, y in (
            ("roc", roc, "false_alarms", "recall"),
            ("precision", precision, "recall", "precision"),
        ):
            part = pd.DataFrame({"score": name, "curve": curve, "x": table[x], "y": table[y]})
            parts.append(part.assign(auc=area))
    return pd.concat(parts, ignore_index=True)


def _condition_first(frame: pd.DataFrame, classes: tuple[str, str]) -> pd.DataFrame:
    """By layer, the texts that meet the condition before the others: the order of the colours."""
    order = frame["class"].map({name: index for index, name in enumerate(classes)})
    return (
        frame.assign(order=order)
        .sort_values(["layer", "order"], kind="stable", ignore_index=True)
        .drop(columns="order")
    )


def _variance(frame: pd.DataFrame, explained: Mapping[int, float]) -> pd.DataFrame:
    """The components' shares of the variance of the texts, and a vector's own of its pairs."""
    shares = frame.groupby("layer")[["first_share", "second_share"]].first()
    named = {"PC 1": "first_share", "PC 2": "second_share"}
    parts = [
        pd.DataFrame({"layer": shares.index, "component": name, "share": shares[column].to_numpy()})
        for name, column in named.items()
    ]
    own = [
        (k, "condition vector (of its pairs)", v) for k, v in explained.items() if k in shares.index
    ]
    if own:
        parts.append(pd.DataFrame(own, columns=["layer", "component", "share"]))
    return pd.concat(parts, ignore_index=True)


def _similarities(
    seen: Floats,
    wanted: NDArray[np.bool_],
    layers: Sequence[int],
    shown: Sequence[int],
    classes: tuple[str, str],
) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "text": range(len(seen)),
                "class": np.where(wanted, *classes),
                "similarity": seen[:, list(layers).index(layer)],
            }
        )
        for layer in shown
    ]
    return _condition_first(pd.concat(parts, ignore_index=True), classes)


def _matched(lengths: Sequence[int], wanted: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """Texts of like length, None where no two are."""
    try:
        return length_matched(lengths, wanted)
    except ValueError:
        return None
