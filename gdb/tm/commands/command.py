"""command.py: what every tm- command does alike: errors become one line, Enter does not repeat, words complete."""

from __future__ import annotations

import os
from typing import Iterable

import gdb

from .. import reader
from ..reader import Reader


class Command(gdb.Command):
    """A command's docstring is its `help` text."""

    name = ""

    def __init__(self, completer_class: int | None = None) -> None:
        if completer_class is None:
            super().__init__(self.name, gdb.COMMAND_DATA)
        else:
            super().__init__(self.name, gdb.COMMAND_DATA, completer_class)

    def run(self, argument: str) -> None:
        """Does the command's work with the text behind its name. May raise what `invoke` knows."""
        raise NotImplementedError

    def invoke(self, argument: str, from_tty: bool) -> None:
        self.dont_repeat()
        try:
            self.run(argument)
        except gdb.GdbError:
            raise
        except KeyboardInterrupt:
            raise gdb.GdbError(f"{self.name} was interrupted") from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise gdb.GdbError(f"{place}{error.strerror or error}") from None
        except (RuntimeError, ValueError) as error:
            raise gdb.GdbError(_one_line(str(error))) from None
        except MemoryError:
            raise gdb.GdbError(f"{self.name}: GDB has not enough memory for this") from None
        except Exception as error:
            if gdb.parameter("python print-stack") == "full":
                raise
            raise gdb.GdbError(_one_line(f"{self.name} failed on {type(error).__name__}: {error}; please report it, "
                                         "with what `set python print-stack full` shows")) from None


def tracing_reader() -> Reader:
    """The selected program, if it is tracing; GdbError with what to do if it is not."""
    found = Reader()
    if not found.is_tracing:
        what_to_do = ("it was written by a program that was not tracing" if found.process.kind == "core" else
                      "tm-start lets it record blocks from now on, TRACEMALLOC=25 in its environment from its start")
        raise gdb.GdbError(f"{reader.NOT_TRACING}; {found.process.description()} is not: {what_to_do}")
    return found


def complete_word(text: str, word: str | None, candidates: Iterable[str]) -> list[str]:
    """What the last word of `text` may become. GDB asks for its tail `word`, which may begin within it; first it asks
    with None only where words end."""
    if word is None:
        return []
    last = _last_word(text)
    return [candidate[len(last) - len(word):] for candidate in candidates if candidate.startswith(last)]


def complete_filename(text: str, word: str) -> list[str]:
    """As complete_word, with the names of files. GDB's own completer would take all of `text` for one name."""
    return complete_word(text, word, _filenames(_last_word(text)))


def _last_word(text: str) -> str:
    return "" if not text or text[-1].isspace() else text.split()[-1]


def _filenames(start: str) -> list[str]:
    """The paths that begin so; what lies in a directory if it is the only one."""
    directory, slash, name = start.rpartition("/")
    folder = os.path.expanduser(directory + slash) or "."
    try:
        names = sorted(one for one in os.listdir(folder) if one.startswith(name) and (name or one[0] != "."))
    except OSError:
        return []
    paths = [directory + slash + one + ("/" if os.path.isdir(os.path.join(folder, one)) else "") for one in names]
    # The blank that readline puts behind a single answer would end the path.
    return (_filenames(paths[0]) or paths) if len(paths) == 1 and paths[0].endswith("/") else paths


def _one_line(text: str) -> str:
    return " ".join(text.split())
