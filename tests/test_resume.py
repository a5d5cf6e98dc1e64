"""Nothing lost: a sweep killed at any moment resumes to the identical frame.

This file is also the program that is killed: run by itself it imports everything once and forks a
child per sweep, so that a kill costs no start-up.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import pandas as pd

KILLS = 10


def one_sweep(directory: Path) -> pd.DataFrame:
    """A sweep of about ten chunks."""
    import numpy as np
    import torch
    from architectures import build

    from workbench import judges
    from workbench.sweeps.planning import row_bytes
    from workbench.sweeps.sweep import sweep
    from workbench.vectors.steering_vector import SteeringVector

    torch.set_num_threads(1)
    lm = build("llama")
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(1))
    vector = SteeringVector(
        {1: direction}, {1: 6.0}, lm.name, lm.fingerprint, "test", 1, provenance={"trait": "mood"}
    )
    return sweep(
        lm,
        vector,
        ["The old fox", "A girl and her dog went to the river", "I am"],
        [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0],
        new_tokens=5,
        temperature=0.8,
        seed=3,
        judges=[judges.exact],
        controls=("random",),
        kl=False,
        memory=int(row_bytes(lm, np.array([20]), 5, False)[0]) * 3,
        directory=directory,
        progress=False,
    )


def in_child(directory: Path, result: Path | None, *, die_at: int | None = None) -> int:
    """Fork a sweep; its frame goes to `result` (pickled). Returns the child's pid."""

    def work() -> int:
        frame = one_sweep(directory)
        if result is not None:
            frame.to_pickle(result)
        return 0

    return kills.in_child(work, die_at=die_at)


def finished(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count_chunks(directory: Path) -> int:
    return len(list(directory.glob("chunk-*")))


def wait_for(directory: Path, chunks: int) -> None:
    """Return when so many chunks are done, or after a minute, as the sweep may have failed."""
    for _ in range(60_000):
        if count_chunks(directory) >= chunks:
            return
        time.sleep(0.001)


def main(folder: Path) -> None:
    """Kill sweeps at random moments and resume them; print what happened as JSON."""
    one_sweep(folder / "warm")  # imports everything and warms caches before the forks
    start = time.monotonic()
    assert finished(in_child(folder / "whole", folder / "whole.pkl")) == 0
    duration = time.monotonic() - start
    total = count_chunks(folder / "whole")
    moments = random.Random(int(sys.argv[2]))
    rounds = []
    for index in range(KILLS):
        directory = folder / f"killed-{index}"
        if index % 5 == 4:  # in the middle of a write, which a clock would hardly hit
            pid = in_child(directory, None, die_at=moments.randrange(1, 8))
        else:
            pid = in_child(directory, None)
            # Told by chunks, not by a clock, which a busy machine would stretch: at random between
            # the start and the last chunk but one.
            wait_for(directory, moments.randrange(total - 1))
            time.sleep(moments.random() * duration / total)
            os.kill(pid, signal.SIGKILL)
        code = finished(pid)
        chunks = count_chunks(directory)
        result = folder / f"resumed-{index}.pkl"
        rounds.append(
            {"code": code, "chunks": chunks, "resumed": finished(in_child(directory, result))}
        )
    print(json.dumps(rounds))


def test_sweeps_killed_at_random_moments_resume_to_the_identical_frame(tmp_path: Path) -> None:
    here = Path(__file__).resolve()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parent.parent)]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(here), str(tmp_path), "11"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rounds = json.loads(done.stdout.splitlines()[-1])
    assert len(rounds) == KILLS
    killed = [r for r in rounds if r["code"] == -signal.SIGKILL]
    assert len(killed) >= KILLS - 2, rounds  # a child may now and then be done before its kill
    whole = pd.read_pickle(tmp_path / "whole.pkl")
    total = count_chunks(tmp_path / "whole")
    assert total >= 8
    assert any(0 < r["chunks"] < total for r in killed), rounds
    for index, outcome in enumerate(rounds):
        assert outcome["resumed"] == 0, done.stderr[-3000:]
        resumed = pd.read_pickle(tmp_path / f"resumed-{index}.pkl")
        pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
        assert resumed.attrs == whole.attrs
        assert resumed.attrs["complete"] is True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
