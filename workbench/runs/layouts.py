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

from workbench import easyedit, files
from workbench.forms import LocalWeight, LoRA
from workbench.runs.options import Combination
from workbench.store import write_atomically
from workbench.trained import Trained
from workbench.vectors import SteeringVector

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

    def losses(self, combination: Combination, m: float) -> Path:
        """The folder of the losses at a coefficient; EasyEdit's of the winning side."""
        if self.foreign:
            return self._loss_folders(combination, m)["winning_only"]
        return self._below("losses", combination) / f"m{m}"

    def exports(self, combination: Combination) -> Path:
        """The folder of files for other tools."""
        return self._below("exports", combination)

    def _loss_folders(self, combination: Combination, m: float) -> dict[str, Path]:
        method, form = self._method(combination), combination.form
        above = self.base / "vectors" / self.model / "get_sft_loss" / method
        above = above / self.data_name(combination) / f"{method}_{form}"
        return {side: above / f"{form}_{method}_m{m}_{side}" for side in LOSS_SIDES}

    # ---- vectors and weights --------------------------------------------------------------------

    def has(self, combination: Combination) -> bool:
        """Whether there is a vector, or weights, of a combination."""
        folder = self.made(combination)
        if self.foreign:
            return bool(easyedit.known_layers(folder) or self._stacked(combination))
        return (folder / OWN_FILE).is_file()

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
        folder, form = self.made(combination), combination.form
        if self.foreign:
            number = concept_id if combination.concept is None else combination.concept
            if not easyedit.known_layers(folder):
                folder = self._stacked(combination) or folder
            return easyedit.load_layers(folder, form, concept_id=number, model=self.model)
        path = folder / OWN_FILE
        if form == "vector":
            return files.load(path)
        return (LoRA if form == "lora" else LocalWeight).load(path)

    def _stacked(self, combination: Combination) -> Path | None:
        """EasyEdit's other place for concepts: one folder with all of them in each file."""
        if combination.concept is None:
            return None
        folder = self.made(Combination(combination.method, combination.form))
        return folder if easyedit.known_layers(folder) else None

    # ---- losses ---------------------------------------------------------------------------------

    def save_losses(self, frame: pd.DataFrame, combination: Combination, m: float) -> list[Path]:
        """Write the losses at one coefficient in place of what is there; returns the files.

        frame  rows of `odds` at that coefficient, one for each pair
        """
        if not self.foreign:
            path = self.losses(combination, m) / "losses.csv"
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
