#!/usr/bin/env python3
"""Holds messages to Deepgram, ElevenLabs and Gemini against the vendors' own types, with unknown fields refused.

Reads lines {"vendor": "deepgram" | "elevenlabs" | "gemini", "message": {..}, "refuse"?: true} and answers each as
validate.py does.
"""
import json
import sys
import typing

import pydantic
from deepgram.agent.v1 import types as deepgram
from elevenlabs.conversational_ai import conversation as eleven
from elevenlabs.types import ConversationConfigClientOverrideInput
from google.genai import types as gemini

DEEPGRAM = {
    "Settings": deepgram.AgentV1Settings,
    "InjectUserMessage": deepgram.AgentV1InjectUserMessage,
    "InjectAgentMessage": deepgram.AgentV1InjectAgentMessage,
    "UpdatePrompt": deepgram.AgentV1UpdatePrompt,
    "FunctionCallResponse": deepgram.AgentV1SendFunctionCallResponse,
    "KeepAlive": deepgram.AgentV1KeepAlive,
}


def members(annotation):
    """The models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in members(inner)]


def fields(model):
    named = {}
    for name, field in model.model_fields.items():
        alias = field.serialization_alias or field.alias or name
        for meta in field.metadata:
            alias = getattr(meta, "alias", alias) or alias
        named[alias] = field
    return named


def known(models, wire, path):
    """Every key is one that some variant of the type has, level by level."""
    if isinstance(wire, list):
        for n, value in enumerate(wire):
            known(models, value, f"{path}[{n}]")
        return
    if not isinstance(wire, dict) or not models:
        return
    problems = []
    for model in models:
        have = fields(model)
        problem = None
        unknown = set(wire) - set(have)
        missing = {name for name, field in have.items() if field.is_required() and name not in wire}
        if unknown or missing:
            problem = f"{path}: {model.__name__}: unknown {sorted(unknown)}, missing {sorted(missing)}"
        else:
            try:
                for name, value in wire.items():
                    annotation = have[name].annotation
                    literals = [v for v in typing.get_args(annotation) if not isinstance(v, type)]
                    if typing.get_origin(annotation) is typing.Literal and value not in literals:
                        raise ValueError(f"{path}.{name}: {value!r} is none of {literals}")
                    known(members(annotation), value, f"{path}.{name}")
            except ValueError as error:
                problem = str(error)
        if problem is None:
            return
        problems.append(problem)
    raise ValueError("; or ".join(problems))


def check_deepgram(message):
    model = DEEPGRAM[message["type"]]
    known([model], message, message["type"])
    pydantic.TypeAdapter(model).validate_python(message)
    if message["type"] == "Settings":
        for way, kind in [
            ("input", deepgram.AgentV1SettingsAudioInputEncoding),
            ("output", deepgram.AgentV1SettingsAudioOutputEncoding),
        ]:
            words = typing.get_args(typing.get_args(kind)[0])
            if message["audio"][way]["encoding"] not in words:
                raise ValueError(f"no encoding of {way}: {message['audio'][way]}")
            if type(message["audio"][way]["sample_rate"]) is not int:
                raise ValueError("a rate is an integer")


# What the SDK's own conversation sends, key by key.
ELEVENLABS = {
    "conversation_initiation_client_data": {
        "type", "custom_llm_extra_body", "conversation_config_override", "dynamic_variables", "source_info",
        "user_id",
    },
    "pong": {"type", "event_id"},
    "client_tool_result": {"type", "tool_call_id", "result", "is_error"},
    "user_message": set(eleven.UserMessageClientToOrchestratorEvent(text="t").to_dict()),
    "contextual_update": set(eleven.ContextualUpdateClientToOrchestratorEvent(text="t").to_dict()),
    "user_activity": set(eleven.UserActivityClientToOrchestratorEvent().to_dict()),
}


def check_elevenlabs(message):
    if "user_audio_chunk" in message:
        if set(message) != {"user_audio_chunk"}:
            raise ValueError(f"beside audio: {sorted(message)}")
        return
    kind = message["type"]
    shape = ELEVENLABS[kind]
    if not set(message) <= shape:
        raise ValueError(f"{kind}: unknown {sorted(set(message) - shape)}")
    if kind == "conversation_initiation_client_data":
        known([ConversationConfigClientOverrideInput], message["conversation_config_override"], "override")
        if any(not isinstance(value, (str, int, float, bool)) for value in message["dynamic_variables"].values()):
            raise ValueError("dynamic variables are scalars")
    elif not shape - {"is_error"} <= set(message):
        raise ValueError(f"{kind}: missing {sorted(shape - set(message))}")


def check_gemini(message):
    if len(message) != 1:
        raise ValueError(f"not one key: {sorted(message)}")
    (key,) = message
    content = dict(message[key])
    # The SDK's converter writes it, though its type of the message lacks it.
    if key == "setup" and "realtimeInputConfig" in content:
        gemini.RealtimeInputConfig.model_validate(content.pop("realtimeInputConfig"))
    # The SDK's models forbid unknown keys at every level.
    gemini.LiveClientMessage.model_validate({key: content})
    if key not in {"setup", "clientContent", "realtimeInput", "toolResponse"}:
        raise ValueError(f"not as the wire has it: {key}")


CHECKS = {"deepgram": check_deepgram, "elevenlabs": check_elevenlabs, "gemini": check_gemini}


def main():
    for line in sys.stdin:
        case = json.loads(line)
        try:
            CHECKS[case["vendor"]](case["message"])
            why = None
        except Exception as error:  # Whatever the SDKs throw is a refusal.
            why = f"{type(error).__name__}: {error}"[:2000]
        answer = {"ok": (why is not None) == case.get("refuse", False)}
        if not answer["ok"]:
            answer["why"] = why or "accepted, though it is wrong"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
