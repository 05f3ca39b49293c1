"""When do two addresses mean the same page?

The normalised form serves for one thing: its keyed hash tells whether a page is asked to be removed already.
Platforms get the address as it was found. Rules, in order:

1. Only http and https, at most 2,048 characters, no user name or password in it.
2. Scheme and host in lower case, the host in its IDNA form (RFC 3490), no trailing dot, no default port;
   http and https count as one.
3. `www.` and, for the hosts of MOBILE_HOSTS, the mobile host count as the plain host.
4. Percent-encoding in one spelling (RFC 3986 §6.2.2): unreserved characters plain, the rest in upper-case hex;
   dot segments resolved; repeated and trailing slashes dropped.
5. The fragment is dropped, and query parameters that only track the visitor; the others are sorted.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

LONGEST = 2048
"""Longest address that is taken, characters."""
MOBILE_HOSTS = {
    "m.blog.naver.com": "blog.naver.com",
    "m.cafe.naver.com": "cafe.naver.com",
    "m.dcinside.com": "gall.dcinside.com",
    "m.facebook.com": "facebook.com",
    "m.youtube.com": "youtube.com",
    "mobile.twitter.com": "x.com",
    "mobile.x.com": "x.com",
    "old.reddit.com": "reddit.com",
    "twitter.com": "x.com",
}
_TRACKING = re.compile(r"utm_.*|fbclid|gclid|dclid|igshid|igsh|mc_eid|mc_cid|msclkid|ttclid|twclid|_ga|spm")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATH_SAFE = "/-._~!$&'()*+,;=:@%"
_CODE = re.compile(r"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


class InvalidAddressError(ValueError):
    """Not an address that a platform could act on. The reason is a code; the address is never quoted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalise(address: str) -> str:
    """The one spelling of `address`; applying it twice changes nothing. Raises InvalidAddressError."""
    parts = _split(address)
    host = _host(parts)
    port = parts.port
    authority = host if port in (None, _DEFAULT_PORTS[parts.scheme.lower()]) else f"{host}:{port}"
    query = _query(parts.query)
    return f"https://{authority}{_path(parts.path)}" + (f"?{query}" if query else "")


def host_of(address: str) -> str:
    """The host that serves `address`, in its normalised form. Raises InvalidAddressError."""
    return _host(_split(address))


def _split(address: str) -> SplitResult:
    if not address or len(address) > LONGEST:
        raise InvalidAddressError("ADDRESS_LENGTH")
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in address):
        raise InvalidAddressError("ADDRESS_CONTROL_CHARACTER")
    try:
        parts = urlsplit(address)
        port_is_valid = parts.port != 0
    except ValueError:
        raise InvalidAddressError("ADDRESS_MALFORMED") from None
    if parts.scheme.lower() not in _DEFAULT_PORTS:
        raise InvalidAddressError("ADDRESS_SCHEME")
    if parts.username is not None or parts.password is not None:
        raise InvalidAddressError("ADDRESS_CREDENTIALS")
    if not parts.hostname or not port_is_valid:
        raise InvalidAddressError("ADDRESS_MALFORMED")
    return parts


def _host(parts: SplitResult) -> str:
    name = (parts.hostname or "").rstrip(".")
    if ":" in name:
        return f"[{name}]"
    try:
        host = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise InvalidAddressError("ADDRESS_MALFORMED") from None
    if not re.fullmatch(r"[a-z0-9._-]+", host):
        raise InvalidAddressError("ADDRESS_MALFORMED")
    bare = host.removeprefix("www.") or host
    return MOBILE_HOSTS.get(bare, bare)


def _path(path: str) -> str:
    # A percent sign that introduces nothing is one of its own; dealt with first, so that no new code arises.
    codes = _STRAY_PERCENT.sub("%25", path)
    plain = quote(_CODE.sub(_spell, codes), safe=_PATH_SAFE, errors="replace")
    # normpath keeps two leading slashes, as POSIX wants and URLs do not.
    return "/" + posixpath.normpath("/" + plain.lstrip("/")).lstrip("/")


def _spell(code: re.Match[str]) -> str:
    """An unreserved character plain, any other code in upper case: %2F is no slash."""
    character = chr(int(code[1], 16))
    return character if _UNRESERVED.fullmatch(character) else code[0].upper()


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    kept = sorted((name, value) for name, value in pairs if not _TRACKING.fullmatch(name.lower()))
    return urlencode(kept, errors="surrogateescape")
