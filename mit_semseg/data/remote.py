"""Remote files: a name that is an address (``https://...``, ``s3://...``) is fetched, and a copy is kept.

fsspec fetches. Its own caches have no bound, so `FileCache` keeps the copies.
"""

import itertools
import posixpath
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any
from urllib.parse import quote

from ..errors import ContentError, UserError
from ..runtime.log import get_logger
from ..runtime.packages import require
from .file_cache import FileCache

INSTALL = "fsspec aiohttp"

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # at least two letters: C:// is a drive
_HTTP = ("http", "https")
_ATTEMPTS = 6
_PAUSE_S = 0.5  # before the second attempt; it doubles with each further one
_TIMEOUT_S = 30.0  # for a connection, and for the next bytes
_PATIENCE_S = 60.0  # no attempt starts later than this
_LONGEST_S = 600.0  # for the whole answer, in case its bytes trickle
_TEMPORARY = (408, 425, 429)  # the 4xx answers after which a retry can succeed
_GONE = (404, 410)
_BEYOND_END = 416
_FINAL = {  # errors that a retry would repeat, by the names of their classes, most of which are aiohttp's
    "ClientConnectorCertificateError": "the certificate of the server is not accepted",
    "NonHttpUrlRedirectClientError": "the server redirects to something other than a web address",
    "TooManyRedirects": "the server redirects again and again",
    "ValueError": "this is not a valid address",
}

_chance = random.SystemRandom()  # the seeded generators belong to the augmentation


class Address(str):
    """The address of a remote file, with the cache for its copy. It is a text, and not a path.

    Content at an address counts as unchanging: a copy is not compared with the remote file again.
    """

    __slots__ = ("cache",)
    cache: FileCache

    def __new__(cls, text: str, cache: FileCache | None = None) -> "Address":
        address = super().__new__(cls, text)
        address.cache = cache or FileCache.of(None)
        return address

    def __reduce__(self) -> Any:
        return Address, (str(self), self.cache)

    def joined(self, path: str) -> "Address":
        """The address of a path below this one."""
        relative = posixpath.normpath(path.replace("\\", "/"))
        if self.scheme in _HTTP:  # names of objects in buckets are used literally
            relative = quote(relative, errors="surrogatepass")
        return Address(f"{self.rstrip('/')}/{relative}", self.cache)

    @property
    def scheme(self) -> str:
        return self.partition("://")[0].lower()


def address_of(name: str | PathLike[str], cache: FileCache | None = None) -> Address | None:
    """The address that a name is; None for the path of a file.

    Args:
        cache: for a name that does not have one yet; None for the default one.

    >>> address_of("https://host/a.jpg"), address_of("photos/a.jpg")
    ('https://host/a.jpg', None)
    """
    if isinstance(name, Address):
        return name
    text = fspath(name)
    return Address(text, cache) if _ADDRESS.match(text) else None


def as_path(name: str) -> str:
    """A name as a path in an output folder: an address without its scheme and its query.

    >>> as_path("https://host/a/b.jpg?version=2"), as_path("a/b.jpg")
    ('host/a/b.jpg', 'a/b.jpg')
    """
    if address_of(name) is None:
        return name
    return name.partition("://")[2].partition("?")[0].replace(":", "_")


def fetched(name: Address, part: tuple[Address, int, int] | None = None) -> bytes:
    """The content under a name, from its copy, or else from the network.

    Args:
        part: if the name stands for a part of a file, that file, the first byte and the number of bytes.

    Raises: ContentError if it cannot be fetched; UserError if a package is missing or the cache fails.
    """
    content = name.cache.get(name)
    if content is None:
        address, start, size = part or (name, None, None)
        content = _fetch(address, start, size)
        name.cache.put(name, content)
    return content


def forget(name: str | PathLike[str]) -> None:
    """Remove the copy under a name that is an address, so that it is fetched again."""
    if address := address_of(name):
        address.cache.remove(address)


@contextmanager
def forgetting(name: str | PathLike[str]) -> Iterator[None]:
    """An error in the block removes the copy under a name: what a server sent by mistake is not kept."""
    try:
        yield
    except Exception:
        forget(name)
        raise


