"""Reads Dockerfiles, .dockerignore files and `docker` command lines, as far as the linter needs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

KEYWORDS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined and its comments gone."""

    line: int  # where it begins, from 1
    keyword: str
    flags: tuple[tuple[str, str], ...]  # --from=x as ("from", "x")
    value: str

    def flag(self, name: str) -> str | None:
        return dict(self.flags).get(name)

    def words(self) -> list[str]:
        return shlex.split(self.value)

    def exec_form(self) -> list[str] | None:
        """The words of `["a", "b"]`, behind `CMD` in a HEALTHCHECK; None for any other form."""
        text = (
            self.value.removeprefix("CMD").strip() if self.keyword == "HEALTHCHECK" else self.value
        )
        try:
            words = json.loads(text)
        except json.JSONDecodeError:
            return None
        strings = isinstance(words, list) and all(isinstance(word, str) for word in words)
        return words if strings and words else None


@dataclass(frozen=True)
class Stage:
    """FROM and what follows it."""

    line: int
    name: str  # "" where it has none
    base: str  # as written, with its variables
    instructions: tuple[Instruction, ...]

    def all(self, keyword: str) -> list[Instruction]:
        return [each for each in self.instructions if each.keyword == keyword]


@dataclass(frozen=True)
class Dockerfile:
    """The arguments before the first FROM, and the stages."""

    arguments: Mapping[str, str | None]  # name -> default
    stages: tuple[Stage, ...]

    def base_of(self, stage: Stage, **given: str) -> str:
        """A stage's base with arguments filled in, by default from their defaults."""
        return substitute(stage.base, {**self.arguments, **given})[0]

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def lineage(self, stage: Stage, **given: str) -> list[Stage]:
        """A stage and the stages of this file that it is built on, the base first."""
        base = self.base_of(stage, **given)
        below = [each for each in self.stages if each.name == base and each.line < stage.line]
        return [*(self.lineage(below[-1], **given) if below else []), stage]


