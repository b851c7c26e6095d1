"""What Dockerfile.jetson and the page beside it must obey; each rule names itself in a finding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .dockerfile import (
    Command,
    Dockerfile,
    Ignore,
    Instruction,
    Stage,
    declared,
    docker_commands,
    parse,
    substitute,
)

# What a shell or the base has set without the Dockerfile's doing.
GIVEN = {"PATH", "PWD", "HOME"}
COMPILER = re.compile(
    r"build-essential|g(?:cc|\+\+)|clang|make|cmake|cuda-(?:nvcc|toolkit)|.*-dev\b"
)
SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|API_?KEY|PRIVATE")
SECRET_FILE = re.compile(r"(?:^|/)(?:\.env|\.netrc|\.git|\.ssh|id_rsa|.*\.(?:pem|key))$")
LABELS = {"title", "description", "version", "revision", "licenses"}
# What the container is started with, everywhere on the page.
HARDENED = {
    "--rm": "",
    "--runtime": "nvidia",
    "--read-only": "",
    "--cap-drop": "ALL",
    "--security-opt": "no-new-privileges",
    "--network": "none",
}


@dataclass(frozen=True)
class Finding:
    """One breach of a rule."""

    rule: str
    line: int
    what: str


@dataclass(frozen=True)
class Project:
    """A Dockerfile and what it is judged together with."""

    text: str
    root: Path  # the build context
    ignore: str  # .dockerignore
    page: str  # docs/jetson.md


def lint(project: Project) -> list[Finding]:
    """Every breach of every rule; an empty list if there is none.

    Raises:
        ValueError: the Dockerfile or a docker line on the page cannot be read.
    """
    dockerfile = parse(project.text)
    found = [
        *bases(dockerfile),
        *arguments(dockerfile),
        *documented(dockerfile, project.page),
        *secrets(dockerfile),
        *(each for stage in dockerfile.stages for each in stage_rules(stage)),
        *sources(dockerfile, project),
        *final_stage(dockerfile),
        *(each for c in docker_commands(project.page) for each in command_rules(c, dockerfile)),
    ]
    return sorted(found, key=lambda finding: finding.line)


def bases(dockerfile: Dockerfile) -> Iterator[Finding]:
    """Every base is an earlier stage, or has a tag that is not `latest`, or a digest."""
    earlier: set[str] = set()
    for stage in dockerfile.stages:
        base, missing = substitute(stage.base, dockerfile.arguments)
        tag = base.rpartition("/")[2].partition(":")[2]
        if missing:
            yield Finding("argument", stage.line, f"FROM {stage.base}: {missing[0]} has no default")
        elif base not in earlier and "@sha256:" not in base and tag in ("", "latest"):
            yield Finding("pinned-base", stage.line, f"FROM {base}")
        for copy in stage.all("COPY"):
            if (origin := copy.flag("from")) is not None and origin not in earlier:
                yield Finding("pinned-base", copy.line, f"COPY --from={origin} is no earlier stage")
        earlier.add(stage.name)


def arguments(dockerfile: Dockerfile) -> Iterator[Finding]:
    """Every variable in a stage was declared above its use, or set by the stage it is built on."""
    for stage in dockerfile.stages:
        below = dockerfile.lineage(stage)[:-1]
        known = GIVEN | {
            name for each in below for env in each.all("ENV") for name in declared(env)
        }
        for instruction in stage.instructions:
            if instruction.keyword in ("ARG", "ENV"):
                used = " ".join(value or "" for value in declared(instruction).values())
            else:
                used = instruction.value
            assigned = set(re.findall(r"(?:^|[;&(]\s*|\s)(\w+)=", used))
            for name in substitute(used, dict.fromkeys(known | assigned, ""))[1]:
                yield Finding("argument", instruction.line, f"{name} is used but not declared")
            if instruction.keyword in ("ARG", "ENV"):
                known = known | set(declared(instruction))


def documented(dockerfile: Dockerfile, page: str) -> Iterator[Finding]:
    """Every build argument stands in the page's table, with its default if it is a global one."""
    for name, default in build_arguments(dockerfile).items():
        row = re.search(rf"^\| `{name}` \|([^|]*)\|", page, re.MULTILINE)
        if not row:
            yield Finding("documented", 1, f"{name} is not in the page's table")
        elif name in dockerfile.arguments and row[1].strip() != f"`{default}`":
            yield Finding("documented", 1, f"{name} is {default}, the page says {row[1].strip()}")


def build_arguments(dockerfile: Dockerfile) -> dict[str, str | None]:
    """Every argument that a build takes: name -> default."""
    local = {
        name: default
        for stage in dockerfile.stages
        for each in stage.all("ARG")
        for name, default in declared(each).items()
    }
    return {**local, **dockerfile.arguments}


def stage_rules(stage: Stage) -> Iterator[Finding]:
    """The rules for single instructions."""
    for each in stage.instructions:
        if each.keyword == "ADD":
            yield Finding("no-add", each.line, "ADD fetches and unpacks; COPY says what it does")
        if each.keyword == "RUN":
            yield from run_rules(each)


def secrets(dockerfile: Dockerfile) -> Iterator[Finding]:
    """No argument, variable or copied file is one: all stay readable in the image's history."""
    names = [(1, name) for name in dockerfile.arguments]
    for stage in dockerfile.stages:
        for each in (*stage.all("ARG"), *stage.all("ENV")):
            names += [(each.line, name) for name in declared(each)]
        for copy in stage.all("COPY"):
            for source in filter(SECRET_FILE.search, copy.words()[:-1]):
                yield Finding("secret", copy.line, f"COPY {source}")
    for line, name in names:
        if SECRET_NAME.search(name):
            yield Finding("secret", line, f"{name} would stay in the image")


