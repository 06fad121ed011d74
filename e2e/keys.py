"""API keys as Inferyard makes them."""

import base64
import secrets


def new_key() -> str:
    """256 random bits, in the form in which callers send them."""
    return "iy-" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
