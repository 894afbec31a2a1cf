#!/usr/bin/env python3
"""Real clients against the fakes, to prove the fakes: openai-agents' realtime session, and the Azure SDK's connection.

`clients.py FAKE_LOG PORT`: each says something (a tone), hears the answer, interrupts it, and must see it cut off.
"""
import asyncio
import base64
import json
import math
import struct
import sys

from agents.realtime import RealtimeAgent, RealtimeRunner
from azure.ai.voicelive.aio import connect
from azure.ai.voicelive.models import RequestSession, ServerVad
from azure.core.credentials import AzureKeyCredential

LOG, PORT = sys.argv[1], int(sys.argv[2])
RATE = 24000
SPEECH = [round(8000 * math.sin(n * 2 * math.pi * 440 / RATE)) for n in range(RATE // 50)]
SPEECH, SILENCE = struct.pack(f"<{len(SPEECH)}h", *SPEECH), bytes(2 * RATE // 50)


async def speak(send, milliseconds, frame):
    for _ in range(milliseconds // 20):
        await send(frame)
        await asyncio.sleep(0.02)


def logged(conn, direction, kind):
    with open(LOG) as file:
        entries = [json.loads(line) for line in file]
    mine = [entry["msg"] for entry in entries if entry.get("conn") == conn and entry.get("dir") == direction]
    return [message for message in mine if message["type"] == kind]


async def openai_agents():
    runner = RealtimeRunner(RealtimeAgent(name="test", instructions="You answer phone calls."))
    url = f"ws://127.0.0.1:{PORT}/v1/realtime?model=gpt-realtime"
    session = await runner.run(model_config={"url": url, "api_key": "k"})
    heard = {"bytes": 0, "interrupted": False}

    async def listen():
        async for event in session:
            if event.type == "audio":
                heard["bytes"] += len(event.audio.data)
            elif event.type == "audio_interrupted":
                heard["interrupted"] = True

    async with session:
        task = asyncio.ensure_future(listen())
        await asyncio.sleep(0.3)
        await speak(session.send_audio, 400, SPEECH)
        await speak(session.send_audio, 1200, SILENCE)
        await speak(session.send_audio, 300, SPEECH)
        await speak(session.send_audio, 400, SILENCE)
        task.cancel()
    assert heard["bytes"] == 5 * RATE * 2, heard
    assert heard["interrupted"], heard
    sent = [entry["msg"]["type"] for entry in entries() if entry.get("dir") == "in" and entry["conn"] == 1]
    # It sends a response.cancel only to servers that do not cancel by themselves.
    assert "conversation.item.truncate" in sent[: (sent + ["response.cancel"]).index("response.cancel")], sent
    (cut,) = logged(1, "out", "conversation.item.truncated")
    assert 300 < cut["audio_end_ms"] < 2500, cut


def entries():
    with open(LOG) as file:
        return [json.loads(line) for line in file]


async def azure():
    endpoint = f"http://127.0.0.1:{PORT}"
    async with connect(endpoint=endpoint, credential=AzureKeyCredential("k"), model="gpt-realtime") as connection:
        session = RequestSession(modalities=["text", "audio"], turn_detection=ServerVad())
        await connection.session.update(session=session)
        seen, size, item = [], 0, None

        async def listen():
            nonlocal size, item
            async for event in connection:
                seen.append(getattr(event.type, "value", event.type))
                if seen[-1] == "response.audio.delta":
                    size, item = size + len(event.delta), event.item_id

        task = asyncio.ensure_future(listen())

        async def send(frame):
            await connection.input_audio_buffer.append(audio=base64.b64encode(frame).decode())

        await speak(send, 400, SPEECH)
        await speak(send, 1200, SILENCE)
        await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=99999)
        await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=700)
        await asyncio.sleep(0.3)
        assert not task.done(), task.exception()
        task.cancel()
    assert size == 5 * RATE * 2, size
    assert seen.count("error") == 1 and seen.count("conversation.item.truncated") == 1, seen


async def main():
    await openai_agents()
    await azure()
    faults = [entry for entry in entries() if "fault" in entry]
    assert not faults, faults
    print("ok")


asyncio.run(main())
