"""A worker in front of a running ComfyUI server, over its HTTP API."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from .farm import Task, WorkerLostError
from .graph import VIEW, Form, Graph, to_run_again
from .jobs import Job
from .pictures import Made, one_channel, with_report

PORT = 8188
PATIENCE = 6.0  # seconds that a server may not answer
TIMEOUT = 60.0  # seconds of one request
POLLS = (0.1, 1.0)  # seconds between two looks at the history: at first, and at most
QUEUED = 3  # times that a job is queued if the server forgets it
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerSetup:
    """Connects a worker to a server.

    Attributes:
        address: such as ``http://127.0.0.1:8188``; scheme and port may be left out.
        form: the graph.
    """

    address: str
    form: Form

    def __call__(self) -> Task:
        """Looks for the server; the returned function makes the images of a job.

        Raises:
            WorkerLostError: no ComfyUI server answers at the address.
        """
        server = Server(self.address)
        try:
            server.ask("/queue")["queue_running"]
        except (urllib.error.HTTPError, ValueError, LookupError, TypeError) as error:
            raise WorkerLostError(f"What answers at {server.url} is no ComfyUI server: correct --server.") from error

        def make(job: Job) -> list[Made]:
            return _made(server, self.form, server.run(self.form.filled(job)))

        return make


class Server:
    """A ComfyUI server.

    Args:
        address: see ServerSetup.

    Raises:
        ValueError: this is no address.
    """

    def __init__(self, address: str) -> None:
        self.url = server_url(address)
        host = urllib.parse.urlsplit(self.url).hostname
        proxy = [urllib.request.ProxyHandler({})] if host in LOCAL else []  # a proxy cannot reach a local port
        self._opener = urllib.request.build_opener(*proxy)

    def run(self, graph: Graph) -> dict[str, Any]:
        """Runs a graph; returns the outputs by node id, as in the history.

        Raises:
            RuntimeError: the server refused the graph, or a node failed.
            WorkerLostError: the server does not answer.
        """
        for _ in range(QUEUED):
            outputs = self._outputs(self._queue(graph))
            if outputs is not None:
                return outputs
        raise RuntimeError(f"The job was removed from the queue of {self.url} {QUEUED} times.")

    def view(self, file: dict[str, str]) -> bytes:
        """The content of an output file, given as in the history."""
        names = {key: value for key, value in file.items() if key in ("filename", "subfolder", "type")}
        return self._open(f"/view?{urllib.parse.urlencode(names)}")

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON answer to a request; posts the body if there is one."""
        return json.loads(self._open(path, None if body is None else json.dumps(body).encode()) or b"{}")

    def _queue(self, graph: Graph) -> str:
        try:
            return str(self.ask("/prompt", {"prompt": to_run_again(graph)})["prompt_id"])
        except urllib.error.HTTPError as error:
            raise RuntimeError(_refusal(error)) from error

    def _outputs(self, job: str) -> dict[str, Any] | None:
        """Waits for a job; None if the server knows it no longer."""
        pause, unknown = POLLS[0], 0
        while unknown < 2:  # between queue and history, a job may be in neither for a moment
            if entry := self.ask(f"/history/{job}").get(job):
                return _checked(entry)
            queue = self.ask("/queue")
            known = any(job in item for line in queue.values() for item in line)
            unknown = 0 if known else unknown + 1
            time.sleep(pause)
            pause = min(pause * 1.2, POLLS[1])
        return None

    def _open(self, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        started = time.monotonic()
        while True:
            try:
                with self._opener.open(request, timeout=TIMEOUT) as answer:
                    content: bytes = answer.read()
                return content
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() - started > PATIENCE:
                    raise WorkerLostError(
                        f"No ComfyUI server answers at {self.url}: start it, or correct --server."
                    ) from error
            time.sleep(0.5)


def server_url(address: str) -> str:
    """An address as URL, with scheme and port.

    Raises:
        ValueError: this is no address.
    """
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--server must be an address such as http://127.0.0.1:{PORT}, got {address!r}.")
    where = parts.netloc if port or parts.scheme == "https" else f"{parts.netloc}:{PORT}"
    return f"{parts.scheme}://{where}{parts.path.rstrip('/')}"


def _made(server: Server, form: Form, outputs: dict[str, Any]) -> list[Made]:
    images = [with_report(server.view(file), None) for file in _images(form, outputs)]
    seen = outputs.get(form.view, {})
    masks = [one_channel(server.view(file)) for file in seen.get("images", [])] if form.view else []
    reports = [json.loads(text) for text in seen.get("asced_report", [])]
    if len(masks) != len(images):
        return images
    made = []
    for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if image.report is None and reports:
            own = {**reports[0], "images": reports[0]["images"][place : place + 1]}
            image = with_report(image.picture, json.dumps(own))
        made.append(Made(image.picture, mask, image.report))
    return made


def _images(form: Form, outputs: dict[str, Any]) -> list[dict[str, str]]:
    given = {
        node: files
        for node, output in outputs.items()
        if (files := output.get("images")) and form.graph[node]["class_type"] != VIEW
    }
    if form.saver:
        given = {node: files for node, files in given.items() if node == form.saver}
    if len(given) != 1:
        nodes = f"several nodes give some: {', '.join(given)}" if given else "no node saved one"
        raise RuntimeError(f"There is no image to take, because {nodes}; name the node with --image-node.")
    (files,) = given.values()
    return list(files)


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    status = entry.get("status") or {}
    if status.get("status_str", "success") == "success":
        return dict(entry["outputs"])
    for kind, data in status.get("messages", ()):
        if kind == "execution_error":
            text = " ".join(str(data.get("exception_message", "")).split())
            raise RuntimeError(f"Node {data.get('node_id')} ({data.get('node_type')}) failed: {text.rstrip('.')}.")
    raise RuntimeError("The job was interrupted on the server.")


def _refusal(error: urllib.error.HTTPError) -> str:
    """Why the server refused a graph, as a sentence."""
    try:
        answer = json.loads(error.read())
        parts = [str(answer["error"]["message"])]
        for node, wrong in (answer.get("node_errors") or {}).items():
            parts += [f"node {node} ({wrong['class_type']}): {e['message']} ({e['details']})" for e in wrong["errors"]]
    except (ValueError, KeyError, TypeError):
        parts = [f"HTTP {error.code} {error.reason}"]
    return f"The server refused the graph: {'; '.join(parts)}."
