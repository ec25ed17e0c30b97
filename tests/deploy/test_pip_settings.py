"""A pip inside an image build asks where this machine's pip asks, and nothing else is carried over."""

from __future__ import annotations

from pathlib import Path

from deploy.pip_settings import parse_settings, read_settings


def test_places_that_settings_name_are_mounted(tmp_path: Path) -> None:
    index, wheels, cert = tmp_path / "mirror" / "simple", tmp_path / "wheels", tmp_path / "ca.crt"
    index.mkdir(parents=True)
    wheels.mkdir()
    cert.touch()
    settings = parse_settings(
        [
            f"global.cert='{cert}'",
            f"global.extra-index-url='file://{index} https://packages.example/simple'",
            f"install.find-links='\\n{wheels}\\n/nowhere'",
        ]
    )
    # An index's pages link to the files beside it.
    assert set(settings.paths) == {index.parent, wheels, cert}
    assert settings.conf.splitlines() == [
        "[global]",
        f"cert = {cert}",
        f"extra-index-url = file://{index} https://packages.example/simple",
        f"find-links = {wheels} /nowhere",
    ]


def test_the_environment_wins_over_files_whatever_the_order() -> None:
    lines = [":env:.index-url='https://a.example/simple'", "global.index-url='https://b.example/simple'"]
    for listed in (lines, lines[::-1]):
        assert parse_settings(listed).conf == "[global]\nindex-url = https://a.example/simple\n"


def test_what_does_not_say_where_packages_are_stays_here() -> None:
    listed = [
        "global.require-virtualenv='true'",
        "download.dest='/tmp'",
        ":env:.config-file='/etc/hosts'",
        "",
    ]
    assert parse_settings(listed) == parse_settings([])


def test_the_settings_of_this_machine_can_be_read() -> None:
    settings = read_settings()
    assert settings.conf.startswith("[global]\n")
    assert all(path.exists() for path in settings.paths)
