"""Basic authentication: who gets in, what it costs, and what it tells those who do not."""

from __future__ import annotations

import asyncio
import base64
import statistics
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import bcrypt
import pytest

from salt_exporter.web_config.live import Active
from salt_exporter.web_config.users import Users
from tests.unit.test_web import SECURITY, ask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.metric import Metric
    from tests.unit.conftest import MakeCollector, Serve, Site


def bcrypt_hash(password: bytes, cost: int = 4) -> str:
    """Return a hash that is cheap to check."""
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()


HASHES = {"prometheus": bcrypt_hash(b"secret"), "zoë": bcrypt_hash("pässword:with:colons".encode())}


def basic(name: str, password: str) -> str:
    """Return the Authorization header of a user."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def admit(known: Users, *headers: str, peer: str = "127.0.0.1") -> list[bool]:
    """Return what becomes of requests, one after another."""

    async def ask_all() -> list[bool]:
        return [await known.admit(header, peer) for header in headers]

    return asyncio.run(ask_all())


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Return what bcrypt is asked: password and hash."""
    calls: list[tuple[bytes, bytes]] = []
    real = bcrypt.checkpw

    def checkpw(password: bytes, against: bytes) -> bool:
        calls.append((password, against))
        return real(password, against)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return calls


def test_without_users_everybody_is_admitted() -> None:
    """Where no users are configured, any header or none will do."""
    assert [True] * 3 == admit(Users({}), "", basic("a", "b"), "nonsense")


@pytest.mark.parametrize(
    "header",
    [
        basic("prometheus", "secret"),
        basic("prometheus", "secret").replace("Basic", "bASIC"),
        basic("zoë", "pässword:with:colons"),
    ],
)
def test_right_password_is_admitted(header: str) -> None:
    """A user with the right password gets in, whatever letters it has."""
    assert [True] == admit(Users(HASHES), header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic é",
        "Basic cHJvbWV0aGV1cw==",  # a name without a password
        "Bearer cHJvbWV0aGV1czpzZWNyZXQ=",
        basic("prometheus", ""),
        basic("prometheus", "Secret"),
        basic("prometheus", "secret\0"),
        basic("Prometheus", "secret"),
        basic("", "secret"),
        basic("zoe", "pässword:with:colons"),
        basic("root", "secret"),
        "Basic " + base64.b64encode(b"\xff\xfe:secret").decode(),
    ],
)
def test_everything_else_is_refused(header: str) -> None:
    """A wrong password, a wrong name, and whatever is no such header do not get in, and break nothing."""
    assert [False] == admit(Users(HASHES), header)


def test_every_kind_of_hash_is_checked() -> None:
    """Hashes as htpasswd (2y), Python (2b) and old programs (2a) write them are all the same."""
    for kind in ("$2a$", "$2b$", "$2y$"):
        known = Users({"a": kind + bcrypt_hash(b"secret")[4:]})
        assert [True, False] == admit(known, basic("a", "secret"), basic("a", "wrong"))


def test_long_password_counts_as_far_as_bcrypt_reads() -> None:
    """Of a password 72 bytes count, as everywhere with bcrypt; a longer one is no error."""
    known = Users({"a": bcrypt_hash(b"x" * 72)})

    assert [True, False] == admit(known, basic("a", "x" * 100), basic("a", "x" * 71))


def test_right_password_is_checked_once(checked: list[tuple[bytes, bytes]]) -> None:
    """Later requests with the password that was right cost nothing; a wrong one is checked each time."""
    known = Users(HASHES)

    assert [True] * 5 == admit(known, *[basic("prometheus", "secret")] * 5)
    assert len(checked) == 1
    assert [False] * 3 == admit(known, *[basic("prometheus", "wrong")] * 3)
    assert len(checked) == 4
    assert [True] == admit(known, basic("prometheus", "secret"))
    assert len(checked) == 4


def test_passwords_are_not_kept(checked: list[tuple[bytes, bytes]]) -> None:
    """What is remembered of a right password is a digest with a key of this process, not the password."""
    known = Users(HASHES)
    admit(known, basic("prometheus", "secret"))
    other = Users(HASHES)
    admit(other, basic("prometheus", "secret"))

    assert len(checked) == 2
    assert known._right.keys() == {b"prometheus"}
    assert known._right != other._right
    assert b"secret" not in b"".join(known._right.values())


def test_unknown_name_is_checked_like_a_known_one(checked: list[tuple[bytes, bytes]]) -> None:
    """A name that is none costs a check against the hash of a user, the same one each time: time tells no names."""
    known = Users({str(number): bcrypt_hash(b"secret") for number in range(8)})
    names = [f"nobody{number}" for number in range(40)]

    assert not any(admit(known, *(basic(name, "secret") for name in names)))  # though it is the right one for the hash
    first = [against for _password, against in checked]
    assert len(first) == 40
    assert len(set(first)) > 1
    admit(known, *(basic(name, "other") for name in names))
    assert first == [against for _password, against in checked[40:]]


