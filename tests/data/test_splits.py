import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.images import ImageData
from common.data.splits import (
    PARTS,
    PUBLISHED,
    Splits,
    check_disjoint,
    leave_one_patient_out,
    make_splits,
    patient_folds,
    patient_table,
    split_at_random,
    split_by_lists,
    split_by_patient,
    suitable_split,
)
from common.errors import ConfigError, DataError


def make(shares, per_patient=20, names=None):
    """Patients p0, p1, ...: the first part of each one's images is positive."""
    labels = np.concatenate(
        [np.arange(per_patient) < round(share * per_patient) for share in shares]
    ).astype(np.int32)
    names = names or [f"p{i}" for i in range(len(shares))]
    return ImageData(
        images=np.arange(len(labels) * 12, dtype=np.uint32).astype(np.uint8).reshape(-1, 2, 2, 3),
        labels=labels,
        classes=("benign", "malignant"),
        name="toy",
        split="all",
        groups=np.repeat(names, per_patient),
    )


def patients(data):
    return set(np.unique(data.groups).tolist())


def test_split_by_patient_keeps_patients_whole_and_shares_alike():
    data = make(np.linspace(0.05, 0.95, 50))
    splits = split_by_patient(data, seed=3)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(patients(part)) for part in parts] == [30, 10, 10]
    assert sum(map(len, parts)) == len(data)
    assert set.union(*map(patients, parts)) == patients(data)
    for part in parts:
        assert part.labels.mean() == pytest.approx(data.labels.mean(), abs=0.06)
    assert [part.split for part in parts] == ["train", "validation", "test"]


def test_split_by_patient_follows_the_seed():
    data = make(np.linspace(0.05, 0.95, 20))
    first, again, other = (split_by_patient(data, seed=seed) for seed in (0, 0, 1))
    assert patients(first.test) == patients(again.test)
    assert patients(first.test) != patients(other.test)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make([0.5] * 2), "toy has 2 patients: too few.*leave-one-patient-out"),
        (make([0.0] * 8 + [1.0]), "part has benign patches only"),
    ],
)
def test_split_by_patient_refuses(data, message):
    with pytest.raises(DataError, match=message):
        split_by_patient(data)


def test_split_without_patients_is_refused():
    data = make([0.5] * 5)
    object.__setattr__(data, "groups", None)
    with pytest.raises(DataError, match="does not tell which patient"):
        split_by_patient(data)


def test_split_at_random_leaks_and_says_so():
    data = make([0.3] * 10, per_patient=50)
    splits = split_at_random(data)
    assert [len(getattr(splits, part)) for part in PARTS] == [300, 100, 100]
    assert splits.leaky
    assert patients(splits.train) & patients(splits.test)
    assert splits.test.labels.mean() == pytest.approx(0.3, abs=0.01)
    with pytest.raises(DataError, match="both sides.*in train and in validation: p0, p1"):
        Splits(splits.train, splits.validation, splits.test)


def test_check_disjoint_names_the_patients():
    check_disjoint({"train": np.array(["a"]), "test": np.array(["b"])})
    many = np.array(list("abcdefgh"))
    with pytest.raises(DataError, match="in train and in test: a, b, c, d, e and 3 more"):
        check_disjoint({"train": many, "validation": np.array(["z"]), "test": many})


@pytest.fixture
def lists(tmp_path):
    for name, content in (("train", "p0\np1\nghost\n"), ("val", "p2\n\n"), ("test", " p3\n")):
        (tmp_path / f"cases_{name}.txt").write_text(content)
    return tmp_path


def test_lists_define_the_parts_and_report_what_differs(lists):
    splits = split_by_lists(make([0.5] * 6), lists)
    assert patients(splits.train) == {"p0", "p1"}
    assert patients(splits.validation) == {"p2"}
    assert patients(splits.test) == {"p3"}
    assert splits.absent == ("ghost",)
    assert splits.unlisted == ("p4", "p5")
    table = splits.summary()
    assert table.loc["train"].tolist() == [2, 40, 0.5]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cases_test.txt", "p1\n", r"cases_test.txt: patient p1 is in cases_train.txt too"),
        ("cases_val.txt", "\n \n", r"cases_val.txt is empty"),
        ("cases_val.txt", None, r"Could not read .*cases_val.txt: No such file"),
        ("cases_val.txt", "p2\np4\np2\n", r"cases_val.txt, line 3: patient p2 is listed twice"),
        ("cases_val.txt", "10304\n", r"none of the 1 patients in .*cases_val.txt"),
    ],
)
def test_bad_lists(lists, file, content, message):
    if content is None:
        (lists / file).unlink()
    else:
        (lists / file).write_text(content)
    with pytest.raises(DataError, match=message):
        split_by_lists(make([0.5] * 6), lists)


def test_a_part_without_positives_is_refused(lists):
    with pytest.raises(DataError, match="toy: the test part has benign patches only"):
        split_by_lists(make([0.5, 0.5, 0.5, 0.0]), lists)


