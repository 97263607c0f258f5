"""Sources of the argument `config` of a feed: our own settings, or cryptofeed's configuration with a section `backpack` in it.

The section has cryptofeed's names for keys, or the fields of `BackpackConfig`, or both:

    backpack:
        key_id: <API key>           # the public key
        key_secret: <private key>
        use_sandbox: true

cryptofeed passes configuration over that it does not understand. Here a setting that looks as if it were meant for the feed is
refused, for the feed would not do as it was asked, and so is any other unknown one of a mapping that the feed is given.
A file, or the `Config` of a FeedHandler, is read by others as well: other settings in there are warned of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from cryptofeed.config import Config
from cryptofeed.exchanges import EXCHANGE_MAP
from pydantic import ValidationError

from backpack_proto.auth.keys import Credentials, read_public_key
from backpack_proto.errors import ConfigurationError, InvalidKey
from backpack_proto.hints import did_you_mean, shown
from backpack_runtime.cryptofeed.logs import LOG

from .model import OTHER_WORDS, BackpackConfig

__all__ = ["SECTION", "in_sandbox", "read_config"]

SECTION = "backpack"
_KEY_NAMES = {"key_id": "api_key", "key_secret": "private_key", "key_passphrase": "passphrase"}
_NO_FIELD = {"account_name"}
"""Settings that the section may have beside ours: they go to the base class."""
_OWN_FIELDS = frozenset(BackpackConfig.model_fields)
_CRYPTOFEED_FIELDS = {"log", "uvloop", "ignore_invalid_instruments", "symbol_cache_ttl", "backend_multiprocessing", SECTION}
_MISPLACED = {"api_key", "public_key", "private_key", "passphrase", *_KEY_NAMES}
_CLOSE = 0.8


def read_config(config: object = None) -> tuple[BackpackConfig, dict[str, Any]]:
    """Return the feed's settings, and the configuration for cryptofeed's base class.

    `config` is a `BackpackConfig` or a mapping of its fields. Cryptofeed's configuration as a mapping, as the path of its YAML file
    or as a `cryptofeed.config.Config`. Or None for the one that cryptofeed finds by itself (`CRYPTOFEED_CONFIG`). The one
    for the base class holds no secret: where private channels are switched on, its section says that there are keys.

    Raises:
        ConfigurationError: (a `ValueError`) it cannot be understood. The text names the fault and shows no key.
        TypeError: it is of another type.
        OSError: the file cannot be read.
    """
    own: Any = None
    others: dict[str, Any] = {}
    problem = ""
    try:
        if isinstance(config, BackpackConfig):
            own, others = config, _cryptofeed_fields(None)
        elif isinstance(config, Mapping) and not isinstance(config, Config) and _OWN_FIELDS & config.keys():
            if problem := _mixed(config):
                raise ConfigurationError(problem)
            own, others = BackpackConfig.coerce(config), _cryptofeed_fields(None)
        else:
            others = _cryptofeed_fields(config)
            own = _read_section(others.get(SECTION))
        others[SECTION] = _for_base_class(own, others.get(SECTION))
    except ValidationError as error:
        problem = _in_one_line(error)
        raise ConfigurationError(problem) from None
    else:
        return own, others
    finally:
        # For tools that print the locals of every frame of a traceback.
        del config, own, others


def in_sandbox(settings: BackpackConfig, sandbox: object) -> BackpackConfig:
    """Return the settings as cryptofeed's argument `sandbox` wants them. None leaves them as they are.

    Raises:
        ConfigurationError: it is neither True nor False, or the settings say the contrary.
    """
    if sandbox is None or sandbox is settings.use_sandbox:
        return settings
    if not isinstance(sandbox, bool):
        raise ConfigurationError(f"sandbox: True or False, got {shown(sandbox)}")
    if sandbox:
        return settings.model_copy(update={"use_sandbox": True})
    raise ConfigurationError("sandbox: False, but config has use_sandbox=True; leave one of the two out")


def _cryptofeed_fields(config: object) -> dict[str, Any]:
    """Return cryptofeed's form of a configuration. In all of its versions a mapping that it has made stays as it is."""
    try:
        if isinstance(config, str | PathLike):
            # cryptofeed goes on without a word. Its player gives a path that need not be there.
            if not Path(fspath(config)).is_file():
                LOG.warning("BACKPACK: the configuration file %s does not exist, the defaults hold", fspath(config))
            config = fspath(config)
        elif isinstance(config, Mapping):
            if unknown := _unknown(config):
                raise ConfigurationError(unknown)
            config = dict(config)
        elif config is None:
            named = os.environ.get("CRYPTOFEED_CONFIG")
            if named and not Path(named).is_file():
                LOG.warning("BACKPACK: the configuration file %s of CRYPTOFEED_CONFIG does not exist, the defaults hold", named)
        elif not isinstance(config, Config):
            raise TypeError(
                "config is a BackpackConfig, a mapping of its fields, or cryptofeed's configuration: a mapping, a path or a Config; "
                f"not a {type(config).__name__}"
            )
        found = dict(Config(config).config)
        if misplaced := _misplaced(found):
            raise ConfigurationError(misplaced)
        if unknown := _unknown(found):
            LOG.warning("BACKPACK: %s", unknown)
        return found
    finally:
        del config


