"""How a lesson begins."""

from common.plots import use_style
from common.training.recipes import resolve_profile


def begin(profile: str | None) -> str:
    """Draws figures in the course's style from here on; gives the profile to use.

    Args:
        profile: The lesson's; `None` for `COURSE_PROFILE`, else "laptop".

    Raises:
        ConfigError: for an unknown profile.
    """
    use_style()
    return resolve_profile(profile)
