"""Arms that are a deployed endpoint: one POST a row, JSON in and out."""

from __future__ import annotations

import asyncio
import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from itera_nb._typing import Row
from itera_nb.exceptions import StoppedError
from itera_nb.models.client import CallError, Trouble, retry_after_s

from .caller import Answer
from .reported import ReportingCaller, body_of, read_bounded

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

    from .runtime import RunnableArm

_FOR_GOOD = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}


class HttpCaller(ReportingCaller):
    """An `http` arm: the body is a JSON object of the arm's `params` and the row's input columns.

    Redirects are not followed, so that a row goes nowhere but to the registered address; cookies are not
    kept, so that rows stay apart.

    Raises:
        ArmError: `parse` is wrong.
        StoppedError: A header's variable is not set.
    """

    def __init__(self, arm: RunnableArm, *, quiet: bool) -> None:
        super().__init__(arm, quiet=quiet)
        assert arm.spec.url is not None
        self._url = arm.spec.url
        self._headers = {name: _from_environment(name, value) for name, value in arm.spec.headers.items()}
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Content-Type": "application/json", **self._headers},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, row: Row, trial: int, *, timeout_s: float) -> Answer:  # noqa: ARG002 - all are alike
        """One POST.

        Raises:
            CallError: 429, 5xx, a broken connection, no answer within `timeout_s` seconds; any other 4xx.
            StoppedError: 401 or 403, or a redirect.
        """
        import aiohttp

        assert self._session is not None, "call inside `async with`"
        body = body_of(self._arm.spec.params, row)
        begun = time.perf_counter()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(self._url, data=body, allow_redirects=False) as response,
            ):
                data = await read_bounded(response.content)
        except TimeoutError:
            raise CallError("late", "Timeout", f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise CallError("connection", type(error).__name__, self.said(str(error))) from None
        self._refuse(response, data)
        return self.read(data, 1000 * (time.perf_counter() - begun))

    def _refuse(self, response: ClientResponse, data: bytes) -> None:
        status = response.status
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status < HTTPStatus.BAD_REQUEST:
            raise StoppedError(
                f"{self._url} redirects ({status})", fix="put the final address into the arm's `url`"
            )
        if status in _FOR_GOOD:
            raise StoppedError(
                f"{self._url} says {status}",
                fix='name a valid token: headers = { Authorization = "env:NAME" }',
            )
        trouble: Trouble = "request"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            trouble = "rate_limit"
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            trouble = "server"
        said = self.said(data.decode(errors="replace"))
        raise CallError(trouble, f"HTTP{status}", said, retry_after_s(response.headers))


def _from_environment(header: str, value: str) -> str:
    scheme, _, variable = value.rpartition("env:")
    found = os.environ.get(variable, "").strip()
    if not found:
        raise StoppedError(
            f"{variable} is not set: the header {header} of an http arm comes from it", fix=f"set {variable}"
        )
    return f"{scheme}{found}"
