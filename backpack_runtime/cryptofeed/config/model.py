"""Settings of a feed: one frozen, checked value, made by a program, from a mapping or from cryptofeed's own configuration.

No repr, dump, pickle or error of it shows a private key or a passphrase, and neither do the frames of this module in a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias, final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from backpack_proto.auth.keys import Credentials, read_public_key
from backpack_proto.auth.signing import DEFAULT_WINDOW_MS, MAX_WINDOW_MS, Scheme, Signer
from backpack_proto.errors import ConfigurationError, InvalidKey
from backpack_proto.hints import did_you_mean
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.key_sources import EXPOSED, HiddenText, read_key_file
from backpack_runtime.network.addresses import REST_URL, WS_URL, Address
from backpack_runtime.network.proxy_settings import InvalidProxy, Proxies, ProxiesLike
from backpack_runtime.settings import Settings

__all__ = ["OTHER_WORDS", "BackpackAuthSettings", "BackpackConfig"]

_HIDDEN = "**********"
_MAX_FIELD_NAME = 40
OTHER_WORDS = {
    "sandbox": "use_sandbox",
    "testnet": "use_sandbox",
    "key_id": "auth",
    "key_secret": "auth",
    "secret": "private_key",
}
"""Words of other configurations, for hints."""


def _read_secret(value: object) -> HiddenText:
    """Text that is put out of sight."""
    if isinstance(value, HiddenText):
        return value
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        raise ValueError("it is text; in YAML, a value of digits alone wants quotes")  # noqa: TRY004 - pydantic wants this one
    return HiddenText(value)


def _keys_in_file(path: object) -> dict[str, Any]:
    """The fields of `BackpackAuthSettings` out of a file. The API key is the public key, and may be derived."""
    try:
        if not isinstance(path, str | Path):
            raise ValueError("key_file: the path of a file")  # noqa: TRY004 - pydantic wants this one
        keys, exposed = read_key_file(HiddenText(str(path)))
    finally:
        del path
    if exposed:
        LOG.warning("BACKPACK: %s", EXPOSED)
    public_key = keys.public_key or keys.api_key
    if keys.private_key is not None and public_key is None:
        try:
            public_key = HiddenText(Credentials(keys.private_key.reveal()).api_key)
        except InvalidKey as error:
            raise ValueError(str(error)) from None
    texts = {"private_key": keys.private_key, "passphrase": keys.passphrase}
    return {
        **{name: text for name, text in texts.items() if text is not None},
        **({} if public_key is None else {"public_key": public_key.reveal(), "api_key": (keys.api_key or public_key).reveal()}),
    }


def _read_proxies(value: Any) -> Proxies | None:
    try:
        return None if value is None else Proxies.of(value)
    except InvalidProxy as error:
        raise ValueError(str(error)) from None


def _hide(value: object) -> str | None:
    return None if value is None else _HIDDEN


_Secret: TypeAlias = Annotated[
    HiddenText,
    BeforeValidator(_read_secret),
    PlainSerializer(_hide, when_used="json"),
    WithJsonSchema({"type": "string", "format": "password"}),
]
_Proxies: TypeAlias = Annotated[
    Any,
    BeforeValidator(_read_proxies),
    PlainSerializer(_hide, when_used="json"),
    WithJsonSchema({}),
]


class _Settings(BaseModel):
    """A frozen value that knows its fields, refuses others, and names the fault of one without showing it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    def __init__(self, /, **data: Any) -> None:
        problem: ValidationError | None = None
        try:
            super().__init__(**data)
        except ValidationError as error:
            problem = _without_inputs(error, type(self).model_fields)
        if problem is not None:
            # For tools that print the locals of every frame of a traceback.
            del data
            raise problem

    def __copy__(self) -> Self:
        """Return itself: it cannot change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return itself: secrets are not multiplied."""
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002 - pydantic's
        """Return a copy with other values, which are checked like those of a new one.

        Raises:
            ValidationError: a value is impossible.
        """
        try:
            return type(self)(**{**self._given(), **(update or {})})
        finally:
            del update

    def _given(self) -> dict[str, Any]:
        """The fields that are not left to their defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}


@final
class BackpackAuthSettings(_Settings):
    """The keys of one account.

    `private_key` is the 32-byte Ed25519 seed and `public_key` belongs to it. Each is hex or base64, and base64 afterwards.
    In a mapping `key_file` may name, in their place, a file that has them, in any form that `Credentials.from_file` reads.
    `api_key` is the public key again, as the exchange has it. Only where requests are signed in the `request` scheme may it be
    another text. `X-API-Key` carries it there. `passphrase` is sent in that scheme only. Source: docs/protocol.md 2.1.

    Raises:
        ValidationError: (a `ValueError`) a key is malformed, or does not belong to the others.
    """

    # Each is checked against those that stand before it.
    private_key: _Secret
    public_key: str
    api_key: str
    passphrase: _Secret | None = None
    _credentials: Credentials = PrivateAttr()

    if TYPE_CHECKING:  # more types may be given than a field holds

        def __init__(
            self,
            *,
            api_key: str,
            public_key: str,
            private_key: str | SecretStr | HiddenText,
            passphrase: str | SecretStr | HiddenText | None = None,
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _read_key_file(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or "key_file" not in fields:
            return fields
        try:
            if len(fields) > 1:
                raise ValueError("key_file has the keys: leave out the others")
            return _keys_in_file(fields["key_file"])
        finally:
            del fields

    @field_validator("private_key", mode="after")
    @classmethod
    def _read_private_key(cls, value: HiddenText) -> HiddenText:
        try:
            Credentials(value.reveal())
        except InvalidKey as error:
            raise ValueError(str(error)) from None
        # The reader of a public key reads any 32 bytes. The longer form of a private key stays as it is.
        return HiddenText(read_public_key(value.reveal()) or value.reveal().strip())

    @field_validator("public_key", mode="after")
    @classmethod
    def _read_public_key(cls, value: str, info: ValidationInfo) -> str:
        private_key = info.data.get("private_key")
        public_key = read_public_key(value)
        if public_key is None:
            raise ValueError("it is not 32 bytes in hex or base64")
        if private_key is None:
            return public_key
        if _are_swapped(value, private_key):
            raise ValueError("public_key and private_key are swapped")
        if public_key != Credentials(private_key.reveal()).api_key:
            raise ValueError("public_key does not belong to private_key")
        return public_key

    @field_validator("api_key", mode="after")
    @classmethod
    def _read_api_key(cls, value: str, info: ValidationInfo) -> str:
        if not _fits_header(value.strip()):
            raise ValueError("it is printable ASCII text, and not empty")
        if not {"private_key", "public_key"} <= info.data.keys():
            return value  # the complaint about those comes first
        if _same_key(value, info.data["private_key"].reveal()):
            raise ValueError("that is the private key; api_key is sent with every request")
        public_key = read_public_key(value)
        return public_key if public_key == info.data["public_key"] and public_key is not None else value.strip()

    @field_validator("passphrase", mode="after")
    @classmethod
    def _read_passphrase(cls, value: HiddenText | None) -> HiddenText | None:
        if value is not None and not _fits_header(value.reveal()):
            raise ValueError("it is printable ASCII text, and not empty")
        return value

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002 - pydantic's
        """Open the keys."""
        passphrase = None if self.passphrase is None else self.passphrase.reveal()
        self._credentials = Credentials(self.private_key.reveal(), passphrase=passphrase)

    @property
    def credentials(self) -> Credentials:
        """The keys that sign."""
        return self._credentials

    @property
    def is_key_of_account(self) -> bool:
        """True when `api_key` is the public key, as the exchange has it."""
        return self.api_key == self.public_key

    def __repr_args__(self) -> list[tuple[str, str]]:
        """The beginning of the public key only."""
        return [("public_key", f"{self.public_key[:8]}...")]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BackpackAuthSettings) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.public_key, self.api_key))

    def _identity(self) -> tuple[str, str, str | None]:
        """Return the parts that equal ones have in common. The public key stands for the private one."""
        return self.public_key, self.api_key, None if self.passphrase is None else self.passphrase.reveal()


@final
class BackpackConfig(_Settings):
    """All settings of a feed.

    Raises:
        ValidationError: (a `ValueError`) a field is unknown, impossible or contradicts another. The text names it.
    """

    enable_private_channels: bool = False
    auth: BackpackAuthSettings | None = None
    proxies: _Proxies = Field(default=None, repr=False)
    """A URL or `{"url": ...}`, which serve both kinds of connections, or `{"http": ..., "websocket": ...}` of such."""
    window_ms: int = Field(default=DEFAULT_WINDOW_MS, ge=1, le=MAX_WINDOW_MS, strict=True)
    """Time that a signature is good for, milliseconds."""
    use_sandbox: bool = False
    """Speak with a simulated exchange: that at `sandbox_url`, or one that is started along."""
    signing: Scheme = Scheme.INSTRUCTION
    """Scope of a signature. `instruction` is accepted by the exchange (docs/protocol.md section 2)."""
    sandbox_url: str | None = None
    """Where a simulated exchange is served: `https://host:port`, and the path before all of its paths, if it has one."""
    ca_file: FilePath | None = None
    """Authorities (PEM) that are trusted instead of the system's."""

    if TYPE_CHECKING:  # as above

        def __init__(
            self,
            *,
            enable_private_channels: bool = False,
            auth: BackpackAuthSettings | Mapping[str, Any] | None = None,
            proxies: ProxiesLike = None,
            window_ms: int = DEFAULT_WINDOW_MS,
            use_sandbox: bool = False,
            signing: Scheme | str = Scheme.INSTRUCTION,
            sandbox_url: str | None = None,
            ca_file: str | Path | None = None,
        ) -> None: ...

    @field_validator("sandbox_url", mode="after")
    @classmethod
    def _read_sandbox_url(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                Address.of_rest(value)
        except ConfigurationError:
            # Its text may hold a part of the URL.
            raise ValueError(
                "it is https://host:port or http://host:port, a path may follow; no user, password, query or fragment"
            ) from None
        return None if value is None else value.rstrip("/")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.enable_private_channels and self.auth is None:
            raise ValueError("enable_private_channels=True requires auth credentials")
        if self.sandbox_url is not None and not self.use_sandbox:
            raise ValueError("sandbox_url requires use_sandbox=True")
        if self.signing is Scheme.INSTRUCTION and self.auth is not None:
            if not self.auth.is_key_of_account and read_public_key(self.auth.api_key) is not None:
                raise ValueError("auth.api_key does not belong to auth.private_key; at Backpack it is the public key")
            if self.auth.passphrase is not None:
                raise ValueError("auth.passphrase is sent in the request scheme only; leave it out, or set signing='request'")
        return self

    @classmethod
    def coerce(cls, value: BackpackConfig | Mapping[str, Any] | None = None, **updates: Any) -> BackpackConfig:
        """Return a config as it is, or make one of a mapping of its fields, or the default. `updates` replace single fields.

        Raises:
            ValidationError: a field is unknown, impossible or contradicts another.
            TypeError: it is of another type.
        """
        try:
            if isinstance(value, BackpackConfig):
                return value.model_copy(update=updates) if updates else value
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(f"a BackpackConfig or a mapping of its fields is wanted, not a {type(value).__name__}")
            return cls(**{**(value or {}), **updates})
        finally:
            del value, updates

    @property
    def rest_url(self) -> str | None:
        """Where REST calls go, or None for a sandbox that is started along, which has no address yet."""
        return self.sandbox_url if self.use_sandbox else REST_URL

    @property
    def ws_url(self) -> str | None:
        """Where the websocket is. None as for `rest_url`."""
        if not self.use_sandbox:
            return WS_URL
        return None if self.sandbox_url is None else "ws" + self.sandbox_url.removeprefix("http")

    def settings(self) -> Settings:
        """Return how the exchange is reached. A sandbox that is started along has its addresses put in when it is."""
        return Settings(
            rest_url=self.rest_url or REST_URL,
            ws_url=self.ws_url or WS_URL,
            ca_file=self.ca_file,
            proxies=self.proxies,
        )

    @property
    def requires_auth(self) -> bool:
        """True when private channels are wanted, and thus signed."""
        return self.enable_private_channels

    def signer(self) -> Signer | None:
        """Return the signer of requests and subscriptions, or None without credentials.

        An API key that the scheme does not send is warned of in the log.
        """
        if self.auth is None:
            return None
        if self.signing is Scheme.INSTRUCTION and not self.auth.is_key_of_account:
            LOG.warning(
                "BACKPACK: auth.api_key is not a key of this account and is not sent: at Backpack the API key is the public key %s...",
                self.auth.public_key[:8],
            )
        return Signer(self.auth.credentials, scheme=self.signing, window_ms=self.window_ms, api_key=self.auth.api_key)


def _without_inputs(error: ValidationError, known: Iterable[str]) -> ValidationError:
    """Return the same complaints without the inputs, which pydantic keeps. An unknown field gets the one that was meant."""
    complaints: list[InitErrorDetails] = []
    for complaint in error.errors(include_url=False, include_context=False, include_input=False):
        message = complaint["msg"].removeprefix("Value error, ")
        if complaint["type"] == "extra_forbidden" and len(complaint["loc"]) == 1:
            message += did_you_mean(complaint["loc"][0], known, OTHER_WORDS) or f"; there are {', '.join(known)}"
        complaints.append(
            InitErrorDetails(
                type=PydanticCustomError(complaint["type"], message),
                loc=tuple(_shown(part) for part in complaint["loc"]),
                input=_HIDDEN,
            )
        )
    return ValidationError.from_exception_data(error.title, complaints, hide_input=True)


def _shown(part: int | str) -> int | str:
    """Return the name of a field. Text that may be a key in the wrong place is not repeated."""
    return part if isinstance(part, int) or (part.isidentifier() and len(part) <= _MAX_FIELD_NAME) else _HIDDEN


def _same_key(one: str, other: str) -> bool:
    """Return whether two texts are the same 32 bytes, or begin with them as private keys."""
    try:
        return Credentials(one).api_key == Credentials(other).api_key
    except InvalidKey:
        return False


def _are_swapped(public_key: str, private_key: HiddenText) -> bool:
    try:
        return Credentials(public_key).api_key == read_public_key(private_key.reveal())
    except InvalidKey:
        return False


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip() and bool(text)
