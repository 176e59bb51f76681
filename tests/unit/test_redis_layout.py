"""The mirror in Redis without a server: what of a list is written again, names, and wrong settings."""

from __future__ import annotations

import pytest

from gateway.apps.shopping_assistant.layout import Mirrored, erase, marks, names, overlap, owner_hash, write
from gateway.apps.shopping_assistant.mirror import MESSAGE_BYTES, MESSAGES, lines_of
from gateway.apps.shopping_assistant.settings import RedisConfig
from gateway.config.file import ConfigError, load, shown
from gateway.events import facts as ev
from gateway.events.fold import Message, Text
from gateway.extension import ConversationKey

KEY = ConversationKey("default", "default/local", "a")


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        ("", "ab", 0),
        ("ab", "abc", 2),
        ("ab", "ab", 2),
        ("abc", "bcd", 2),  # the oldest has no room any more
        ("ab", "ac", 0),  # the last one is another now
        ("aab", "abb", 2),
        ("ab", "", 0),
        ("ab", "cd", 0),
    ],
)
def test_what_a_list_has_already_is_found(before: str, now: str, kept: int) -> None:
    def marked(text: str) -> bytes:
        return marks([letter.encode() for letter in text])

    assert overlap(marked(before), marked(now)) == kept


def test_only_what_is_new_is_sent_and_only_to_the_list_that_was_left() -> None:
    shown_now = Mirrored(b"{}", 60, [b"one", b"two", b"three"], 30)
    before, now = marks([b"one", b"two"]), marks(shown_now.messages or ())
    added = write(KEY, "owned", shown_now, before=before, now=now)
    assert list(added.arguments) == ["", b"{}", 60, 30, 2, 3, b"three"]
    whole = write(KEY, "owned", shown_now, before=b"", now=now)
    assert list(whole.arguments)[4:] == [0, 3, b"one", b"two", b"three"]
    elsewhere = write(KEY, "owned", Mirrored(b"{}", 60, None), before=before, now=b"")
    assert list(elsewhere.arguments)[4:] == [-1, 0]


def test_names_are_flat_or_have_the_owner() -> None:
    assert names(KEY, "seed") == ["session:a:info", "session:a:conversation", "session:a:owner"]
    assert names(KEY, "owned")[0] == f"session:{owner_hash('default/local')}:a:info"
    assert owner_hash("default/local") != owner_hash("default/other")
    assert (erase(KEY, "seed").arguments, erase(KEY, "owned").arguments) == (
        (owner_hash("default/local"),),
        ("",),
    )


def test_the_newest_messages_are_shown_as_far_as_they_have_room() -> None:
    def message(text: str) -> Message:
        return Message(ev.MessageAdded("m", "user", ""), Text(text), at=0, index=0)

    many = [message(str(number)) for number in range(MESSAGES + 5)]
    assert len(lines_of(many)) == MESSAGES
    assert b'"content":"204"' in lines_of(many)[-1]
    long = [message("old"), message("x" * MESSAGE_BYTES), message("new")]
    assert [b"new" in line for line in lines_of(long)] == [True]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"redis.mirror": "seed"}, "redis.mirror: needs redis.url"),
        ({"redis.url": "http://:secret@host"}, "redis.url: begins with redis://"),
        ({"redis.url_file": "/nowhere"}, "redis.url_file: /nowhere: No such file"),
        ({"redis.mirror": "all"}, "redis.mirror: "),
    ],
)
def test_settings_that_cannot_be_are_said_without_a_secret(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(environ={}, overrides=given)
    assert words in str(error.value)
    assert "secret" not in str(error.value)


def test_a_password_in_a_url_is_not_shown() -> None:
    config = load(environ={"AGENT_GATEWAY_REDIS_URL": "redis://me:secret@host/1"})
    assert config.of(RedisConfig).url == "redis://me:secret@host/1"
    assert 'redis.url = "redis://me:…@host/1"' in shown(config).splitlines()
