"""Settings: a file overlaid by the environment, with every mistake named and no secret shown."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.cli.configuration import as_markdown, as_toml
from harness.config import load
from harness.errors import ConfigError
from harness.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_no_file_and_no_environment_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file and variables every setting has its default."""
    monkeypatch.chdir(tmp_path)
    assert load(None, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[shadow]\nqueues = 3", "unknown setting shadow.queues"),
        ("[shadows]\nqueue = 3", "unknown setting shadows"),
        ("[shadow]\nqueue = 0", "shadow.queue"),
        ("[migration]\nkeep = 'latest'", "migration.keep"),
        ("[[compare.rules]]\nfield = 'x'\naction = 'ignore'", "compare.rules.0.reason"),
        ("[shadow", "not valid TOML"),
        ("[gates]\nmax_lag_seconds = nan", "gates.max_lag_seconds"),
        ("[gates]\nalpha = 0", "gates.alpha"),
        ("[gates]\nalpha = 2", "gates.alpha"),
        ("[gates]\nmax_mismatch_rate = -0.001", "gates.max_mismatch_rate"),
        ("[gates]\nmax_rejected_rate = nan", "gates.max_rejected_rate"),
        ("[gates]\nmax_rollback_debt = -1", "gates.max_rollback_debt"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    """An unknown key or unfit value is refused by its name, with the file's."""
    file = tmp_path / "crossfade.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named) as refused:
        load(file, {})
    assert str(file) in str(refused.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that was asked for and is not there is an error, not a default."""
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml", {})


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """Crossfade's own variables win over the file's addresses, and over the other systems' variables."""
    file = tmp_path / "crossfade.toml"
    file.write_text("[legacy]\nurl = 'postgresql://file/one'\n[new]\nurl = 'postgresql://file/two'")
    environment = {"CROSSFADE_LEGACY_URL": "postgresql://ours/one", "DATABASE_HOSTNAME": "theirs"}
    settings = load(file, environment)
    assert (settings.legacy.url, settings.new.url) == ("postgresql://ours/one", "postgresql://file/two")


def test_the_other_systems_variables_are_understood() -> None:
    """Dispatch's DATABASE_* and Prompt Manager's POSTGRES_* make addresses, special characters quoted."""
    settings = load(
        None,
        {
            "DATABASE_HOSTNAME": "db",
            "DATABASE_CREDENTIALS": "dispatch:p@ss:w/rd",
            "DATABASE_NAME": "dispatch",
            "POSTGRES_HOST": "pm",
            "POSTGRES_PORT": "6543",
            "POSTGRES_DB": "expert_dollop",
        },
    )
    assert settings.legacy.url == "postgresql://dispatch:p%40ss%3Aw%2Frd@db:5432/dispatch"
    assert settings.new.url == "postgresql://postgres@pm:6543/expert_dollop"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither a settings value's text nor an error shows an address's password."""
    settings = load(None, {"CROSSFADE_LEGACY_URL": "postgresql://u:hidden@h/d"})
    assert "hidden" not in repr(settings)
    file = tmp_path / "crossfade.toml"
    file.write_text("[legacy]\nurl = ['postgresql://u:hidden@h/d']")
    with pytest.raises(ConfigError) as refused:
        load(file, {})
    assert "hidden" not in str(refused.value)


def test_fingerprint_follows_settings_and_not_addresses() -> None:
    """The fingerprint changes with a setting, and not with where the databases are."""
    here = load(None, {"CROSSFADE_NEW_URL": "postgresql://a/b"})
    assert here.fingerprint() == Settings().fingerprint()
    assert here.fingerprint() != Settings(shadow=type(here.shadow)(queue=7)).fingerprint()


def test_initial_file_is_valid_and_complete() -> None:
    """The file that init writes is TOML, changes nothing, and with every # removed is still understood."""
    text = as_toml()
    assert tomllib.loads(text) == {section: {} for section in tomllib.loads(text)}
    active = "\n".join(
        line[2:] if line.startswith("# ") and (" = " in line or line.startswith("# [[")) else line
        for line in text.splitlines()
    )
    assert tomllib.loads(active)["shadow"]["queue"] == Settings().shadow.queue


def test_documentation_lists_every_setting() -> None:
    """docs/configuration.md holds the generated tables as they are now (make docs writes them anew)."""
    assert as_markdown() in (DOCS / "configuration.md").read_text(encoding="utf-8")
