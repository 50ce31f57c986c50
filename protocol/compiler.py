"""Turns a declared message and a version into one flat decode and one flat encode function.

The functions are written as source text and compiled on first use (this is the only `exec` in the
tree): fields that the version lacks are left out, neighbouring fixed-width fields are read by one
`struct` call, nested structs and arrays become nested loops in the same function. The text is
registered with `linecache`, so a traceback shows the generated line.

Whatever bytes come in, decoding either returns a value or raises `Malformed`; lengths and counts
are held against the bytes that remain before anything is allocated. Encoding raises
`UnsupportedField` for a value that the version cannot carry.
"""

import linecache
import struct
from collections.abc import Callable
from typing import Any, TypeVar

from protocol.errors import Malformed, UnsupportedField
from protocol.wire import Buffer, FieldSpec, fields_of

T = TypeVar("T")
Decoder = Callable[[Buffer, int], tuple[T, int]]
Encoder = Callable[[T, bytearray], None]

FIXED = {
    "int8": ("b", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "uint32": ("I", 4),
    "int64": ("q", 8),
    "float64": ("d", 8),
    "bool": ("?", 1),
    "uuid": ("16s", 16),
}
MAX_STRING = 32767

_decoders: dict[tuple[type[Any], int], Decoder[Any]] = {}
_encoders: dict[tuple[type[Any], int], Encoder[Any]] = {}
_specs: dict[type[Any], list[FieldSpec]] = {}


def decoder(cls: type[T], version: int) -> Decoder[T]:
    """The function `(data, pos) -> (value, end)` for one version of a message or struct.

    `bytes` and `records` fields come out as memoryviews of `data`. Bytes after the message are the
    caller's business.
    """
    found = _decoders.get((cls, version))
    if found is None:
        found = _decoders[cls, version] = _DecodeWriter(cls, version).build()
    return found


def encoder(cls: type[T], version: int) -> Encoder[T]:
    """The function `(value, out)` that appends one version of a message or struct to a
    bytearray.
    """
    found = _encoders.get((cls, version))
    if found is None:
        found = _encoders[cls, version] = _EncodeWriter(cls, version).build()
    return found


def specs_of(cls: type[Any]) -> list[FieldSpec]:
    """`fields_of`, remembered."""
    found = _specs.get(cls)
    if found is None:
        found = _specs[cls] = fields_of(cls)
    return found


def read_uvarint(data: Buffer, pos: int) -> tuple[int, int]:
    """An unsigned varint of at most five bytes (KIP-482): (value, end)."""
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return value, pos
        shift += 7
        if shift > 28:
            raise Malformed("a varint is longer than five bytes")


def write_uvarint(out: bytearray, value: int) -> None:
    """Appends an unsigned varint."""
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _refuse(text: str) -> None:
    raise Malformed(text)


def _cannot_carry(text: str) -> None:
    raise UnsupportedField(text)


class _Writer:
    """What both directions share: lines of source, fresh names, constants, the namespace the source
    runs in.
    """

    def __init__(self, cls: type[Any], version: int) -> None:
        self.cls = cls
        self.version = version
        since = getattr(cls, "FLEXIBLE_SINCE", None)
        self.flexible = since is not None and version >= since
        self.lines: list[str] = []
        self.names = 0
        self.space: dict[str, Any] = {
            "struct_error": struct.error,
            "unpack_from": struct.unpack_from,
            "pack": struct.pack,
            "read_uvarint": read_uvarint,
            "write_uvarint": write_uvarint,
            "Malformed": Malformed,
            "refuse": _refuse,
            "cannot_carry": _cannot_carry,
        }

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def constant(self, value: Any, stem: str) -> str:
        for name, known in self.space.items():
            if known is value:
                return name
        name = self.fresh(stem)
        self.space[name] = value
        return name

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def compile(self, what: str) -> Any:
        source = "\n".join(self.lines) + "\n"
        filename = f"<{what} {self.cls.__name__} v{self.version}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec"), self.space)
        return self.space[what]

    def split(self, specs: list[FieldSpec]) -> tuple[list[FieldSpec], list[FieldSpec]]:
        """(fields in line, tagged fields in order of their numbers) of this version."""
        here = [s for s in specs if s.in_version(self.version)]
        plain = [s for s in here if s.tag is None]
        tagged = sorted((s for s in here if s.tag is not None), key=lambda s: s.tag or 0)
        return plain, tagged


