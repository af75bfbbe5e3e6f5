"""What the patches around a patch tell of it: a network sees one at a time, tissue is a map."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree
from scipy.special import expit

# Pixels of the slide, three patches of the IDC set: phase2_histopathology/LOG.md.
REACH = 150.0
_FAR = 3  # Beyond so many reaches a weight is below 0.012, and left out.


def log_odds(logits: np.ndarray) -> np.ndarray:
    """Log odds of class 1, float64 (N,), of the logits (N, 2) of two classes."""
    return logits[:, 1].astype("float64") - logits[:, 0]


def mean_around(
    values: np.ndarray, patients: np.ndarray, positions: np.ndarray, reach: float = REACH
) -> np.ndarray:
    """For each patch the mean of its patient's other patches, near ones counting most.

        sum_j w_j v_j / (1 + sum_j w_j),  w_j = exp(-distance_j^2 / (2 reach^2))

    The 1 stands for a neighbour of value 0: who has few or distant ones is told little by them. It
    is the estimate of Nadaraya (1964) and Watson (1964) with a Gaussian kernel, drawn to 0.

    Args:
        values: One number a patch, (N,).
        patients: Whose patch each is, (N,).
        positions: Where it lies on the slide, pixels, (N, 2); negative where that is not known:
            such a patch has no neighbours and is none.
        reach: Standard deviation of the kernel, pixels of the slide.

    Returns:
        float64 (N,).
    """
    values, positions = np.asarray(values, "float64"), np.asarray(positions)
    found = np.zeros(len(values))
    known = np.flatnonzero((positions >= 0).all(axis=1))
    for _, rows in pd.Series(known).groupby(np.asarray(patients)[known]):
        rows = rows.to_numpy()
        tree = cKDTree(positions[rows])
        pairs = tree.query_pairs(_FAR * reach, output_type="ndarray")  # (M, 2), each pair once
        apart = np.linalg.norm(tree.data[pairs[:, 0]] - tree.data[pairs[:, 1]], axis=1)  # (M,)
        half = coo_matrix(
            (np.exp(-0.5 * (apart / reach) ** 2), pairs.T), shape=(len(rows), len(rows))
        )
        weights = (half + half.T).tocsr()
        found[rows] = weights @ values[rows] / (1 + np.asarray(weights.sum(axis=1))[:, 0])
    return found


@dataclass(frozen=True)
class Neighbourhood:
    """Weighs what a network says of a patch with what it says of the patches around it.

        z' = bias + own z + others mean_around(z - centre)

    Args:
        reach: See `mean_around`.
        centre: The log odds of an ordinary patch.
        bias, own, others: From a logistic regression.
    """

    reach: float
    centre: float
    bias: float
    own: float
    others: float

    @classmethod
    def fit(
        cls,
        z: np.ndarray,
        labels: np.ndarray,
        patients: np.ndarray,
        positions: np.ndarray,
        reach: float = REACH,
    ) -> "Neighbourhood":
        """The weights that make labels most probable.

        Args:
            z: Log odds of patches, (N,), from networks that have not seen their patients.
            labels: 0 or 1, (N,), of both classes.
            patients, positions, reach: See `mean_around`.
        """
        from sklearn.linear_model import LogisticRegression

        centre = float(np.mean(z))
        around = mean_around(z - centre, patients, positions, reach)
        model = LogisticRegression(C=1e6).fit(np.stack([z, around], axis=1), labels)
        return cls(float(reach), centre, float(model.intercept_[0]), *map(float, model.coef_[0]))

    def __call__(
        self, z: np.ndarray, patients: np.ndarray, positions: np.ndarray | None
    ) -> np.ndarray:
        """Log odds of patches, float64 (N,), with their neighbours' share; see `mean_around`."""
        around = 0.0
        if positions is not None:
            around = mean_around(z - self.centre, patients, positions, self.reach)
        return self.bias + self.own * z + self.others * around

    def to_dict(self) -> dict[str, float]:
        """As a record keeps it: `Neighbourhood(**record["neighbours"])`."""
        return asdict(self)


Fitted = list[tuple[np.ndarray, Neighbourhood]]


def left_out_neighbourhoods(
    z: np.ndarray, labels: np.ndarray, patients: np.ndarray, positions: np.ndarray, parts: int = 5
) -> Fitted:
    """Patients dealt into parts; each part's patches with weights fitted to the other parts'.

    Args:
        z, labels, patients, positions: See `Neighbourhood.fit`.
        parts: Number of parts; not more than there are patients.

    Returns:
        For each part the numbers of its patches, and the weights for them.
    """
    from sklearn.model_selection import GroupKFold

    found = []
    parts = min(parts, len(np.unique(patients)))
    for others, own in GroupKFold(parts).split(z, labels, patients):
        fitted = Neighbourhood.fit(z[others], labels[others], patients[others], positions[others])
        found.append((own, fitted))
    return found


def left_out_probability(
    fitted: Fitted, z: np.ndarray, patients: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """The probability of class 1 of each patch, (N,), with weights that others chose.

    Args:
        fitted: From `left_out_neighbourhoods`, of these patches.
        z, patients, positions: See `Neighbourhood.fit`; `z` may be of other pixels.
    """
    found = np.empty(len(z))
    for own, around in fitted:
        found[own] = around(z[own], patients[own], positions[own])
    return expit(found)
