"""The commands that answer of one's own images: predict and caption."""

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from common.course.checks import check_batch_size, check_file_output, check_path, check_run
from common.course.commands import options
from common.course.commands.terminal import end_with, mute, say, settings
from common.course.words import in_words, interval, show
from common.errors import ConfigError
from common.paths import display, expand


def predict(
    phase: Annotated[
        str, Argument(metavar="PHASE", help="phase1: images; phase2: patches of slides.")
    ],
    data: Annotated[
        list[Path],
        Option(
            metavar="PATH",
            help="phase1: an image or a folder of images; may be repeated. phase2: a folder of "
            "patches in <patient>/<0|1>/, or not labelled: in <patient>/, or right in it.",
            parser=check_path,
        ),
    ],
    more: Annotated[
        list[Path] | None,
        Argument(metavar="[PATH]...", help="More images, as of --data *.jpg.", parser=check_path),
    ] = None,
    output: Annotated[
        Path | None,
        Option(
            metavar="TABLE",
            help="The table to write: phase1 .csv or .parquet (without, the labels are printed); "
            "phase2 .parquet.",
            parser=check_file_output,
        ),
    ] = None,
    run: options.Run = None,
    recursive: Annotated[
        bool, Option("--recursive", help="phase1: folders within folders, too.")
    ] = False,
    maps: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="phase2: draw each patient's slide into DIR, the probability at each patch's "
            "place, if file names tell it as in ..._x51_y1251....png.",
            parser=lambda path: expand(path, "--maps"),
        ),
    ] = None,
    left_out: Annotated[
        bool,
        Option(
            "--left-out",
            help="phase2: each patient only by those of the networks that were not trained on a "
            "patient of that name.",
        ),
    ] = False,
    batch_size: Annotated[
        int, Option(help="Images or patches at a time.", callback=check_batch_size)
    ] = 500,
    backend: options.Backend = None,
) -> None:
    """Predict images or slides that nobody has labelled, into one table.

    phase1: any images. The table has the columns path, label, probability (of that label) and one
    per class. Probabilities are calibrated by the temperature that the run's record holds, fitted
    on validation images at the end of the training; if it holds none, this is said: label and order
    are right then, the numbers too low or too high. A network only knows its classes, and calls
    everything one of them. Images that cannot be read are told of at the end.

    phase2: patches of 50x50 pixels. The table has the columns patient, x, y, probability (of
    malignant), and label where they lie in folders 0 and 1, else file. Of labelled patches the
    scores against the labels are told, or why one cannot be computed; the last line of the output
    is JSON with all of them. With the course's own weights the patches around each have a say,
    where the names of the files tell where on the slide they lie. They are five networks, trained
    on 230 patients of the IDC set, each without a fifth of them: for these patients --left-out.

    All are read at constant memory; called again after a kill, what is done is kept.

    \b
    Examples:
      python -m common.course predict phase1 --data photo.jpg
      python -m common.course predict phase1 --data holidays/ --run my_run --output labels.csv
      python -m common.course predict phase2 --data my_slides --output table.parquet --maps maps

    \b
    Exit codes: 0 all predicted, 1 an image could not be read or a slide not drawn, 2 a wrong
    option, run or path, or patches that cannot be read.
    """
    from common.course.lessons import phase_name

    whole_name, data = phase_name(phase), [*data, *(more or [])]
    if whole_name not in ("phase1_cifar", "phase2_histopathology"):
        raise ConfigError(
            f"There is nothing to predict for {phase!r}. Choose phase1 or phase2; `caption` tells "
            "what photos show."
        )
    check_run(run, whole_name)
    if whole_name == "phase1_cifar":
        if maps is not None:
            raise ConfigError("--maps draws slides, of phase2 alone. Leave it out.")
        if left_out:
            raise ConfigError("--left-out is for patients, of phase2 alone. Leave it out.")
        problems = _predict_images(data, output, run, recursive, batch_size, backend)
    else:
        if len(data) > 1 or recursive:
            what = "--recursive is" if recursive else "several --data are"
            raise ConfigError(f"{what} for phase1. Name the one folder of all patients.")
        problems = _predict_slides(data[0], output, run, maps, left_out, batch_size, backend)
    end_with(problems)


