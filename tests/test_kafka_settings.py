"""Settings of the Kafka connectors: what is refused, and what is never shown."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from connectors.errors import SettingsError
from connectors.kafka import KafkaSinkSettings, KafkaSourceSettings, SecretFrom, Security, SinkTopics
from connectors.kafka.settings import Secret, is_loopback
from connectors.records import Channel

LOCAL = ("127.0.0.1:9092",)
PLANT = ("broker.plant.example:9093",)


@pytest.mark.parametrize(
    "server", ["localhost:9092", "127.0.0.1:1", "127.3.2.1", "[::1]:9092", "::1", "LOCALHOST"]
)
def test_a_server_on_this_machine_is_known_without_a_name_server(server: str) -> None:
    assert is_loopback(server)


@pytest.mark.parametrize(
    "server", ["kafka:9092", "10.0.0.1:9092", "localhost.example:9092", "[fe80::1]:9092"]
)
def test_any_other_server_is_not_this_machine(server: str) -> None:
    assert not is_loopback(server)


def test_plaintext_to_another_machine_is_refused_with_a_hint() -> None:
    with pytest.raises(SettingsError, match=r"broker\.plant\.example.*hint: use SSL"):
        KafkaSourceSettings(bootstrap_servers=PLANT, topic="t", security=Security(protocol="PLAINTEXT"))


def test_a_password_without_tls_to_another_machine_is_refused() -> None:
    security = Security(
        protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="u", password=SecretFrom(env="PASSWORD")
    )
    with pytest.raises(SettingsError, match="SASL_PLAINTEXT would send"):
        KafkaSinkSettings(bootstrap_servers=PLANT, security=security)


def test_one_foreign_server_among_local_ones_is_enough_to_refuse_plaintext() -> None:
    with pytest.raises(SettingsError):
        KafkaSinkSettings(bootstrap_servers=LOCAL + PLANT, security=Security(protocol="PLAINTEXT"))


def test_plaintext_to_another_machine_can_be_allowed() -> None:
    security = Security(protocol="PLAINTEXT", allow_plaintext=True)
    assert KafkaSinkSettings(bootstrap_servers=PLANT, security=security).protocol == "PLAINTEXT"


def test_without_a_protocol_tls_is_taken_off_loopback_and_plaintext_on_it() -> None:
    sasl = Security(mechanism="SCRAM-SHA-512", username="u", password=SecretFrom(env="PASSWORD"))
    assert KafkaSinkSettings(bootstrap_servers=LOCAL).protocol == "PLAINTEXT"
    assert KafkaSinkSettings(bootstrap_servers=PLANT).protocol == "SSL"
    assert KafkaSinkSettings(bootstrap_servers=LOCAL, security=sasl).protocol == "SASL_PLAINTEXT"
    assert KafkaSinkSettings(bootstrap_servers=PLANT, security=sasl).protocol == "SASL_SSL"


def test_unknown_settings_and_contradictions_are_refused_with_their_path() -> None:
    base = {"bootstrap_servers": list(LOCAL), "topic": "t"}
    with pytest.raises(msgspec.ValidationError, match="unknown field `topics`"):
        msgspec.convert({**base, "topics": "t"}, KafkaSourceSettings)
    with pytest.raises(msgspec.ValidationError, match=r"needs all of.*\$\.security"):
        msgspec.convert({**base, "security": {"mechanism": "PLAIN"}}, KafkaSourceSettings)
    with pytest.raises(msgspec.ValidationError, match="do not go together"):
        msgspec.convert({**base, "security": {"protocol": "SASL_SSL"}}, KafkaSourceSettings)
    with pytest.raises(msgspec.ValidationError, match="is empty"):
        msgspec.convert({**base, "bootstrap_servers": []}, KafkaSourceSettings)


def test_two_channels_cannot_share_a_topic() -> None:
    with pytest.raises(SettingsError, match="share a topic"):
        SinkTopics(alerts="out", thresholds="out")


def test_every_channel_has_a_topic() -> None:
    assert [SinkTopics().of(channel) for channel in Channel] == [
        "nuwatch-alerts",
        "nuwatch-thresholds",
        "nuwatch-dead-letters",
    ]


def test_a_secret_comes_from_a_file_or_the_environment_and_from_exactly_one(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"  # type: ignore[operator]
    file.write_text("from a file \r\n")
    monkeypatch.setenv("NUWATCH_PASSWORD", "from the environment")
    assert SecretFrom(file=str(file)).read() == "from a file "
    assert SecretFrom(env="NUWATCH_PASSWORD").read() == "from the environment"
    with pytest.raises(SettingsError, match="exactly one"):
        SecretFrom()
    with pytest.raises(SettingsError, match="exactly one"):
        SecretFrom(file="a", env="b")


def test_a_missing_secret_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUWATCH_PASSWORD", raising=False)
    with pytest.raises(SettingsError, match="NUWATCH_PASSWORD"):
        SecretFrom(env="NUWATCH_PASSWORD").read()
    with pytest.raises(SettingsError, match="/no/such/file"):
        SecretFrom(file="/no/such/file").read()


def test_a_secret_shows_itself_neither_alone_nor_inside_of_what_a_client_logs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from connectors.kafka import check_broker

    monkeypatch.setenv("NUWATCH_PASSWORD", "hunter2")
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="kafka")  # whoever ran a command before has set its own
    security = Security(mechanism="PLAIN", username="u", password=SecretFrom(env="NUWATCH_PASSWORD"))
    # Port 1 answers nowhere: the client logs its settings and its failure, and the report quotes the failure.
    settings = KafkaSinkSettings(bootstrap_servers=("127.0.0.1:1",), security=security, connect_seconds=0.5)
    report = check_broker(settings)
    assert report.problems
    assert "Starting KafkaAdminClient" in caplog.text
    assert "hunter2" not in caplog.text + repr(report) + repr(settings) + repr([Secret("hunter2")])


def test_the_settings_are_read_without_loading_the_client_library() -> None:
    code = "import connectors.kafka as k, sys; k.KafkaSourceSettings; sys.exit('kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
