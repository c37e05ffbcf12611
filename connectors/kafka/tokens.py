"""OAUTHBEARER tokens for the client library: asked for anew at every log-in, because tokens expire.

Where they come from is settled by `connectors.kafka.settings.TokenFrom`. nuwatch holds no client secret and speaks to
no identity provider: whatever renews the file, or the function, does.
"""

from __future__ import annotations

from connectors.errors import SettingsError
from connectors.kafka.clientlib import AbstractTokenProvider, SaslAuthenticationFailedError
from connectors.kafka.settings import Secret, TokenFrom


class TokenProvider(AbstractTokenProvider):
    """Gives the client library a token when it logs in, and when the broker asks for a fresh one (KIP-368)."""

    def __init__(self, source: TokenFrom) -> None:
        self._source = source

    def token(self) -> Secret:
        """The present token.

        Raises:
            SaslAuthenticationFailedError: there is none; the library then tries again.
        """
        try:
            return self._source.read()
        except SettingsError as error:
            raise SaslAuthenticationFailedError(str(error)) from error
