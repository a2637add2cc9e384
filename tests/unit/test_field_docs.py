"""What settings are for is read from their source, when somebody asks."""

from __future__ import annotations

from config.docstrings import field_docs
from config.fields import all_settings
from config.settings.base import Schedule, Section
from config.settings.server import ServerConfig


def test_every_setting_says_what_it_is_for() -> None:
    assert [key for key, setting in all_settings().items() if not setting.description] == []
    assert all_settings()["server.gateways"].description.startswith("Processes that share the port")


def test_field_without_a_text_below_it_has_none_and_lines_are_not_indented() -> None:
    docs = field_docs(ServerConfig)
    assert set(docs) <= set(ServerConfig.model_fields)
    assert docs["websocket_port"].splitlines()[1] == "WebSockets."
    assert field_docs(Schedule)["start"] == "Value at frame 0."
    assert field_docs(Section) == {}


def test_inherited_field_keeps_its_text() -> None:
    class Longer(Schedule):
        pass

    assert field_docs(Longer) == field_docs(Schedule)


def test_making_a_class_of_settings_does_not_read_its_source() -> None:
    assert {field.description for field in ServerConfig.model_fields.values()} == {None}
