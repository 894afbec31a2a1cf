#!/usr/bin/env python3
"""A Pipecat agent without a model: it plays the caller's audio back, and keys make it do more.

It accepts the streams of Twilio, Telnyx, Plivo and Exotel at ws://HOST:PORT/ws, which Pipecat tells apart itself, and
those of Vonage at ws://HOST:PORT/vonage?rate=HZ, with Pipecat's own parser, serializers and transport, so everything
on the wire is what a Pipecat application would say and expect.

    audio      echoed; Pipecat paces it itself, 40 ms messages in real time
    DTMF 1     sends a mark (for Plivo a checkpoint, for Vonage a notify)
    DTMF 5     talks for --talk seconds (a 440 Hz tone instead of the echo)
    DTMF *     interruption: Pipecat drops its queue and sends its word for clear
    DTMF 9     sends 3 s of tone in one burst, faster than real time, followed by a mark
    DTMF #     graceful end: Pipecat closes the WebSocket with code 1000; with --rest it has hung up before by the calls
               resource, as Pipecat applications made for Twilio do

--rest FILE names a JSON file with base_url, account_sid and auth_token, read when a call begins.

--log FILE gets one JSON line per thing seen: {"t": seconds, "dir": "in|out|ev", ..}.
"""
import argparse
import asyncio
import base64
import json
import math
import struct
import sys
import time

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

ARGS = None
BURST_SECONDS = 3.0


def note(**entry):
    if ARGS.log:
        with open(ARGS.log, "a") as file:
            file.write(json.dumps({"t": round(time.time(), 4), **entry}) + "\n")


def logged(serializer):
    """One of Pipecat's serializers, with a line in the log per message."""
    deserialize, serialize = serializer.deserialize, serializer.serialize

    async def logged_deserialize(data):
        if isinstance(data, bytes):
            note(dir="in", msg={"event": "binary", "size": len(data)})
        else:
            message = json.loads(data)
            if "payload" in message.get("media", {}):
                message["media"]["payload"] = len(base64.b64decode(message["media"]["payload"]))
            note(dir="in", msg=message)
        return await deserialize(data)

    async def logged_serialize(frame):
        out = await serialize(frame)
        if out:
            text = {"text": out} if isinstance(out, str) and "payload" not in out else {}
            note(dir="out", frame=type(frame).__name__, size=len(out), **text)
        return out

    serializer.deserialize, serializer.serialize = logged_deserialize, logged_serialize
    return serializer


class Wire:
    """What Pipecat leaves to the application: marks, and audio that it did not pace."""

    def __init__(self, kind, stream_id, rate=8000):
        self.kind = kind
        self.stream_id = stream_id
        self.rate = rate

    def serializer(self, call):
        if self.kind == "twilio":
            rest = json.load(open(ARGS.rest)) if ARGS.rest else {}
            params = TwilioFrameSerializer.InputParams(auto_hang_up=bool(rest))
            return TwilioFrameSerializer(self.stream_id, call.call_id, **rest, params=params)
        if self.kind == "telnyx":
            params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
            encoding = call["outbound_encoding"]
            return TelnyxFrameSerializer(self.stream_id, encoding, encoding, call.call_id, params=params)
        if self.kind == "plivo":
            params = PlivoFrameSerializer.InputParams(auto_hang_up=False)
            return PlivoFrameSerializer(self.stream_id, call.call_id, params=params)
        if self.kind == "exotel":
            return ExotelFrameSerializer(self.stream_id, call.call_id)
        return VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=self.rate))

    def mark(self, name):
        return {
            "twilio": {"event": "mark", "streamSid": self.stream_id, "mark": {"name": name}},
            "telnyx": {"event": "mark", "mark": {"name": name}},
            "plivo": {"event": "checkpoint", "streamId": self.stream_id, "name": name},
            "exotel": {"event": "mark", "stream_sid": self.stream_id, "mark": {"name": name}},
            "vonage": {"action": "notify", "payload": {"name": name}},
        }[self.kind]

    def burst(self, seconds):
        """Messages with a tone, 100 ms each."""
        linear = self.kind in ("exotel", "vonage")
        audio = tone(self.rate, seconds) if linear else mu_law(tone(self.rate, seconds))
        piece = self.rate // 10 * (2 if linear else 1)
        for at in range(0, len(audio), piece):
            part = audio[at : at + piece]
            payload = base64.b64encode(part).decode()
            if self.kind == "vonage":
                yield part
            elif self.kind == "plivo":
                media = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": payload}
                yield json.dumps({"event": "playAudio", "streamId": self.stream_id, "media": media})
            else:
                stream = {"twilio": {"streamSid": self.stream_id}, "exotel": {"stream_sid": self.stream_id}}
                message = {"event": "media", "media": {"payload": payload}}
                yield json.dumps(message | stream.get(self.kind, {}))


