from common.course.exercises import exercise


def test_a_stub_is_told_and_the_lesson_goes_on(capsys):
    def mean(values):
        raise NotImplementedError

    with exercise("mean"):
        assert mean([1, 2]) == 1.5
    with exercise("mean"):
        raise AssertionError("the mean of 1 and 2\n  is 1.5\n")
    with exercise("division"):
        1 / 0  # noqa: B018
    assert capsys.readouterr().out.splitlines() == [
        "mean: not written yet.",
        "mean: not yet. AssertionError: the mean of 1 and 2 is 1.5",
        "division: not yet. ZeroDivisionError: division by zero",
    ]


def test_the_solution_is_told(capsys):
    with exercise("mean"):
        assert sum([1, 2]) / 2 == 1.5
    assert capsys.readouterr().out == "mean: solved.\n"
