#!/usr/bin/env python3
"""A fake of OpenAI Realtime (/v1/realtime) and Azure Voice Live (/voice-live/realtime), strict and faulty at will.

It refuses every message that the vendor's SDK does not know, keeps the vendor's rules (one active response, no
truncation beyond an item's end, results only for calls that were made) and says nothing itself that the SDK's server
events do not have. It prints its port.

The caller's speech is detected by level and answered when it ends: a sweep that never repeats itself, in deltas of
odd sizes. A response.create after a message "The caller pressed KEYS." does what KEYS say:

    1  5 s of answer within 200 ms           6  response.done failed, rate_limit_exceeded
    2  3 s of answer at 0.9 of real time     7  an answer in one frame of 2 MB
    3  1.5 s, then the function end_call     8  stops reading for 5 s
    4  the function lookup, then speaks      9  2 s of answer, with deltas even after its cancellation
    5  two items of 2 s in one response
    01 session_expired, then close 1001      06 a TCP reset
    11 close 1011                            40 beta_api_shape_disabled, then close 4000
    (all four after 1.5 s of an answer of three)

Of the URL's query: refuse=401|429|302 answers the upgrade so, session_error=1 answers session.update with an error,
onset_ms=N is how long the caller speaks until speech_started (100), answer_ms=N how long answers are (5000), truncate_error=1
refuses every truncation as one beyond the item's end.

--log FILE gets one JSON line per thing seen; FILE.N.caller is the audio heard on connection N, FILE.ITEM.bot what was
sent as an item.
"""
import argparse
import asyncio
import base64
import json
import math
import re
import socket
import struct
import time
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import validate
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

ARGS = None
SPEECH_LEVEL = 1000
SILENCE_MS = 500


def note(**entry):
    if ARGS.log:
        with open(ARGS.log, "a") as file:
            file.write(json.dumps({"t": round(time.time(), 4), **entry}) + "\n")


def mu_law_decode(byte):
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + 0x84 << ((byte & 0x70) >> 4)) - 0x84
    return -magnitude if byte & 0x80 else magnitude


def a_law_decode(byte):
    byte ^= 0x55
    exponent, mantissa = (byte & 0x70) >> 4, (byte & 0x0F) << 4
    magnitude = mantissa + 8 if exponent == 0 else mantissa + 0x108 << exponent - 1
    return magnitude if byte & 0x80 else -magnitude


MU_LAW = [mu_law_decode(byte) for byte in range(256)]
A_LAW = [a_law_decode(byte) for byte in range(256)]


