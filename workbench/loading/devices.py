"""A device that is asked for by name, looked at before anything is loaded onto it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def check_device(device: str | torch.device | None) -> None:
    """Raise ValueError, naming those there are, for a device that is not here, or none at all."""
    if device is None:
        return
    import torch  # takes seconds, and a command line's help needs no device

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0].partition(": ")[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({why}); give one of {', '.join(_here())}"
        ) from None


def _here() -> list[str]:
    import torch

    found = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    return [*found, "mps"] if torch.backends.mps.is_available() else found
