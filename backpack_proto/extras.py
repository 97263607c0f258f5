"""Extras: libraries that only some features need, and the error of a feature whose extra is not installed."""

from __future__ import annotations

from .errors import BackpackError

__all__ = ["MissingExtra"]


class MissingExtra(BackpackError, ImportError):
    """A feature needs an extra that is not installed.

    `feature` is the feature, `extra` the name of the extra, `reason` why Python could not import it, and `name` the module.
    """

    def __init__(self, feature: str, extra: str, missing: ImportError) -> None:
        super().__init__(feature, extra, str(missing))
        self.feature = feature
        self.extra = extra
        self.reason = str(missing)
        self.name = missing.name

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, ImportError]]:
        """Return the arguments that make an equal error."""
        return type(self), (self.feature, self.extra, ImportError(self.reason, name=self.name))

    def __str__(self) -> str:
        return (
            f'{self.feature} needs the extra "{self.extra}" ({self.reason}):'
            f' in a checkout pip install ".[{self.extra}]", or with the wheel pip install "<file of the wheel>[{self.extra}]"'
        )
