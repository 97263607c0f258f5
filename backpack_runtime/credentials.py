"""`Credentials` that can be read from the environment and from a file, which the core has no access to."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Self

from backpack_proto.auth import keys
from backpack_proto.errors import ConfigurationError

from .key_sources import ENVIRONMENT, EXPOSED, HiddenText, read_environment, read_key_file

__all__ = ["Credentials"]


class Credentials(keys.Credentials):
    """The keys of one account, also from the environment or from a file.

    Otherwise it is `backpack_proto.Credentials`: it signs, and never shows its keys.
    """

    __slots__ = ()

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Take the keys from `BACKPACK_PRIVATE_KEY` and, if they are there, `BACKPACK_API_KEY` and `BACKPACK_PUBLIC_KEY`.

        Other usual names do as well, such as `BACKPACK_API_SECRET`. `environment` is that of the process unless given.

        Raises:
            ConfigurationError: there is no private key, or one is there twice.
            InvalidKey: a key is malformed, or another does not belong to the private one.
        """
        found = read_environment(os.environ if environment is None else environment)
        # A mapping that was given may hold more than these, and tools print the locals of every frame of a traceback.
        del environment
        if isinstance(found, str):
            raise ConfigurationError(found)
        if found.private_key is None:
            raise ConfigurationError(f"there is no private key in the environment: set {ENVIRONMENT['private_key']}")
        return cls._of(found, "the environment")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read the keys from a file: JSON, lines of NAME=VALUE, one bare key or two, or PEM (docs/ways-in.md).

        A file that other users can read is worth a `UserWarning`.

        Raises:
            ConfigurationError: the file cannot be read, or there is no key in it.
            InvalidKey: a key is malformed, or another does not belong to the private one.
        """
        # A key may have been given in the place of the file's name.
        name = HiddenText(os.fspath(path))
        del path
        found, exposed = read_key_file(name)
        if exposed:
            warnings.warn(f"{EXPOSED}: take their rights away, as by `chmod 600`", stacklevel=2)
        return cls._of(found, "the key file")
