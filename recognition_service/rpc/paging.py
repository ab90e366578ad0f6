"""Page tokens: where a list goes on, bound to the list it came from."""

import base64
import binascii
import hashlib

from recognition_service.refusals import FieldError

_CHECK_BYTES = 8


def page_token(after: str, *listing: str) -> str:
    """A token for what follows `after`.  listing: names the list, e.g. ("subjects", partition)."""
    return base64.urlsafe_b64encode(_check(after, listing) + after.encode()).decode()


def after_of(token: str, *listing: str) -> str:
    """The position of a token, "" for the first page.  Raises FieldError for a token of another list.

    The check keeps tokens from being mixed up; it is no secret, since any position of a list may be read anyway.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        after = raw[_CHECK_BYTES:].decode()
    except (binascii.Error, UnicodeError) as error:
        raise FieldError("page_token is not one of this service: start at the first page") from error
    if raw[:_CHECK_BYTES] != _check(after, listing):
        raise FieldError("page_token belongs to another list: start at the first page")
    return after


def _check(after: str, listing: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x00".join((*listing, after)).encode()).digest()[:_CHECK_BYTES]