def test_names_cannot_be_told_by_time() -> None:
    """Whatever the cost of the hashes, refusing an unknown name takes as long as refusing a known one."""
    known = Users({"prometheus": bcrypt_hash(b"secret", cost=8)})

    took: dict[str, list[float]] = {"prometheus": [], "nobody": []}
    for _ in range(15):
        for name, times in took.items():
            began = time.process_time()
            admit(known, basic(name, "wrong"))
            times.append(time.process_time() - began)

    # Of the processor, and the shortest: whatever else this machine does only makes some longer.
    assert 0.5 < min(took["prometheus"]) / min(took["nobody"]) < 2


def together(known: Users, asked: Iterable[tuple[str, str]]) -> list[str]:
    """Ask for (peer, header) pairs all at once; return the peers in the order they were answered."""
    order: list[str] = []

    async def ask_one(peer: str, header: str) -> None:
        await known.admit(header, peer)
        order.append(peer)

    async def ask_all() -> None:
        await asyncio.gather(*(ask_one(peer, header) for peer, header in asked))

    asyncio.run(ask_all())
    return order


def test_one_check_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many passwords come at once from however many addresses, one core at most is busy with them."""
    running = threading.Semaphore(1)

    def checkpw(_password: bytes, _against: bytes) -> bool:
        assert running.acquire(blocking=False)
        time.sleep(0.01)
        running.release()
        return False

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)

    assert len(together(Users(HASHES), [(f"10.0.0.{n}", basic("a", str(n))) for n in range(20)])) == 20


def test_addresses_take_turns() -> None:
    """Who sends a hundred wrong passwords at once waits for them alone: another address is next but one."""
    flood = [("10.6.6.6", basic("prometheus", str(number))) for number in range(100)]

    order = together(Users(HASHES), [*flood, ("10.0.0.1", basic("prometheus", "secret"))])

    assert order.index("10.0.0.1") <= 2


def test_turns_are_forgotten() -> None:
    """Nothing is kept of addresses that have been answered, however many there were."""
    known = Users(HASHES)
    together(known, [(f"10.0.{n // 256}.{n % 256}", basic("prometheus", "wrong")) for n in range(50)])

    assert len(known._turns) == 0


@pytest.fixture(scope="module")
def site(serve: Serve, make_collector: MakeCollector, number: Metric) -> Site:
    """Return a site that asks for a password."""
    site = serve([make_collector("keys", lambda: [number(7)])], max_connections=64)
    site.use(Active(users=Users({"prometheus": bcrypt_hash(b"secret", cost=10)})))
    return site


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/-/ready", "/nothing"])
def test_no_page_without_password(path: str, site: Site) -> None:
    """Every page is for users only, those that do not exist too; a refusal says how to ask and has all headers."""
    reply = ask(site, path)

    assert (401, b"401 Unauthorized\n") == (reply.status, reply.body)
    assert reply.headers["Www-Authenticate"] == 'Basic realm="salt-exporter", charset="UTF-8"'
    assert reply.headers.items() >= SECURITY.items()


def test_pages_with_password(site: Site) -> None:
    """A user gets the same answers as everybody where there are no users."""
    headers = {"Authorization": basic("prometheus", "secret")}

    assert [200, 200, 404] == [ask(site, path, headers=headers).status for path in ("/metrics", "/-/ready", "/nothing")]


def test_flood_of_wrong_passwords_starves_no_scrape(site: Site) -> None:
    """While 30 connections of one address try passwords as fast as they can, scrapes of a user stay quick."""
    end = time.monotonic() + 3
    tried = []

    def try_passwords(number: int) -> None:
        with suppress(TimeoutError):  # on a busy machine they may be behind for longer than they wait
            while time.monotonic() < end:
                tried.append(ask(site, "/metrics", headers={"Authorization": basic("prometheus", str(number))}).status)

    right = {"Authorization": basic("prometheus", "secret")}
    ask(site, "/metrics", headers=right)
    threads = [threading.Thread(target=try_passwords, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    took = []
    while time.monotonic() < end:
        began = time.monotonic()
        assert ask(site, "/metrics", headers=right).status == 200
        took.append(time.monotonic() - began)
        time.sleep(0.05)
    for thread in threads:
        thread.join()

    assert {401} == set(tried)
    assert statistics.median(took) < 1  # behind the others it would be 2 s


def test_new_users_count_at_once(serve: Serve) -> None:
    """Who is taken off the list is refused from the next request on, on open connections too."""
    site = serve()
    header = {"Authorization": basic("prometheus", "secret")}
    site.use(Active(users=Users(HASHES)))
    assert ask(site, "/-/healthy", headers=header).status == 200

    site.use(Active(users=Users({"other": HASHES["zoë"]})))

    assert ask(site, "/-/healthy", headers=header).status == 401


def test_headers_of_the_file_win(serve: Serve) -> None:
    """A configured header replaces ours, an empty one takes it away, and the others stay."""
    site = serve()
    site.use(
        Active(
            headers={"Strict-Transport-Security": "max-age=1", "Content-Security-Policy": "", "X-Frame-Options": "deny"}
        )
    )

    headers = ask(site, "/-/healthy").headers

    assert (headers["Strict-Transport-Security"], headers["X-Frame-Options"]) == ("max-age=1", "deny")
    assert "Content-Security-Policy" not in headers
    assert headers["X-Content-Type-Options"] == "nosniff"
