"""Reads what pprof reads: a profile of profile.proto, checked as a strict reader would."""

from __future__ import annotations

from typing import Container, Iterator, NamedTuple, Union

Value = Union[int, bytes]
Line = tuple[str, str, int]  # function, its file, line


class Mapping(NamedTuple):
    filename: str
    build_id: str
    resolution: int  # how many of has_functions, has_filenames, has_line_numbers, has_inline_frames hold


class Location(NamedTuple):
    mapping: Mapping | None
    address: int
    lines: list[Line]


class Sample(NamedTuple):
    locations: list[Location]
    values: list[int]
    labels: dict[str, str]


class Profile(NamedTuple):
    sample_types: list[tuple[str, str]]
    samples: list[Sample]
    mappings: list[Mapping]
    locations: dict[int, Location]
    comments: list[str]
    default_sample_type: str
    period_type: tuple[str, str]
    period: int
    time_nanos: int


class Message:
    """The fields of a message, by number."""

    def __init__(self, data: bytes, *known: int) -> None:
        self._fields: dict[int, list[Value]] = {}
        for field, value in _fields(data):
            assert field in known, f"field {field} is none of {known}"
            self._fields.setdefault(field, []).append(value)

    def number(self, field: int) -> int:
        """0 for a field that is left out."""
        values = self._fields.get(field, [0])
        value = values[-1]
        assert len(values) == 1 and isinstance(value, int), f"field {field} is {values}"
        return value

    def messages(self, field: int) -> list[bytes]:
        values = [value for value in self._fields.get(field, []) if isinstance(value, bytes)]
        assert len(values) == len(self._fields.get(field, [])), f"field {field} is a number"
        return values

    def numbers(self, field: int) -> list[int]:
        """Of a repeated field, packed or not."""
        found: list[int] = []
        for value in self._fields.get(field, []):
            found += [value] if isinstance(value, int) else _unpacked(value)
        return found


def read_profile(data: bytes) -> Profile:
    """The profile with all its references followed; AssertionError, KeyError or IndexError for one that is wrong."""
    top = Message(data, 1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14)
    strings = [text.decode() for text in top.messages(6)]
    assert strings[0] == "" and len(set(strings)) == len(strings), "strings"

    def pair(message: bytes) -> tuple[str, str]:
        fields = Message(message, 1, 2)
        return strings[fields.number(1)], strings[fields.number(2)]

    functions: dict[int, tuple[str, str]] = {}
    for fields in (Message(message, 1, 2, 3, 4) for message in top.messages(5)):
        assert fields.number(3) == fields.number(2), "system name"
        functions[_new(functions, fields)] = strings[fields.number(2)], strings[fields.number(4)]
    mappings: dict[int, Mapping] = {}
    for fields in (Message(message, 1, 5, 6, 7, 8, 9, 10) for message in top.messages(3)):
        mappings[_new(mappings, fields)] = Mapping(strings[fields.number(5)], strings[fields.number(6)],
                                                   sum(fields.number(field) for field in (7, 8, 9, 10)))
    locations: dict[int, Location] = {}
    for fields in (Message(message, 1, 2, 3, 4) for message in top.messages(4)):
        lines = [Message(line, 1, 2) for line in fields.messages(4)]
        mapping = fields.number(2)
        locations[_new(locations, fields)] = Location(
            mappings[mapping] if mapping else None, fields.number(3),
            [(*functions[line.number(1)], line.number(2)) for line in lines])
    samples = [Sample([locations[number] for number in fields.numbers(1)], fields.numbers(2),
                      dict(map(pair, fields.messages(3))))
               for fields in (Message(message, 1, 2, 3) for message in top.messages(2))]
    assert all(len(sample.values) == len(top.messages(1)) and sample.locations for sample in samples), "samples"
    period_type, = top.messages(11)
    return Profile(list(map(pair, top.messages(1))), samples, list(mappings.values()), locations,
                   [strings[number] for number in top.numbers(13)], strings[top.number(14)], pair(period_type),
                   top.number(12), top.number(9))


def _new(known: Container[int], fields: Message) -> int:
    """The id of a message, which no other has."""
    number = fields.number(1)
    assert number and number not in known, f"id {number}"
    return number


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, place = _varint(data, place)
        assert key & 7 in (0, 2), f"wire type {key & 7}"
        if key & 7 == 0:
            yield key >> 3, number
        else:
            assert place + number <= len(data), "a field goes beyond the end"
            yield key >> 3, data[place:place + number]
            place += number


def _unpacked(data: bytes) -> list[int]:
    numbers = []
    place = 0
    while place < len(data):
        number, place = _varint(data, place)
        numbers.append(number)
    return numbers


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return number, place
        shift += 7
        assert shift < 70, "a number that is too long"
