"""aiobotocore's HTTP session without aiohttp's hidden second attempt. Imported on first use: it imports aiohttp.

aiohttp re-sends an idempotent request, PUTs among them, when a kept-alive connection breaks. Below a conditional
write that turns one attempt into two, of which nobody above knows: 412 for our own success.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession


class OneShotSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore carries no types
    """Sends each request once."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: Any = await super()._get_session(proxy_url)
        # The only switch there is; a test holds that it works with the installed aiohttp.
        session._retry_connection = False  # noqa: SLF001  # aiohttp has no public one
        return session  # type: ignore[no-any-return]  # aiobotocore carries no types
