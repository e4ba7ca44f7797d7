"""A vision-language model as the judge of final images (the paper's zero-shot baseline, Tab. 2 and Sec. 6.2).

Works with any OpenAI-compatible endpoint, such as a local Ollama or llama.cpp server.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

BEST_PROMPT = 5  # in the paper
PROMPTS = 50
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """What the judge is asked.

    Attributes:
        text: asks for yes or no.
        yes_is_artifact: False where yes means that the image is clean.
    """

    text: str
    yes_is_artifact: bool = True


def question_of_paper(number: int = BEST_PROMPT) -> Question:
    """One of the paper's 50 questions, by its number from 1.

    Raises:
        ValueError: there is no such question.
    """
    if not 1 <= number <= PROMPTS:
        raise ValueError(f"The paper has questions 1 to {PROMPTS}, got {number}.")
    entry = json.loads((Path(__file__).parent / "vlm_prompts.json").read_text(encoding="utf-8"))["prompts"][number - 1]
    return Question(entry["text"], entry["yes_means"] == "artifact")


def parse_verdict(answer: str, question: Question) -> bool:
    """True if the answer says that there is an artifact: by its first yes or no.

    Raises:
        ValueError: it says neither.
    """
    found = _YES_NO.search(answer)
    if found is None:
        raise ValueError(f"The model answered neither yes nor no: {answer.strip()[:80]!r}; ask another model.")
    return (found.group(1).lower() == "yes") == question.yes_is_artifact


@dataclass(frozen=True)
class Judge:
    """A model at an endpoint.

    Attributes:
        endpoint: address of the server, including /v1.
        model: its name there.
        key: sent as a bearer token to this address only, if not empty; redirects are not followed.
        timeout: seconds to wait for an answer.

    Raises:
        ValueError: the endpoint is not an http address.
    """

    endpoint: str
    model: str
    key: str = ""
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(
                f"The endpoint {self.endpoint!r} is not an http address: enter one such as http://127.0.0.1:11434/v1."
            )

    def ask(self, picture: NDArray[np.uint8], question: Question) -> tuple[bool, str]:
        """Whether the model sees an artifact in an RGB picture uint8 [H,W,3], and its answer.

        Raises:
            ValueError: there is no answer, or not one of the expected form.
        """
        coded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        url = "data:image/png;base64," + base64.b64encode(coded.tobytes()).decode()
        content = [{"type": "text", "text": question.text}, {"type": "image_url", "image_url": {"url": url}}]
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        answer = self._post(body)
        return parse_verdict(answer, question), answer

    def _post(self, body: dict[str, object]) -> str:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        address = self.endpoint.rstrip("/") + "/chat/completions"
        try:
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            with _OPENER.open(request, timeout=self.timeout) as response:
                answer = response.read()
        except urllib.error.HTTPError as error:
            raise ValueError(f"{address} refused with {error.code}: {_reason(error)}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # a ValueError: of the address
            reason = getattr(error, "reason", None) or error
            raise ValueError(
                f"No answer from {address} ({reason}): start the model's server, correct the endpoint, or raise the "
                "timeout."
            ) from error
        try:
            return str(json.loads(answer)["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{address} did not return a chat completion: the endpoint must be the address of an OpenAI-compatible "
                "server, including /v1."
            ) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key and the image to an address that nobody named."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _reason(refusal: urllib.error.HTTPError) -> str:
    """The server's own message, and what to do."""
    text = refusal.read(2000).decode(errors="replace").strip()
    try:
        text = str(json.loads(text)["error"]["message"])
    except (KeyError, TypeError, ValueError):
        text = text[:200] or str(refusal.reason)
    return f"{text.rstrip('.')}. Check the model's name, the endpoint, and the key if the server needs one."
