"""Keys in the texts that people have: JSON, lines of NAME=VALUE, bare lines, PEM.

    text ──> PEM blocks become hex ──> JSON object, or lines ──> names known to mean a key ──> `KeyTexts`

The meaning of a name is looked up without regard to capitals and punctuation: `apiKey`, `API_KEY` and `BACKPACK_API_KEY` are one. Where
any name begins with BACKPACK, the others are keys of another service. Functions return faults as text, for the frames of
an error would have the text among their locals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, NoReturn, TypeAlias, final

import msgspec

from backpack_proto.errors import InvalidKey

from .material import open_private, pem_blocks, read_private, read_public

__all__ = ["FORMS", "HiddenText", "KeyTexts", "hide", "parse_keys", "pick_keys"]

FORMS = "a JSON object, lines of NAME=VALUE, a bare key, two bare keys, or PEM"
_EXCHANGE = ("backpackexchange", "backpack", "bpx")
"""Words that may stand before the name of a key."""
_MEANINGS = {
    "private_key": "privatekey secret secretkey apisecret apisecretkey apiprivatekey keysecret signingkey seed private",
    "api_key": "apikey key keyid apikeyid accesskey",
    "public_key": "publickey pubkey apipublickey verifyingkey public",
    "passphrase": "passphrase apipassphrase keypassphrase",
}
_NAMES = {name: meaning for meaning, names in _MEANINGS.items() for name in names.split()}
_LINE = re.compile(r"(?:export\s|set\s|\$env:)?([A-Za-z\s][\w .-]*)[=:](.*)")
_QUOTED = re.compile(r"(['\"])(.*?)\1\s*(?:[#;].*)?,?")
_COMMENT = re.compile(r"(?<=\s)[#;].*")
_IGNORED = ("#", ";", "//", "[")
"""Beginnings of lines without a key: comments, and the sections of an INI file."""


@final
class HiddenText:
    """Text that is shown only to callers that ask for it by name."""

    __slots__ = ("reveal",)

    def __init__(self, text: str) -> None:
        self.reveal: Callable[[], str] = lambda: text
        """Gives the text."""

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("secrets cannot be pickled")


class KeyTexts(NamedTuple):
    """The keys of one account as they were written. Nothing has been checked."""

    private_key: HiddenText | None = None
    api_key: HiddenText | None = None
    public_key: HiddenText | None = None
    passphrase: HiddenText | None = None


_Pairs: TypeAlias = list[tuple[str, HiddenText]]


def hide(content: str | bytes) -> HiddenText:
    """Put the content of a key file out of sight, as text without a byte order mark."""
    if isinstance(content, bytes):
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        content = content.decode("utf-16" if wide else "utf-8", errors="replace")
    return HiddenText(content.removeprefix("\ufeff").strip())


def parse_keys(text: HiddenText) -> KeyTexts:
    """Find the keys in a text, such as the content of a key file.

    Raises:
        InvalidKey: it has no key, or names one twice. The error never holds the text.
    """
    found = _parse(text.reveal())
    if isinstance(found, str):
        raise InvalidKey(found)
    return found


def pick_keys(values: Mapping[str, str], *, prefixed: bool = False) -> KeyTexts:
    """Find the keys among named values, such as those of the environment. With `prefixed` only names that begin with BACKPACK count.

    Raises:
        InvalidKey: one is named twice, with different values.
    """
    found = _pick([(name, HiddenText(value)) for name, value in values.items()], prefixed=prefixed)
    del values
    if isinstance(found, str):
        raise InvalidKey(found)
    return found


def _parse(text: str) -> KeyTexts | str:
    public: set[str] = set()
    for label, raw, block in list(pem_blocks(text)):
        if raw is None:
            problem = read_private(block) if "PRIVATE" in label else f"the PEM block `BEGIN {label}` is no Ed25519 key"
            return str(problem)
        text = text.replace(block, raw.hex(), 1)
        if "PRIVATE" not in label:
            public.add(raw.hex())
    if "-----BEGIN" in text:
        return "there is a block of PEM in it without an end"
    found = _in_json(text) if text.startswith("{") else _in_lines(text, public)
    if isinstance(found, KeyTexts) and not any(found):
        return f"there is no key in it: {FORMS} would do"
    return found


def _in_json(text: str) -> KeyTexts | str:
    """The keys in a JSON object, or in an object that is a member of it: of `backpack`, or the only one that has any."""
    try:
        members = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        # Not chained to an error that would show the text.
        return f"there is no key in it, and it is no JSON object: {FORMS} would do"
    found = _pick(_texts(members))
    if isinstance(found, str) or any(found):
        return found
    within = {name: _pick(_texts(member)) for name, member in members.items() if isinstance(member, dict)}
    some = {name: keys for name, keys in within.items() if isinstance(keys, str) or any(keys)}
    ours = [keys for name, keys in some.items() if _plain(name) in _EXCHANGE] or list(some.values())
    if len(ours) > 1:
        return "it has the keys of several accounts: put those of one into a file of their own"
    return ours[0] if ours else KeyTexts()


def _texts(members: Mapping[str, object]) -> _Pairs:
    return [(name, HiddenText(value)) for name, value in members.items() if isinstance(value, str)]


def _in_lines(text: str, public: set[str]) -> KeyTexts | str:
    pairs: _Pairs = []
    bare: list[HiddenText] = []
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith(_IGNORED):
            continue
        alone = line.strip("'\",")
        if not isinstance(read_private(alone), str):
            # Looked at first, for the padding of base64 looks like the sign between name and value.
            bare.append(HiddenText(alone))
        elif named := _LINE.fullmatch(line):
            pairs.append((named[1], HiddenText(_value(named[2].strip()))))
    found = _pick(pairs)
    if isinstance(found, str) or not bare:
        return found
    return _with_bare(found, bare, public)


def _value(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    return _COMMENT.sub("", text).strip() if quoted is None else quoted[2].strip()


def _with_bare(found: KeyTexts, bare: list[HiddenText], public: set[str]) -> KeyTexts | str:
    """Add keys that stand on lines of their own: one is private. Of two, one is the public key of the other."""
    known_public = [key for key in bare if key.reveal() in public]
    private = [key for key in bare if key.reveal() not in public]
    if len(known_public) <= 1 and len(private) <= 1:
        added = KeyTexts(private_key=private[0] if private else None, public_key=known_public[0] if known_public else None)
    elif len(private) == 2 and not known_public:
        belongs = [_belongs(public_key, private_key) for public_key, private_key in (private, private[::-1])]
        if not any(belongs):
            return "there are two keys in it, and neither is the public key of the other"
        api_key, private_key = private if belongs[0] else private[::-1]
        added = KeyTexts(private_key=private_key, api_key=api_key)
    else:
        return f"there are {len(bare)} keys in it without names: give each its name, as in private_key=..."
    twice = [name for name, old, new in zip(KeyTexts._fields, found, added, strict=True) if old and new]
    if twice:
        return f"it has {twice[0]} twice, once without a name"
    return KeyTexts(*(old or new for old, new in zip(found, added, strict=True)))


def _belongs(public_key: HiddenText, private_key: HiddenText) -> bool:
    opened = open_private(private_key.reveal())
    return not isinstance(opened, str) and opened[1] == read_public(public_key.reveal())


def _pick(pairs: Iterable[tuple[str, HiddenText]], *, prefixed: bool = False) -> KeyTexts | str:
    ours: dict[str, HiddenText] = {}
    others: dict[str, HiddenText] = {}
    for name, value in pairs:
        plain = _plain(name)
        prefix = next((prefix for prefix in _EXCHANGE if plain.startswith(prefix)), "")
        meaning = _NAMES.get(plain.removeprefix(prefix))
        if meaning is None or not value.reveal().strip():
            continue
        found = ours if prefix else others
        if meaning in found and found[meaning].reveal() != value.reveal():
            return f"it has {meaning} twice, with different values"
        found[meaning] = value
    return KeyTexts(**(ours if ours or prefixed else others))


def _plain(name: str) -> str:
    """A name without capitals and punctuation."""
    return "".join(character for character in name.lower() if character.isalnum())
