"""What an intervention does inside a model: data and pure tensor maths, no models.

    h' = u(h, m, x)     an update u, here  h + m v  for a steering vector v; see weight_updates.py
                        for  h + m (dW x + db), with x what the site reads
    m  = coefficient    per row, and per step: 0 is the prompt pass, 1, 2, … the decoding steps

A coefficient of 0 leaves a token exactly as it was, whatever the update; that is also how
positions work, so padding and untouched tokens come back as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from workbench.text.positions import Positions, check_positions, everything, only_read

Coefficient: TypeAlias = float | Tensor | Callable[[int], float | Tensor]

# Where an update reads and writes. "residual": it reads and writes the residual stream after a
# block. "heads": it reads and writes what the attention's output projection reads, all heads side
# by side (…, H d). "attention": it reads the same, and writes the output (…, D) of that projection.
# "mlp": it reads the input of the block's MLP down-projection (…, I) and writes its output (…, D).
# Both outputs are those before any norm that follows: there m (dW x + db) is a change of the
# weights themselves. "attention_write", "mlp_write": it reads and writes what is added to the
# residual stream, after the norm that follows the output where there is one (Gemma-2, OLMo-2).
Site: TypeAlias = Literal["residual", "mlp", "attention", "heads", "attention_write", "mlp_write"]
# In the order in which a block passes them.
SITES: tuple[Site, ...] = (
    "heads",
    "attention",
    "attention_write",
    "mlp",
    "mlp_write",
    "residual",
)

# As a layer of the residual stream: the stream before the first block.
EMBEDDINGS = -1


class Place(NamedTuple):
    """A layer (0-based, or EMBEDDINGS) and a site in it."""

    layer: int
    site: Site = "residual"

    @property
    def order(self) -> tuple[int, int]:
        """What sorts places as a forward passes them."""
        return self.layer, SITES.index(self.site)

    @property
    def below(self) -> int:
        """The last block whose stream, before it is steered, is blind to what is written here; -1
        where there is none."""
        return self.layer - (self.site != "residual")


@dataclass(frozen=True)
class Origin:
    """The model that an update was made on: its name, and the sha256 of its config and weights.

    `kind` is what the update is called in a message, `forget` what makes it run on every model.
    """

    model: str
    fingerprint: str
    kind: str = "vector"
    forget: str = "dataclasses.replace(vector, fingerprint='')"

    def check(self, name: str, fingerprint: str) -> None:
        """Raise ValueError unless these are the weights of the model called `name`."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"this {self.kind} was made on {self.model!r} (weights {self.fingerprint[:12]}), "
                f"not on {name!r} (weights {fingerprint[:12]}); extract it again, or, to use it as "
                f"it is, let it forget its origin: {self.forget}"
            )


class Update(Protocol):
    """A map of what its site writes: `(hidden (B, T, D), scale (B, T, 1)) -> (B, T, D)`.

    `width` is the D that it was made for, None where any will do; `origin` the model that it was
    made on, None where that is not known.
    """

    @property
    def width(self) -> int | None: ...

    @property
    def origin(self) -> Origin | None: ...

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor: ...


class ReadingUpdate(Protocol):
    """An update that is also given what its site reads, of width I = `reads`:
    `(hidden (B, T, D), scale (B, T, 1), read (B, T, I)) -> (B, T, D)`."""

    @property
    def reads(self) -> int: ...
    @property
    def width(self) -> int | None: ...
    @property
    def origin(self) -> Origin | None: ...
    def __call__(self, hidden: Tensor, scale: Tensor, read: Tensor) -> Tensor: ...


AnyUpdate: TypeAlias = Update | ReadingUpdate


def held(update: Any) -> dict[str, Any]:
    """All that an update is made of, but for its origin: values by name, such as "direction".

    A dataclass in it is walked as well: its class's name by its own name, its values by their path,
    such as "update" and "update.direction" (`keep_norm.KeepNorm`).
    """
    found: dict[str, Any] = {}
    for name, value in vars(update).items():
        if isinstance(value, Origin):
            continue
        if is_dataclass(value) and not isinstance(value, type):
            found[name] = type(value).__name__
            found |= {f"{name}.{path}": each for path, each in held(value).items()}
        else:
            found[name] = value
    return found


@dataclass(frozen=True, eq=False)
class Add:
    """h + m v: adds a steering vector, direction (D,), scaled by the coefficient m.

    A run on another model than `origin` is refused; None, as of a tensor made by hand, runs on all.
    Raises ValueError for a direction that is not one finite vector.
    """

    direction: Tensor
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.direction.ndim != 1:
            raise ValueError(
                f"the direction has shape {tuple(self.direction.shape)}; give one vector (D,)"
            )
        if not torch.isfinite(self.direction).all():
            raise ValueError("the direction has values that are not finite numbers")

    def __repr__(self) -> str:
        return f"Add({self.width} wide, length {float(self.direction.detach().norm()):.4g})"

    @property
    def width(self) -> int:
        return self.direction.shape[0]

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        return hidden + (scale * self.direction.to(hidden.device, scale.dtype)).to(hidden.dtype)


@dataclass(frozen=True, eq=False)
class Function:
    """Any map (hidden, scale) -> hidden as an update, for every width and model."""

    map: Callable[[Tensor, Tensor], Tensor]
    width: None = None
    origin: None = None

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        return self.map(hidden, scale)


