"""Moving streams towards ordinary text, as far as needed: an update, no texts.

A stream a is moved on a path towards the likeliest one with the same projection on an axis w,

    b = μ + (w'a - w'μ) c,  c = C w / w'C w

until its distance is within a bound. In their own length the path is straight, b + t (a - b). At
unit length it bends so that the length is kept too: α w + β u(t), with α = w'a, u(t) the direction
across w of the straight path's point, β what the length leaves; its end is then not quite the
likeliest. Either way the projection is exactly what it was. Where the path's end, too, lies beyond
the bound, the stream goes there if that is nearer, and stays otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from workbench.forward.streaming import as_stream
from workbench.interventions.updates import Origin
from workbench.statistics.distributions import precise
from workbench.statistics.estimates import Principal

# Of a path: a part in a million is found by so many halves.
_HALVINGS = 20


@dataclass(frozen=True, eq=False)
class Cloud:
    """A `Principal` in tensors: mean (D,), components (k, D), variances (k,), and σ², 0 where the
    components span everything."""

    mean: Tensor
    components: Tensor
    variances: Tensor
    residual: float

    @classmethod
    def of(cls, made: Principal) -> Cloud:
        whole = made.rank == len(made.mean)
        tensors = (
            torch.from_numpy(values.copy()).float()
            for values in (made.mean, made.components, made.variances)
        )
        return cls(*tensors, residual=0.0 if whole else made.residual)

    def to(self, device: torch.device, dtype: torch.dtype) -> Cloud:
        if (self.mean.device, self.mean.dtype) == (device, dtype):
            return self
        moved = (each.to(device, dtype) for each in (self.mean, self.components, self.variances))
        return Cloud(*moved, residual=self.residual)

    def times(self, vectors: Tensor) -> Tensor:
        """C v of each row (…, D)."""
        return self._scaled(vectors, self.variances, self.residual)

    def divided(self, vectors: Tensor) -> Tensor:
        """C⁻¹ v of each row (…, D)."""
        return self._scaled(vectors, 1 / self.variances, 1 / self.residual if self.residual else 0)

    def _scaled(self, vectors: Tensor, within: Tensor, outside: float) -> Tensor:
        components = self.components.to(vectors.dtype)
        inner = vectors @ components.T
        found = (inner * within.to(vectors.dtype)) @ components
        return found + outside * (vectors - inner @ components) if outside else found


@dataclass(frozen=True, eq=False)
class PullBack:
    """Streams that lie beyond a distance of the manifold, moved to within it; see above. The others
    are left as they are, bit for bit; the scale only says whether a token is touched.

    direction  (D,) the axis on which the projection is kept
    reach      the bound, in the distance of the cloud
    unit       whether distances are of streams at unit length (times √D)
    """

    direction: Tensor
    cloud: Cloud
    reach: float
    unit: bool
    origin: Origin | None = None

    @property
    def width(self) -> int:
        return self.direction.shape[0]

    def __post_init__(self) -> None:
        if not float(self.direction.norm()) > 0:
            raise ValueError("the direction has no length: there is no projection to keep")

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        path = _Path.of(precise(hidden), self.direction, self.cloud, self.unit)
        bound = self.reach**2
        low, high = torch.zeros_like(path.along), torch.ones_like(path.along)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            within = path.squared(middle) <= bound
            low, high = torch.where(within, middle, low), torch.where(within, high, middle)
        before = path.squared(torch.ones_like(low))
        move = (before > bound) & (path.squared(low) < before)
        return torch.where(move[..., None], path.at(low).to(hidden.dtype), hidden)


class _Path(NamedTuple):
    """The path of each stream (…): points are sums of the stream and of three fixed vectors, so
    that distances along it need no more than their products.

    fixed   (3, D) the axis w, the mean μ, and c
    inner   (…, 3) products of the stream with the fixed ones, `metric` the same under C⁻¹
    among, squares  products of the fixed ones (3, 3), under C⁻¹; and of the stream (…,)
    plain   (3, 3) products of the fixed ones
    along   (…,) w'a - w'μ
    factor  (…, 1) by which streams are longer than they are looked at
    """

    looked: Tensor
    fixed: Tensor
    inner: Tensor
    metric: Tensor
    among: Tensor
    squares: Tensor
    plain: Tensor
    along: Tensor
    factor: Tensor
    unit: bool

    @classmethod
    def of(cls, hidden: Tensor, direction: Tensor, cloud: Cloud, unit: bool) -> _Path:
        looked, here = as_stream(hidden, unit), cloud.to(hidden.device, hidden.dtype)
        axis = torch.nn.functional.normalize(direction.to(hidden.device, hidden.dtype), dim=0)
        spread = here.times(axis)
        fixed = torch.stack([axis, here.mean, spread / (axis @ spread)])
        divided = here.divided(fixed)
        inner = looked @ fixed.T
        root = hidden.shape[-1] ** 0.5
        length = hidden.norm(dim=-1, keepdim=True)
        longer = length / root if unit else torch.ones_like(length)
        return cls(
            looked=looked,
            fixed=fixed,
            inner=inner,
            metric=looked @ divided.T,
            among=fixed @ divided.T,
            squares=(looked * here.divided(looked)).sum(-1),
            plain=fixed @ fixed.T,
            along=inner[..., 0] - axis @ here.mean,
            factor=longer,
            unit=unit,
        )

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the stream (…,) and of the fixed vectors (…, 3) a point is."""
        of_fixed = torch.stack([torch.zeros_like(t), 1 - t, (1 - t) * self.along], dim=-1)
        if not self.unit:
            return t, of_fixed
        alpha = self.inner[..., 0]
        length = self.looked.square().sum(-1)
        point = t**2 * length + 2 * t * (self.inner * of_fixed).sum(-1)
        point = point + ((of_fixed @ self.plain) * of_fixed).sum(-1)
        across = point - alpha**2
        across = across.clamp_min(torch.finfo(t.dtype).eps * length.clamp_min(1e-12))
        stretch = ((length - alpha**2).clamp_min(0) / across).sqrt()
        of_fixed = stretch[..., None] * of_fixed
        of_fixed[..., 0] = alpha * (1 - stretch)
        return stretch * t, of_fixed

    def squared(self, t: Tensor) -> Tensor:
        """d² of the points, (…,)."""
        own, fixed = self.weights(t)
        fixed = fixed - torch.tensor([0, 1, 0], dtype=fixed.dtype, device=fixed.device)
        cross = 2 * own * (self.metric * fixed).sum(-1)
        return own**2 * self.squares + cross + ((fixed @ self.among) * fixed).sum(-1)

    def at(self, t: Tensor) -> Tensor:
        """The points, as long as streams are, (…, D)."""
        own, fixed = self.weights(t)
        return self.factor * (own[..., None] * self.looked + fixed @ self.fixed)
