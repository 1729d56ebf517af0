"""What a reader sees is true: links and anchors resolve, generated pages are the code's, examples load, commands parse.

Covered: README, CHANGELOG, CONTRIBUTING, SECURITY and everything below docs/. Not covered: addresses on the web, and
output that was copied from runs.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import BaseModel

import lab.__main__
import lab.attack
from ringfence import __version__, config
from ringfence.cli.commands import whole
from ringfence.config.trust import AnchorGit, AnchorS3
from ringfence.model.incident import State
from ringfence.playbooks import builtin_names, lint, load, require_clean
from ringfence.seal import cli as verifier
from scripts import generate

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
SHELL = frozenset({"sh", "console"})
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
PARSER = MarkdownIt("commonmark").enable("table")


class Line(NamedTuple):
    """A command as a page shows it. ``whole`` is False for a mention in the text, which may leave arguments out."""

    words: list[str]
    whole: bool

    @property
    def program(self) -> str:
        return Path(self.words[0]).name


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- reading a page --------------------------------------------------------------------
def tokens(page: Path) -> Iterator[Token]:
    for token in PARSER.parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def fences(page: Path) -> Iterator[Token]:
    return (token for token in tokens(page) if token.type == "fence")


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        if token.type == "link_open":
            yield str(token.attrs["href"])


def anchors(page: Path) -> set[str]:
    """The ids of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    following = list(PARSER.parse(page.read_text(encoding="utf-8")))
    for heading, inline in pairwise(following):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
            if found[slug]:
                found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def commands(page: Path) -> Iterator[Line]:
    for token in tokens(page):
        if token.type == "fence" and token.info in SHELL:
            for line in token.content.splitlines():
                if token.info == "console" and not line.startswith("$ "):
                    continue  # output
                yield from _line(line.removeprefix("$ "), whole=True)
        elif token.type == "code_inline":
            yield from _line(token.content, whole=False)


def _line(text: str, *, whole: bool) -> Iterator[Line]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        if whole:
            raise
        return  # a mention that is no command
    while words and ASSIGNMENT.fullmatch(words[0]):
        words.pop(0)
    if words and (whole or len(words) > 1):
        yield Line(words, whole)


@every_page
def test_nothing_is_left_to_be_filled_in_and_nothing_is_of_one_machine(page: Path) -> None:
    assert not re.findall(r"TODO|TBD|FIXME|/(?:root|home)/", page.read_text(encoding="utf-8"))


# --- links -----------------------------------------------------------------------------
@every_page
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    broken = []
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_reached_from_the_index() -> None:
    start = ROOT / "docs" / "index.md"
    reached, open_pages = set(), [start]
    while open_pages:
        page = open_pages.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        open_pages += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert set(PAGES) - {ROOT / "README.md"} <= reached
    assert start.resolve() in {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}


# --- what follows from the code --------------------------------------------------------
@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_what_the_code_says_now(name: str) -> None:
    assert (generate.REFERENCE / name).read_text(encoding="utf-8") == generate.PAGES[name](), (
        "run: .venv/bin/python -m scripts.generate"
    )


def test_the_changelog_has_the_version_of_the_package_on_top() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == __version__


def test_the_drawing_of_the_rooms_is_the_import_contract() -> None:
    contract = ConfigParser()
    contract.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contract["importlinter:contract:layers"]["layers"].strip().splitlines()
    drawing = next(fence for fence in fences(ROOT / "docs/concepts/architecture.md") if fence.info == "text rooms")
    assert drawing.content.splitlines() == layers


def test_the_decisions_index_lists_every_record() -> None:
    folder = ROOT / "docs" / "decisions"
    records = {path.name for path in folder.glob("[0-9]*.md")}
    assert {link for link in links(folder / "index.md") if link[0].isdigit()} == records


# --- examples --------------------------------------------------------------------------
@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine gets into an example."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)


@every_page
def test_configuration_examples_load(page: Path, tmp_path: Path, clean_environment: None) -> None:
    for number, fence in enumerate(fence for fence in fences(page) if fence.info in ("yaml", "json")):
        documents = list(yaml.safe_load_all(fence.content))
        if any("apiVersion" in document for document in documents):
            assert all(document["kind"] and document["metadata"]["name"] for document in documents)
            continue
        file = tmp_path / f"{number}.yaml"
        file.write_text(fence.content, encoding="utf-8")
        config.load(file)
        if fence.info == "json":
            json.loads(fence.content)


@every_page
def test_names_of_environment_variables_are_keys_of_the_configuration(page: Path) -> None:
    keys = {
        f"RINGFENCE_{section}__{key}".upper()
        for section, field in config.Config.model_fields.items()
        for key in getattr(field.annotation, "model_fields", ())
    }
    parts: dict[str, type[BaseModel]] = {
        "VAULT__S3": config.S3Section,
        "ANCHOR__S3": AnchorS3,
        "ANCHOR__GIT": AnchorGit,
    }
    keys |= {f"RINGFENCE_{name}__{key}".upper() for name, part in parts.items() for key in part.model_fields}
    keys |= {f"RINGFENCE_{section}".upper() for section in config.Config.model_fields}
    found = set(re.findall(r"RINGFENCE_\w+", page.read_text(encoding="utf-8")))
    assert found - {"RINGFENCE_", "RINGFENCE_CONFIG"} <= keys


