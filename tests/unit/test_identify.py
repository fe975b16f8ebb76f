"""Who a request comes from, decided from its headers, its listener and the kernel's answer."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from training_cluster.api import asking
from training_cluster.api.auth import Access, BadCredential
from training_cluster.domain.errors import AccessDenied, Forbidden
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.domain.token import Token, digest, new_text
from training_cluster.services import tokens
from training_cluster.services.tokens import Tokens

ID, TEXT = new_text()
TOKEN = Token(
    id=ID,
    secret_sha256=digest(TEXT),
    user="carol",
    role=Role.VIEWER,
    made_by="root",
    created_at=0.0,
)
LOOPBACK = ("127.0.0.1", 40000)
MAIN, TUNNEL = ("127.0.0.1", 23478), ("127.0.0.1", 23479)
LOCAL = {"host": "localhost:23478"}


class Peers:
    """The kernel's answer."""

    def __init__(self, name: str | None) -> None:
        self.name = name

    def user_of(self, client: tuple[str, int], server: tuple[str, int]) -> str | None:
        return self.name


class Known:
    """One token and one login of it."""

    def verify(self, text: str) -> Token | None:
        return TOKEN if text == TEXT else None

    def find(self, secret: str) -> Token | None:
        return TOKEN if secret == "a-login" else None


def identify(
    headers: dict[str, str] | list[tuple[str, str]],
    *,
    user: str | None = "alice",
    server: Any = MAIN,
    client: Any = LOOPBACK,
    method: str = "GET",
    **access: Any,
) -> Principal:
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": "http",
        "method": method,
        "client": client,
        "server": server,
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
    }
    chosen = Access(**{"mode": "local", "tunnel": TUNNEL, **access}, peers=Peers(user))
    return chosen.identify(asking.read(scope), Known(), Known())


@pytest.mark.parametrize(
    ("user", "role"), [("alice", Role.SUBMITTER), ("root", Role.ADMIN), ("boss", Role.ADMIN)]
)
def test_the_unix_user_is_the_caller(user, role):
    found = identify(LOCAL, user=user, admins=frozenset({"root", "boss"}))
    assert found == Principal(user, role, Via.LOCAL)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:23478", "[::1]:23478"])
