"""The vision-language model as a judge, with a real local HTTP server."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import numpy as np
import pytest

from asced_core.baselines.vlm import PROMPTS, Judge, Question, parse_verdict, question_of_paper

PICTURE = np.zeros((8, 12, 3), np.uint8)
PICTURE[..., 0] = 200


@pytest.fixture
def server():
    """An endpoint with canned replies; it stands in for a model."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
            status, answer = self.server.reply
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            if answer is None:  # the connection breaks in the middle of the response
                self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *args):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.seen, http.reply = [], (200, "")
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def says(text):
    return 200, json.dumps({"choices": [{"message": {"content": text}}]})


def judge(server, **more):
    return Judge(f"http://127.0.0.1:{server.server_port}/v1/", "eyes", timeout=5, **more)


def test_the_server_receives_the_image_and_the_question(server):
    server.reply = says("Yes, there is.")
    question = question_of_paper(5)
    assert judge(server, key="secret").ask(PICTURE, question) == (True, "Yes, there is.")
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body["model"] == "eyes"
    text, image = body["messages"][0]["content"]
    assert text["text"] == question.text and "defects" in question.text
    data = base64.b64decode(image["image_url"]["url"].split(",")[1])
    back = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(back, PICTURE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_carries_neither_key_nor_image_on(server, status):
    server.reply = status, "moved"
    with pytest.raises(ValueError, match=f"refused with {status}"):
        judge(server, key="secret").ask(PICTURE, question_of_paper())
    assert [path for path, *_ in server.seen] == ["/v1/chat/completions"]


def test_without_a_key_there_is_no_header(server):
    server.reply = says("no")
    assert judge(server).ask(PICTURE, question_of_paper())[0] is False
    assert "Authorization" not in server.seen[0][1]


def test_the_papers_questions_and_their_polarity():
    questions = [question_of_paper(n) for n in range(1, PROMPTS + 1)]
    assert len({q.text for q in questions}) == 43  # the paper prints seven of them twice
    inverted = {n for n, q in enumerate(questions, 1) if not q.yes_is_artifact}
    assert inverted == {30, 31, 32, *range(34, 41)}
    with pytest.raises(ValueError, match="1 to 50"):
        question_of_paper(0)


@pytest.mark.parametrize(
    ("answer", "yes_is_artifact", "verdict"),
    [
        ("Yes", True, True),
        ("no.", True, False),
        ("**YES** - the hand", True, True),
        (" 'No', nothing of note; yes, I am sure", True, False),
        ("Yes", False, False),
        ("No", False, True),
    ],
)
def test_verdicts(answer, yes_is_artifact, verdict):
    assert parse_verdict(answer, Question("?", yes_is_artifact)) is verdict


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((404, "model not found"), "refused with 404: model not found. Check the model's name"),
        ((404, '{"error": {"message": "no model eyes."}}'), "refused with 404: no model eyes. Check the model"),
        ((401, ""), "refused with 401: Unauthorized. Check"),
        ((200, None), "No answer from .*IncompleteRead.*start the model's server"),
        ((200, "<html>"), "did not return a chat completion"),
        ((200, '{"choices": []}'), "did not return a chat completion"),
        (says("I know nothing of eyesight"), "neither yes nor no"),
    ],
)
def test_other_replies_get_one_sentence(server, reply, message):
    server.reply = reply
    with pytest.raises(ValueError, match=message):
        judge(server).ask(PICTURE, Question("?"))


def test_unreachable_and_invalid_addresses_are_reported(server):
    closed = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = closed.server_port
    closed.server_close()
    with pytest.raises(ValueError, match="No answer from"):
        Judge(f"http://127.0.0.1:{port}/v1", "eyes", timeout=2).ask(PICTURE, Question("?"))
    for address in ("http://", "http://[::1/v1", "http://127.0.0.1/a b"):
        with pytest.raises(ValueError, match="start the model's server, correct the endpoint"):
            Judge(address, "eyes", timeout=2).ask(PICTURE, Question("?"))
    with pytest.raises(ValueError, match="not an http address"):
        Judge("file:///etc/passwd", "eyes")
