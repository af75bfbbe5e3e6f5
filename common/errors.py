"""Errors made for users: each says what was wrong, where, and what to do."""


class CourseError(Exception):
    """Base of all errors that the course raises on purpose; its text is meant for the user."""


class ConfigError(CourseError):
    """A parameter, profile, data set or model name that the course does not know."""


class DataError(CourseError):
    """A file or folder of images, labels or captions that cannot be used as it is."""