def test_leave_one_patient_out():
    data = make([1.0, 0.0, 1.0])
    rounds = list(leave_one_patient_out(data))
    assert [patient for patient, _, _ in rounds] == ["p0", "p1", "p2"]
    for patient, train, test in rounds:
        assert patients(test) == {patient}
        assert patients(train) == patients(data) - {patient}
    with pytest.raises(DataError, match="one patient only"):
        list(leave_one_patient_out(make([0.5])))


def test_patient_table():
    table = patient_table(make([0.25, 1.0]))
    assert table.loc["p0"].tolist() == [20, 5]
    assert table.loc["p1"].tolist() == [20, 20]


def test_splits_by_name(lists):
    data = make([0.5] * 6)
    assert make_splits(data, "random").leaky
    assert patients(make_splits(data, "published", lists=lists).test) == {"p3"}
    by_patient = split_by_patient(data, seed=2)
    assert patients(make_splits(data, "patients", seed=2).test) == patients(by_patient.test)
    more = make_splits(data, "published+unlisted", lists=lists)
    assert patients(more.train) == {"p0", "p1", "p4", "p5"}
    assert (patients(more.validation), patients(more.test)) == ({"p2"}, {"p3"})
    assert more.unlisted == ("p4", "p5")
    with pytest.raises(ConfigError, match="split='leave-one-out' makes no three parts"):
        make_splits(data, "leave-one-out")


def test_the_published_lists_come_with_the_course():
    names = [line for path in PUBLISHED.iterdir() for line in path.read_text().split()]
    assert len(names) == len(set(names)) == 84 + 29 + 49
    data = make([0.5] * 4, names=["8865", "8867", "8864", "8863"])
    splits = make_splits(data, "published")
    assert [patients(part) for part in (splits.train, splits.validation, splits.test)] == [
        {"8865"},
        {"8867"},
        {"8864"},
    ]
    assert splits.unlisted == ("8863",) and len(splits.absent) == 84 + 29 + 49 - 3
    assert patients(make_splits(data, "published+unlisted").train) == {"8865", "8863"}


def test_suitable_split():
    assert suitable_split(make([0.5] * 10)) == "patients"
    assert suitable_split(make([0.5] * 9 + [0.0, 1.0])) == "leave-one-out"


def few(*patients):
    """Patients of so many negative and positive patches each."""
    counts = [sum(p) for p in patients]
    labels = np.concatenate([np.repeat([0, 1], p) for p in patients]).astype(np.int32)
    return ImageData(
        images=np.zeros((len(labels), 2, 2, 3), np.uint8),
        labels=labels,
        classes=("benign", "malignant"),
        name="few",
        split="all",
        groups=np.repeat([f"p{i}" for i in range(len(patients))], counts),
    )


@pytest.mark.parametrize(
    ("data", "split"),
    [
        (few(*[(5, 1)] * 10), "patients"),
        (few(*[(5, 1)] * 9), "leave-one-out"),
        (few((5, 0), (0, 5), (5, 0), (0, 5)), "leave-one-out"),
        (few((5, 5)), "random"),
        (few((5, 0), (0, 5)), "random"),
        (few(*[(5, 0)] * 20, (5, 1)), "random"),
    ],
)
def test_the_split_is_one_that_the_patients_allow(data, split):
    """With the only positive patient left out, there would be nothing to learn."""
    assert suitable_split(data) == split


def test_one_class_is_refused():
    with pytest.raises(DataError, match="all 7 patches are malignant"):
        suitable_split(few((0, 3), (0, 4)))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(negative=st.integers(1, 40), positive=st.integers(1, 40))
def test_patches_at_random_of_any_number(negative, positive):
    data = few((negative, positive))
    if len(data) < 3:
        with pytest.raises(DataError, match="too few"):
            split_at_random(data)
        return
    splits = split_at_random(data)
    parts = [splits.train, splits.validation, splits.test]
    assert sum(map(len, parts)) == len(data)
    shares = [len(np.unique(part.labels)) == 2 for part in parts]
    assert shares[0] or len(splits.train) == 1
    assert all(shares) or min(negative, positive) < 3 or len(data) < 13


def test_each_patient_is_left_out_of_one_fold():
    data = make(np.linspace(0.05, 0.95, 23))
    folds = patient_folds(data, 5, seed=1)
    held = [patients(left_out) for _, left_out in folds]
    assert set.union(*held) == patients(data) and sum(map(len, held)) == 23
    for (others, left_out), names in zip(folds, held, strict=True):
        assert patients(others) == patients(data) - names
        assert (others.split, left_out.split) == ("train", "validation")
        assert abs(left_out.labels.mean() - data.labels.mean()) < 0.1
    same = [patients(left_out) for _, left_out in patient_folds(data, 5, seed=1)]
    assert same == held != [patients(left_out) for _, left_out in patient_folds(data, 5, seed=2)]
    with pytest.raises(DataError, match="toy has 3 patients: too few for 5 folds"):
        patient_folds(make([0.2, 0.5, 0.9]))
