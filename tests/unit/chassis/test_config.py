"""Is the environment read once, checked, and printed without secrets?"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.config import Config, ConfigError, integer, setting

ENVIRON = {
    "JIKIMI_HOME": "/srv/home",
    "JIKIMI_SERVICE": "notify",
    "JIKIMI_DATABASE_URL": "postgresql+asyncpg://u:s3cret@127.0.0.1:5432/notify",
    "JIKIMI_NATS_URL": "nats://u:s3cret@127.0.0.1:4222",
}


def test_what_is_not_set_has_a_usable_default() -> None:
    config = Config.from_env(ENVIRON)
    assert (config.service, config.partitions, config.profile) == ("notify", 4, "production")
    assert config.keys_dir == Path("/srv/home/keys/notify")
    assert config.token_keys_dir == Path("/srv/home/tokens/public")
    assert config.service_key_file == Path("/srv/home/tokens/private/notify.key")
    assert (config.clock_file, config.otlp_endpoint, config.metrics_port) == (None, "", 0)
    assert config.max_message_bytes == 4 * 1024 * 1024


def test_the_service_says_its_message_limit_and_the_environment_may_overrule() -> None:
    assert Config.from_env(ENVIRON, max_message_bytes=24 << 20).max_message_bytes == 24 << 20
    environ = ENVIRON | {"JIKIMI_MAX_MESSAGE_BYTES": "1048576"}
    assert Config.from_env(environ, max_message_bytes=24 << 20).max_message_bytes == 1 << 20


def test_every_peer_variable_becomes_a_peer() -> None:
    environ = ENVIRON | {
        "JIKIMI_PEER_CASE": "127.0.0.1:7001",
        "JIKIMI_PEER_GATE": "gate.svc:7002",
        "JIKIMI_PEER_X": "",
    }
    assert Config.from_env(environ).peers == {"case": "127.0.0.1:7001", "gate": "gate.svc:7002"}


@pytest.mark.parametrize("name", sorted(ENVIRON))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: is not set"):
        Config.from_env({key: value for key, value in ENVIRON.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JIKIMI_SERVICE", "Not A Service"),
        ("JIKIMI_LISTEN", "here"),
        ("JIKIMI_LISTEN", "127.0.0.1:99999"),
        ("JIKIMI_DATABASE_URL", "mysql://u:s3cret@h/d"),
        ("JIKIMI_NATS_URL", "http://s3cret"),
        ("JIKIMI_PARTITIONS", "0"),
        ("JIKIMI_PARTITIONS", "many-s3cret"),
        ("JIKIMI_PROFILE", "debug"),
        ("JIKIMI_PEER_CASE", "s3cret"),
        ("JIKIMI_METRICS_PORT", "70000"),
        ("JIKIMI_DRAIN_SECONDS", "s3cret"),
        ("JIKIMI_CLOCK_FILE", "/srv/clock"),
    ],
)
def test_a_wrong_variable_is_named_and_never_quoted(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env(ENVIRON | {name: value})
    assert caught.value.variable == name
    assert value not in str(caught.value)
    assert caught.value.__cause__ is None


def test_time_may_be_moved_in_the_test_profile_only() -> None:
    environ = ENVIRON | {"JIKIMI_PROFILE": "test", "JIKIMI_CLOCK_FILE": "/srv/clock"}
    assert Config.from_env(environ).clock_file == Path("/srv/clock")


def test_secrets_are_neither_printed_nor_shown() -> None:
    config = Config.from_env(ENVIRON)
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config.printable())
    assert config.printable()["database_url"] == "set"


def test_a_setting_of_a_service_is_parsed_or_named() -> None:
    assert setting({}, "JIKIMI_BATCH", 200, integer(1, 1000)) == 200
    assert setting({"JIKIMI_BATCH": "50"}, "JIKIMI_BATCH", 200, integer(1, 1000)) == 50
    with pytest.raises(ConfigError, match="JIKIMI_BATCH: is not a whole number from 1 to 1000"):
        setting({"JIKIMI_BATCH": "1001"}, "JIKIMI_BATCH", 200, integer(1, 1000))


def test_peer_may_have_several_instances() -> None:
    config = Config.from_env({**ENVIRON, "JIKIMI_PEER_NOTIFY": "127.0.0.1:7001,127.0.0.1:7002"})
    assert "127.0.0.1:7001,127.0.0.1:7002" == config.peers["notify"]


@pytest.mark.parametrize("wrong", ["a:1,b:2", "127.0.0.1:1,", "127.0.0.1:1,127.0.0.1:70000", ","])
def test_list_of_instances_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="JIKIMI_PEER_NOTIFY"):
        Config.from_env({**ENVIRON, "JIKIMI_PEER_NOTIFY": wrong})
