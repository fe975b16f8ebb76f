"""A signed address opens exactly one door, in one name, for a while."""

from __future__ import annotations

import os
import stat
from urllib.parse import urlsplit

import pytest

from tests.factories import ALICE
from tests.fakes import FakeClock
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.services.signed_urls import BadSignature, SignedUrls, key_of
from training_cluster.services.tokens import NewToken, Tokens
from training_cluster.store.database import Database

PLACE = ("PUT", "/uploads/1")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def tokens(tmp_path, clock):
    database = Database(tmp_path / "queue.db")
    made = Tokens(database, clock)
    await made.load()
    yield made
    database.close()


@pytest.fixture
def signed(tokens, clock):
    return SignedUrls(b"k" * 32, tokens, clock, 60.0)


def caller(signed, address: str, method: str = "PUT", path: str = "/uploads/1"):
    return signed.caller(method, path, urlsplit(address).query.encode())


def test_an_address_is_who_it_was_signed_for(signed):
    address = signed.sign(*PLACE, "bob & söhne", ALICE)
    assert address.startswith("/uploads/1?")
    assert caller(signed, address) == Principal("bob & söhne", Role.SUBMITTER, Via.SIGNED)


def test_one_for_reading_can_only_read(signed):
    address = signed.sign("GET", "/datasets/1/content", "alice", ALICE)
    for method in ("GET", "HEAD"):
        found = caller(signed, address, method, "/datasets/1/content")
        assert found == Principal("alice", Role.VIEWER, Via.SIGNED)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/uploads/1"), ("DELETE", "/uploads/1"), ("PUT", "/uploads/2"), ("PUT", "/train")],
)
def test_it_is_good_for_nothing_else(signed, method, path):
    address = signed.sign(*PLACE, "alice", ALICE)
    with pytest.raises(BadSignature):
        caller(signed, address, method, path)


def test_nothing_of_it_can_be_changed(signed):
    address = signed.sign(*PLACE, "alice", ALICE)
    later = address.replace("expires=1", "expires=2")
    other = address.replace("user=alice", "user=root")
    moved = address.replace("token=", "token=0")
    short = address[:-1]
    for changed in (later, other, moved, short, f"{short}%C3%A9"):
        assert changed != address
        with pytest.raises(BadSignature):
            caller(signed, changed)
    stranger = SignedUrls(b"j" * 32, signed.tokens, signed.clock, 60.0)
    with pytest.raises(BadSignature):
        caller(stranger, address)


def test_what_is_no_such_address_is_left_to_others(signed):
    address = signed.sign(*PLACE, "alice", ALICE)
    for query in ("", "limit=1", "signature=x", f"{urlsplit(address).query}&user=alice"):
        assert caller(signed, f"/uploads/1?{query}") is None


def test_it_ends_with_its_time(signed, clock):
    address = signed.sign(*PLACE, "alice", ALICE)
    clock.advance(59)
    assert caller(signed, address) is not None
    clock.advance(2)
    with pytest.raises(BadSignature, match="expired"):
        caller(signed, address)


async def test_it_ends_with_the_token_by_which_it_was_asked_for(signed, tokens):
    root = Principal("root", Role.ADMIN, Via.LOCAL)
    issued = await tokens.create(NewToken(user="alice", role=Role.SUBMITTER), root)
    asked_by = issued.token.principal(Via.TOKEN)
    address = signed.sign(*PLACE, "alice", asked_by)
    assert caller(signed, address).token_id == issued.token.id
    await tokens.revoke(issued.token.id, root)
    with pytest.raises(BadSignature, match="token"):
        caller(signed, address)


def test_the_key_stays_and_is_nobody_elses_to_read(tmp_path):
    key = key_of(tmp_path)
    path = tmp_path / "url-signing.key"
    assert key_of(tmp_path) == key == path.read_bytes()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    path.write_bytes(key[:5])
    assert len(key_of(tmp_path)) == 32
