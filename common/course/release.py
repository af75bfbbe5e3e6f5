"""Makes runs the weights that the repository carries."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.course.checks import check_run
from common.course.lessons import known_phase, phase_name
from common.errors import ConfigError

CAPTIONING = "phase3_captioning"
SCENES = "scenes"


def check_release(phase: str, runs: Sequence[str]) -> None:
    """What of `release` can be told before anything heavy is imported.

    Raises:
        ConfigError: for an unknown phase or run, a run of another phase, or captioners to average.
    """
    name = known_phase(phase)
    if name == CAPTIONING and len(runs) > 1:
        raise ConfigError("Captioners are not averaged: name one --run.")
    for run in runs:
        if run != SCENES or name != CAPTIONING:
            check_run(run, name)


def release(phase: str, runs: Sequence[str]) -> tuple[Path, dict]:
    """Writes the weights of a run in half precision into the repository, with its record.

    Of several runs of phase 1 or 2 the mean of their logits is released, an `Ensemble`. The run
    "scenes" of phase 3 trains the backbone of the built-in scenes anew.

    The figures in the record are those of the written file, in float32: for phases 1 and 3 on all
    test images of the run's data set, for several runs of phase 2 on the patients that each of
    them has not seen. One run of phase 2 keeps those of its record: it has seen all patients.

    Returns:
        The folder, and the record.

    Raises:
        ConfigError: for an unknown phase or an unfinished run, networks that cannot answer
            together, or outside a repository.
    """
    from common.training import released, store

    phase = phase_name(phase)
    if phase == CAPTIONING:
        if runs[0] == SCENES:
            from common.training.scene_backbone import release_scene_backbone

            return release_scene_backbone()
        return _release_captioner(runs[0])
    networks, records = zip(*(released.load_model(run, phase) for run in runs), strict=True)
    for run, record in zip(runs, records, strict=True):
        if record["phase"] != phase:
            raise ConfigError(f"The run {run!r} is one of {record['phase']}, not of {phase}.")
        if record["classes"] != records[0]["classes"]:
            raise ConfigError(f"The run {run!r} tells other classes than {runs[0]!r}.")
    folder, network, record = released.released_folder(phase), networks[0], records[0]
    if len(runs) > 1:
        record = store.ensemble_record(records)
        network = store.build(record, folder)
        for member, trained in zip(network.members, networks, strict=True):
            member.set_weights(trained.get_weights())
    released.release(network, record, folder)
    if phase == "phase1_cifar":
        _judge_images(record)
    elif len(runs) > 1:
        _judge_patches(record)
    store.write_record(record, folder)
    return folder, record


def _judge_images(record: dict) -> None:
    """Test metrics; of an ensemble, which has none of its own yet, all that a run's record has."""
    from common.data import load_images
    from common.evaluation import classification
    from common.training import released

    network = released.load_model()[0]
    if "members" in record:
        from common.course.examined import known_images

        validation = known_images(record)[1]
        record["calibration"] = classification.calibration(network, validation)
        scores = classification.evaluate(network, validation)
        record["metrics"] = {f"val_{name}": scores[name] for name in ("accuracy", "accuracy_tta")}
    test = load_images(record["dataset"], "test")
    scores = classification.evaluate(network, test)
    record["metrics"] |= {f"test_{name}": value for name, value in scores.items() if name != "n"}
    record["data"] |= {"n_test": scores["n"]}


def _judge_patches(record: dict) -> None:
    """Threshold and figures of an ensemble: each patient by the members that have not seen it.

    Once of the networks alone, and once with the patches around each, weighed as suits the other
    patients.
    """
    import numpy as np
    from scipy.special import expit

    from common.data import load_patches
    from common.data.corruptions import corrupt
    from common.evaluation import neighbours
    from common.evaluation.leave_one_out import left_out_thresholds
    from common.evaluation.patches import score_predictions, unseen_logits
    from common.evaluation.thresholds import best_threshold
    from common.training import released

    network, data = released.load_model(phase=record["phase"])[0], load_patches(record["dataset"])
    record["tta"] = "symmetries"

    def answers(images: np.ndarray) -> np.ndarray:
        copies = replace(data, images=images)
        return neighbours.log_odds(unseen_logits(network, record, copies))

    z = answers(data.images)
    known = z, data.labels, data.groups, data.positions
    record["neighbours"] = neighbours.Neighbourhood.fit(*known).to_dict()
    weights = neighbours.left_out_neighbourhoods(*known)
    probability = neighbours.left_out_probability(weights, z, data.groups, data.positions)
    record["threshold"] = best_threshold(data.labels, probability)
    thresholds = left_out_thresholds(data.labels, probability, data.groups)
    metrics = score_predictions(data, probability, thresholds).metrics("left_out_")
    alone = expit(z)
    own = left_out_thresholds(data.labels, alone, data.groups)
    metrics |= score_predictions(data, alone, own).metrics("left_out_alone_")
    for quality in (90, 75):
        z = answers(corrupt(data.images, "jpeg", quality))
        found = neighbours.left_out_probability(weights, z, data.groups, data.positions)
        scores = score_predictions(data, found, thresholds).metrics("")
        metrics |= {f"left_out_jpeg{quality}_{k}": scores[k] for k in ("f1", "f1_low", "f1_high")}
    record["metrics"] = metrics
    record["data"] |= {"patients": len(np.unique(data.groups)), "n_left_out": len(data)}


def _release_captioner(run: str) -> tuple[Path, dict]:
    """The same for phase 3: the test metrics are of the file's captions, by the record's way."""
    from common.evaluation import captioners
    from common.training import released, store
    from common.training.caption_task import caption_task
    from common.training.run_folders import run_folder

    source = run_folder(run)
    record = store.read_captioner_record(source)
    backbone = record["backbone"]
    task = caption_task(  # before anything is written: its images may be gone
        record.get("source", record["dataset"]),
        record["profile"],
        backbone=backbone["name"],
        weights=backbone["weights"],
        vocabulary=store.read_captioner(source)[1],
    )
    folder, record = released.release_captioner(run)
    trained, _ = store.read_captioner(folder)
    record |= captioners.judged_for_record(trained, task)
    store.write_record(record, folder)
    return folder, record
