"""What recipes have in common: checks, values as records keep them, changes by name."""

import os
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Self

from common.choices import PROFILES
from common.errors import ConfigError


@dataclass(frozen=True)
class BaseRecipe:
    """All that a training needs beside the network and the data.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step.

    Raises:
        ConfigError: for a value out of its range.
    """

    epochs: int
    batch_size: int
    # Values that recipes did not have at first.
    LATER: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        self.require(
            min(self.epochs, self.batch_size) >= 1, "must be at least 1", "epochs", "batch_size"
        )

    def require(self, holds: bool, rule: str, *names: str) -> None:
        """Makes sure of a rule about some of the values.

        Raises:
            ConfigError: if it does not hold.
        """
        if not holds:
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            raise ConfigError(f"{' and '.join(names)} {rule}. Received: {values}")

    def require_one_of(self, choices: tuple, name: str) -> None:
        """Makes sure that a value is one of some.

        Raises:
            ConfigError: if it is not.
        """
        if getattr(self, name) not in choices:
            raise ConfigError(
                f"{name}={getattr(self, name)!r} is unknown. Choose one of {choices}."
            )

    def to_dict(self) -> dict:
        """The values as records keep them.

        Those of `LATER` are left out at their default, which is what was done before there were
        any: a run from then is found again.
        """
        fields = self.__dataclass_fields__
        values = asdict(self).items()
        return {n: v for n, v in values if n not in self.LATER or v != fields[n].default}

    def changed(self, **values) -> Self:
        """The recipe with other values; `None` for those that stay.

        Raises:
            ConfigError: for an unknown hyper-parameter, or a value out of its range.
        """
        values = {name: value for name, value in values.items() if value is not None}
        try:
            return replace(self, **values)
        except TypeError as error:
            known = ", ".join(self.__dataclass_fields__)
            raise ConfigError(
                f"Unknown hyper-parameter in {values}. A {type(self).__name__} has: {known}."
            ) from error


def resolve_profile(profile: str | None) -> str:
    """The profile to use: the given one, else `COURSE_PROFILE`, else "laptop".

    Raises:
        ConfigError: if there is none of that name.
    """
    profile = profile or os.environ.get("COURSE_PROFILE") or "laptop"
    if profile not in PROFILES:
        raise ConfigError(f"profile={profile!r} is unknown. Choose one of {PROFILES}.")
    return profile