class _FinalError(Exception):
    """Another attempt would fail, too. Its arguments are those of ContentError, without the address."""


def _fetch(address: Address, start: int | None, size: int | None) -> bytes:
    """The content of a file, or ``size`` bytes from ``start``."""
    system, path = _file_system(address)
    end = None if start is None or size is None else start + size
    began = time.monotonic()
    for attempt in itertools.count(1):
        try:
            content: bytes = system.cat_file(path, start=start, end=end)
            if size is None or len(content) == size:
                return content
            kind, reason = "truncated", f"{len(content):,} bytes came instead of {size:,}"
        except _FinalError as error:
            kind, reason = error.args
            raise ContentError(kind, f"{address} {reason}") from None
        except FileNotFoundError:
            raise ContentError("missing", f"{address} does not exist.") from None
        except PermissionError as error:
            raise ContentError("unreadable", f"{address} may not be read: {_words(error)}.") from None
        except Exception as error:  # each file system raises errors of its own
            for each in type(error).__mro__:
                if final := _FINAL.get(each.__name__):
                    raise ContentError("unreadable", f"{address} cannot be fetched: {final}.") from None
            kind, reason = "unreadable", _words(error)
        if attempt == _ATTEMPTS or time.monotonic() - began > _PATIENCE_S:
            raise ContentError(kind, f"{address} cannot be fetched: {reason} ({attempt} attempts).")
        if attempt > 1:  # a single failure is common
            get_logger().warning("%s: %s. Attempt %d follows.", address, reason, attempt + 1)
        # Varied, so that many workers do not come back at the same time.
        time.sleep(_PAUSE_S * 2 ** (attempt - 1) * _chance.uniform(0.5, 1))
    raise AssertionError


def _file_system(address: Address) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Asked for each time: fsspec keeps one of each kind, and makes new ones after a fork.
    """
    core = require("fsspec.core", address, INSTALL)
    name = address.scheme + address[len(address.scheme) :]  # fsspec knows schemes in lower case only
    options: dict[str, Any] = {}
    if address.scheme in _HTTP:
        aiohttp = require("aiohttp", address, INSTALL)
        timeout = aiohttp.ClientTimeout(_LONGEST_S, sock_connect=_TIMEOUT_S, sock_read=_TIMEOUT_S)
        options["client_kwargs"] = {
            "timeout": timeout,
            "trust_env": True,  # proxies, and passwords in .netrc
            "headers": {"Accept-Encoding": "identity"},  # a part of a compressed answer is of no use
            "raise_for_status": _check,
        }
    try:
        if options:  # url_to_fs would split the address at "::", as in http://[::1]/a.jpg
            return core.get_filesystem_class(address.scheme)(**options), name
        system, path = core.url_to_fs(name)
    except ImportError as error:
        raise UserError(f"{address} needs another package, by pip: {_words(error)}.") from None
    except ValueError as error:
        raise UserError(f"{address} cannot be fetched: {_words(error)}.") from None
    return system, path


async def _check(response: Any) -> None:
    """Looks at the status of an answer before its body is read."""
    status = response.status
    what = f"the server answered {status} {response.reason or ''}".rstrip()
    if status in _GONE:
        raise FileNotFoundError
    if status == _BEYOND_END:
        raise _FinalError("truncated", f"is shorter than the list says: {what}.")
    if 400 <= status < 500 and status not in _TEMPORARY:
        raise _FinalError("unreadable", f"may not be read: {what}.")
    if status >= 400:
        raise OSError(what)
    asked = response.request_info.headers.get("Range", "").removeprefix("bytes=")
    if not asked:
        return
    if status != 206:  # the body would be the whole shard, for each image
        raise _FinalError(
            "unreadable",
            "cannot be read in parts, as images in shards are: the server sends only whole files (it ignores "
            "the header Range). Use another server, or copy the shards to the disk.",
        )
    sent = response.headers.get("Content-Range", "")
    if not sent.startswith(f"bytes {asked.partition('-')[0]}-"):
        raise OSError(f"the server sent another part ({sent or 'without Content-Range'})")


def _words(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return f"no data arrived for {_TIMEOUT_S:g} s"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