class Format:
    """Of audio on the wire: its samples and back."""

    def __init__(self, name, rate):
        self.name, self.rate, self.width = name, rate, 2 if name == "pcm" else 1

    def decode(self, audio):
        if self.name == "pcm":
            return struct.unpack(f"<{len(audio) // 2}h", audio[: len(audio) // 2 * 2])
        table = MU_LAW if self.name == "pcmu" else A_LAW
        return [table[byte] for byte in audio]

    def encode(self, samples):
        if self.name == "pcm":
            return struct.pack(f"<{len(samples)}h", *samples)
        table = MU_LAW if self.name == "pcmu" else A_LAW
        nearest = {}
        for sample in set(samples):
            nearest[sample] = min(range(256), key=lambda byte: abs(table[byte] - sample))
        return bytes(nearest[sample] for sample in samples)

    def milliseconds(self, size):
        return size // self.width * 1000 // self.rate


def sweep(fmt, milliseconds, number):
    """From low to high, so that no part is like another; items differ in where they begin."""
    count = fmt.rate * milliseconds // 1000
    low, high = 300 + 40 * (number % 8), 3000
    samples = []
    for n in range(count):
        at = n / fmt.rate
        phase = 2 * math.pi * (low * at + (high - low) * at * at / (2 * count / fmt.rate))
        samples.append(round(8000 * math.sin(phase) / 64) * 64)
    return fmt.encode(samples)


class Session:
    """One connection. The words of the vendor are in its subclasses."""

    vendor = None
    audio_delta = audio_done = transcript_done = None

    def __init__(self, socket_, number, query):
        self.socket, self.number, self.query = socket_, number, query
        self.session = None
        self.counts = {}
        self.active = None
        self.items = {}
        self.calls = set()
        self.answered = set()
        self.keys = None
        self.heard_ms = self.speech_ms = self.silence_ms = 0
        self.speaking = False
        self.caller, self.bot = Format("pcm", 24000), Format("pcm", 24000)
        self.settings = {"create_response": True, "interrupt_response": True}
        self.user_item = None

    def id(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}_{self.number}_{self.counts[kind]}"

    async def say(self, kind, **event):
        event = {"type": kind, "event_id": self.id("event"), **event}
        validate.SERVER_CHECKS[self.vendor](event)
        logged = dict(event)
        if kind == self.audio_delta:
            logged["delta"] = len(base64.b64decode(event["delta"]))
        note(conn=self.number, dir="out", msg=logged)
        await self.socket.send(json.dumps(event))

    async def error(self, code, message, cause, kind="invalid_request_error"):
        error = {"type": kind, "code": code, "message": message, "event_id": cause.get("event_id")}
        await self.say("error", error=error)

    async def run(self):
        await self.say("session.created", session=self.describe({}))
        async for frame in self.socket:
            if not isinstance(frame, str):
                note(conn=self.number, dir="ev", fault="a binary frame")
                continue
            message = json.loads(frame)
            if message.get("type") != "input_audio_buffer.append":
                note(conn=self.number, dir="in", msg=message)
            try:
                validate.CHECKS[self.vendor](message)
            except Exception as error:  # Whatever the SDKs throw is a refusal.
                note(conn=self.number, dir="ev", fault=f"refused: {error}"[:1000], msg=message)
                await self.error("invalid_value", "not a message of this API", message)
                continue
            await self.take(message)

    async def take(self, message):
        kind = message["type"]
        if kind == "session.update":
            if "session_error" in self.query:
                await self.error("invalid_value", "Invalid value: 'nothing'.", message)
                return
            self.session = {**(self.session or {}), **message["session"]}
            self.read_session(self.session)
            await self.say("session.updated", session=self.describe(self.session))
        elif kind == "input_audio_buffer.append":
            await self.hear(base64.b64decode(message["audio"]), message)
        elif kind == "conversation.item.create":
            await self.create_item(message)
        elif kind == "conversation.item.truncate":
            await self.truncate(message)
        elif kind == "response.create":
            if self.session is None:
                note(conn=self.number, dir="ev", fault="response.create before session.updated")
            if self.active:
                text = "Conversation already has an active response"
                await self.error("conversation_already_has_active_response", text, message)
            else:
                self.begin(message)
        elif kind == "response.cancel":
            wanted = message.get("response_id")
            if not self.active or wanted not in (None, self.active["id"]):
                await self.error("response_cancel_not_active", "Cancellation failed: no active response", message)
            else:
                self.active["cancelled"] = "client_cancelled"

    async def hear(self, audio, message):
        if self.session is None:
            note(conn=self.number, dir="ev", fault="audio before session.updated")
        with open(f"{ARGS.log}.{self.number}.caller", "ab") as file:
            file.write(audio)
        samples = self.caller.decode(audio)
        if not samples:
            return
        duration = len(samples) * 1000 / self.caller.rate
        self.heard_ms += duration
        level = math.sqrt(sum(sample * sample for sample in samples) / len(samples))
        if level > SPEECH_LEVEL:
            self.speech_ms, self.silence_ms = self.speech_ms + duration, 0
        else:
            self.silence_ms += duration
            self.speech_ms = 0 if not self.speaking else self.speech_ms
        if not self.speaking and self.speech_ms >= int(self.query.get("onset_ms", ["100"])[0]):
            self.speaking, self.user_item = True, self.id("item")
            if self.active and self.settings["interrupt_response"]:
                self.active["cancelled"] = "turn_detected"
            start = round(self.heard_ms - self.speech_ms)
            await self.say("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self.user_item)
        elif self.speaking and self.silence_ms >= SILENCE_MS:
            self.speaking, self.speech_ms = False, 0
            end, item = round(self.heard_ms), self.user_item
            await self.say("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item)
            await self.say("input_audio_buffer.committed", previous_item_id=None, item_id=item)
            content = [{"type": "input_audio"}]
            await self.added({"id": item, "type": "message", "role": "user", "status": "completed", "content": content})
            await self.caller_transcript(item)
            if self.settings["create_response"]:
                spawn(self.answer())

    async def answer(self):
        while self.active:
            await asyncio.sleep(0.01)
        self.begin({})

    async def create_item(self, message):
        item = message["item"]
        if item["type"] == "function_call_output":
            if item["call_id"] not in self.calls or item["call_id"] in self.answered:
                await self.error("invalid_value", f"Tool call ID '{item['call_id']}' not found", message)
                return
            self.answered.add(item["call_id"])
        elif item["role"] == "user":
            pressed = re.fullmatch(r"The caller pressed ([0-9*#A-D]+)\.", item["content"][0]["text"])
            self.keys = pressed.group(1).rstrip("#") if pressed else None
        await self.added({"id": self.id("item"), "status": "completed", **item})

    async def truncate(self, message):
        item = self.items.get(message["item_id"])
        if item is None:
            await self.error("item_truncate_invalid_item_id", "Item not found", message)
            return
        has, wants = self.bot.milliseconds(item["bytes"]), message["audio_end_ms"]
        if wants > has or "truncate_error" in self.query:
            text = f"Audio content of {has}ms is already shorter than {wants}ms"
            await self.error("invalid_value", text, message)
            return
        item["bytes"] = self.bot.rate * self.bot.width * wants // 1000
        await self.say("conversation.item.truncated", item_id=message["item_id"], content_index=0, audio_end_ms=wants)

    def begin(self, message):
        keys, self.keys = self.keys, None
        self.active = {"id": self.id("resp"), "cancelled": None}
        greeting = (message.get("response") or {}).get("pre_generated_assistant_message")
        spawn(self.respond(self.active, keys, greeting))

    async def respond(self, response, keys, greeting):
        reply = {"id": response["id"], "object": "realtime.response", "output": []}
        await self.say("response.created", response={**reply, "status": "in_progress"})
        if keys in CLOSES:
            await self.speak(response, 3000, 600, until_ms=1500)
            self.active = None
            await self.close(*CLOSES[keys])
            return
        status, details, milliseconds = "completed", None, int(self.query.get("answer_ms", ["5000"])[0])
        if keys == "6":
            error = {"type": "tokens", "code": "rate_limit_exceeded"}
            status, details = "failed", {"type": "failed", "error": error}
        elif keys == "3":
            await self.speak(response, 1500, 200)
            await self.call(response, "end_call", {"reason": "goodbye"})
        elif keys == "4":
            await self.call(response, "lookup", {"number": 7})
        elif keys == "5":
            for _ in range(2):
                await self.speak(response, 2000, 100)
        elif keys == "7":
            await self.speak(response, 1_500_000 * 1000 // (self.bot.rate * self.bot.width), 0, one_frame=True)
        elif keys == "8":
            await self.speak(response, 1000, 100)
            spawn(self.stop_reading())
        elif keys == "2":
            await self.speak(response, 3000, round(3000 / 0.9))
        elif keys == "9":
            await self.speak(response, 2000, 1000, after_cancel=True)
        elif greeting:
            await self.speak(response, 1000, 100)
        else:
            await self.speak(response, milliseconds, 200)
        if response["cancelled"]:
            status, details = "cancelled", {"type": "cancelled", "reason": response["cancelled"]}
        done = {**reply, "status": status}
        if details:
            done["status_details"] = details
        self.active = None
        await self.say("response.done", response=done)

    async def speak(self, response, milliseconds, over_ms, one_frame=False, after_cancel=False, until_ms=None):
        """An item of so much audio, delivered within so long; or only its beginning."""
        item = {"id": self.id("item"), "bytes": 0}
        audio = sweep(self.bot, milliseconds, len(self.items))
        self.items[item["id"]] = item
        place = {"response_id": response["id"], "item_id": item["id"], "output_index": 0, "content_index": 0}
        wire = {"id": item["id"], "type": "message", "role": "assistant", "content": []}
        await self.say(
            "response.output_item.added",
            response_id=response["id"], output_index=0, item={**wire, "status": "in_progress"},
        )
        size = len(audio) if one_frame else 1001
        begun = time.monotonic()
        for at in range(0, len(audio), size):
            if response["cancelled"] and not after_cancel:
                break
            if until_ms and self.bot.milliseconds(at) >= until_ms:
                return
            part = audio[at : at + size]
            item["bytes"] += len(part)
            with open(f"{ARGS.log}.{item['id']}.bot", "ab") as file:
                file.write(part)
            await self.say(self.audio_delta, **place, delta=base64.b64encode(part).decode())
            due = begun + over_ms / 1000 * (at + size) / len(audio)
            await asyncio.sleep(max(0, due - time.monotonic()))
        status = "incomplete" if response["cancelled"] else "completed"
        if not response["cancelled"]:
            await self.say(self.audio_done, **place)
            await self.say(self.transcript_done, **place, transcript=f"Answer {item['id']}.")
        await self.say(
            "response.output_item.done",
            response_id=response["id"], output_index=0, item={**wire, "status": status},
        )

    async def call(self, response, name, arguments):
        call_id, item_id = self.id("call"), self.id("item")
        self.calls.add(call_id)
        text = json.dumps(arguments)
        await self.say(
            "response.function_call_arguments.done",
            response_id=response["id"], item_id=item_id, output_index=1, call_id=call_id, name=name, arguments=text,
        )
        item = {"id": item_id, "type": "function_call", "status": "completed", "call_id": call_id, "name": name}
        await self.say(
            "response.output_item.done",
            response_id=response["id"], output_index=1, item={**item, "arguments": text},
        )

    async def stop_reading(self):
        """So that the socket fills."""
        transport = self.socket.transport
        transport.pause_reading()
        await asyncio.sleep(5)
        transport.resume_reading()

    async def close(self, code, error):
        if error:
            await self.error(error, "The session is over", {})
        if code == 1006:
            raw = self.socket.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.transport.abort()
        else:
            await self.socket.close(code, error or "gone")


class OpenAi(Session):
    vendor = "openai"
    audio_delta, audio_done = "response.output_audio.delta", "response.output_audio.done"
    transcript_done = "response.output_audio_transcript.done"

    def describe(self, session):
        expires = int(time.time()) + 3600
        return {"type": "realtime", "object": "realtime.session", "id": "sess_1", "expires_at": expires, **session}

    def read_session(self, session):
        audio = session.get("audio", {})
        self.caller, self.bot = [
            Format(fmt["type"].removeprefix("audio/"), fmt.get("rate", 8000))
            for fmt in (audio.get(way, {}).get("format", {"type": "audio/pcm", "rate": 24000}) for way in ("input", "output"))
        ]
        self.settings.update(audio.get("input", {}).get("turn_detection") or {})

    async def added(self, item):
        await self.say("conversation.item.added", previous_item_id=None, item=item)
        await self.say("conversation.item.done", previous_item_id=None, item=item)

    async def caller_transcript(self, item):
        await self.say(
            "conversation.item.input_audio_transcription.completed",
            item_id=item, content_index=0, transcript="Hello there.", usage={"type": "duration", "seconds": 1},
        )


class VoiceLive(Session):
    vendor = "voice_live"
    audio_delta, audio_done = "response.audio.delta", "response.audio.done"
    transcript_done = "response.audio_transcript.done"

    def describe(self, session):
        shown = {key: value for key, value in session.items() if key not in ("metadata",)}
        return {"id": "sess_1", "model": "gpt-realtime", **shown}

    def read_session(self, session):
        words = {"g711_ulaw": ("pcmu", 8000), "g711_alaw": ("pcma", 8000), "pcm16": ("pcm", 24000)}
        words |= {"pcm16_8000hz": ("pcm", 8000), "pcm16_16000hz": ("pcm", 16000)}
        name, rate = words[session.get("input_audio_format", "pcm16")]
        self.caller = Format(name, session.get("input_audio_sampling_rate", rate))
        self.bot = Format(*words[session.get("output_audio_format", "pcm16")])
        self.settings.update(session.get("turn_detection") or {})

    async def added(self, item):
        await self.say("conversation.item.created", previous_item_id=None, item=item)

    async def caller_transcript(self, item):
        await self.say(
            "conversation.item.input_audio_transcription.completed",
            item_id=item, content_index=0, transcript="Hello there.",
        )


CLOSES = {
    "01": (1001, "session_expired"),
    "06": (1006, None),
    "11": (1011, None),
    "40": (4000, "beta_api_shape_disabled"),
}
TASKS = set()


def spawn(work):
    task = asyncio.ensure_future(work)
    TASKS.add(task)
    task.add_done_callback(ended)


def ended(task):
    TASKS.discard(task)
    if not task.cancelled() and task.exception() and not isinstance(task.exception(), ConnectionClosed):
        note(dir="ev", fault=f"the fake broke: {task.exception()!r}")


CONNECTIONS = 0


async def talk(connection):
    global CONNECTIONS
    CONNECTIONS += 1
    url = urlsplit(connection.request.path)
    kind = {"/v1/realtime": OpenAi, "/voice-live/realtime": VoiceLive}[url.path]
    number = CONNECTIONS
    try:
        await kind(connection, number, parse_qs(url.query)).run()
    except ConnectionClosed:
        pass
    except Exception as error:
        note(conn=number, dir="ev", fault=f"the fake broke: {error!r}")
        raise
    finally:
        note(conn=number, dir="ev", event="closed", code=connection.close_code)


async def admit(connection, request):
    """Answers the upgrade: only with a model and a credential, and not at all if the query says so."""
    url = urlsplit(request.path)
    query = parse_qs(url.query)
    headers = dict(request.headers.raw_items())
    note(dir="ev", event="upgrade", path=request.path, headers={name.lower(): headers[name] for name in headers})
    refuse = int(query.get("refuse", ["0"])[0])
    lower = {name.lower(): value for name, value in headers.items()}
    if url.path == "/v1/realtime":
        admitted = lower.get("authorization", "").startswith("Bearer ") and "model" in query
    elif url.path == "/voice-live/realtime":
        credential = "api-key" in lower or lower.get("authorization", "").startswith("Bearer ")
        admitted = credential and ("model" in query or "agent-name" in query) and "api-version" in query
    else:
        refuse = refuse or 404
        admitted = True
    refuse = refuse or (0 if admitted else 401)
    if not refuse:
        return None
    more = {302: {"Location": "ws://127.0.0.1:9/elsewhere"}, 429: {"Retry-After": "7"}}.get(refuse, {})
    body = b"no\n"
    headers = Headers({"Content-Length": str(len(body)), "Connection": "close", **more})
    return Response(refuse, HTTPStatus(refuse).phrase, headers, body)


async def main():
    server = await serve(
        talk, "127.0.0.1", ARGS.port, process_request=admit, max_size=16 << 20, compression=None, ping_interval=None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="fakes of OpenAI Realtime and Azure Voice Live")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", required=True)
    ARGS = parser.parse_args()
    asyncio.run(main())
