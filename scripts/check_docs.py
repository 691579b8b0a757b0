# SPDX-License-Identifier: Apache-2.0
"""Checks what the documents promise: each relative link leads somewhere, each `xdptui` command parses with
the program's own parser, each `make` target exists. Prints what doesn't, and then exits with 1.

A command may be written as a synopsis: ``[x]`` is optional, ``a | b`` and ``(a | b)`` are alternatives,
``X...`` is X once or more. Every combination must parse. In running text a command's name alone is enough.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from xdptui.cli import _terminal_options
from xdptui.commands.arguments import COMMANDS, command_parser, spelled_out
from xdptui.outcome import UsageError

EXAMPLES = {"COMMAND": "undo IF", "FILE": "./FILE", "LINKAGE": "static", "S": "10", "N": "1"}
"""Substitutes for placeholders that the parser does not accept."""

SHELL = {"|", ">", ">>", "<", ";", "&&", "||", "&"}
_LAYOUT = re.compile(r" {2,}")
_CODE = re.compile(r"[a-z_]+(?:/[a-z_]+)*\.(?:py|[ch]|bpf\.c)")
_PREFIX = re.compile(r"^(?:\$ )?(?:sudo )?(?:\S*/)?xdptui(?= |$)")


@dataclass(frozen=True)
class Problem:
    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def problems(root: Path, files: list[Path]) -> Iterator[Problem]:
    """All problems in Markdown files below ``root``."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    for file in files:
        for line, token in _tokens(MarkdownIt().enable("table").parse((root / file).read_text())):
            for below, text in _wrong(root, file, token, targets):
                yield Problem(file, line + below, text)


def _tokens(tokens: list[Token], line: int = 1) -> Iterator[tuple[int, Token]]:
    """Each token with its line number, including those inside a paragraph."""
    for token in tokens:
        if token.map:
            line = token.map[0] + 1
        yield line, token
        yield from _tokens(token.children or [], line)
        line += token.type in ("softbreak", "hardbreak")


def _wrong(root: Path, file: Path, token: Token, targets: set[str]) -> Iterator[tuple[int, str]]:
    """Each problem with its line offset from the token's first line."""
    for name in ("href", "src"):
        if isinstance(link := token.attrs.get(name), str) and (why := _dead(root, file, link)):
            yield 0, f"the link {link} leads nowhere: {why}"
    if token.type in ("fence", "code_block"):
        fence = token.type == "fence"
        commands = [(at + fence, line.strip()) for at, line in enumerate(token.content.splitlines())]
    elif token.type == "code_inline":
        if _CODE.fullmatch(token.content) and not _is_there(root, token.content):
            yield 0, f"there is no file `{token.content}`"
        commands = [(0, " ".join(token.content.split()))]
    else:
        return
    for below, command in commands:
        if match := re.match(r"(?:sudo )?make ([a-z][a-z-]*)", command):
            if match[1] not in targets:
                yield below, f"there is no target for `{command}`"
        elif _PREFIX.match(command):
            for mistake in _mistakes(command, named=token.type == "code_inline"):
                yield below, mistake


# Links and files


def _is_there(root: Path, path: str) -> bool:
    """Whether a source file of the project has a path that ends with these folders and this name."""
    folders = ("core", "xdptui", "bpf", "tests", "scripts")
    return any(found for folder in folders for found in (root / folder).glob(f"**/{path}")) or (
        (root / path).exists()
    )


def _dead(root: Path, file: Path, link: str) -> str:
    """Why a link leads nowhere; empty if it leads somewhere, or to another host."""
    if re.match(r"[a-z]+:", link):
        return ""
    path, _, anchor = link.partition("#")
    target = (root / file).parent / path if path else root / file
    if not target.exists():
        return "no such file"
    if anchor and target.suffix == ".md" and anchor not in _anchors(target):
        return "no such heading"
    return ""


def _anchors(file: Path) -> set[str]:
    """The names of its headings, as forges generate them."""
    tokens = MarkdownIt().parse(file.read_text())
    headings = (body.content for head, body in itertools.pairwise(tokens) if head.type == "heading_open")
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


# Commands


def _mistakes(command: str, *, named: bool) -> Iterator[str]:
    """What is wrong with a command as written."""
    text = _LAYOUT.split(_PREFIX.sub("xdptui", command).replace("…", "..."))[0]
    words = text.split()[1:]
    if named and len(words) == 1 and all(word in COMMANDS for word in words[0].split("|")):
        return
    try:
        variants = {" ".join(variant) for variant in _synopsis(text)}
    except ValueError as error:
        yield f"`{command}` can't be read: {error}"
        return
    for variant in sorted(variants):
        try:
            _parse(shlex.split(variant, comments=True)[1:])
        except UsageError as error:
            yield f"`{variant}` is refused: {error.why or error.what}"
            return


def _parse(words: list[str]) -> None:
    """Parse with the program's own parser, up to where the shell takes over. Raises UsageError."""
    words = list(itertools.takewhile(lambda word: word not in SHELL, words))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):  # as --help does
        if any(word in COMMANDS for word in words):
            command_parser().parse_args(spelled_out(words))
        else:
            word = next(iter(words), None)
            interface = word is None or word.startswith("-") or word == "IF" or re.search(r"\d", word)
            _terminal_options(words if interface else ["IF", *words], word)


def _synopsis(text: str) -> list[list[str]]:
    """Everything that a synopsis allows, each as words. Raises ValueError for an unmatched bracket."""
    if not re.search(r"[\[(]|\.\.\.|\b[A-Z]{2,}\b|\w\|\w", text) or "'" in text:
        return [[text]]
    pieces = re.findall(r"[\[\]()]|\|(?= )|[^\s\[\]()]+", text)
    rest = iter([*pieces, ""])
    found = _alternatives(rest, "")
    if next(rest, None) is not None:
        raise ValueError("a bracket too many")
    return found


def _alternatives(pieces: Iterator[str], end: str) -> list[list[str]]:
    """Up to the closing bracket."""
    ways: list[list[list[str]]] = [[[]]]
    for piece in pieces:
        if piece == end:
            return _shared_beginning(ways) if end == "" else list(itertools.chain(*ways))
        if piece == "|":
            ways.append([[]])
            continue
        if piece in ("[", "("):
            inner = _alternatives(pieces, "]" if piece == "[" else ")")
            more = [*inner, []] if piece == "[" else inner
        elif piece in ("]", ")", ""):
            raise ValueError("a bracket has no other half")
        else:
            words = [word.removesuffix("...").rstrip(",") for word in re.split(r"\|(?=\w)", piece)]
            more = [EXAMPLES.get(word, word).split() for word in words]
        ways[-1] = [head + tail for head, tail in itertools.product(ways[-1], more)]
    raise ValueError("a bracket has no other half")


def _shared_beginning(ways: list[list[list[str]]]) -> list[list[str]]:
    """``xdptui set IF SLOT --shadow | --no-shadow``: an alternative replaces the last words."""
    first, *others = ways
    found = list(first)
    for other in others:
        for words in other:
            option = words[0].startswith("-")
            for head in first:
                at = next(
                    (i for i, word in enumerate(head) if option and word.startswith("-")), len(head) - 1
                )
                found.append([*head[:at], *words])
    return found


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=root, capture_output=True, text=True, check=True)
    found = list(problems(root, [Path(name) for name in listed.stdout.split()]))
    print("\n".join(map(str, found)) or "all links and commands of the documents are good")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
