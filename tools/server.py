"""A real ComfyUI server with this pack, in a child process; used by the demo, the tests and ``serve``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180
FOLDERS = ("custom_nodes", "models", "input", "output", "user/default")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach a local port


class PromptError(Exception):
    """ComfyUI rejected a prompt, or one of its nodes failed; the text is the message that the user would see.

    Attributes:
        node: id of the node at fault; None if the graph as a whole was rejected.
    """

    def __init__(self, text: str, node: str | None = None) -> None:
        super().__init__(text)
        self.node = node


class ComfyServer:
    """Runs for the duration of the ``with`` block.

    Args:
        base: ComfyUI's base directory; created if missing. The pack is linked into it.
        comfyui: folder of ComfyUI; None is ASCED_COMFYUI, which ``tools/dev.py`` sets.
        port: 0 picks a free one.
        options: further command-line options of ComfyUI.
        pack: False runs ComfyUI without the pack, for comparison.

    Raises:
        RuntimeError: the server does not start, or could not load the pack; includes the end of its log.
    """

    def __init__(
        self,
        base: Path,
        comfyui: Path | None = None,
        port: int = 0,
        options: tuple[str, ...] = ("--cpu",),
        pack: bool = True,
    ) -> None:
        self.base = base
        self.comfyui = comfyui or Path(os.environ["ASCED_COMFYUI"])
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / "server.log"
        self._options, self._pack = options, pack
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ComfyServer:
        if _answers(self.port):  # its answers would be mistaken for this server's
            raise RuntimeError(f"Port {self.port} is in use by another program. Choose another one.")
        _lay_out(self.base, self._pack)
        command = [
            sys.executable, str(self.comfyui / "main.py"), "--listen", "127.0.0.1", "--port", str(self.port),
            "--base-directory", str(self.base), "--database-url", "sqlite:///:memory:", "--disable-api-nodes",
            "--disable-auto-launch", *self._options,
        ]  # fmt: skip
        stubs = os.environ.get("ASCED_STUBS", "")
        variables = {**os.environ, "PYTHONPATH": stubs} if stubs else dict(os.environ)
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                command, cwd=self.comfyui, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops the server process."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def wait(self) -> None:
        """Blocks until the server exits.

        Raises:
            RuntimeError: the server exited; includes the end of its log.
        """
        while self._process is not None and self._process.poll() is None:
            time.sleep(0.5)
        raise RuntimeError(f"ComfyUI exited unexpectedly; its log ends with:\n{self._tail()}")

    def peak_memory(self) -> int:
        """Peak resident memory of the server since its start, in bytes (Linux)."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _wait_until_up(self) -> None:
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI exited during startup; its log ends with:\n{self._tail()}")
            with contextlib.suppress(OSError):
                known = self.get("/object_info")
                if self._pack and "ASCED_KSampler" not in known:
                    raise RuntimeError(f"ComfyUI is running but could not load the ASCED nodes:\n{self._tail(40)}")
                return
            time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not start within {START_SECONDS} s; its log ends with:\n{self._tail()}")

    def _tail(self, lines: int = 15) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def get(self, path: str) -> Any:
        """Sends a GET request; returns the JSON answer."""
        with _LOCAL.open(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """Sends a POST request; returns the JSON answer, also of an error."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with _LOCAL.open(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
        return json.loads(text) if text else {}

    def view(self, file: dict[str, str]) -> bytes:
        """Content of an output file, given as in the history: filename, subfolder, type."""
        with _LOCAL.open(f"{self.url}/view?{urllib.parse.urlencode(file)}", timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def run(self, prompt: dict[str, Any], on_progress: Callable[[str, int, int], None] | None = None) -> dict[str, Any]:
        """Runs a graph in API format to its end.

        Args:
            prompt: nodes by id.
            on_progress: called with node id, value and maximum of each progress message.

        Returns:
            Outputs by node id, as in the history.

        Raises:
            PromptError: the graph was rejected or a node failed.
        """
        return asyncio.run(self._run(prompt, on_progress))

    async def _run(self, prompt: dict[str, Any], on_progress: Callable[[str, int, int], None] | None) -> dict[str, Any]:
        import aiohttp  # here, because dev.py imports this file before any package is installed

        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as socket_,
        ):
            answer = self.post("/prompt", {"prompt": prompt, "client_id": client})
            if "prompt_id" not in answer:
                raise PromptError(_refusal(answer), next(iter(answer.get("node_errors") or ()), None))
            job = answer["prompt_id"]
            async for message in socket_:
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue  # previews and progress texts
                event = json.loads(message.data)
                data = event.get("data", {})
                if data.get("prompt_id") != job:
                    continue
                if event["type"] == "progress" and on_progress:
                    on_progress(str(data["node"]), int(data["value"]), int(data["max"]))
                if event["type"] in ("execution_error", "execution_interrupted"):
                    raise PromptError(
                        f"{data.get('node_type')}: {data.get('exception_message', 'interrupted')}".strip(),
                        data.get("node_id"),
                    )
                if event["type"] == "execution_success":
                    while not (history := self.get(f"/history/{job}")):  # written shortly after the success message
                        await asyncio.sleep(0.05)
                    return history[job]["outputs"]
        raise PromptError(f"ComfyUI closed the connection; its log ends with:\n{self._tail()}")


def _refusal(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    parts = [str(error.get("message", error) if isinstance(error, dict) else error or answer)]
    for node in (answer.get("node_errors") or {}).values():
        parts += [f"{node['class_type']}: {e['message']} ({e['details']})" for e in node["errors"]]
    return "; ".join(parts)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lay_out(base: Path, pack: bool) -> None:
    """Creates the folders of a base directory, links the pack into it, and disables the first-run tour."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    if pack:
        link_folder(base / "custom_nodes" / "asced", ROOT)
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))


def link_folder(link: Path, target: Path) -> None:
    """Links ``link`` to a folder; a link to another place, left by a moved checkout, is replaced."""
    if link.exists() and link.resolve() == target.resolve():
        return
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if sys.platform != "win32":
            raise
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # unlike symlinks, needs no special permission


def main() -> int:
    """Serves until Ctrl-C: ``server.py PORT [options of ComfyUI]``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ComfyServer(ROOT / ".host" / "base", port=int(sys.argv[1]), options=tuple(sys.argv[2:])) as server:
            print(f"ComfyUI with ASCED: {server.url}   (Templates > ASCED; Ctrl-C to stop)", flush=True)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        print(f"asced serve: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