class Echo(FrameProcessor):
    def __init__(self, wire, socket):
        super().__init__()
        self.wire = wire
        self.socket = socket
        self.talk_until = 0.0
        self.marks = 0
        self.end = None

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if time.monotonic() >= self.talk_until:
                await self.push_frame(
                    OutputAudioRawFrame(
                        audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
                    )
                )
        elif isinstance(frame, InputDTMFFrame):
            note(dir="ev", dtmf=frame.button.value)
            await self.on_key(frame.button)
        else:
            await self.push_frame(frame, direction)

    async def on_key(self, key):
        if key == KeypadEntry.STAR:
            self.talk_until = 0.0
            await self.push_frame(InterruptionFrame())
        elif key == KeypadEntry.POUND:
            await self.end()
        elif key == KeypadEntry.ONE:
            await self.send_mark()
        elif key == KeypadEntry.FIVE:
            self.talk_until = time.monotonic() + ARGS.talk
            await self.push_frame(
                OutputAudioRawFrame(audio=tone(ARGS.rate, ARGS.talk), sample_rate=ARGS.rate, num_channels=1)
            )
        elif key == KeypadEntry.NINE:
            self.talk_until = time.monotonic() + BURST_SECONDS
            # Straight to the socket: an application that does not pace its audio.
            for message in self.wire.burst(BURST_SECONDS):
                if isinstance(message, bytes):
                    await self.socket.send_bytes(message)
                else:
                    await self.socket.send_text(message)
            await self.send_mark()

    async def send_mark(self):
        self.marks += 1
        note(dir="ev", mark=f"m{self.marks}")
        message = self.wire.mark(f"m{self.marks}")
        await self.push_frame(OutputTransportMessageUrgentFrame(message=message))


def tone(rate, seconds, hz=440.0, amplitude=8000):
    count = int(rate * seconds)
    samples = (int(amplitude * math.sin(2 * math.pi * hz * at / rate)) for at in range(count))
    return struct.pack(f"<{count}h", *samples)


def mu_law(pcm):
    out = bytearray()
    for (sample,) in struct.iter_unpack("<h", pcm):
        sign = 0x80 if sample < 0 else 0
        sample = min(abs(sample), 32635) + 132
        segment = sample.bit_length() - 8
        out.append(~(sign | (segment << 4) | ((sample >> (segment + 3)) & 0x0F)) & 0xFF)
    return bytes(out)


app = FastAPI()


@app.websocket("/ws")
async def media_stream(socket: WebSocket):
    note(dir="ev", event="upgrade", headers=dict(socket.headers), query=dict(socket.query_params))
    await socket.accept()
    kind, call = await parse_telephony_websocket(socket)
    note(dir="ev", event="start", kind=kind, call=call.model_dump())
    if kind not in ("twilio", "telnyx", "plivo", "exotel"):
        await socket.close(1002, "not a start message that Pipecat knows")
        return
    await serve(socket, Wire(kind, call.stream_id), call)


@app.websocket("/vonage")
async def vonage(socket: WebSocket):
    note(dir="ev", event="upgrade", headers=dict(socket.headers), query=dict(socket.query_params))
    await socket.accept()
    await serve(socket, Wire("vonage", None, int(socket.query_params.get("rate", 16000))), None)


async def serve(socket, wire, call):
    serializer = logged(wire.serializer(call))
    transport = FastAPIWebsocketTransport(
        websocket=socket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, audio_out_end_silence_secs=0, serializer=serializer
        ),
    )
    echo = Echo(wire, socket)
    worker = PipelineWorker(
        Pipeline([transport.input(), echo, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=ARGS.rate, audio_out_sample_rate=ARGS.rate),
        idle_timeout_secs=None,
        enable_rtvi=False,
    )
    echo.end = lambda: worker.queue_frame(EndFrame())

    @transport.event_handler("on_client_disconnected")
    async def disconnected(_transport, _socket):
        note(dir="ev", event="disconnected")
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    note(dir="ev", event="finished")


def main():
    global ARGS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--rate", type=int, default=8000, help="pipeline rate; 16000 or 24000 make Pipecat resample")
    parser.add_argument("--talk", type=float, default=10.0, help="seconds of tone after DTMF 5")
    parser.add_argument("--log")
    parser.add_argument("--rest", help="file with base_url, account_sid and auth_token for auto_hang_up")
    ARGS = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="INFO" if ARGS.rest else "WARNING")
    server = uvicorn.Server(uvicorn.Config(app, host=ARGS.host, port=ARGS.port, log_level="warning"))
    asyncio.run(server.serve())


if __name__ == "__main__":
    main()
