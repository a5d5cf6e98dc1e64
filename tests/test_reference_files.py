"""A reference comes back from its file as it was; a damaged or foreign file is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import SENTENCES

from workbench.forward import reference_files
from workbench.forward.reference import Reference, collect
from workbench.geometry.manifold import estimate
from workbench.loading.models import LM
from workbench.support.store import save_tensors


@pytest.fixture(scope="module")
def found(tiny: LM) -> Reference:
    return collect(tiny, [*SENTENCES] * 3, [0, 2], sample=50, progress=False)


def test_a_reference_comes_back_as_it_was(found: Reference, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "reference.safetensors"
    reference_files.save(found, path)
    again = reference_files.load(path)
    assert again.layers == (0, 2)
    assert (again.unit, again.skip, again.rule) == (found.unit, found.skip, found.rule)
    assert dict(again.provenance) == dict(found.provenance)
    pd.testing.assert_frame_equal(again.lengths, found.lengths)
    for layer in found.layers:
        np.testing.assert_array_equal(again.samples[layer], found.samples[layer])
        own, kept = found.moments(layer), again.moments(layer)
        assert own.count == kept.count
        np.testing.assert_array_equal(own.covariance(), kept.covariance())
    one, other = (estimate(each, kinds=["principal"]).at(2).estimate for each in (found, again))
    values = found.samples[2].astype(float)
    np.testing.assert_array_equal(one.distance(values), other.distance(values))


def test_other_files_are_refused(found: Reference, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no reference at"):
        reference_files.load(tmp_path / "none")
    path = tmp_path / "reference"
    reference_files.save(found, path)
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 255
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="collect it again"):
        reference_files.load(path)
    save_tensors(path, {"documents": torch.zeros(3)})
    with pytest.raises(ValueError, match="holds no reference"):
        reference_files.load(path)
