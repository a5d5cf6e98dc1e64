"""A steering vector for a colleague: the file, a card of what it does, and proof that it does so.

    shared = share(lm, vector, ceiling=find_ceiling(frame))      shared.push_to_hub("me/mood")
    SharedVector.from_pretrained("me/mood").verify(lm)           on the colleague's machine

A vector is only as good as what surrounds it: the weights and their dtype, the chat template, the
tokenizer, the tokens it is added at, and how much of it. The card holds all of these, and eight
texts that were written greedily under it, which `verify` writes again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download

from workbench import files, hub
from workbench import positions as rules
from workbench.baked import push_folder, write_folder
from workbench.checks import number
from workbench.formats import save_gguf
from workbench.generate import generate
from workbench.positions import Positions, everything
from workbench.replay import Replay, template_hash, tokenizer_hash, verify_card
from workbench.shared_card import estimates, readme
from workbench.store import tensors_hash
from workbench.tokens import Prompt
from workbench.updates import Intervention
from workbench.vectors import SteeringVector
from workbench.versions import versions

if TYPE_CHECKING:
    from workbench.marks import Ceiling
    from workbench.models import LM

FORMAT = "workbench.shared/1"
VECTOR, CARD, README, CONTROL = "vector.safetensors", "card.json", "README.md", "vector.gguf"
# Rules that a name says whole.
_RULES = (
    rules.everything,
    rules.prompt,
    rules.generated,
    rules.last,
    rules.assistant,
    rules.content,
)
NAMED = {rule.name: rule for rule in _RULES}
PROMPTS: tuple[Prompt, ...] = (
    "The weather today is",
    "Once upon a time there was",
    "My favourite food is",
    "I went to the doctor because",
    "The most important thing in life is",
    "She opened the letter and",
    "How do I learn to swim?",
    "The meeting began with",
)


@dataclass(frozen=True, eq=False)
class SharedVector:
    """A vector with its card; `share` makes it.

    card   JSON values: model, fingerprint, dtype, template, tokenizer, positions, layers,
           coefficient, unit, marks, generations, about, versions
    """

    vector: SteeringVector
    card: Mapping[str, Any] = field(repr=False)

    def at(self, coefficient: float | None = None) -> tuple[Intervention, ...]:
        """Its interventions as the card says: where, at which tokens, how much (or as given)."""
        size = self.card["coefficient"] if coefficient is None else coefficient
        return self.vector.at(
            size,
            layers=self.card["layers"],
            positions=NAMED[self.card["positions"]],
            unit=self.card["unit"],
        )

    def verify(self, lm: LM) -> Replay:
        """Whether it does on this machine what its card says: its texts are written again.

        Raises ValueError for a model of another width or depth.
        """
        self.vector.check(lm, same_model=False)
        # Other weights are told, not refused: the same ones in another dtype are other weights.
        free = replace(self, vector=replace(self.vector, fingerprint=""))
        return verify_card(lm, self.card, free.at())

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write vector.safetensors, card.json, README.md and vector.gguf into a new folder.

        Raises FileExistsError for a folder that holds something, and OSError (a full disk, say);
        nothing half-written is left.
        """

        def write(place: Path) -> None:
            files.save(self.vector, place / VECTOR)
            save_gguf(self.vector, place / CONTROL)
            (place / CARD).write_text(json.dumps(self.card, indent=1), encoding="utf-8")
            (place / README).write_text(readme(self.card), encoding="utf-8")

        return write_folder(Path(folder), write)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes by the hub's own client; the address of the commit.

        Raises as the client does.
        """
        return push_folder(self.save_pretrained, repo_id, private, token)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> SharedVector:
        """Read a folder, or a repository of the hub, this machine's copy first; nothing in it is
        run.

        Raises FileNotFoundError where there is none and no network to look for it, ValueError for
        files that are damaged or do not belong together.
        """
        folder = _folder(str(name_or_folder), revision, token)
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"no shared vector in {str(folder)!r}: no {CARD}") from None
        except ValueError as error:
            raise ValueError(f"{str(folder / CARD)!r} is damaged: {error}") from None
        vector = files.load(folder / VECTOR)
        _check_card(card, vector, str(folder))
        return cls(vector, card)


def share(
    lm: LM,
    vector: SteeringVector,
    coefficient: float | None = None,
    *,
    ceiling: Ceiling | None = None,
    layers: Sequence[int] | None = None,
    positions: Positions = everything,
    prompts: Sequence[Prompt] = PROMPTS,
    new_tokens: int = 32,
) -> SharedVector:
    """A vector with a card, for others: eight texts are written under it, and kept.

    coefficient  what it is recommended at, in the ceiling's unit or residual norms; by default the
                 ceiling's recommended one of the positive side
    ceiling      of `find_ceiling`, from a sweep on the same layers and positions
    layers       where it acts: its own layer by default
    positions    `everything`, `prompt`, `generated`, `last`, `assistant` or `content`
    prompts      eight texts or chats that are continued

    Raises ValueError before any work for no coefficient, positions of another kind, another number
    of prompts, and a vector that does not belong to the model.
    """
    vector.check(lm)
    if repr(positions) not in NAMED:
        raise ValueError(f"positions {positions!r}: a card can say one of {', '.join(NAMED)}")
    if len(prompts) != len(PROMPTS):
        raise ValueError(f"{len(prompts)} prompts; give {len(PROMPTS)}")
    if coefficient is None and ceiling is not None:
        coefficient = ceiling[1].recommended.value
    size = number(coefficient)
    if not math.isfinite(size) or size == 0:
        raise ValueError(
            f"the coefficient {coefficient!r} is not recommended by the ceiling, or no number but "
            "0; say which one the vector is to be used at"
        )
    norms_known = all(vector.residual_norm.get(k, 0) > 0 for k in layers or vector.default_layers)
    unit = ceiling.unit if ceiling is not None else "norm" if norms_known else "raw"
    card: dict[str, Any] = {
        "format": FORMAT,
        "sha256": tensors_hash({str(k): v for k, v in vector.directions.items()}),
        "model": lm.name,
        "fingerprint": lm.fingerprint,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "template": template_hash(lm.tokenizer),
        "tokenizer": tokenizer_hash(lm.tokenizer),
        "positions": repr(positions),
        "layers": [int(k) for k in layers or vector.default_layers],
        "coefficient": size,
        "unit": unit,
        "marks": [] if ceiling is None else estimates(ceiling),
        "method": vector.method,
        "about": json.loads(json.dumps(dict(vector.provenance), default=str)),
        "versions": versions(),
    }
    made = generate(lm, prompts, SharedVector(vector, card).at(), new_tokens=new_tokens)
    unsteered = generate(lm, prompts, new_tokens=new_tokens, score=False)
    card["generations"] = [
        {
            "prompt": prompt if isinstance(prompt, str) else [dict(each) for each in prompt],
            "ids": made.ids[row, :length].tolist(),
            "logprobs": [round(p, 6) for p in made.logprobs_steered[row, :length].tolist()],
            "text": made.texts[row],
            "unsteered": unsteered.texts[row],
            "new_tokens": new_tokens,
        }
        for row, (prompt, length) in enumerate(zip(prompts, made.lengths.tolist(), strict=True))
    ]
    return SharedVector(vector, card)


def _folder(name: str, revision: str | None, token: str | None) -> Path:
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    wanted = [VECTOR, CARD, README]
    cached = hub.cached_folder(name, CARD, revision) if name.count("/") <= 1 else None
    if cached is not None and (cached / VECTOR).is_file():
        return cached
    hub.require_connection(name)
    return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=wanted))


def _check_card(card: Any, vector: SteeringVector, where: str) -> None:
    """Raise ValueError for a card that `share` did not write, or that is of another vector."""
    if not isinstance(card, Mapping) or card.get("format") != FORMAT:
        raise ValueError(
            f"{where!r} holds no vector that `share` wrote (its card is of another kind)"
        )
    own = tensors_hash({str(k): v for k, v in vector.directions.items()})
    if card.get("sha256") != own:
        raise ValueError(f"the card in {where!r} belongs to another vector than lies beside it")
    try:
        kept = card["generations"]
        sound = (
            card["positions"] in NAMED
            and math.isfinite(number(card["coefficient"]))
            and card["unit"] in vector.units
            and all(layer in vector.directions for layer in card["layers"])
            and all(isinstance(each["prompt"], str | list) for each in kept)
            and all(isinstance(i, int) for each in kept for i in each["ids"])
            and all(len(each["logprobs"]) == len(each["ids"]) > 0 for each in kept)
            and {"dtype", "template", "tokenizer", "fingerprint", "versions"} <= set(card)
        )
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"the card in {where!r} is damaged")
