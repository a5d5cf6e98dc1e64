"""A steering vector for a colleague: the file, a card of what it does, and proof that it does so.

    shared = share(lm, vector, ceiling=find_ceiling(frame))      shared.push_to_hub("me/mood")
    SharedVector.from_pretrained("me/mood").verify(lm)           on the colleague's machine

A vector is only as good as what surrounds it: the weights and their dtype, the chat template, the
tokenizer, the tokens it is added at, and how much of it. The card holds all of these, and eight
texts that were written greedily under it, which `verify` writes again. Where the model has a chat
template the eight prompts are chats, so that the template is part of what is tried.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.generation.generate import generate
from workbench.interventions.updates import Intervention
from workbench.keeping.shared_card import found, readme
from workbench.keeping.shared_card_check import FORMAT, TEXTS, check_card
from workbench.keeping.shared_folder import CARD, README, VECTOR, find_folder
from workbench.keeping.shared_replay import (
    Replay,
    attention_kernel,
    stored_scores,
    template_hash,
    tokenizer_hash,
    verify_card,
)
from workbench.loading.hub import push_folder
from workbench.support.checks import number
from workbench.support.store import write_folder
from workbench.support.versions import versions
from workbench.sweeps.planning import added_hash
from workbench.text import positions as rules
from workbench.text.positions import Positions, everything
from workbench.text.tokens import Prompt
from workbench.vectors import files
from workbench.vectors.formats import save_gguf
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM
    from workbench.sweeps.marks import Ceiling

CONTROL = "vector.gguf"
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
PROMPTS = (
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

    card   JSON values: model, fingerprint, dtype, device, attention, template, tokenizer,
           positions, layers, coefficient, unit, ceiling, generations, about, versions
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
        """Write vector.safetensors, card.json and README.md into a new folder, and vector.gguf
        where llama.cpp can do the same.

        Raises FileExistsError for a folder that holds something, and OSError (a full disk, say);
        nothing half-written is left.
        """

        def write(place: Path) -> None:
            files.save(self.vector, place / VECTOR)
            control = self.control
            if control is not None:
                save_gguf(control, place / CONTROL)
            (place / CARD).write_text(json.dumps(self.card, indent=1), encoding="utf-8")
            (place / README).write_text(readme(self.card), encoding="utf-8")

        return write_folder(Path(folder).expanduser(), write)

    @property
    def control(self) -> SteeringVector | None:
        """What llama.cpp adds at strength 1: the card's layers alone, each times its coefficient.

        llama.cpp adds every direction of a file to every token, direction k to what block k gives
        out, and takes none for block 0 (its `common/common.cpp`): None where that is no copy.
        """
        if self.card["positions"] != repr(everything) or 0 in self.card["layers"]:
            return None
        added: dict[int, Any] = {each.layer: each for each in self.at()}
        directions = {k: each.update.direction * each.coefficient for k, each in added.items()}
        layer = self.vector.layer if self.vector.layer in added else min(added)
        return replace(self.vector, directions=directions, layer=layer, separation=None)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes by the hub's own client; the address of the commit.

        Raises as the client does, and ValueError for a repository that is public already unless
        `private` is False.
        """
        return push_folder(self.save_pretrained, repo_id, private, token, (CONTROL,))

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

        Raises FileNotFoundError where there is none, or no network to look for it, ValueError for
        files that are damaged or do not belong together.
        """
        folder = find_folder(str(name_or_folder), revision, token)
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"no shared vector in {str(folder)!r}: no {CARD}") from None
        except ValueError as error:
            raise ValueError(f"{str(folder / CARD)!r} is damaged: {error}") from None
        vector = files.load(folder / VECTOR)
        check_card(card, vector, NAMED, str(folder))
        return cls(vector, card)


def share(
    lm: LM,
    vector: SteeringVector,
    coefficient: float | None = None,
    *,
    ceiling: Ceiling | None = None,
    layers: Sequence[int] | None = None,
    positions: Positions = everything,
    prompts: Sequence[Prompt] | None = None,
    new_tokens: int = 32,
) -> SharedVector:
    """A vector with a card, for others: eight texts are written under it, and kept.

    coefficient  what it is used at, in the ceiling's unit or residual norms; by default what the
                 ceiling recommends on the positive side, and only then called recommended
    ceiling      of `find_ceiling`, from a sweep of this vector on the same model, layers and
                 positions
    layers       where it acts: its own layer by default
    positions    `everything`, `prompt`, `generated`, `last`, `assistant` or `content`
    prompts      eight texts or chats that are continued; ours are chats where there is a template

    Raises ValueError before any work for no coefficient, positions of another kind, another number
    of prompts, a vector that does not belong to the model, a ceiling of another sweep, and an
    edited model, which no colleague could load.
    """
    if lm.edits:
        raise ValueError(
            f"{lm!r} is edited, and a card can name no edits: share the vector on the model as it "
            "is loaded, or bake the edits and load what was baked"
        )
    vector.check(lm)
    if repr(positions) not in NAMED:
        raise ValueError(f"positions {positions!r}: a card can say one of {', '.join(NAMED)}")
    template = template_hash(lm.tokenizer)
    if prompts is None:
        chats = [[{"role": "user", "content": text}] for text in PROMPTS]
        prompts = chats if template else PROMPTS
    if len(prompts) != TEXTS:
        raise ValueError(f"{len(prompts)} prompts; give {TEXTS}")
    recommended = coefficient is None
    if coefficient is None and ceiling is not None:
        coefficient = ceiling[1].recommended.value
    elif coefficient is None:
        raise ValueError(
            "nothing says how much of the vector is to be used: give coefficient=, or "
            "ceiling=find_ceiling(frame) of a sweep of it"
        )
    size = number(coefficient)
    if not math.isfinite(size) or size == 0:
        raise ValueError(
            f"the coefficient {coefficient!r} is not recommended by the ceiling, or no number but "
            "0; say which one the vector is to be used at"
        )
    norms_known = all(vector.residual_norm.get(k, 0) > 0 for k in layers or vector.default_layers)
    unit = ceiling.unit if ceiling is not None else "norm" if norms_known else "raw"
    where = [int(k) for k in layers or vector.default_layers]
    if ceiling is not None:
        _check_ceiling(ceiling, lm, vector, where, positions, unit)
    card: dict[str, Any] = {
        "format": FORMAT,
        "sha256": vector.sha256,
        "model": lm.name,
        "fingerprint": lm.fingerprint,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "device": lm.device.type,
        "attention": attention_kernel(lm),
        "template": template,
        "tokenizer": tokenizer_hash(lm.tokenizer),
        "positions": repr(positions),
        "layers": where,
        "coefficient": size,
        "unit": unit,
        "recommended": recommended,
        "ceiling": None if ceiling is None else found(ceiling),
        "method": vector.method,
        "about": json.loads(json.dumps(dict(vector.provenance), default=str)),
        "versions": versions(),
    }
    steered = SharedVector(vector, card).at()
    made = generate(lm, prompts, steered, new_tokens=new_tokens, score=False)
    unsteered = generate(lm, prompts, new_tokens=new_tokens, score=False)
    ids = [made.ids[row, :length].tolist() for row, length in enumerate(made.lengths.tolist())]
    # Scored as `verify` scores them, in one pass: in half precision decoding rounds otherwise.
    scores = stored_scores(lm, prompts, ids, steered)
    card["generations"] = [
        {
            "prompt": prompt if isinstance(prompt, str) else [dict(each) for each in prompt],
            "ids": ids[row],
            **{
                name: [round(p, 6) for p in values[row].tolist()] for name, values in scores.items()
            },
            "text": made.texts[row],
            "unsteered": unsteered.texts[row],
            "new_tokens": new_tokens,
        }
        for row, prompt in enumerate(prompts)
    ]
    return SharedVector(vector, card)


def _check_ceiling(
    ceiling: Ceiling,
    lm: LM,
    vector: SteeringVector,
    layers: Sequence[int],
    positions: Positions,
    unit: Any,
) -> None:
    """Raise ValueError for a ceiling that was not found on just this."""
    added = added_hash(vector.at(1.0, layers=layers, unit=unit))
    here = {
        "fingerprint": lm.fingerprint,
        "layers": list(layers),
        "positions": repr(positions),
        "vectors": added,
    }
    swept = {name: ceiling.swept.get(name) for name in here}
    swept["vectors"] = (swept["vectors"] or {}).get("vector")
    for name, value in here.items():
        if swept[name] != value:
            raise ValueError(
                f"the ceiling is of another sweep: its {name} {swept[name]!r}, here {value!r}; "
                "give find_ceiling(sweep(lm, vector, ..., layers=..., positions=...)) of what is "
                "shared"
            )
