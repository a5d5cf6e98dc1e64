"""Where everything of a run lies, and in which files: this package's layout, or EasyEdit's.

    vectors/<model>/<method>/<data>/<method>_<form>/       what was made
    generation/<model>/<method>/<data>/<method>_<form>/m<m>/<data>_results.json
    losses/...  as generation, one folder for each m       (workbench)
    vectors/<model>/get_sft_loss/<method>/<data>/<method>_<form>/<form>_<method>_m<m>_winning_only/
                and the same with losing_only              (easyedit)
    exports/<model>/<method>/<data>/<method>_<form>/       for other tools

Of a table of concepts <data> is <data>_concept_<number>. EasyEdit spells SPLIT "spilt", and keeps
one layer_<L>.pt a layer; here it is one safetensors file with provenance. Texts are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from workbench.runs.options import Combination
from workbench.runs.records import unfinished
from workbench.support.store import write_atomically
from workbench.training import easyedit
from workbench.training.trained import Trained
from workbench.vectors import files
from workbench.vectors.forms import LocalWeight, LoRA
from workbench.vectors.steering_vector import SteeringVector

OWN_FILE = "intervention.safetensors"
LOSS_SIDES = {"winning_only": "positive", "losing_only": "negative"}


@dataclass(frozen=True)
class Layout:
    """Folders below a base directory, by kind of work; see the module.

    name     "workbench" or "easyedit"
    base     the base directory
    model    the model's name as a folder
    dataset  the data set's name
    """

    name: str
    base: Path
    model: str
    dataset: str

    @property
    def foreign(self) -> bool:
        return self.name == "easyedit"

    def data_name(self, combination: Combination) -> str:
        """The data set, or that of one concept."""
        number = combination.concept
        return self.dataset if number is None else f"{self.dataset}_concept_{number}"

    def _method(self, combination: Combination) -> str:
        return "spilt" if self.foreign and combination.method == "split" else combination.method

    def _below(self, kind: str, combination: Combination) -> Path:
        method = self._method(combination)
        leaf = f"{method}_{combination.form}"
        return self.base / kind / self.model / method / self.data_name(combination) / leaf

    def made(self, combination: Combination) -> Path:
        """The folder of a vector or weights."""
        return self._below("vectors", combination)

    def texts(self, combination: Combination, m: float) -> Path:
        """The folder of the texts at a coefficient."""
        return self._below("generation", combination) / f"m{m}"

    def results(self, combination: Combination, m: float) -> Path:
        """The file of those texts."""
        return self.texts(combination, m) / f"{self.data_name(combination)}_results.json"

    def losses(self, combination: Combination, m: float) -> tuple[Path, ...]:
        """The folders of the losses at a coefficient: EasyEdit has one for each side."""
        if self.foreign:
            return tuple(self._loss_folders(combination, m).values())
        return (self._below("losses", combination) / f"m{m}",)

    def exports(self, combination: Combination) -> Path:
        """The folder of files for other tools."""
        return self._below("exports", combination)

    def _loss_folders(self, combination: Combination, m: float) -> dict[str, Path]:
        method, form = self._method(combination), combination.form
        above = self.base / "vectors" / self.model / "get_sft_loss" / method
        above = above / self.data_name(combination) / f"{method}_{form}"
        return {side: above / f"{form}_{method}_m{m}_{side}" for side in LOSS_SIDES}

    # ---- vectors and weights --------------------------------------------------------------------

    def lacks(self, combination: Combination) -> str | None:
        """Why there is no vector, or weights, of a combination to use; None where there is. What
        lay there before a making that was not finished is not used in its place."""
        own, place = self.made(combination), self._place(combination)
        for folder in (own, place):
            if unfinished(folder):
                return (
                    f"the making of what {str(folder)!r} is to hold was begun and not finished: "
                    "finish it (--mode generate)"
                )
        there = easyedit.known_layers(place) if self.foreign else (place / OWN_FILE).is_file()
        return None if there else f"nothing was made in {str(own)!r}"

    def save(self, result: Trained, combination: Combination, concept: str) -> list[Path]:
        """Write what was made in place of what is there; returns the files."""
        folder = self.made(combination)
        if not self.foreign:
            result.save(folder / OWN_FILE)
            return [folder / OWN_FILE]
        return easyedit.save_layers(
            result, folder, concept=concept, concept_id=combination.concept or 0
        )

    def load(self, combination: Combination, concept_id: int = 0) -> Trained:
        """Read what is there, of this package's making or not; `concept_id` is for files of
        several. Raises FileNotFoundError, and ValueError for a file that cannot be read."""
        folder, form = self._place(combination), combination.form
        if self.foreign:
            number = concept_id if combination.concept is None else combination.concept
            return easyedit.load_layers(folder, form, concept_id=number, model=self.model)
        path = folder / OWN_FILE
        if form == "vector":
            return files.load(path)
        return (LoRA if form == "lora" else LocalWeight).load(path)

    def _place(self, combination: Combination) -> Path:
        """Where what was made is: in its folder, or for a concept in EasyEdit's other one, with all
        concepts in each file."""
        folder = self.made(combination)
        if not self.foreign or combination.concept is None or easyedit.known_layers(folder):
            return folder
        stacked = self.made(Combination(combination.method, combination.form))
        return stacked if easyedit.known_layers(stacked) else folder

    # ---- losses ---------------------------------------------------------------------------------

    def save_losses(self, frame: pd.DataFrame, combination: Combination, m: float) -> list[Path]:
        """Write the losses at one coefficient in place of what is there; returns the files.

        frame  rows of `odds` at that coefficient, one for each pair
        """
        if not self.foreign:
            path = self.losses(combination, m)[0] / "losses.csv"
            write_atomically(path, frame.to_csv(index=False).encode())
            return [path]
        written = []
        for side, folder in self._loss_folders(combination, m).items():
            which = LOSS_SIDES[side]
            per_token = frame[f"loss_{which}"] / frame[f"tokens_{which}"]
            easyedit.save_losses(per_token.tolist(), m, folder / "train_losses.csv")
            log = (
                f"{combination}, m {m}, {side}: one step a pair, inference only\n"
                f"steer_loss: mean {per_token.mean():.6f} nats a token over {len(frame)} pairs; "
                f"unsteered {(frame[f'unsteered_{which}'] / frame[f'tokens_{which}']).mean():.6f}\n"
            )
            write_atomically(folder / "train.log", log.encode())
            written += [folder / "train_losses.csv", folder / "train.log"]
        return written


def raw(result: Trained, m: float):
    """The interventions of a result at coefficient m, at all of its layers; a vector's in its own
    length, as it was trained."""
    if isinstance(result, SteeringVector):
        return result.at(m, unit="raw", layers=result.layers)
    return result.at(m)
