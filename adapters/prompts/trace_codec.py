"""How the prompts' contract looks in a trace: its arguments by name, uuids and stamps as ISO text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt
from harness.operations import operations_of


class PromptCodec:
    """Fulfils ``harness.trace.Codec``, reading the contract's own signatures."""

    def __init__(self) -> None:
        self._parameters: dict[str, dict[str, TypeAdapter[Any]]] = {}
        self._required: dict[str, set[str]] = {}
        for name in operations_of(PromptRepository):
            method = getattr(PromptRepository, name)
            hints = get_type_hints(method)
            parameters = list(inspect.signature(method).parameters.values())[1:]
            self._parameters[name] = {p.name: TypeAdapter(hints[p.name]) for p in parameters}
            self._required[name] = {p.name for p in parameters if p.default is p.empty}

    def encode(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        known = self._parameters[operation]
        return {name: known[name].dump_python(value, mode="json") for name, value in arguments.items()}

    def decode(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        known = self._parameters[operation]
        if unknown := set(arguments) - set(known):
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
        if missing := self._required[operation] - set(arguments):
            raise ValueError(f"missing {', '.join(sorted(missing))}")
        return {name: _value(name, known[name], value) for name, value in arguments.items()}


def _value(name: str, adapter: TypeAdapter[Any], given: Any) -> Any:
    try:
        # As JSON, because only there are uuids and stamps texts under strict rules ("1" is no number).
        value = adapter.validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in (name, *problem["loc"]))
        raise ValueError(f"{place}: {problem['msg']}") from None  # the error's input may be a prompt's text
    if is_dataclass(value) and (unknown := set(given) - {field.name for field in fields(value)}):
        raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")
    if isinstance(value, Prompt) and (value.created_at.tzinfo is None or value.updated_at.tzinfo is None):
        raise ValueError(f"{name}: stamps need a time zone")
    return value
