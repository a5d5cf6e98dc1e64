"""A device that is asked for by name, looked at before anything is loaded onto it."""

from __future__ import annotations


def check_device(name: str | None) -> None:
    """Raises ValueError for a device that is not here, or none at all."""
    if name is None:
        return
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"device {name!r} cannot be used ({why}); give another, such as cpu"
        ) from None
