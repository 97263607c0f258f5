"""How random tests search: the same examples for everybody by default, new ones and more of them where somebody asks.

`pytest` loads `default`. `pytest --hypothesis-profile=search` (`tox run -e search`) draws new examples in each run and keeps what
failed in `.hypothesis/`, so that the next search begins with it.

Hypothesis also draws constants that it finds in the sources, but for installed packages and tests. So examples are the same to the last
one where the project is installed, as tox does, and may differ where the packages are imported from a checkout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

__all__ = ["examples", "register"]

USUAL_EXAMPLES = 100
"""A test that asks for this number gets what the profile says, and every other one in proportion."""
SEARCHED_EXAMPLES = 1_000


def register(checkout: Path) -> None:
    """Register both profiles and load `default`. Pytest's own option loads another one later."""
    # No test may fail because the machine is busy, so nothing here looks at a clock.
    calm: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
    settings.register_profile("default", max_examples=USUAL_EXAMPLES, derandomize=True, database=None, **calm)
    settings.register_profile(
        "search",
        max_examples=SEARCHED_EXAMPLES,
        derandomize=False,
        database=DirectoryBasedExampleDatabase(checkout / ".hypothesis/examples"),
        **calm,
    )
    settings.load_profile("default")


def examples(usual: int, *, steps: int = 50) -> settings:
    """Settings of a test that tries `usual` examples by default, and as many more as the profile in use searches.

    `steps` bounds one example of a state machine. Tests take their settings from here and nowhere else (ruff says so), for a number
    that is written into a test would hold in every profile.
    """
    return settings(max_examples=usual * settings().max_examples // USUAL_EXAMPLES, stateful_step_count=steps)
