import base64
import io
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from jangin.core.model_protocols import ChatRequest
from jangin.core.parquet import read_table
from jangin.core.prompts import Prompts
from jangin.core.records import Document, Message
from jangin.documents.load import STAGE, DoubtfulRow, LoadConfig
from jangin.documents.ocr.reader import PageImage
from jangin.documents.ocr.reading import DoubtfulLine, OcrReading
from jangin.documents.ocr.vision import Transcriber, bound, held_share
from jangin.llm.ask import CachedChat
from jangin.llm.budget import Budget
from jangin.llm.endpoint import EndpointChat
from jangin.llm.prices import Price
from jangin.llm.token_estimates import TOKENS_PER_IMAGE

SURE = "회사는 직원에게 휴가를 주어야 합니다"
DOUBT = DoubtfulLine("부품 48-8ㅅＬ-07", "HB-BAL-07", 61.0, "readings differ")
DOUBTFUL = OcrReading(SURE, 90.0, 800.0, SURE, (DOUBT,), f"{SURE}\n{DOUBT.text}")


class Endpoint:
    """A vision model's endpoint on loopback."""

    def __init__(self):
        self.bodies, self.content, self.finish = [], "", "stop"
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers["Content-Length"])
                endpoint.bodies.append(json.loads(self.rfile.read(size)))
                message = {"role": "assistant", "content": endpoint.content}
                choice = {"message": message, "finish_reason": endpoint.finish}
                usage = {"prompt_tokens": 900, "completion_tokens": 40}
                body = json.dumps({"choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def endpoint():
    running = Endpoint()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def chat(endpoint, ledger):
    inner = EndpointChat("sees", endpoint.url, first_wait_seconds=0.001)
    price = Price(input_usd_per_million=1.0, output_usd_per_million=4.0)
    return CachedChat(inner, ledger, Budget("eyes", price))


def transcriber(chat, messages):
    return Transcriber(chat, Prompts(), 1000, 2, messages.append)


def page(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60), dtype=np.uint8)
    return PageImage(f"file {seed}", lambda: pixels)


def test_only_doubtful_pages_are_sent_as_pictures_and_once(endpoint, chat):
    endpoint.content = f"{SURE}\n부품 HB-BAL-07"
    certain, messages = OcrReading(SURE, 93.0, 900.0, SURE), []
    eyes = transcriber(chat, messages)
    first, second = eyes.improve("a.pdf", [page(1), page(2)], [certain, DOUBTFUL], [4, 7])
    assert first == certain
    assert (second.text, second.doubtful, second.read_by) == (endpoint.content, (), "sees")
    (body,) = endpoint.bodies
    text, picture = body["messages"][-1]["content"]
    assert text["type"] == "text"
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    from PIL import Image

    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), page(2).render())
    assert eyes.improve("a.pdf", [page(2)], [DOUBTFUL], [7]) == [second]
    assert len(endpoint.bodies) == 1, "the reply is in the ledger"
    assert messages == []


@pytest.mark.parametrize(
    ("content", "finish", "why"),
    [
        ("전혀 다른 문서에서 지어낸 문장을 길게 적은 답입니다.", "stop", "holds 0%"),
        (SURE, "length", "ended with length"),
    ],
)
def test_a_transcript_that_is_cut_off_or_invented_is_not_taken(
    endpoint, chat, content, finish, why
):
    endpoint.content, endpoint.finish = content, finish
    messages = []
    assert transcriber(chat, messages).improve("a.pdf", [page(3)], [DOUBTFUL], [7]) == [DOUBTFUL]
    (message,) = messages
    assert message.startswith("a.pdf, page 7: ")
    assert why in message


def test_the_share_held_ignores_order_and_what_ocr_was_not_sure_of():
    assert held_share("다라마바 가나다라", "가나다라 \n 다라마바") == 1.0
    assert held_share("", "가") == 1.0
    assert held_share("가나다라", "가나다라 \n 사아자차") == 0.5


def test_a_request_without_pictures_keeps_its_digest():
    request = ChatRequest(model="m", messages=(Message(role="user", content="q"),))
    assert request.digest == "0256139c073ff852ff66d34aabb561f421988045c8a34df00902279e310470dd"
    assert replace_images(request, ("data:,a",)).digest != request.digest
    assert (
        replace_images(request, ("data:,a",)).digest != replace_images(request, ("data:,b",)).digest
    )


def replace_images(request, images):
    return request.model_copy(update={"images": images})


def test_the_plan_counts_every_page_at_its_highest_cost(chat):
    calls = bound(chat, Prompts(), 1000, 3)
    assert (calls.count, calls.reply_tokens, calls.unpriced) == (3, 3000, 0)
    assert calls.prompt_tokens > 3 * TOKENS_PER_IMAGE
    assert calls.usd == pytest.approx((calls.prompt_tokens * 1.0 + 3000 * 4.0) / 1e6)


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_load_takes_the_transcript_of_a_doubtful_page(
    make_context, tmp_path, drawing, endpoint, chat
):
    drawn = drawing(760, 420)
    drawn.text(40, 50, "회사는 직원에게 휴가를 주어야 합니다.")
    for x in range(60, 700, 40):
        drawn.pen.arc((x, 180 + x % 90, x + 70, 250 + x % 110), x, x + 200, fill=0, width=3)
        drawn.pen.line((x, 230, x + 35, 190 + x % 70), fill=0, width=3)
    (tmp_path / "docs").mkdir()
    drawn.image.save(tmp_path / "docs/a.png", dpi=(200, 200))
    ocr = {"type": "auto", "languages": ["kor"], "vision": {"teacher": "eyes"}}
    config = LoadConfig(folder=Path("docs"), ocr=ocr)
    context = make_context(config)
    services = replace(context.services, chat={"eyes": chat}.__getitem__)
    context = replace(context, services=services)
    assert STAGE.teachers(config) == ("eyes",)
    assert STAGE.prompts(config) == ("transcribe",)
    assert "up to 1 call to sees" in STAGE.cost(context).text
    assert context.calls.count == 1
    endpoint.content = "회사는 직원에게 휴가를 주어야 합니다.\n그림 1"
    STAGE.run(context)
    (document,) = read_table(context.workspace / "documents.parquet", Document)
    assert document.text == endpoint.content
    assert document.pages[0].reason == "a picture; transcribed by sees"
    assert read_table(context.workspace / "doubtful.parquet", DoubtfulRow) == []


def test_without_a_vision_model_load_has_no_teacher():
    config = LoadConfig(folder=Path("docs"))
    assert (STAGE.teachers(config), STAGE.prompts(config)) == ((), ())
    assert "vision" not in config.identity()["ocr"]