def _predict_images(data, output, run, recursive, batch_size, backend) -> list[str]:
    from common.course import predict_images

    files = predict_images.check(data, output, recursive)
    with settings(backend):
        found = predict_images.predict_images(
            files,
            output,
            run,
            batch_size,
            lambda file, label, p: say(f"{display(file)}: {display(label)} {p:.1%}"),
        )
    if output is not None:
        n = sum(found.counts.values())
        labels = ", ".join(f"{label} {k:,}" for label, k in list(found.counts.items())[:10])
        more = f" and {len(found.counts) - 10} labels more" if len(found.counts) > 10 else ""
        say(f"{display(output)}: {n:,} image{'' if n == 1 else 's'}: {labels or 'none'}{more}")
    if found.temperature is None:
        say(
            f"The probabilities are not calibrated: the record of {found.run_name} holds no "
            "temperature. Lesson 3 of phase 1 fits one where it has validation images.",
            err=True,
        )
    return [f"Left out: {problem}" for problem in found.problems]


def _predict_slides(data, output, run, maps, left_out, batch_size, backend) -> list[str]:
    from common.course import predict

    patches = predict.check(data, output, maps)
    with settings(backend):
        scores, missing, problems = predict.predict(
            patches, output, run, batch_size, maps, left_out
        )
    told = "scores at" if predict.is_labelled(patches) else "without labels; called at"
    patients = f"{scores['patients']:,} patient{'' if scores['patients'] == 1 else 's'}"
    say(
        f"{display(output)}: {scores['n']:,} patches of {patients}; {told} the threshold of "
        f"{run or 'the weights of the course'}, {scores['threshold']:.3f}"
        f"{', each patient by networks that have not seen her' if left_out else ''}:"
    )
    if maps is not None:
        say(f"Maps are in {display(maps)}.")
    for name, reason in missing.items():
        say(f"{name} cannot be computed: {reason}")
    told = [
        f"{in_words(name)} {show(name, scores[name])}"
        + (f" ({between})" if (between := interval(name, scores)) else "")
        for name in predict.HEADLINE
        if scores.get(name) is not None
    ]
    if told:
        brackets = " In brackets: 95 % of a bootstrap over patients." if "(" in told[0] else ""
        say(f"{'; '.join(told)}.{brackets}")
    say(json.dumps(scores))
    return problems


def caption(
    photos: Annotated[
        list[Path],
        Argument(metavar="PHOTO_OR_FOLDER...", help="Image files and folders.", parser=check_path),
    ],
    beam: Annotated[
        int | None, Option(help="Width of the beam, 1 to 50; 1: greedy. Default: the run's own.")
    ] = None,
    run: options.Run = None,
    output: Annotated[
        Path | None,
        Option(
            metavar="CAPTIONS.json", help="Write all captions there, too.", parser=check_file_output
        ),
    ] = None,
    attention: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Draw where it looked for each word, into DIR.",
            parser=lambda path: expand(path, "--attention"),
        ),
    ] = None,
    no_repeated_trigram: Annotated[
        bool, Option("--no-repeated-trigram", help="Never the same three words twice.")
    ] = False,
    recursive: Annotated[bool, Option("--recursive", help="Folders within folders, too.")] = False,
    backend: options.Backend = None,
) -> None:
    """Tell what photos show, a caption each, and how sure it is.

    The course's captioner has learned from 6,000 of the 8,000 photos of Flickr8k, mostly of people
    and dogs, and tells everything in their words: a cat becomes a dog, a cup whatever fits.
    Behind each caption stands its score, the mean log-probability of its words (0 is the highest):
    "sure" from the score on at which captions of 500 other such photos were as good as the average
    (CIDEr-D 72 of the sure ones, 29 of the others), else "unsure". Of photos of other things a
    sure caption may be wrong, too. A run that has no such threshold shows the score alone.

    Any size. The file that --output names gets a JSON list of {"image": path as given,
    "caption": text, "score": number, "confidence": "sure", "unsure" or null}; called again after
    a kill, photos that are done are kept. Photos that cannot be read are told of at the end, and
    the others are still captioned. The backbone's weights come from COURSE_DATA/weights or are
    downloaded.

    \b
    Examples:
      python -m common.course caption photo.jpg holidays/
      python -m common.course caption holidays/ --beam 5 --output captions.json --attention figures

    \b
    Exit codes: 0 all captioned, 1 a photo could not be read, 2 a wrong option, run or path.
    """
    from common.course.caption import Photo, caption, check

    check_run(run, "phase3_captioning")
    listed = check(photos, beam, attention, output, recursive)
    closed = False

    def tell(photo: Photo) -> None:
        nonlocal closed
        if not closed:
            sure = f"{photo.confidence}, " if photo.confidence else ""
            try:
                say(f"{display(photo.file)}: {display(photo.caption)} ({sure}{photo.score:.2f})")
            except BrokenPipeError:
                if output is None:
                    raise
                closed = True  # The file is still wanted.
                mute()

    with settings(backend):
        problems = caption(listed, run, beam, no_repeated_trigram, tell, output)
    end_with(f"Left out: {problem}" for problem in problems)