def parse(text: str) -> Dockerfile:
    """A Dockerfile's arguments and stages.

    Raises:
        ValueError: an unknown instruction, a heredoc, a FROM that cannot be read, or an instruction
            other than ARG before the first FROM.
    """
    arguments: dict[str, str | None] = {}
    stages: list[Stage] = []
    for instruction in instructions(text):
        if instruction.keyword == "FROM":
            match = re.fullmatch(r"(\S+)(?:\s+[Aa][Ss]\s+(\S+))?", instruction.value)
            if not match:
                raise ValueError(f"line {instruction.line}: cannot read FROM {instruction.value}")
            stages.append(Stage(instruction.line, (match[2] or "").lower(), match[1], ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.line, last.name, last.base, (*last.instructions, instruction))
        elif instruction.keyword == "ARG":
            arguments |= declared(instruction)
        else:
            raise ValueError(f"line {instruction.line}: {instruction.keyword} before FROM")
    return Dockerfile(arguments, tuple(stages))


def instructions(text: str) -> list[Instruction]:
    """Every instruction in a Dockerfile; comments and empty lines inside one are left out."""
    found = []
    parts: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            found.append(instruction_of(start, " ".join(parts)))
            parts = []
    if parts:
        found.append(instruction_of(start, " ".join(parts)))
    return found


def instruction_of(line: int, text: str) -> Instruction:
    keyword, _, rest = text.partition(" ")
    if keyword.upper() not in KEYWORDS:
        raise ValueError(f"line {line}: unknown instruction {keyword}")
    if re.search(r"<<-?[\"']?\w", rest):
        raise ValueError(f"line {line}: a heredoc, which this reader does not know")
    flags = []
    rest = rest.strip()
    while match := re.match(r"--([a-z-]+)(?:=(\S+))?\s+", rest):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return Instruction(line, keyword.upper(), tuple(flags), rest)


def declared(instruction: Instruction) -> dict[str, str | None]:
    """What an ARG, ENV or LABEL defines: name -> value, None for an ARG without a default."""
    pairs = (word.partition("=") for word in instruction.words())
    return {name: value if equals else None for name, equals, value in pairs}


def substitute(text: str, variables: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """Text with $NAME, ${NAME} and ${NAME:-default} filled in, and the names that have no value."""
    missing = []

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        found = variables.get(name) or match[2]
        if found is None and name not in variables:
            missing.append(name)
        return found or ""

    return VARIABLE.sub(value, text), missing


@dataclass(frozen=True)
class Ignore:
    """The rules of a .dockerignore: the last that matches a path or a folder above it wins."""

    rules: tuple[tuple[bool, re.Pattern[str]], ...]

    @classmethod
    def parse(cls, text: str) -> Ignore:
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        return cls(
            tuple(
                (not line.startswith("!"), pattern(line.lstrip("!").strip("/"))) for line in lines
            )
        )

    def ignores(self, path: str) -> bool:
        parts = PurePosixPath(path).parts
        paths = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        verdict = False
        for excludes, regex in self.rules:
            if any(regex.fullmatch(each) for each in paths):
                verdict = excludes
        return verdict


def pattern(glob: str) -> re.Pattern[str]:
    """A .dockerignore pattern: ** crosses folders, * and ? do not."""
    parts = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[[^]]+\]|[^*?[]", glob)
    return re.compile("".join(parts.get(t) or (t if t[0] == "[" else re.escape(t)) for t in tokens))


@dataclass(frozen=True)
class Command:
    """One `docker build` or `docker run` line."""

    line: int
    verb: str
    options: tuple[tuple[str, str], ...]  # ("--memory", "4g"); "" for an option without a value
    positional: tuple[str, ...]  # the context, or the image and its arguments

    def values(self, option: str) -> list[str]:
        return [value for name, value in self.options if name == option]


# Of docker's options those that such a page may use; another one is an error, as for docker.
SWITCHES = {"--rm", "--read-only", "--no-healthcheck", "--pull", "--no-cache"}
WITH_VALUE = {
    "build": {"--build-arg", "--file", "--platform", "--tag", "--target"},
    "run": {
        *("--cap-drop", "--entrypoint", "--env", "--group-add", "--memory", "--memory-swap"),
        *("--mount", "--network", "--pids-limit", "--platform", "--runtime", "--security-opt"),
        *("--tmpfs", "--user", "--volume"),
    },
}
SHORT = {"-f": "--file", "-t": "--tag", "-v": "--volume", "-e": "--env", "-u": "--user"}


def commands(markdown: str) -> list[tuple[int, list[str]]]:
    """The words of every `$` line in a page's console blocks, continuation lines joined."""
    found = []
    block, start = False, 0
    parts: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        if line.startswith("```"):
            block = not block and line.strip() == "```console"
        elif block and (parts or line.startswith("$ ")):
            start = start if parts else number
            parts.append(line.removeprefix("$ ").rstrip().removesuffix("\\").strip())
            if not line.rstrip().endswith("\\"):
                found.append((start, shlex.split(" ".join(parts), comments=True)))
                parts = []
    if parts:
        raise ValueError(f"line {start}: the command goes on after its block ends")
    return found


def docker_commands(markdown: str) -> list[Command]:
    """Every `docker build` and `docker run` line of a page, also behind VARIABLE=value and sudo.

    Raises:
        ValueError: a verb or an option that is not known here, or an option without its value.
    """
    found = []
    for line, words in commands(markdown):
        while words and (words[0] == "sudo" or re.match(r"[A-Z_]+=", words[0])):
            words = words[1:]
        if words[:1] == ["docker"]:
            found.append(docker_command(line, words[1:]))
    return found


def docker_command(line: int, words: list[str]) -> Command:
    if not words or words[0] not in WITH_VALUE:
        raise ValueError(
            f"line {line}: docker {' '.join(words[:1])}, which is neither build nor run"
        )
    verb, rest, options = words[0], list(words[1:]), []
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        name = SHORT.get(name, name)
        if name in WITH_VALUE[verb]:
            if not equals and not rest:
                raise ValueError(f"line {line}: {name} without a value")
            options.append((name, value if equals else rest.pop(0)))
        elif name in SWITCHES:
            options.append((name, ""))
        else:
            raise ValueError(f"line {line}: docker {verb} with the unknown option {name}")
    if not rest:
        raise ValueError(f"line {line}: docker {verb} without an image or a context")
    return Command(line, verb, tuple(options), tuple(rest))
