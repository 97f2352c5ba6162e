"""Settings: every variable checked, every error naming the variable and what to do, no secret shown."""

from datetime import date
from pathlib import Path

import pytest

from ricloud_connector.errors import SettingsError
from ricloud_connector.settings import Settings

GOOD = {"RICLOUD_URL": "https://api.example", "RICLOUD_TOKEN": "s3cr3t-token", "RICLOUD_LAKE": "/srv/lake"}


def test_the_three_needed_settings_are_enough():
    settings = Settings.from_environment(GOOD)
    assert settings.url == "https://api.example"
    assert settings.lake == Path("/srv/lake")
    assert settings.start_date == date(2020, 1, 1)
    assert settings.origin == "https://api.example"
    assert settings.policy.read == ("signed_url", "bucket")


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("value", [None, "", "   "])
def test_a_needed_setting_that_is_missing_or_empty_is_named_with_the_line_to_run(name, value):
    given = {key: text for key, text in GOOD.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(SettingsError, match=f"{name} is not set; run: export {name}="):
        Settings.from_environment(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RICLOUD_URL", "ftp://api.example"),
        ("RICLOUD_URL", "api.example"),
        ("RICLOUD_URL", "https://user:password@api.example"),
        ("RICLOUD_URL", "https://api.example?key=1"),
        ("RICLOUD_URL", "http://api.example"),
        ("RICLOUD_URL", "https://api.example:port"),
        ("RICLOUD_TOKEN", "two words"),
        ("RICLOUD_TOKEN", "s3cr3t\nX-Injected: 1"),
        ("RICLOUD_TOKEN", "schlüssel"),
        ("RICLOUD_LAKE", "hdfs://bucket/lake"),
        ("RICLOUD_START_DATE", "yesterday"),
        ("RICLOUD_START_DATE", "2020-13-01"),
        ("RICLOUD_CONTENT_HOSTS", "https://host"),
        ("RICLOUD_READ", "signed_url,ftp"),
        ("RICLOUD_LOCAL_ROOT", "relative/folder"),
        ("RICLOUD_PROXY", "socks://proxy"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_setting_and_never_shows_a_secret(name, value):
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.from_environment(GOOD | {name: value})
    assert "password" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
def test_plain_http_is_for_this_machine(url):
    assert Settings.from_environment(GOOD | {"RICLOUD_URL": url}).url == url


def test_plain_http_elsewhere_is_taken_when_the_host_is_named():
    given = GOOD | {"RICLOUD_URL": "http://emulator:8000/", "RICLOUD_CONTENT_HOSTS": "bucket:9000, emulator:8000"}
    settings = Settings.from_environment(given)
    assert settings.url == "http://emulator:8000"
    assert settings.policy.content_hosts == {"bucket:9000", "emulator:8000"}


def test_a_relative_lake_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment(GOOD | {"RICLOUD_LAKE": "lake"}).lake == tmp_path / "lake"


def test_the_token_is_in_no_representation():
    settings = Settings.from_environment(GOOD)
    assert "s3cr3t" not in repr(settings) + str(settings) + str(settings.token) + f"{settings.token}"
    with pytest.raises(TypeError):
        __import__("pickle").dumps(settings.token)