@every_page
def test_playbook_examples_load_and_have_no_finding(page: Path) -> None:
    for fence in fences(page):
        if fence.info == "yaml playbook":
            name = yaml.safe_load(fence.content)["metadata"]["name"]
            playbook = load(fence.content.encode(), f"{name}.yaml")
            require_clean(playbook, fence.content.encode(), name)
            assert lint(playbook) == ()
        else:
            assert "kind: Playbook" not in fence.content, "mark it: ```yaml playbook"


def test_the_linters_rules_are_all_explained() -> None:
    source = Path(inspect.getfile(lint)).read_text(encoding="utf-8")
    rules = set(re.findall(r"_(error|warning)\(\s*\"([a-z-]+)\"", source))
    page = (ROOT / "docs/tasks/write-a-playbook.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", page, re.MULTILINE)
    assert {(gravity, rule) for rule, gravity in rows} == rules


def test_the_drawing_of_the_states_has_every_legal_transition() -> None:
    drawing = next(fence for fence in fences(ROOT / "docs/concepts/incident-states.md") if fence.info == "mermaid")
    arrows = set(re.findall(r"^ +(\w+) --> (\w+)$", drawing.content, re.MULTILINE))
    drawn = {(State(a.replace("_", "-")), State(b.replace("_", "-"))) for a, b in arrows}
    legal = {(a, b) for a in State for b in State if a.may_become(b)}
    # Every state may be closed: the text says so, and the drawing shows the usual way alone.
    assert drawn == {(a, b) for a, b in legal if b is not State.CLOSED or a is State.POST_INCIDENT}
    assert all((a, State.CLOSED) in legal for a in State if a is not State.CLOSED)


def test_every_benchmark_has_its_section() -> None:
    modules = {path.stem for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    shown = {line.words[2] for line in commands(ROOT / "docs/performance.md") if line.words[1:2] == ["-m"]}
    assert shown == {f"bench.{name}" for name in modules}


# --- commands --------------------------------------------------------------------------
@every_page
def test_playbooks_that_commands_name_are_in_the_library(page: Path) -> None:
    for line in commands(page):
        if line.program == "ringfence" and line.words[1:2] == ["respond"] and len(line.words) > 2:
            name = line.words[2]
            assert name in builtin_names() or name.endswith(".yaml") or (name.isupper() and not line.whole), line.words


@every_page
def test_command_lines_parse(page: Path) -> None:
    for line in commands(page):
        if line.program == "ringfence":
            problem = cli_problem(line)
        elif line.program == "ringfence-verify":
            problem = verifier_problem(line)
        elif line.program == "make":
            problem = make_problem(line)
        elif line.program.startswith("python") and line.words[1:3] == ["-m", "lab"]:
            problem = lab_problem(line)
        else:
            continue
        assert not problem, f"{' '.join(line.words)}: {problem}"


def cli_problem(line: Line) -> str:
    """Why the real command line refuses it; empty when it does not. Nothing is run."""
    command: Any = typer.main.get_command(whole())
    words, context = line.words[1:], None
    if words[0].startswith("-"):
        known = {option for p in command.params for option in p.opts}
        known.update(command.context_settings["help_option_names"])
        return "" if words[0] in known else f"no option {words[0]}"
    try:
        while hasattr(command, "commands"):
            if not words:
                return "" if not line.whole else "a command is missing"
            context = command.make_context(command.name, [words[0]], parent=context)
            if (name := words.pop(0)) not in command.commands:
                return f"no command {name}"
            command = command.commands[name]
        command.make_context(command.name, words, parent=context)
    except typer.exceptions.TyperException as error:
        # Typer does not export the class of this one.
        if type(error).__name__ == "MissingParameter" and not line.whole:
            return ""
        return str(error)
    return ""


def verifier_problem(line: Line) -> str:
    return _exits(verifier._parser(), line)


def lab_problem(line: Line) -> str:
    words = line.words[2:]
    if "attack" in words:  # its own parser takes what follows
        return _exits(lab.attack._parser(), Line(words[words.index("attack") :], line.whole))
    return _exits(lab.__main__.parser(), Line(words, line.whole))


def _exits(parser: Any, line: Line) -> str:
    if not line.whole:
        return ""
    try:
        parser.parse_args(line.words[1:])
    except SystemExit:
        return "it does not parse"
    return ""


def make_problem(line: Line) -> str:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return "" if line.words[1] in targets else f"no target {line.words[1]}"


def test_the_first_code_block_of_the_readme_has_both_make_commands() -> None:
    first = next(fences(ROOT / "README.md"))
    assert first.content.splitlines() == ["make demo", "make test"]


# --- the checks themselves -------------------------------------------------------------
@pytest.mark.parametrize(
    "text", ["ringfence contian pod/x", "ringfence contain pod/x --namspace y", "ringfence evidence lists INC-1"]
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    assert cli_problem(Line(shlex.split(text), whole=True))


def test_a_whole_command_needs_its_arguments_and_a_mention_does_not() -> None:
    assert cli_problem(Line(["ringfence", "accept", "INC-1"], whole=True))
    assert not cli_problem(Line(["ringfence", "accept", "INC-1"], whole=False))


def test_anchors_are_made_as_github_makes_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` (c), d\n\n## timeline.jsonl\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    assert anchors(page) == {"a-b-c-d", "timelinejsonl", "twice", "twice-1"}
