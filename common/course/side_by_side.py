"""Runs many lessons: one after the other, or side by side in processes."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from common.course.environment import backend, environment
from common.course.kernel import Failure, ending_by_sigterm
from common.course.lessons import Lesson
from common.course.quiet import has_nvidia
from common.course.runner import Result, count_cells, run_lesson
from common.errors import CourseError
from common.progress import progress_bar

Parameters = dict[str, Any]
# Spawned, as on every system: a fork of a process with threads may hang.
_context = multiprocessing.get_context("spawn")


def run_lessons(
    assigned: dict[Lesson, Parameters],
    jobs: int = 1,
    then: Callable[[Lesson, Result], None] = lambda lesson, result: None,
) -> list[Result]:
    """Runs lessons; one that fails is told of and the rest still runs.

    A lesson that examines a network gets the one that was trained by the same call.

    Leaves `outputs/notebooks/<phase>/<lesson>.ipynb`, `.html` and `.json`.

    Args:
        jobs: How many lessons run at a time.
        then: Called with each lesson that has ended.

    Returns:
        The results in the order of `assigned`.
    """
    cells = {lesson: count_cells(lesson.path) + bool(given) for lesson, given in assigned.items()}
    counted = dict.fromkeys(assigned, 0)
    running = []
    results = {}
    with progress_bar(total=sum(cells.values()), unit=" cells") as bar, _alive(bar):

        def describe() -> None:
            where = (f"{lesson} {counted[lesson]}/{cells[lesson]}" for lesson in running)
            bar.set_description(", ".join(where), refresh=False)

        def on_start(lesson: Lesson) -> None:
            running.append(lesson)
            describe()

        def on_cell(lesson: Lesson) -> None:
            if counted[lesson] < cells[lesson]:
                counted[lesson] += 1
                describe()
                bar.update()

        def on_result(lesson: Lesson, result: Result) -> None:
            running.remove(lesson)
            results[lesson] = result
            bar.update(cells[lesson] - counted[lesson])
            state = "ok" if result.ok else f"FAILED in {result.failure}"
            bar.write(f"{lesson}: {state} ({result.seconds:.0f} s)", file=sys.stderr)
            then(lesson, result)

        if jobs > 1 and len(assigned) > 1:
            _run_in_workers(assigned, results, jobs, on_start, on_cell, on_result)
        else:
            before = plan(list(assigned))
            for lesson in assigned:
                on_start(lesson)
                trained = results.get(before[lesson])
                parameters = _with_trained_run(lesson, assigned[lesson], trained)
                result = run_lesson(lesson, parameters, lambda lesson=lesson: on_cell(lesson))
                on_result(lesson, result)
    return [results[lesson] for lesson in assigned]


def _with_trained_run(lesson: Lesson, parameters: Parameters, trained: Result | None) -> Parameters:
    """Names the run of the training lesson before it, unless another one is asked for."""
    if lesson.name != "04_evaluation" or not (trained and trained.ok and trained.runs):
        return parameters
    return {"run_name": trained.runs[0], **parameters}


@contextmanager
def _alive(bar) -> Iterator[None]:
    """Draws the bar anew every quarter of a minute, as a cell may take many."""
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(15):
            bar.refresh()

    drawing = threading.Thread(target=draw, daemon=True)
    drawing.start()
    try:
        yield
    finally:
        ended.set()
        drawing.join()


def default_jobs(profile: str | None) -> int:
    """Two in profile `smoke`, where much of the time one processor core waits for the other.

    Longer trainings keep all cores busy by themselves, and two would not fit on one GPU.
    """
    return 2 if profile == "smoke" and (os.cpu_count() or 1) > 1 and not has_nvidia() else 1


def threads(processes: int) -> dict[str, str]:
    """Variables that divide the processor's cores among so many processes of the backend.

    Threads of several that wait for each other cost a third of the time of a training.
    """
    name = "OMP_NUM_THREADS" if backend() == "torch" else "TF_NUM_INTRAOP_THREADS"
    each = max(1, (os.cpu_count() or 1) // processes)
    return {} if name in os.environ else {name: str(each)}


def plan(lessons: list[Lesson]) -> dict[Lesson, Lesson | None]:
    """The order in which lessons are begun, each with the training lesson that it waits for.

    Those after training use its runs. Trainings come first, what most others wait for before all.
    What waits for nothing fills the time beside them, the later lessons first: they take longer,
    and no processor is to wait for the last one.
    """
    after, trained = {}, {}
    for lesson in lessons:
        after[lesson] = trained.get(lesson.phase)
        if "training" in lesson.name:
            trained[lesson.phase] = lesson
    waited_for = Counter(filter(None, after.values()))
    last = [lesson for lesson in lessons if after[lesson] is None and not waited_for[lesson]]
    first = sorted(after.keys() - last, key=lambda one: (-waited_for[one], lessons.index(one)))
    return {lesson: after[lesson] for lesson in [*first, *reversed(last)]}


def _run_in_workers(
    assigned: dict[Lesson, Parameters],
    results: dict[Lesson, Result],
    jobs: int,
    on_start: Callable[[Lesson], None],
    on_cell: Callable[[Lesson], None],
    on_result: Callable[[Lesson, Result], None],
) -> None:
    waiting = plan(list(assigned))
    with environment(**threads(jobs)), _workers() as start_worker:
        busy, idle = {}, []

        def begin() -> None:
            while len(busy) < jobs:
                ready = (a for a, before in waiting.items() if before is None or before in results)
                lesson = next(ready, None)
                if lesson is None:
                    return
                trained = results.get(waiting.pop(lesson))
                connection = idle.pop() if idle else start_worker()
                busy[connection] = lesson
                on_start(lesson)
                connection.send((lesson, _with_trained_run(lesson, assigned[lesson], trained)))

        begin()
        while busy:
            for connection in wait(list(busy)):
                lesson = busy[connection]
                try:
                    said = connection.recv()
                    if said is None:
                        on_cell(lesson)
                        continue
                    idle.append(connection)
                except EOFError:
                    failure = Failure(0, "its process", "Killed", "the process was ended")
                    said = Result(lesson.phase, lesson.name, assigned[lesson], 0.0, failure)
                if isinstance(said, CourseError):
                    raise said
                del busy[connection]
                on_result(lesson, said)
            begin()


@contextmanager
def _workers() -> Iterator[Callable[[], Connection]]:
    """Gives a function that starts a worker; all of them end with the block."""
    processes, connections = [], []

    def start() -> Connection:
        here, there = _context.Pipe()
        process = _context.Process(target=_work, args=(there,), daemon=True)
        process.start()
        there.close()
        processes.append(process)
        connections.append(here)
        return here

    try:
        with ending_by_sigterm():
            yield start
    finally:
        for process in processes:
            process.terminate()
        # The exit by a signal may be raised where Python ignores it, as in a weak reference's
        # callback: a worker that waits for a lesson sees this as well.
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(timeout=30)  # a kernel that computes takes seconds to end
            process.kill()


def _work(connection: Connection) -> None:
    """What a worker does: lessons as they come; says `None` before each cell, then the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says when to end
    sys.unraisablehook = _tell_unraisable
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with ending_by_sigterm():
        while True:
            try:
                lesson, parameters = connection.recv()
            except EOFError:
                return
            try:
                connection.send(run_lesson(lesson, parameters, lambda: connection.send(None)))
            except CourseError as error:
                connection.send(error)


def _tell_unraisable(told) -> None:
    """As Python does, but for an exit by a signal: the worker ends a moment later, see above."""
    if not issubclass(told.exc_type, SystemExit):
        sys.__unraisablehook__(told)


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