@dataclass(frozen=True, eq=False)
class Intervention:
    """One update at one layer: at a site of block `layer` (0-based), on the tokens of `positions`.

    The site is the block's output, the residual stream, its MLP's down-projection, or the input or
    output of its attention's output projection (see `Site`). The residual stream of layer
    EMBEDDINGS is that before the first block.
    The update may be a plain function (hidden, scale) -> hidden: it is then taken to fit any model.
    The coefficient is a number, a tensor with one number per batch row, or a function of the step
    that returns either. Raises ValueError for one that is not finite, for something that is no
    update, for an unknown site, and for positions that are no rule or can only be read, as
    `last_k`: the end of a text moves on while it is written.
    """

    layer: int
    update: AnyUpdate
    coefficient: Coefficient = 1.0
    positions: Positions = everything
    site: Site = "residual"

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise ValueError(f"site {self.site!r} is unknown; choose one of {', '.join(SITES)}")
        if not callable(self.update):
            given = (
                f"a tensor of shape {tuple(self.update.shape)}"
                if isinstance(self.update, Tensor)
                else repr(self.update)
            )
            raise ValueError(
                f"{given} is not an update; a steering vector gives its interventions by "
                "vector.at(coefficient), a tensor is added by Add(tensor) "
                "(from workbench.interventions.updates import Add)"
            )
        if not hasattr(self.update, "width"):
            function: Any = self.update
            object.__setattr__(self, "update", Function(function))
        check_positions(self.positions)
        why = only_read(self.positions)
        if why:
            raise ValueError(
                f"{self.positions!r} is for reading: {why}; steer `last` (the last prompt token), "
                "`prompt` or `generated`"
            )
        if not callable(self.coefficient):
            per_row(self.coefficient)

    def __repr__(self) -> str:
        strength: object = self.coefficient
        if callable(strength):
            strength = "by step"
        elif isinstance(strength, Tensor) and strength.ndim:
            strength = f"of {len(strength)} rows"
        return (
            f"Intervention(layer {self.layer}, {self.site}, {type(self.update).__name__}, "
            f"coefficient {strength}, on {self.positions!r})"
        )


def per_row(coefficient: float | Tensor) -> Tensor:
    """A coefficient as a () or (B,) float32 tensor (float64 if it was given so).

    Raises ValueError for NaN, infinity, or more than one dimension.
    """
    values = None
    with suppress(TypeError, ValueError, RuntimeError):
        values = torch.as_tensor(coefficient).detach()
    if values is None or values.dtype == torch.bool or values.is_complex():
        raise ValueError(
            f"the coefficient {coefficient!r} is not a number; give one number, one per row (B,), "
            "or a function of the step"
        )
    if values.dtype != torch.float64:
        values = values.float()
    if not torch.isfinite(values).all():
        raise ValueError(f"the coefficient {coefficient!r} is not finite; give finite numbers")
    if values.ndim > 1:
        raise ValueError(
            f"the coefficient has shape {tuple(values.shape)}; give one number, or one per row (B,)"
        )
    return values


def schedule(coefficient: Coefficient, rows: int, steps: int) -> Tensor:
    """The coefficient of every row at steps 0 … steps - 1, (rows, steps).

    A function of the step is evaluated here, once for each step, before any work starts.
    Raises ValueError where its values are not finite or there is not one per row.
    """
    if not callable(coefficient):
        return _fit(coefficient, rows)[:, None].expand(rows, steps)
    return torch.stack([_fit(coefficient(step), rows) for step in range(steps)], dim=1)


def _fit(coefficient: float | Tensor, rows: int) -> Tensor:
    values = per_row(coefficient)
    if values.ndim == 1 and len(values) not in (1, rows):
        raise ValueError(
            f"{len(values)} coefficients for a batch of {rows} rows; give one number, "
            "or one per row"
        )
    return values.expand(rows)


def scales(coefficient: Coefficient, touched: Tensor, starts: Tensor) -> Tensor:
    """What each token's update is scaled by: (B, W), 0 where it is not touched.

    touched  (B, W) bool, the tokens that are touched, those still to be generated included
    starts   (B,) long, the first completion column: columns before it are step 0, and the k-th
             completion token, k = 1, 2, …, is the input of step k

    A function of the step is asked for steps 0 … the last one at which a token is touched.
    """
    rows, width = touched.shape
    columns = torch.arange(width, device=touched.device)
    step = (columns - starts.to(touched.device)[:, None] + 1).clamp_min(0)  # (B, W)
    if not callable(coefficient):
        values = _fit(coefficient, rows).to(touched.device)[:, None]
    else:
        final = int(step.masked_fill(~touched, 0).max())
        table = schedule(coefficient, rows, final + 1).to(touched.device)
        values = table.gather(1, step.clamp_max(final))
    return torch.where(touched, values, torch.zeros((), dtype=values.dtype, device=values.device))


def steer(
    hidden: Tensor, updates: list[tuple[AnyUpdate, Tensor]], read: Tensor | None = None
) -> Tensor:
    """What a site writes, (B, T, D), after its updates, in order.

    Each comes with its scale (B, T). Where the scale is 0 the stream is returned as it was: some
    updates would only reach that by rounding. `read` (B, T, I) is what the site reads, by default
    what it writes.
    """
    for update, scale in updates:
        weight = scale.to(hidden.device)[..., None]  # (B, T, 1)
        given = () if reads(update) is None else (hidden if read is None else read,)
        apply: Callable[..., Tensor] = update
        changed = apply(hidden, weight, *given)
        # 0 times a finite vector adds nothing: what most runs steer with needs no second pass.
        exact = isinstance(update, Add)
        hidden = changed if exact else torch.where(weight == 0, hidden, changed)
    return hidden


def reads(update: AnyUpdate) -> int | None:
    """The width of what an update reads beside what it changes; None where it reads nothing."""
    return getattr(update, "reads", None)
