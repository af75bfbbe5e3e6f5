"""How a lesson begins."""

from common.choices import is_own, resolve_dataset
from common.paths import display
from common.plots import use_style
from common.training.recipes import resolve_profile


def begin(phase: str, dataset: str | None, profile: str | None) -> tuple[str, str]:
    """Draws figures in the course's style from here on; gives the data set and profile to use.

    On a folder of one's own it says that the text's numbers are of other data.

    Args:
        phase: The lesson's, as "phase1_cifar".
        dataset: The lesson's; `None` for `COURSE_DATASET`, else the phase's real data.
        profile: The lesson's; `None` for `COURSE_PROFILE`, else "laptop".

    Raises:
        ConfigError: for an unknown data set or profile.
        DataError: if the data set is a folder that the phase cannot read.
    """
    use_style()
    dataset, profile = resolve_dataset(phase, dataset), resolve_profile(profile)
    if is_own(dataset):
        print(
            f"The outputs of this page are of {display(dataset)}. What the text between them says "
            "in numbers was found on the data that it names at its top."
        )
    return dataset, profile
