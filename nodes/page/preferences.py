"""A user's view settings, which the frontend's settings page sends to the server through a route.

They are stored with the client's connection, in ComfyUI's own table of sockets: each user and each browser tab has
its own, and they are gone when the connection closes. A client that sent none has the defaults.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

from ...asced_core.draw.overlay import OUTLINE, Color

ROUTE = "/asced/view_settings"
KEY = "asced_view_settings"


@dataclass(frozen=True)
class ViewSettings:
    """View settings of one client.

    Attributes:
        live: show the artifact map and the status text while sampling.
        color: of the artifact map, RGB, 0 to 255 each.
        opacity: of the artifact map, 0 to 1.
    """

    live: bool = True
    color: Color = OUTLINE
    opacity: float = 0.45


def read_settings(plain: Any) -> ViewSettings:
    """Checks what a browser sent: ``live``, ``color`` as #rrggbb and ``opacity``.

    Raises:
        ValueError: one of them is missing or invalid.
    """
    live, color, opacity = (plain.get(name) if isinstance(plain, dict) else None for name in _NAMES)
    if not isinstance(live, bool):
        raise ValueError(f"live must be true or false, got {live!r}.")
    if not isinstance(color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", color):
        raise ValueError(f"color must be # and six hexadecimal digits, such as #ff4000, got {color!r}.")
    if isinstance(opacity, bool) or not isinstance(opacity, int | float) or not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be a number between 0 and 1, got {opacity!r}.")
    red, green, blue = bytes.fromhex(color[1:])
    return ViewSettings(live, (red, green, blue), float(opacity))


_NAMES = ("live", "color", "opacity")


def server() -> Any:
    """ComfyUI's running server; None in tests and scripts without one."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def settings_of_client() -> ViewSettings:
    """The settings of the client whose prompt is running, or the defaults."""
    running = server()
    connection = getattr(running, "sockets_metadata", {}).get(getattr(running, "client_id", None), {})
    return connection.get(KEY, ViewSettings())


def add_route() -> None:
    """Adds the route by which the running server receives its clients' settings."""
    running = server()
    if running is None:
        return
    from aiohttp import web  # a dependency of the server itself

    @running.routes.post(ROUTE)
    async def take(request: web.Request) -> web.Response:
        try:
            plain = await request.json()
            settings = read_settings(plain)
        except ValueError as error:  # invalid JSON raises it, too
            return web.json_response({"error": str(error)}, status=400)
        connection = running.sockets_metadata.get(plain.get("client_id"))
        if connection is None:
            return web.json_response({"error": "No client with this client_id is connected."}, status=404)
        connection[KEY] = settings
        return web.json_response({})
