"""HTTP to an Ethereum node: one question, one answer, over connections that are kept."""

from __future__ import annotations

import json
from functools import partial
from itertools import count
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

__all__ = ["NoAnswerError", "NodeLine"]

GOOD: Final = range(200, 300)


class NoAnswerError(Exception):
    """No answer came; its text names what went wrong, never the address, which may hold an access key."""


class NodeLine:
    """Asks the node at a URL. A question is asked once, and there alone: who has patience asks again.

    It goes through the proxy that the environment names for the URL, as other programs do.

    Args:
        url: http or https; a name and a password in it are sent as basic authentication.
        timeout_s: for a connection, and for each read of an answer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        from urllib3 import ProxyManager, connection_from_url, make_headers

        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        where = parts._replace(netloc=place).geturl()
        who = None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = make_headers(accept_encoding=True, user_agent="collegium", basic_auth=who)
        options: dict[str, Any] = {
            "headers": {**headers, "content-type": "application/json"},
            "timeout": timeout_s,
            "retries": False,
            **_trusted(parts.scheme),
        }
        proxy = None if proxy_bypass(place) else getproxies().get(parts.scheme)
        if proxy is None:
            target = parts._replace(scheme="", netloc="").geturl() or "/"
            self._post = partial(connection_from_url(where, **options).urlopen, "POST", target)
        else:
            self._post = partial(ProxyManager(proxy, **options).urlopen, "POST", where, headers=options["headers"])
        self._numbers = count(1)

    def ask(self, method: str, parameters: object) -> object:
        """Return what the body of an answer holds.

        Raises:
            NoAnswerError: none came, or its status says that it is none.
            ValueError: it is not JSON.
            RecursionError: it is nested too deeply.
        """
        from urllib3.exceptions import HTTPError

        question = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": parameters}
        try:
            answer = self._post(body=json.dumps(question).encode())
        except (HTTPError, OSError) as error:
            raise NoAnswerError(type(error).__name__) from error
        if answer.status not in GOOD:
            raise NoAnswerError(f"status {answer.status}")
        return json.loads(answer.data)


def _trusted(scheme: str) -> dict[str, str]:
    """Return whom a node's certificate has to come from: the same authorities on every system."""
    if scheme != "https":
        return {}
    import certifi

    return {"ca_certs": certifi.where()}
