"""The configuration: every wrong key is named with its file, all at once; the environment wins over the file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from textwrap import dedent

import pytest

from ringfence import app, config
from ringfence.errors import ConfigError, Unanswered
from ringfence.platform.kubernetes.resources import POD
from tests.hostile.firehose import Firehose, Flood
from tests.wire import kubeconfig


@pytest.fixture(autouse=True)
def _nobody_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ringfence.yaml"
    path.write_text(dedent(text))
    return path


def refused(path: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    return caught.value


def test_nothing_needs_to_be_configured(tmp_path: Path) -> None:
    loaded = config.load()
    assert loaded.store.url == f"sqlite:///{tmp_path}/state/ringfence/ringfence.db"
    assert loaded.vault.path == tmp_path / "state" / "ringfence" / "vault"
    assert "kube-system" in loaded.protected.namespaces


def test_the_file_is_read_from_its_usual_place(tmp_path: Path) -> None:
    (tmp_path / "config" / "ringfence").mkdir(parents=True)
    (tmp_path / "config" / "ringfence" / "config.yaml").write_text("vault: {path: /evidence}")
    assert config.load().vault.path == Path("/evidence")


@pytest.mark.parametrize("content", ["", "---\n", "# nothing\n", "{}"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, content: str) -> None:
    assert config.load(write(tmp_path, content)) == config.load()


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        ("valut: {path: /x}", "valut", "no such key"),
        ("vault: {pth: /x}", "vault.pth", "no such key"),
        ("containment: {serving_floor: many}", "containment.serving_floor", "integer"),
        ("containment: {serving_floor: -1}", "containment.serving_floor", "greater"),
        ("containment: {pre_cut_wait_ms: 201}", "containment.pre_cut_wait_ms", "less"),
        ("cluster: {timeout_seconds: 0}", "cluster.timeout_seconds", "greater"),
        ("evidence: {stream_mebibytes: 0}", "evidence.stream_mebibytes", "greater"),
        ("evidence: {stream_bytes: 5}", "evidence.stream_bytes", "no such key"),
        ("evidence: {answer_mebibytes: 1}", "evidence.answer_mebibytes", "greater"),
        ("protected: {namespaces: kube-system}", "protected.namespaces", "tuple"),
        ("vault: /evidence", "vault", "dictionary"),
        ("contacts: [{role: ciso, name: Ann}]", "contacts.0.reach", "required"),
        ("_env_file: /etc/passwd", "_env_file", "no such key"),
        ("_cli_parse_args: true", "_cli_parse_args", "no such key"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, content: str, key: str, words: str) -> None:
    path = write(tmp_path, content)
    error = refused(path)
    assert error.location == f"{path}: {key}"
    assert str(path) in error.what
    assert f"{key}: " in error.why
    assert words in error.why


def test_several_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
        valut: {}
        _secrets_dir: /
        vault: {pth: /x}
        containment: {serving_floor: many, token_canary: perhaps}
        """,
    )
    error = refused(path)
    assert "5 wrong keys" in error.what
    for key in ("valut", "_secrets_dir", "vault.pth", "containment.serving_floor", "containment.token_canary"):
        assert f"{key}: " in error.why


@pytest.mark.parametrize(
    "content",
    ["a: [", "\tx: y", "a: !!python/object:os.system {}", "when: 2026-13-45", "a: &a [*a", "\x00", "[" * 100_000],
)
def test_what_is_not_yaml_is_refused_with_the_files_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ringfence.yaml"
    path.write_text(content)
    error = refused(path)
    assert error.location == str(path)
    assert "is not YAML" in error.what


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ringfence.yaml"
    path.write_bytes(b"vault: \xff\xfe\xfd")
    assert "is not YAML" in refused(path).what


@pytest.mark.parametrize("content", ["- vault", "vault", "7", "1: x"])
def test_what_is_not_a_mapping_of_names_is_refused(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content)
    assert refused(path).location == str(path)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(tmp_path / "nowhere.yaml")
    assert error.location == str(tmp_path / "nowhere.yaml")
    assert "No such file" in error.why
    monkeypatch.setenv("RINGFENCE_CONFIG", str(tmp_path / "elsewhere.yaml"))
    assert refused().location == str(tmp_path / "elsewhere.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert refused(tmp_path).location == str(tmp_path)


def test_the_named_file_wins_over_the_one_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_CONFIG", str(tmp_path / "elsewhere.yaml"))
    assert config.load(write(tmp_path, "vault: {path: /evidence}")).vault.path == Path("/evidence")


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "containment: {serving_floor: 3, token_canary: false}")
    monkeypatch.setenv("RINGFENCE_CONTAINMENT__SERVING_FLOOR", "2")
    monkeypatch.setenv("RINGFENCE_VAULT__PATH", "/evidence")
    loaded = config.load(path)
    assert loaded.containment.serving_floor == 2
    assert loaded.containment.token_canary is False, "what the environment does not name stays as the file says"
    assert loaded.vault.path == Path("/evidence")


