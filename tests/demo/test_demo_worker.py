"""The worker: the latest task wins, one at a time, and nothing is left behind."""

import threading

import pytest

from workbench.demo.worker import Worker

SOON = 20.0


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def worker(errors: list[Exception]):
    made = Worker(errors.append)
    yield made
    made.close()


def test_thirty_tasks_in_a_row_leave_the_first_stopped_and_the_last_done(
    worker: Worker, errors: list[Exception]
) -> None:
    begun, done, together = [], [], []
    first = threading.Event()

    def task(number: int):
        def run(stop: threading.Event) -> None:
            begun.append(number)
            together.append(number)
            first.set()
            if number < 29:
                assert stop.wait(SOON)
            assert together == [number], "two at once"
            together.remove(number)
            if not stop.is_set():
                done.append(number)

        return run

    worker.submit(task(0))
    assert first.wait(SOON)
    for number in range(1, 30):
        worker.submit(task(number))
    assert worker.wait(SOON)
    assert done == [29]
    assert begun[0] == 0
    assert begun[-1] == 29
    assert begun == sorted(begun)
    assert errors == []


def test_stop_ends_what_runs_and_drops_what_waits(worker: Worker) -> None:
    running, release, seen = threading.Event(), threading.Event(), []

    def slow(stop: threading.Event) -> None:
        running.set()
        seen.append(stop.wait(SOON))
        release.wait(SOON)

    worker.submit(slow)
    assert running.wait(SOON)
    worker.submit(lambda stop: seen.append("waited"))
    worker.stop()
    assert worker.busy
    release.set()
    assert worker.wait(SOON)
    assert seen == [True]
    assert not worker.busy
    worker.submit(lambda stop: seen.append(stop.is_set()))
    assert worker.wait(SOON)
    assert seen == [True, False], "a stop must not outlive what it stopped"


def test_a_failing_task_is_told_and_the_next_one_runs(
    worker: Worker, errors: list[Exception]
) -> None:
    def fail(stop: threading.Event) -> None:
        raise ValueError("no")

    worker.submit(fail)
    assert worker.wait(SOON)
    assert [str(error) for error in errors] == ["no"]
    done = []
    worker.submit(lambda stop: done.append(1))
    assert worker.wait(SOON)
    assert done == [1]


def test_what_follows_runs_unless_it_was_stopped_or_something_was_asked(worker: Worker) -> None:
    done: list[str] = []

    def task(before: str) -> None:
        begun, go = threading.Event(), threading.Event()

        def run(stop: threading.Event) -> None:
            begun.set()
            assert go.wait(SOON)
            took = worker.follow(lambda stop: done.append("followed"), after=stop)
            assert took == (before == "nothing")

        worker.submit(run)
        assert begun.wait(SOON)
        if before == "stop":
            worker.stop()
        elif before == "another":
            worker.submit(lambda stop: done.append("another"))
        go.set()
        assert worker.wait(SOON)

    for before, expected in (("nothing", ["followed"]), ("stop", []), ("another", ["another"])):
        done.clear()
        task(before)
        assert done == expected, before


def test_close_leaves_no_thread_and_takes_no_more() -> None:
    before = set(threading.enumerate())
    worker = Worker(lambda error: None)
    running, stopped = threading.Event(), []

    def task(stop: threading.Event) -> None:
        running.set()
        stopped.append(stop.wait(SOON))

    worker.submit(task)
    assert running.wait(SOON)
    assert set(threading.enumerate()) - before
    worker.close()
    worker.close()
    assert stopped == [True]
    assert set(threading.enumerate()) - before == set()
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        worker.submit(task)


def test_a_task_cannot_wait_for_itself(worker: Worker, errors: list[Exception]) -> None:
    worker.submit(lambda stop: worker.wait(1) and None)
    assert worker.wait(SOON)
    assert "cannot wait for its own worker" in str(errors[0])
