"""Tracked clients: the real SDKs against loopback servers, alone and inside arms that the engine runs."""

import asyncio
import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import httpx2
import openai
import pytest

import itera_nb
from itera_nb.arms.track import is_tracking, track, tracking
from itera_nb.exceptions import ArmError
from itera_nb.models.pricing import price
from itera_nb.testing import MessagesServer, Scripted

HAIKU, GPT = "claude-haiku-4-5", "gpt-4o-mini"
ASK = [{"role": "user", "content": "x"}]
USED = {"input_tokens": 1000, "output_tokens": 100}


def claude(server, kind=anthropic.Anthropic):
    return track(kind(api_key="k", base_url=server.url, max_retries=0))


def gpt(server, kind=openai.OpenAI, **options):
    return track(kind(api_key="k", base_url=f"{server.url}/v1", max_retries=0), **options)


@pytest.fixture
def server():
    with MessagesServer(lambda _: Scripted("hi", usage=USED)) as server:
        yield server


def test_each_call_of_a_row_is_collected(server):
    with claude(server) as client, gpt(server) as other:
        with tracking() as row:
            message = client.messages.create(model=HAIKU, max_tokens=9, messages=ASK)
            completion = other.chat.completions.create(model=GPT, messages=ASK)
        client.messages.create(model=HAIKU, max_tokens=9, messages=ASK)  # outside: nobody's
    assert isinstance(message, anthropic.types.Message)
    assert completion.choices[0].message.content == "hi"
    assert [call["model"] for call in row.calls] == [f"anthropic/{HAIKU}", f"openai/{GPT}"]
    assert row.calls[0] == {
        "model": f"anthropic/{HAIKU}",
        **message.usage.model_dump(mode="json", exclude_none=True),
    }
    assert row.calls[1]["prompt_tokens"] == 1000
    # $1 in, $5 out; $0.15 in, $0.60 out per million
    assert price(row.calls[0]) == pytest.approx((1000 * 1 + 100 * 5) / 1e6)
    assert price(row.calls[1]) == pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6)
    assert row.first_token_ms is None


def test_async_clients_keep_rows_apart(server):
    async def row(client, calls):
        with tracking() as tracked:
            create = client.messages.create
            await asyncio.gather(*(create(model=HAIKU, max_tokens=9, messages=ASK) for _ in range(calls)))
            await asyncio.sleep(0.01)
        return len(tracked.calls)

    async def main():
        async with claude(server, anthropic.AsyncAnthropic) as client:
            return await asyncio.gather(*(row(client, n) for n in (1, 3, 2)))

    assert asyncio.run(main()) == [1, 3, 2]


def test_copies_are_tracked_and_tracking_twice_counts_once(server):
    with track(claude(server)) as client, tracking() as row:
        client.with_options(timeout=5).messages.create(model=HAIKU, max_tokens=9, messages=ASK)
        client.copy().beta.messages.create(model=HAIKU, max_tokens=9, messages=ASK)
    assert len(row.calls) == 2


def test_raw_responses_are_read(server):
    with claude(server) as client, gpt(server) as other, tracking() as row:
        raw = client.messages.with_raw_response.create(model=HAIKU, max_tokens=9, messages=ASK)
        assert raw.parse().content[0].text == "hi"
        other.chat.completions.with_raw_response.create(model=GPT, messages=ASK)
    assert (row.calls[0]["input_tokens"], row.calls[1]["prompt_tokens"]) == (1000, 1000)


def test_what_is_free_is_no_call(server):
    with claude(server) as client, tracking() as row:
        client.messages.count_tokens(model=HAIKU, messages=ASK)
        client.models.retrieve(HAIKU)
    assert row.calls == []


def test_a_paid_call_of_another_kind_has_an_unknown_cost():
    def image(request):
        return httpx2.Response(200, json={"created": 1, "data": [{"url": "http://127.0.0.1/x.png"}]})

    http = httpx2.Client(transport=httpx2.MockTransport(image))
    with track(openai.OpenAI(api_key="k", http_client=http)) as client, tracking() as row:
        client.images.generate(model="dall-e-3", prompt="x")
    assert row.calls == [{"model": "openai/dall-e-3"}]
    assert price(row.calls[0]) is None


def test_a_refused_call_is_free_and_a_cut_off_one_unknown():
    answers = [Scripted(status=500), Scripted(fault="reset"), Scripted("hi")]
    with MessagesServer(answers) as server, claude(server) as client, tracking() as row:
        with pytest.raises(anthropic.InternalServerError):
            client.messages.create(model=HAIKU, max_tokens=9, messages=ASK)
        assert row.calls == []
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.create(model=HAIKU, max_tokens=9, messages=ASK)
    assert row.calls == [{"model": f"anthropic/{HAIKU}"}]
    assert price(row.calls[0]) is None