@pytest.mark.parametrize("name", ["RINGFENCE_CONTAINMENT__SERVING_FLOOR", "RINGFENCE_VAULT__PTH"])
def test_a_wrong_value_from_the_environment_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "many")
    assert name in refused(write(tmp_path, "vault: {path: /evidence}")).why


@pytest.mark.parametrize("name", ["RINGFENCE_CONTACTS", "RINGFENCE_VAULT", "RINGFENCE_PROTECTED__NAMESPACES"])
def test_a_section_from_the_environment_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "no json")
    error = refused()
    assert error.location == "the environment"
    assert name.removeprefix("RINGFENCE_").split("__")[0].lower() in error.why


def test_a_configuration_cannot_be_changed_once_it_is_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load().containment.serving_floor = 0  # type: ignore[misc]


def test_a_bucket_is_named_in_the_environment_too_and_never_with_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("vault: {s3: {bucket: bank-evidence}}\n")
    monkeypatch.setenv("RINGFENCE_VAULT__S3__PREFIX", "unit")
    section = config.load(file).vault.s3
    assert section is not None
    assert (section.bucket, section.prefix, section.object_lock) == ("bank-evidence", "unit", "compliance")
    file.write_text("vault: {s3: {bucket: bank-evidence, endpoint_url: 'http://key:secret@host'}}\n")
    with pytest.raises(ConfigError) as refused:
        config.load(file)
    assert "secret" not in str(refused.value)
    file.write_text("vault: {s3: {bucket: bank-evidence, access_key: x}}\n")
    with pytest.raises(ConfigError, match="no such key"):
        config.load(file)


NOTIFY = """\
    contacts:
      - {role: on-call, name: ada, reach: "4711"}
    notify:
      to:
        - {name: pager, url: "json://127.0.0.1/s3cr3t", for: [on-call, cut-failed]}
"""


def test_a_receivers_url_is_shown_nowhere(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, NOTIFY))
    (receiver,) = loaded.notify.to
    assert receiver.wanted == ("on-call", "cut-failed")
    assert receiver.url is not None
    assert receiver.url.get_secret_value().endswith("s3cr3t")
    assert "s3cr3t" not in repr(loaded) + str(loaded.model_dump())


def test_receivers_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_NOTIFY__TO", '[{"name": "p", "url_file": "/run/secrets/p", "for": ["cut-failed"]}]')
    assert [one.name for one in config.load().notify.to] == ["p"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("for: [on-call, cut-failed]", "for: [on-cal]", "'on-cal' is neither the role of a contact nor one of"),
        ("for: [on-call, cut-failed]", "for: []", "at least 1 item"),
        ('url: "json://127.0.0.1/s3cr3t", ', "", "needs url or url_file"),
        ("for: [on-call", "url_file: /x, for: [on-call", "needs url or url_file, and not both"),
        ("name: pager", 'name: "../pager"', "pattern"),
        ("cut-failed]}", "cut-failed], nam: x}", "no such key"),
    ],
)
def test_a_receiver_that_is_not_clear_is_refused_without_its_url(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    error = refused(write(tmp_path, NOTIFY.replace(before, after)))
    assert words in error.why
    assert "s3cr3t" not in f"{error} {error.why} {error.location} {error.next_step}"


def test_limits_of_evidence_are_mebibytes_in_the_file_and_bytes_in_the_policy(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, "evidence: {stream_mebibytes: 5, stream_seconds: 1.5}"))
    policy = app.policy(loaded)
    assert (policy.stream_bytes, policy.stream_seconds) == (5 * 1024 * 1024, 1.5)


def test_the_limit_of_an_answer_reaches_the_connection(tmp_path: Path) -> None:
    with Firehose(Flood(17 << 20)) as hose:
        given = config.Config(
            cluster=config.ClusterSection(kubeconfig=Path(kubeconfig(tmp_path / "kubeconfig", hose.url))),
            evidence=config.EvidenceSection(answer_mebibytes=16),
        )
        with contextlib.closing(app.reach(given)) as cluster, pytest.raises(Unanswered, match="larger than 16777216"):
            cluster.get(POD, "bank", "x")