class _DecodeWriter(_Writer):
    def build(self) -> Decoder[Any]:
        self.put(0, "def decode(data, pos=0):")
        self.put(1, "if type(data) is not memoryview: data = memoryview(data)")
        self.put(1, "size = len(data)")
        self.put(1, "try:")
        result = self.read_struct(2, self.cls)
        self.put(1, "except (struct_error, IndexError, UnicodeDecodeError) as error:")
        self.put(2, "raise Malformed(f'bytes end early or are no text: {error}') from None")
        self.put(1, "if pos > size: refuse('bytes end early')")
        self.put(1, f"return {result}, pos")
        decode: Decoder[Any] = self.compile("decode")
        return decode

    def read_struct(self, depth: int, cls: type[Any]) -> str:
        """Reads a struct's fields into locals; the local that holds the object made of them."""
        specs = specs_of(cls)
        plain, tagged = self.split(specs)
        values = {s.name: self.default(s) for s in specs if not s.in_version(self.version)}
        run: list[FieldSpec] = []
        for spec in plain:
            if spec.kind in FIXED:
                run.append(spec)
                continue
            self.read_run(depth, run, values)
            run = []
            values[spec.name] = self.read_field(depth, spec)
        self.read_run(depth, run, values)
        if self.flexible:
            self.read_tags(depth, tagged, values)
        made = self.fresh("s")
        arguments = ", ".join(values[s.name] for s in specs)
        self.put(depth, f"{made} = {self.constant(cls, cls.__name__)}({arguments})")
        return made

    def default(self, spec: FieldSpec) -> str:
        value = spec.default
        if isinstance(value, list):
            return "[]"
        if spec.kind == "struct" and value is not None:
            return f"{self.constant(spec.struct, 'Struct')}()"
        return repr(value)

    def read_run(self, depth: int, run: list[FieldSpec], values: dict[str, str]) -> None:
        if not run:
            return
        unpack = struct.Struct(">" + "".join(FIXED[s.kind][0] for s in run))
        targets = []
        for spec in run:
            values[spec.name] = self.fresh("v")
            targets.append(values[spec.name])
        self.space[name := self.fresh("unpack")] = unpack.unpack_from
        self.put(depth, f"{', '.join(targets)}, = {name}(data, pos); pos += {unpack.size}")

    def read_field(self, depth: int, spec: FieldSpec) -> str:
        if spec.kind in FIXED:
            values: dict[str, str] = {}
            self.read_run(depth, [spec], values)
            return values[spec.name]
        if spec.kind == "array":
            return self.read_array(depth, spec)
        if spec.kind == "struct":
            return self.read_nested(depth, spec)
        return self.read_bytes(depth, spec)

    def read_nested(self, depth: int, spec: FieldSpec) -> str:
        assert spec.struct is not None
        if not spec.nullable(self.version):
            return self.read_struct(depth, spec.struct)
        # A nullable struct is led by a byte: 1, or a negative one for null. As a tagged field it is
        # led by 1 or 0 instead: there Kafka writes a varint.
        value, lead = self.fresh("v"), self.fresh("n")
        if spec.tag is None:
            self.put(depth, f"{lead} = data[pos] < 128; pos += 1")
        else:
            self.put(depth, f"{lead}, pos = read_uvarint(data, pos)")
        self.put(depth, f"if not {lead}:")
        self.put(depth + 1, f"{value} = None")
        self.put(depth, "else:")
        made = self.read_struct(depth + 1, spec.struct)
        self.put(depth + 1, f"{value} = {made}")
        return value

    def read_length(self, depth: int, spec: FieldSpec, width: str) -> str:
        """Reads a length; -1 stands for null and is refused here where null is."""
        length = self.fresh("n")
        if self.flexible:
            self.put(depth, f"{length} = data[pos] - 1; pos += 1")
            self.put(depth, f"if {length} > 126:")
            self.put(depth + 1, f"{length}, pos = read_uvarint(data, pos - 1); {length} -= 1")
        else:
            code, size = FIXED[width]
            self.space.setdefault(f"unpack_{width}", struct.Struct(">" + code).unpack_from)
            self.put(depth, f"{length}, = unpack_{width}(data, pos); pos += {size}")
        if not spec.nullable(self.version):
            self.put(depth, f"if {length} < 0: refuse('{spec.name} is null')")
        return length

    def read_bytes(self, depth: int, spec: FieldSpec) -> str:
        text = spec.kind == "string"
        length = self.read_length(depth, spec, "int16" if text else "int32")
        value = self.fresh("v")
        if spec.nullable(self.version):
            self.put(depth, f"if {length} < 0:")
            self.put(depth + 1, f"if {length} < -1: refuse('{spec.name} has a negative length')")
            self.put(depth + 1, f"{value} = None")
            self.put(depth, "else:")
            depth += 1
        if text:
            if self.flexible:
                limit = f"if {length} > {MAX_STRING}: refuse('{spec.name} is too long')"
                self.put(depth, limit)
            # Apache Kafka replaces what is not UTF-8 instead of refusing it.
            self.put(depth, f"{value} = str(data[pos:pos + {length}], 'utf-8', 'replace')")
        else:
            self.put(depth, f"if {length} > size - pos: refuse('{spec.name} is cut off')")
            self.put(depth, f"{value} = data[pos:pos + {length}]")
        self.put(depth, f"pos += {length}")
        return value

    def read_array(self, depth: int, spec: FieldSpec) -> str:
        element = spec.element
        assert element is not None
        count = self.read_length(depth, spec, "int32")
        value = self.fresh("a")
        if spec.nullable(self.version):
            self.put(depth, f"if {count} < 0:")
            self.put(depth + 1, f"if {count} < -1: refuse('{spec.name} has a negative count')")
            self.put(depth + 1, f"{value} = None")
            self.put(depth, "else:")
            depth += 1
        width = FIXED[element.kind][1] if element.kind in FIXED else 1
        self.put(
            depth,
            f"if {count} * {width} > size - pos: refuse('{spec.name} has more items than bytes')",
        )
        if element.kind in FIXED:
            code = FIXED[element.kind][0]
            if element.kind == "uuid":
                each = "bytes(data[pos + i * 16:pos + i * 16 + 16])"
                self.put(depth, f"{value} = [{each} for i in range({count})]")
            else:
                self.put(depth, f"{value} = list(unpack_from(f'>{{{count}}}{code}', data, pos))")
            self.put(depth, f"pos += {count} * {width}")
            return value
        self.put(depth, f"{value} = []")
        self.put(depth, f"for _ in range({count}):")
        item = self.read_field(depth + 1, element)
        self.put(depth + 1, f"{value}.append({item})")
        return value

    def read_tags(self, depth: int, tagged: list[FieldSpec], values: dict[str, str]) -> None:
        for spec in tagged:
            values[spec.name] = self.fresh("v")
            self.put(depth, f"{values[spec.name]} = {self.default(spec)}")
        count = self.fresh("n")
        self.put(depth, f"{count} = data[pos]; pos += 1")
        self.put(depth, f"if {count}:")
        self.put(depth + 1, f"if {count} > 127: {count}, pos = read_uvarint(data, pos - 1)")
        self.put(depth + 1, f"for _ in range({count}):")
        number, end = self.fresh("t"), self.fresh("e")
        self.put(depth + 2, f"{number}, pos = read_uvarint(data, pos)")
        self.put(depth + 2, f"{end}, pos = read_uvarint(data, pos); {end} += pos")
        self.put(depth + 2, f"if {end} > size: refuse('a tagged field is cut off')")
        for spec in tagged:
            self.put(depth + 2, f"if {number} == {spec.tag}:")
            value = self.read_field(depth + 3, spec)
            self.put(
                depth + 3, f"if pos != {end}: refuse('{spec.name} has another size than told')"
            )
            self.put(depth + 3, f"{values[spec.name]} = {value}")
        self.put(depth + 2, f"pos = {end}")


