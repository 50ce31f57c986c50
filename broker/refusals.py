"""An API's answer to a request that is refused as a whole, or that this broker fails at.

Most answers have one error code at the top. The others (CreateTopics, Metadata, ListOffsets, ...)
carry one for each item asked for, so the request's items are mirrored: every topic, partition,
resource or key gets the code, under the name it was asked by.
"""

from collections.abc import Sequence
from typing import Any

from protocol.compiler import specs_of
from protocol.errors import ErrorCode
from protocol.wire import FieldSpec

ERROR_CODE = "error_code"
ERROR_MESSAGE = "error_message"
NAMING = ("string", "uuid")
PARTITION = ("partition_index", "partition", "index")
NUMBERED = ("resource_type", "node_id", "broker_id")
"""Fields that say what was asked for, not what was found: offsets and times are not mirrored."""


def refusal(
    response: type[Any], version: int, request: Any, code: ErrorCode, message: str | None
) -> Any:
    """An instance of the `response` class that says `code` wherever this version has room.

    Where the version has room nowhere (nothing was asked for), the answer is the empty one.
    """
    answer = response()
    specs = [spec for spec in specs_of(response) if spec.in_version(version)]
    if not _mark(answer, specs, code, message):
        for spec in specs:
            if spec.kind == "array" and _has_code(spec, version):
                setattr(answer, spec.name, _mirror(spec, version, _items(request), code, message))
                break
    return answer


def _mark(item: Any, specs: list[FieldSpec], code: ErrorCode, message: str | None) -> bool:
    """Put the code into an item that has one."""
    names = {spec.name for spec in specs}
    if ERROR_CODE not in names:
        return False
    item.error_code = int(code)
    if ERROR_MESSAGE in names and message is not None:
        item.error_message = message
    return True


def _has_code(spec: FieldSpec, version: int) -> bool:
    """Whether the structs of an array have an error code, or hold an array whose structs do."""
    element = spec.element
    if element is None or element.struct is None:
        return False
    inner = [s for s in specs_of(element.struct) if s.in_version(version)]
    return any(s.name == ERROR_CODE or _has_code(s, version) for s in inner)


def _items(request: Any) -> Sequence[Any]:
    """What a request or an item of it lists: its first array that is not empty."""
    for spec in specs_of(type(request)):
        value = getattr(request, spec.name)
        if spec.kind == "array" and value:
            items: Sequence[Any] = value
            return items
    return ()


def _told(item: Any, own: FieldSpec) -> Any:
    """What an answer's field says of the item that was asked for; None for what says more."""
    if own.kind in NAMING:
        return getattr(item, own.name, None)
    if own.name in PARTITION:
        return next((getattr(item, name) for name in PARTITION if hasattr(item, name)), None)
    return getattr(item, own.name, None) if own.name in NUMBERED else None


def _mirror(
    spec: FieldSpec, version: int, asked: Sequence[Any], code: ErrorCode, message: str | None
) -> list[Any]:
    assert spec.element is not None and spec.element.struct is not None
    struct = spec.element.struct
    specs = [s for s in specs_of(struct) if s.in_version(version)]
    answers = []
    for item in asked:
        answer = struct()
        if isinstance(item, str | int):
            # A bare name, key or index: the first field of its kind.
            kinds = ("string",) if isinstance(item, str) else ("int32",)
            setattr(answer, next(s.name for s in specs if s.kind in kinds), item)
        else:
            for own in specs:
                value = _told(item, own)
                if value is not None or (own.kind in NAMING and own.nullable(version)):
                    setattr(answer, own.name, value)
        _mark(answer, specs, code, message)
        for own in specs:
            if own.kind == "array" and _has_code(own, version) and not isinstance(item, str | int):
                setattr(answer, own.name, _mirror(own, version, _items(item), code, message))
        answers.append(answer)
    return answers
