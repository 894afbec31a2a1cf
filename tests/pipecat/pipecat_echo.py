#!/usr/bin/env python3
"""A Pipecat agent without a model: it plays the caller's audio back, and keys make it do more.

It accepts Twilio-style media streams at ws://HOST:PORT/ws with Pipecat's own parser, serializer and
transport, so everything on the wire is what a Pipecat application would say and expect.

    audio      echoed; Pipecat paces it itself, 40 ms messages in real time
    DTMF 1     sends a mark
    DTMF 5     talks for --talk seconds (a 440 Hz tone instead of the echo)
    DTMF *     interruption: Pipecat drops its queue and sends `clear`
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
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

ARGS = None
BURST_SECONDS = 3.0


def note(**entry):
    if ARGS.log:
        with open(ARGS.log, "a") as file:
            file.write(json.dumps({"t": round(time.time(), 4), **entry}) + "\n")


class LoggedSerializer(TwilioFrameSerializer):
    """Pipecat's serializer, with a line in the log per message."""

    async def deserialize(self, data):
        message = json.loads(data)
        if "payload" in message.get("media", {}):
            message["media"]["payload"] = len(base64.b64decode(message["media"]["payload"]))
        note(dir="in", msg=message)
        return await super().deserialize(data)

    async def serialize(self, frame):
        out = await super().serialize(frame)
        if out:
            note(dir="out", frame=type(frame).__name__, size=len(out))
        return out


class Echo(FrameProcessor):
    def __init__(self, stream_sid, socket):
        super().__init__()
        self.stream_sid = stream_sid
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
            audio = mu_law(tone(8000, BURST_SECONDS))
            for at in range(0, len(audio), 800):
                payload = base64.b64encode(audio[at : at + 800]).decode()
                message = {"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}}
                await self.socket.send_text(json.dumps(message))
            await self.send_mark()

    async def send_mark(self):
        self.marks += 1
        note(dir="ev", mark=f"m{self.marks}")
        message = {"event": "mark", "streamSid": self.stream_sid, "mark": {"name": f"m{self.marks}"}}
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
    if kind != "twilio":
        await socket.close(1002, "not a Twilio-style start message")
        return
    rest = json.load(open(ARGS.rest)) if ARGS.rest else {}
    serializer = LoggedSerializer(
        call.stream_id, call.call_id, **rest, params=TwilioFrameSerializer.InputParams(auto_hang_up=bool(rest))
    )
    transport = FastAPIWebsocketTransport(
        websocket=socket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, audio_out_end_silence_secs=0, serializer=serializer
        ),
    )
    echo = Echo(call.stream_id, socket)
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
