"""Patches on disk in the layout of the IDC set."""

import cv2
import numpy as np

from common.data.histopathology import patch_name

RNG = np.random.default_rng(0)


def tissue(height=50, width=50):
    """Pink with violet spots, so noisy that no two are alike."""
    image = np.full((height, width, 3), (225, 170, 200), np.uint8)
    for x, y in RNG.integers(0, 50, (6, 2)).tolist():
        cv2.circle(image, (x, y), 4, (110, 60, 140), -1)
    return np.clip(image + RNG.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def png(image):
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def add(root, patient, x, y, label, data=None, idx=5):
    """Writes a patch; returns its path."""
    path = root / patient / str(label) / patch_name(patient, x, y, label, idx)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(tissue()) if data is None else data)
    return path