def _read_section(section: object) -> BackpackConfig:
    fields: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    try:
        if section is None or isinstance(section, BackpackConfig):
            return BackpackConfig.coerce(section)
        if not isinstance(section, Mapping):
            raise ConfigurationError(f"the section {SECTION!r} is a mapping, or a BackpackConfig")
        fields = {name: value for name, value in section.items() if name not in _NO_FIELD}
        keys = {name: fields.pop(name) for name in _KEY_NAMES if name in fields}
        keys = {_KEY_NAMES[name]: value for name, value in keys.items() if value is not None and value != ""}
        if keys:
            if "auth" in fields:
                raise ConfigurationError(f"the section {SECTION!r} has keys twice: key_id, key_secret and auth")
            if "private_key" not in keys:
                raise ConfigurationError(f"the section {SECTION!r} has a key_id or a key_passphrase, but no key_secret")
            fields = {"enable_private_channels": True, "auth": _auth(keys), **fields}
        return BackpackConfig(**fields)
    finally:
        del section, fields, keys


def _auth(keys: dict[str, Any]) -> dict[str, Any]:
    """The fields of `BackpackAuthSettings`: cryptofeed has no place for a public key of its own, so it is the API key, or derived."""
    api_key = keys.get("api_key")
    public_key = read_public_key(api_key) if isinstance(api_key, str) else None
    if public_key is None:
        try:
            public_key = Credentials(keys["private_key"]).api_key
        except InvalidKey:
            # Its faults are reported when the settings are made.
            public_key = ""
    return {"api_key": public_key, **keys, "public_key": public_key}


def _for_base_class(config: BackpackConfig, section: object) -> dict[str, Any]:
    """The section as cryptofeed 2 asks for it where private channels are subscribed: whether there are keys, and the account's name."""
    found: dict[str, Any] = {}
    try:
        if isinstance(section, Mapping):
            found = {name: section[name] for name in _NO_FIELD if section.get(name)}
    finally:
        del section
    if config.requires_auth and config.auth is not None:
        found |= {"key_id": config.auth.public_key, "key_secret": "<hidden>"}
    return found


def _in_one_line(error: ValidationError) -> str:
    """Return the complaints of pydantic, each with its place. Those about our settings hold no value."""
    complaints = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        ": ".join(
            filter(
                None,
                ("config" + "".join(f".{part}" for part in complaint["loc"]), complaint["msg"].removeprefix("Value error, ")),
            )
        )
        for complaint in complaints
    )


def _mixed(config: Mapping[Any, Any]) -> str:
    """Return the fault of a mapping that is half ours and half cryptofeed's, or an empty text."""
    theirs = sorted((_CRYPTOFEED_FIELDS | _exchanges()) & config.keys())
    ours = sorted(_OWN_FIELDS & config.keys())
    if not theirs:
        return ""
    return (
        f"config has fields of BackpackConfig ({', '.join(ours)}) next to those of cryptofeed ({', '.join(theirs)}): "
        f"put the former into its section {SECTION!r}"
    )


def _misplaced(config: Mapping[Any, Any]) -> str:
    """Name settings that cryptofeed would pass over, though they must have been meant for the feed, or return an empty text."""
    known = _CRYPTOFEED_FIELDS | _exchanges()
    for name in config:
        if name in _MISPLACED:
            return f"{name} belongs into auth of a BackpackConfig, or (as key_id, key_secret) into the section {SECTION!r}"
        hint = "" if name in known else did_you_mean(name, sorted(_OWN_FIELDS), OTHER_WORDS, cutoff=_CLOSE)
        if hint:
            return f"config has no field {name}{hint}"
    return ""


def _unknown(config: Mapping[Any, Any]) -> str:
    """Name settings that neither cryptofeed nor the feed knows, or return an empty text."""
    if misplaced := _misplaced(config):
        return misplaced
    known = sorted(_CRYPTOFEED_FIELDS) + sorted(_exchanges() - _CRYPTOFEED_FIELDS)
    for name in config:
        if name not in known:
            hint = did_you_mean(name, [*sorted(_OWN_FIELDS), *known], OTHER_WORDS)
            return f"config has no field {_named(name)}{hint or '; there are those of BackpackConfig, and those of cryptofeed'}"
    return ""


def _named(name: object) -> str:
    return name if isinstance(name, str) and name.isidentifier() and shown(name) == repr(name) else shown(name)


def _exchanges() -> set[str]:
    return {str(name).lower() for name in EXCHANGE_MAP}