def run_rules(run: Instruction) -> Iterator[Finding]:
    """Package managers leave nothing behind, and nothing from the network is run unseen."""
    script = run.value
    install = re.search(r"apt-get (?:-\S+ )*install\b([^;&|]*)", script)
    if re.search(r"\bapt (?:install|update)|apt-get (?:-\S+ )*(?:dist-)?upgrade", script):
        yield Finding("apt", run.line, "apt-get update and install only")
    if install:
        update = script.find("apt-get update")
        removed = script.find("rm -rf /var/lib/apt/lists/*")
        if not 0 <= update < install.start():
            yield Finding("apt", run.line, "install without update in the same RUN")
        if not {"-y", "--no-install-recommends"} <= set(install[1].split()):
            yield Finding("apt", run.line, "install wants -y --no-install-recommends")
        if removed < install.end():
            yield Finding("apt", run.line, "the lists are not removed in the same RUN")
        for package in install[1].split():
            if not package.startswith("-") and COMPILER.fullmatch(package.partition("=")[0]):
                yield Finding("small", run.line, f"{package} is for building")
    elif "apt-get update" in script:
        yield Finding("apt", run.line, "update without install in the same RUN")
    for pip in re.findall(r"pip install[^;&|]*", script):
        if not {"--no-cache-dir", "--no-deps"} <= set(pip.split()):
            yield Finding("pip", run.line, "pip install wants --no-cache-dir --no-deps")
        if not ({"--require-hashes", "-r"} <= set(pip.split()) or re.search(r"\s/\S+\.whl", pip)):
            yield Finding(
                "pip", run.line, "pip install takes a list with hashes, or a wheel built here"
            )
    if re.search(r"(?:curl|wget)[^;&]*\|\s*(?:sudo\s+)?(?:\w*sh|python3?)\b", script):
        yield Finding(
            "pipe-to-shell", run.line, "what is downloaded must be checked before it runs"
        )
    if re.search(
        r"\b(?:curl|wget)\b[^;&|]*\s(?:-k|--insecure|--no-check-certificate|http://)", script
    ):
        yield Finding("insecure-download", run.line, "downloads over checked HTTPS only")


def sources(dockerfile: Dockerfile, project: Project) -> Iterator[Finding]:
    """What COPY takes from the context is there, and .dockerignore lets it through."""
    ignore = Ignore.parse(project.ignore)
    for stage in dockerfile.stages:
        for copy in stage.all("COPY"):
            if copy.flag("from") is not None:
                continue
            for source in copy.words()[:-1]:
                if not (project.root / source).exists():
                    yield Finding("copy", copy.line, f"{source} does not exist")
                elif ignore.ignores(source):
                    yield Finding("copy", copy.line, f"{source} is in .dockerignore")


def final_stage(dockerfile: Dockerfile) -> Iterator[Finding]:
    """What the image that is built says and runs."""
    stage = dockerfile.stages[-1]
    if not stage.all("USER"):
        yield Finding("user", stage.line, "the image runs as root")
    else:
        last = stage.all("USER")[-1]
        user = substitute(last.value, dockerfile.arguments)[0]
        if user.partition(":")[0] in ("", "root", "0"):
            yield Finding("user", last.line, f"USER {user}")
    for keyword in ("ENTRYPOINT", "HEALTHCHECK"):
        if not stage.all(keyword):
            yield Finding(keyword.lower(), stage.line, "there is none")
        elif (words := stage.all(keyword)[-1].exec_form()) is None:
            yield Finding(keyword.lower(), stage.all(keyword)[-1].line, "not in exec form")
        elif keyword == "HEALTHCHECK" and "--self-test" not in words:
            yield Finding("healthcheck", stage.all(keyword)[-1].line, "does not run the self-test")
    if not stage.all("STOPSIGNAL"):
        yield Finding("stopsignal", stage.line, "there is none")
    environment = {k: v for env in stage.all("ENV") for k, v in declared(env).items()}
    if environment.get("PYTHONDONTWRITEBYTECODE") != "1":
        yield Finding("environment", stage.line, "PYTHONDONTWRITEBYTECODE is not 1")
    labels = {name for label in stage.all("LABEL") for name in declared(label)}
    for name in sorted(LABELS - {label.rpartition(".")[2] for label in labels}):
        yield Finding("labels", stage.line, f"org.opencontainers.image.{name} is missing")


def command_rules(command: Command, dockerfile: Dockerfile) -> Iterator[Finding]:
    """A build on the page uses arguments that exist; a run gives away no more than it must."""
    if command.verb == "build":
        for value in command.values("--build-arg"):
            if value.partition("=")[0] not in build_arguments(dockerfile):
                yield Finding("page", command.line, f"--build-arg {value}: no such argument")
        if command.values("--file") != ["Dockerfile.jetson"]:
            yield Finding("page", command.line, "builds another Dockerfile")
        return
    for option, value in HARDENED.items():
        if command.values(option) != [value]:
            yield Finding("page", command.line, f"runs without {option} {value}".strip())
    for option in ("--memory", "--pids-limit", "--tmpfs"):
        if not command.values(option):
            yield Finding("page", command.line, f"runs without {option}")
    if not any(re.search(r":/bundle:ro$", value) for value in command.values("--volume")):
        yield Finding("page", command.line, "mounts the bundle so that it can be written to")