class _EncodeWriter(_Writer):
    def build(self) -> Encoder[Any]:
        self.put(0, "def encode(value, out):")
        self.put(1, "pass")  # a version may have no fields at all (ApiVersionsRequest 0)
        self.write_struct(1, self.cls, "value", "out")
        encode: Encoder[Any] = self.compile("encode")
        return encode

    def write_struct(self, depth: int, cls: type[Any], value: str, out: str) -> None:
        specs = specs_of(cls)
        plain, tagged = self.split(specs)
        for spec in specs:
            if not spec.in_version(self.version) and not spec.ignorable:
                text = f"{cls.__name__}.{spec.name} cannot be carried by version {self.version}"
                condition = self.differs(spec, f"{value}.{spec.name}")
                self.put(depth, f"if {condition}: cannot_carry('{text}')")
        run: list[FieldSpec] = []
        for spec in plain:
            if spec.kind in FIXED:
                run.append(spec)
                continue
            self.write_run(depth, run, value, out)
            run = []
            self.write_field(depth, spec, f"{value}.{spec.name}", out)
        self.write_run(depth, run, value, out)
        if self.flexible:
            self.write_tags(depth, tagged, value, out)
        elif not specs:
            self.put(depth, "pass")

    def differs(self, spec: FieldSpec, expression: str) -> str:
        """The condition under which a value is not the default."""
        if isinstance(spec.default, list):
            return f"{expression} != []" if spec.nullable_since is not None else expression
        if spec.default is None:
            return f"{expression} is not None"
        if spec.kind == "struct":
            return f"{expression} != {self.constant(spec.default, 'default')}"
        return f"{expression} != {spec.default!r}"

    def write_run(self, depth: int, run: list[FieldSpec], value: str, out: str) -> None:
        if not run:
            return
        codes = "".join(FIXED[s.kind][0] for s in run)
        self.space[name := self.fresh("pack")] = struct.Struct(">" + codes).pack
        self.put(depth, f"{out} += {name}({', '.join(f'{value}.{s.name}' for s in run)})")

    def write_field(self, depth: int, spec: FieldSpec, expression: str, out: str) -> None:
        if spec.kind in FIXED:
            self.space[name := self.fresh("pack")] = struct.Struct(">" + FIXED[spec.kind][0]).pack
            self.put(depth, f"{out} += {name}({expression})")
            return
        value = self.fresh("v")
        self.put(depth, f"{value} = {expression}")
        self.put(depth, f"if {value} is None:")
        if not spec.nullable(self.version):
            text = f"{spec.name} cannot be null in version {self.version}"
            self.put(depth + 1, f"cannot_carry('{text}')")
        elif spec.kind == "struct":
            self.put(depth + 1, f"{out}.append({255 if spec.tag is None else 0})")
        elif self.flexible:
            self.put(depth + 1, f"{out}.append(0)")
        else:
            self.put(depth + 1, f"{out} += {self.null_length(spec)!r}")
        self.put(depth, "else:")
        if spec.kind == "struct":
            assert spec.struct is not None
            if spec.nullable(self.version):
                self.put(depth + 1, f"{out}.append(1)")
            self.write_struct(depth + 1, spec.struct, value, out)
            self.put(depth + 1, "pass")
        elif spec.kind == "array":
            self.write_array(depth + 1, spec, value, out)
        else:
            self.write_bytes(depth + 1, spec, value, out)

    @staticmethod
    def null_length(spec: FieldSpec) -> bytes:
        return b"\xff\xff" if spec.kind == "string" else b"\xff\xff\xff\xff"

    def write_length(self, depth: int, length: str, width: str, out: str) -> None:
        if self.flexible:
            self.put(depth, f"if {length} < 127: {out}.append({length} + 1)")
            self.put(depth, f"else: write_uvarint({out}, {length} + 1)")
        else:
            name = f"pack_{width}"
            self.space.setdefault(name, struct.Struct(">" + FIXED[width][0]).pack)
            self.put(depth, f"{out} += {name}({length})")

    def write_bytes(self, depth: int, spec: FieldSpec, value: str, out: str) -> None:
        length = self.fresh("n")
        if spec.kind == "string":
            self.put(depth, f"{value} = {value}.encode()")
        self.put(depth, f"{length} = len({value})")
        if spec.kind == "string":
            text = f"{spec.name} is longer than {MAX_STRING} bytes"
            self.put(depth, f"if {length} > {MAX_STRING}: cannot_carry('{text}')")
        self.write_length(depth, length, "int16" if spec.kind == "string" else "int32", out)
        self.put(depth, f"{out} += {value}")

    def write_array(self, depth: int, spec: FieldSpec, value: str, out: str) -> None:
        element = spec.element
        assert element is not None
        length = self.fresh("n")
        self.put(depth, f"{length} = len({value})")
        self.write_length(depth, length, "int32", out)
        if element.kind in FIXED:
            code = FIXED[element.kind][0]
            if element.kind == "uuid":
                self.put(depth, f"{out} += b''.join({value})")
            else:
                self.put(depth, f"{out} += pack(f'>{{{length}}}{code}', *{value})")
            return
        item = self.fresh("i")
        self.put(depth, f"for {item} in {value}:")
        if element.kind == "struct":
            assert element.struct is not None
            self.write_struct(depth + 1, element.struct, item, out)
            self.put(depth + 1, "pass")
        else:
            self.write_field(depth + 1, element, item, out)

    def write_tags(self, depth: int, tagged: list[FieldSpec], value: str, out: str) -> None:
        if not tagged:
            self.put(depth, f"{out}.append(0)")
            return
        count, section = self.fresh("n"), self.fresh("b")
        self.put(depth, f"{count} = 0; {section} = bytearray()")
        for spec in tagged:
            one = self.fresh("b")
            self.put(depth, f"if {self.differs(spec, f'{value}.{spec.name}')}:")
            self.put(depth + 1, f"{count} += 1; {one} = bytearray()")
            self.write_field(depth + 1, spec, f"{value}.{spec.name}", one)
            self.put(depth + 1, f"write_uvarint({section}, {spec.tag})")
            self.put(depth + 1, f"write_uvarint({section}, len({one})); {section} += {one}")
        self.put(depth, f"write_uvarint({out}, {count}); {out} += {section}")