def test_this_machines_names_are_local(host):
    assert identify({"Host": host}).name == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        *({**LOCAL, name: "x"} for name in (
            "Forwarded", "Via", "X-Real-IP", "X-Proxy", "X-Forwarded-For", "X-Forwarded-Anything",
            "X-Original-URI", "CF-Connecting-IP", "True-Client-IP", "Tailscale-User-Login",
            "X-Client-IP", "X-Envoy-External-Address", "X-Zrok-Anything",
        )),
        *({"Host": host} for host in (
            "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1",
            "localhost@evil.example", "0.0.0.0", "127.0.0.2", "localhost,evil.example",
        )),
        *({**LOCAL, "Origin": origin} for origin in (
            "null", "http://evil.example", "http://localhost:9", "file://", "http://localhost:23478@x",
            "http://[", "chrome-extension://localhost:23478",
        )),
        *({**LOCAL, "Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "x")),
        [("Host", "localhost"), ("Host", "evil.example")],
        [*LOCAL.items(), ("Origin", "http://localhost:23478"), ("Origin", "http://evil.example")],
        {},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_does_not_look_local_in_every_way_needs_a_token(headers):
    with pytest.raises(AccessDenied):
        identify(headers)
    with pytest.raises(AccessDenied):
        identify(headers, user="root")


@pytest.mark.parametrize(
    ("said", "prefix"),
    [
        *((each, "/cluster") for each in ("/cluster", "/cluster/", " /cluster ")),
        ("/a/b-1/_c.d~", "/a/b-1/_c.d~"),
        *((each, "") for each in (
            "", "/", "cluster", "//evil.example", "/a//b", "/..", "/a/../b", "/.", "/a/.", "/%2e",
            "https://evil.example", "/a?b", "/a#b", "/a b", "/a\\b", "/a,/b", "/a\r\nb", "/é",
            "/" + "a" * 200, "/a" * 9, "javascript:x", '/"><b>',
        )),
    ],
)  # fmt: skip
def test_only_a_plain_path_is_a_prefix(said, prefix):
    header = (b"x-forwarded-prefix", said.encode())
    scope = {"type": "http", "method": "GET", "headers": [header]}
    assert asking.read(scope).prefix == prefix


@pytest.mark.parametrize("client", [None, ("192.168.0.7", 1), ("::ffff:10.0.0.1", 1), ("unix", 0)])
def test_who_is_not_on_loopback_needs_a_token(client):
    with pytest.raises(AccessDenied):
        identify(LOCAL, client=client)


def test_no_answer_of_the_kernel_means_that_a_token_is_needed():
    with pytest.raises(AccessDenied, match="kernel"):
        identify(LOCAL, user=None)


def test_never_local_is_never_local_also_for_root():
    with pytest.raises(AccessDenied, match="needs a token"):
        identify(LOCAL, user="root", never_local=frozenset({"root"}))


@pytest.mark.parametrize("mode", ["local", "open"])
@pytest.mark.parametrize("server", [TUNNEL, None])
def test_at_the_tunnels_listener_nobody_is_local(mode, server):
    with pytest.raises(AccessDenied, match="token"):
        identify(LOCAL, user="root", server=server, mode=mode)


@pytest.mark.parametrize(
    ("tunnel", "server", "is_tunnel"),
    [
        (TUNNEL, TUNNEL, True),
        (TUNNEL, ("::ffff:127.0.0.1", 23479), True),
        (TUNNEL, ("192.168.0.7", 23479), False),
        (TUNNEL, MAIN, False),
        (("0.0.0.0", 23479), ("192.168.0.7", 23479), True),
        (("::1", 23478), ("127.0.0.1", 23478), False),
        (None, MAIN, False),
    ],
)
def test_a_listener_is_told_by_where_the_connection_came_in(tunnel, server, is_tunnel):
    assert Access("local", Peers(None), tunnel=tunnel).is_tunnel(server) is is_tunnel


@pytest.mark.parametrize("server", [MAIN, TUNNEL, None])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_a_token_gets_in_everywhere_and_wins(server, scheme):
    headers = {"Host": "evil.example", "Authorization": f"{scheme} {TEXT}", "X-Proxy": "zrok"}
    assert identify(headers, server=server) == Principal("carol", Role.VIEWER, Via.TOKEN, ID)


@pytest.mark.parametrize(
    "text",
    ["tq_", "tq_x", TEXT[:-1], TEXT.upper().replace("TQ", "tq")],
    ids=["nothing", "a letter", "one short", "in capitals"],
)
def test_what_begins_as_a_token_must_be_one(text):
    with pytest.raises(BadCredential):
        identify({**LOCAL, "Authorization": f"Bearer {text}"}, user="root")


@pytest.mark.parametrize(
    "value",
    ["Bearer sk-1", "Bearer", "Basic dHFfeA==", "tq_x", f"Token {TEXT}"],
    ids=["OpenAI's", "none", "basic", "bare", "another scheme"],
)
def test_any_other_key_counts_as_none(value):
    assert identify({**LOCAL, "Authorization": value}).via is Via.LOCAL
    with pytest.raises(AccessDenied):
        identify({**LOCAL, "Authorization": value}, server=TUNNEL)


def test_two_keys_are_none():
    headers = [*LOCAL.items(), ("Authorization", "Bearer x"), ("Authorization", f"Bearer {TEXT}")]
    with pytest.raises(AccessDenied, match="more than once"):
        identify(headers)


def test_a_login_gets_in_and_its_changes_need_our_origin():
    cookie = {"Host": "box.example", "Cookie": "a=b; training_cluster_session=a-login; c=d"}
    ours = {**cookie, "Origin": "https://box.example"}
    for server in (MAIN, TUNNEL):
        assert identify(cookie, server=server).via is Via.COOKIE
        assert identify(ours, server=server, method="POST").name == "carol"
        with pytest.raises(Forbidden):
            identify(cookie, server=server, method="DELETE")
    public = {**cookie, "Origin": "https://gpu.example"}
    assert identify(public, method="POST", public_origin="https://gpu.example").name == "carol"


def test_open_makes_everybody_else_one_submitter_but_no_other_sites_page():
    anybody = Principal("anonymous", Role.SUBMITTER, Via.OPEN)
    for headers in ({**LOCAL, "X-Proxy": "zrok"}, {"Host": "gpubox.lab"}):
        assert identify(headers, mode="open") == anybody
    assert identify(LOCAL, mode="open", user="root").role is Role.ADMIN
    assert identify(LOCAL, mode="open", user=None) == anybody
    with pytest.raises(AccessDenied):
        identify({"Host": "gpubox.lab", "Origin": "https://evil.example"}, mode="open")


def test_an_unknown_id_and_a_wrong_secret_go_the_same_way(monkeypatch):
    compared: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(other))
        return hmac.compare_digest(one, other)

    class Time:
        def now(self) -> float:
            return 1.0

    monkeypatch.setattr(tokens, "hmac", type("Hmac", (), {"compare_digest": staticmethod(compare)}))
    known = Tokens(None, Time())  # type: ignore[arg-type]
    known._known = {ID: TOKEN}
    assert known.verify(TEXT) == TOKEN
    for text in (f"tq_{ID}_{'0' * 48}", f"tq_{'0' * 12}_{'0' * 48}", "tq_", "tq_x"):
        assert known.verify(text) is None
    assert compared == [32] * 5
