import cv2
import numpy as np

from common.data import near_duplicates, synthetic_images
from common.data.images import ImageData


def with_images(data, images, labels=None):
    labels = data.labels if labels is None else labels
    return ImageData(images, labels, data.classes, data.name, data.split)


def compressed(image):
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_finds_copies_and_nothing_else():
    data = synthetic_images("train", 300)
    images, labels = data.images.copy(), data.labels.copy()
    images[200] = images[10]
    images[201] = compressed(images[11])
    images[202] = np.clip(images[12] * 0.7 + 30, 0, 255).astype(np.uint8)
    labels[200], labels[201] = labels[10], (labels[11] + 1) % 10
    pairs = near_duplicates(with_images(data, images, labels))
    assert list(zip(pairs["index_a"], pairs["index_b"], strict=True))[0] == (10, 200)
    assert {(10, 200), (11, 201), (12, 202)} == set(
        zip(pairs["index_a"], pairs["index_b"], strict=True)
    )
    assert pairs["distance"].is_monotonic_increasing
    assert pairs["distance"][0] == 0
    by_a = pairs.set_index("index_a")
    assert by_a["same_class"][10] and not by_a["same_class"][11]
    assert by_a["class_a"][11] == data.classes[labels[11]]


def test_across_two_sets():
    train, test = synthetic_images("train", 200), synthetic_images("test", 100)
    images = test.images.copy()
    images[7] = compressed(train.images[150])
    pairs = near_duplicates(with_images(test, images), train)
    assert pairs[["index_a", "index_b"]].to_numpy().tolist() == [[7, 150]]


def test_agrees_with_all_pairs():
    data = synthetic_images("train", 200)
    pairs = near_duplicates(data, max_distance=1.0, neighbours=199)
    thumbs = np.stack([cv2.resize(i, (8, 8), interpolation=cv2.INTER_AREA) for i in data.images])
    thumbs = thumbs.reshape(200, -1).astype(np.float64)
    thumbs = (thumbs - thumbs.mean(1, keepdims=True)) / thumbs.std(1, keepdims=True)
    distance = np.sqrt(((thumbs[:, None] - thumbs[None]) ** 2).mean(-1))
    a, b = np.nonzero(np.triu(distance <= 1.0, 1))
    assert len(a) > 100
    assert set(zip(pairs["index_a"], pairs["index_b"], strict=True)) == set(zip(a, b, strict=True))


def test_none_and_blank_images():
    data = synthetic_images("train", 50)
    assert near_duplicates(data).empty
    blank = np.zeros_like(data.images) + np.arange(50, dtype=np.uint8)[:, None, None, None]
    pairs = near_duplicates(with_images(data, blank), neighbours=3)
    assert 25 <= len(pairs) <= 200
    assert (pairs["distance"] == 0).all()