def test_another_vendors_name_may_be_given(server):
    with gpt(server, vendor="gateway") as client, tracking() as row:
        client.chat.completions.create(model="m", messages=ASK)
    assert row.calls[0]["model"] == "gateway/m"


def test_threads_of_an_arm_belong_to_its_row(server):
    def ask(_):
        client.messages.create(model=HAIKU, max_tokens=9, messages=ASK)

    with claude(server) as client, tracking() as row, ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, range(4)))
    assert len(row.calls) == 4
    assert price(row.calls[0]) is not None


def test_where_nobody_can_tell_the_cost_is_unknown(server):
    with claude(server) as client, tracking() as one, tracking() as two:
        thread = threading.Thread(
            target=client.messages.create, kwargs={"model": HAIKU, "max_tokens": 9, "messages": ASK}
        )
        thread.start()
        thread.join()
    assert one.calls == two.calls == [{"model": f"anthropic/{HAIKU}"}]


def test_only_known_clients_are_taken():
    for other in (object(), "client", json):
        with pytest.raises(ArmError, match="no client of anthropic or openai"):
            itera_nb.track(other)


def test_calls_are_shared_out_over_rows_that_were_answered_together():
    with tracking() as row:
        row.calls.extend({"n": i} for i in range(4))
    assert [[c["n"] for c in part.calls] for part in row.shares(2)] == [[0, 1], [2, 3]]
    assert sum(len(part.calls) for part in row.shares(3)) == 4
    assert [len(part.calls) for part in row.shares(8)].count(1) == 4


def event(name, **body):
    return f"event: {name}\ndata: {json.dumps({'type': name, **body})}\n\n"


def chunk(delta, usage=None):
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": None}]
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": GPT, "choices": choices}
    return f"data: {json.dumps({**body, 'usage': usage})}\n\n"


MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": HAIKU,
    "content": [],
    "stop_reason": None,
}
STREAMS = {
    "/v1/messages": [
        event("message_start", message={**MESSAGE, "usage": {"input_tokens": 1000, "output_tokens": 1}}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 100}),
        event("message_stop"),
    ],
    "/v1/chat/completions": [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "hi"}),
        chunk({}, {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}),
        "data: [DONE]\n\n",
    ],
}


class Streaming(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        data = "".join(STREAMS[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def streaming():
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        url = property(lambda self: f"http://127.0.0.1:{self.server_address[1]}")

    with Server(("127.0.0.1", 0), Streaming) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_streams_are_read_to_their_usage_and_first_token(streaming):
    with claude(streaming) as client, tracking() as row:
        with client.messages.stream(model=HAIKU, max_tokens=9, messages=ASK) as stream:
            assert stream.get_final_text() == "hi"
        assert len(list(client.messages.create(model=HAIKU, max_tokens=9, messages=ASK, stream=True))) == 6
    for call in row.calls:
        assert (call["input_tokens"], call["output_tokens"]) == (1000, 100)
        assert price(call) == pytest.approx((1000 * 1 + 100 * 5) / 1e6)
    assert 0 < row.first_token_ms < 5000


def test_async_streams_too(streaming):
    async def main():
        async with gpt(streaming, openai.AsyncOpenAI) as client:
            with tracking() as row:
                chunks = await client.chat.completions.create(
                    model=GPT, messages=ASK, stream=True, stream_options={"include_usage": True}
                )
                text = "".join([c.choices[0].delta.content or "" async for c in chunks if c.choices])
        return text, row

    text, row = asyncio.run(main())
    assert text == "hi"
    assert row.calls[0]["completion_tokens"] == 100
    assert row.first_token_ms > 0


def test_a_stream_that_is_left_early_has_an_unknown_cost(streaming):
    ask = {"model": HAIKU, "max_tokens": 9, "messages": ASK}
    with claude(streaming) as client, tracking() as row, client.messages.stream(**ask) as stream:
        assert next(iter(stream.text_stream)) == "hi"
    assert price(row.calls[0]) is None
    assert row.first_token_ms is not None


def test_a_client_that_is_gone_is_no_longer_tracked(server):
    gc.collect()
    before = is_tracking()
    client = claude(server)
    assert is_tracking()
    client.close()
    del client
    gc.collect()
    assert is_tracking() == before
