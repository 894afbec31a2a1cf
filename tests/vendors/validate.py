#!/usr/bin/env python3
"""Holds messages against the vendors' own types, with unknown fields refused.

Reads lines {"vendor": "openai" | "voice_live", "message": {..}, "refuse"?: true} and answers each with
{"ok": true | false, "why"?: ".."}: ok if the message is right, or is wrong and ought to be.
"""
import json
import sys

import azure.ai.voicelive.models as azure
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

OPENAI = TypeAdapter(RealtimeClientEvent)
OPENAI_SERVER = TypeAdapter(RealtimeServerEvent)
# Sent by the server, though the type, which is that of the request, lacks them.
OPENAI_SESSION_EXTRAS = {".session.id", ".session.object", ".session.expires_at"}
AZURE_VOICES = {
    "openai": azure.OpenAIVoice,
    "azure-standard": azure.AzureStandardVoice,
    "azure-custom": azure.AzureCustomVoice,
    "azure-personal": azure.AzurePersonalVoice,
}
# The SDK takes any string for these.
AZURE_WORDS = {
    "input_audio_format": azure.InputAudioFormat,
    "output_audio_format": azure.OutputAudioFormat,
    "modalities": azure.Modality,
}


def openai_extras(model, path=""):
    """Keys that the type does not have; pydantic lets them pass."""
    if isinstance(model, BaseModel):
        found = [f"{path}.{key}" for key in (model.model_extra or {})]
        for key in model.model_fields_set & set(type(model).model_fields):
            found += openai_extras(getattr(model, key), f"{path}.{key}")
        return found
    if isinstance(model, list):
        return [extra for n, value in enumerate(model) for extra in openai_extras(value, f"{path}[{n}]")]
    return []


def check_openai(message):
    extras = openai_extras(OPENAI.validate_python(message, strict=True))
    if extras:
        raise ValueError(f"unknown: {extras}")


def check_openai_server(event):
    extras = set(openai_extras(OPENAI_SERVER.validate_python(event))) - OPENAI_SESSION_EXTRAS
    if extras:
        raise ValueError(f"unknown: {extras}")


def azure_fields(model, wire, path, base):
    """Compares what was sent with what the type has, level by level."""
    if type(model) is base:
        raise ValueError(f"{path}: no type of its own for {wire}")
    fields = {field._rest_name: attribute for attribute, field in type(model)._attr_to_rest_field.items()}
    unknown = set(wire) - set(fields)
    if unknown:
        raise ValueError(f"{path}: unknown: {sorted(unknown)}")
    for name, value in wire.items():
        if name in AZURE_WORDS:
            words = {str(word.value) for word in AZURE_WORDS[name]}
            wrong = set(value if isinstance(value, list) else [value]) - words
            if wrong:
                raise ValueError(f"{path}.{name}: not a word of it: {wrong}")
        if name == "voice" and isinstance(value, dict):
            if value.get("type") not in AZURE_VOICES:
                raise ValueError(f"{path}.voice: unknown type {value}")
            kind = AZURE_VOICES[value["type"]]
            azure_fields(kind._deserialize(value, []), value, f"{path}.voice", None)
            continue
        azure_value(getattr(model, fields[name]), value, f"{path}.{name}")


def azure_value(model, wire, path):
    if isinstance(wire, dict):
        if hasattr(type(model), "_attr_to_rest_field"):
            azure_fields(model, wire, path, None)
    elif isinstance(wire, list):
        for n, value in enumerate(wire):
            azure_value(model[n], value, f"{path}[{n}]")
    elif isinstance(wire, bool) or isinstance(model, bool):
        if model is not wire:
            raise ValueError(f"{path}: {wire!r} is read as {model!r}")
    elif isinstance(wire, (int, float)) and type(model) is not type(wire) and not isinstance(model, float):
        raise ValueError(f"{path}: {wire!r} is read as {model!r}")


def check_azure(message):
    event = azure.ClientEvent._deserialize(message, [])
    azure_fields(event, message, message.get("type", "?"), azure.ClientEvent)
    content = message.get("item", {}).get("content", [])
    if message.get("item", {}).get("role") != "assistant" and any(part["type"] == "text" for part in content):
        raise ValueError("only the assistant says `text`")
    # The SDK converts leniently: an integer must be one.
    if message.get("type") == "conversation.item.truncate" and not (
        type(message["audio_end_ms"]) is int and type(message["content_index"]) is int
    ):
        raise ValueError("truncate takes integers")
    for name, required in REQUIRED.items():
        if message.get("type") == name:
            missing = [key for key in required if key not in message]
            if missing:
                raise ValueError(f"missing: {missing}")


def check_azure_server(event):
    parsed = azure.ServerEvent._deserialize(event, [])
    azure_fields(parsed, event, event.get("type", "?"), azure.ServerEvent)


# What the SDK's constructors demand; reading them does not.
REQUIRED = {
    "session.update": ["session"],
    "input_audio_buffer.append": ["audio"],
    "conversation.item.create": ["item"],
    "conversation.item.truncate": ["item_id", "content_index", "audio_end_ms"],
}
CHECKS = {"openai": check_openai, "voice_live": check_azure}
SERVER_CHECKS = {"openai": check_openai_server, "voice_live": check_azure_server}


def main():
    for line in sys.stdin:
        case = json.loads(line)
        try:
            CHECKS[case["vendor"]](case["message"])
            why = None
        except Exception as error:  # Whatever the SDKs throw is a refusal.
            why = f"{type(error).__name__}: {error}"[:2000]
        refuse = case.get("refuse", False)
        answer = {"ok": (why is not None) == refuse}
        if not answer["ok"]:
            answer["why"] = why or "accepted, though it is wrong"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
