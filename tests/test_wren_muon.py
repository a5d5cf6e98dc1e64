"""The optimizer of wren's matrices against PyTorch's own, which computes in bfloat16."""

from __future__ import annotations

import pytest
import torch

from workbench.wren import muon
from workbench.wren.muon import Muon, orthogonalized

SHAPES = [(24, 24), (40, 24), (24, 40), (24, 24)]


def stepped(optimizer: torch.optim.Optimizer, steps: int) -> None:
    noise = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for matrix in optimizer.param_groups[0]["params"]:
            matrix.grad = torch.randn(matrix.shape, generator=noise)
        optimizer.step()


@pytest.mark.parametrize("arithmetic", [torch.bfloat16, torch.float32])
def test_its_steps_are_those_of_torch(
    arithmetic: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "ARITHMETIC", arithmetic)
    settings = {"lr": 0.02, "weight_decay": 0.01, "momentum": 0.95}
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    theirs, ours = ([torch.nn.Parameter(m.clone()) for m in start] for _ in range(2))
    stepped(torch.optim.Muon(theirs, **settings), 3)
    stepped(Muon(ours, **settings), 3)
    for before, true, got in zip(start, theirs, ours, strict=True):
        assert float((true - before).norm()) > 0.1
        assert float((true - got).detach().norm()) < 0.02 * float((true - before).detach().norm())


def test_updates_are_nearly_orthogonal() -> None:
    torch.manual_seed(2)
    for shape in SHAPES:
        values = torch.linalg.svdvals(orthogonalized(torch.randn(2, *shape)).float())
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.3


def test_a_matrix_without_gradient_stays() -> None:
    still, moved = (torch.nn.Parameter(torch.eye(3)) for _ in range(2))
    moved.grad = torch.ones(3, 3)
    Muon([still, moved], lr=0.1, weight_decay=0.1, momentum=0.9).step()
    assert torch.equal(still, torch.eye(3))
    assert not torch.equal(moved, torch.eye(3))
