"""Is nothing fetched that may not be: neither what a host forbids nor what lies inside?

127.0.0.2 plays the public internet, 127.0.0.1 everything private; each of their servers counts its connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from services.chassis.fetch import Fetched, Fetcher, FetchRules, Verdict, read_fetch_rules
from services.chassis.fetch.budget import Budget
from services.chassis.fetch.robots import Robots, RobotsFile

RECORDED = Path(__file__).parents[5] / "shared" / "data" / "robots" / "protego_recorded_cases.jsonl"
PAGE = b"<!doctype html><title>a page</title><p>words"


def answer(status: int, body: bytes = b"", content_type: str = "text/html; charset=utf-8", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Site:
    """A server of raw answers by path; 404 for the rest."""

    answers: dict[str, bytes] = field(default_factory=dict)
    connections: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ")[1].decode()
            self.asked[path] += 1
            self.requests.append(request)
            writer.write(self.answers.get(path, answer(404)))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(site: Site, host: str, port: int = 0) -> AsyncIterator[Site]:
    async with await asyncio.start_server(site.serve, host, port) as server:
        site.port = server.sockets[0].getsockname()[1]
        yield site


@dataclass
class World:
    """Inside and outside listen on the same port, so that only the address tells them apart."""

    outside: Site
    inside: Site
    names: dict[str, list[str]] = field(default_factory=dict)
    now_ms: float = 0.0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The names of the test; a list of several is given out one after another, then its last for ever."""
        if host in self.names:
            known = self.names[host]
            return known.pop(0).split() if len(known) > 1 else known[0].split()
        # Every way of writing a number that the system reads as an address, and no question to a name server.
        found = await asyncio.get_running_loop().getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
        return [str(each[4][0]) for each in found]

    def rules(self) -> FetchRules:
        rules = read_fetch_rules()
        return replace(
            rules,
            ports=rules.ports | {self.outside.port},
            also_public=(ipaddress.ip_network("127.0.0.2/32"),),
            budget=replace(rules.budget, min_interval_ms=0),
        )

    def fetcher(self, rules: FetchRules | None = None) -> Fetcher:
        return Fetcher(rules or self.rules(), resolver=self.resolve, now_ms=lambda: self.now_ms)

    async def fetch(self, path: str, rules: FetchRules | None = None) -> Fetched:
        async with self.fetcher(rules) as fetcher:
            return await fetcher.fetch(f"http://public.test:{self.outside.port}{path}")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    outside, inside = Site(), Site()
    async with listening(outside, "127.0.0.2"), listening(inside, "127.0.0.1", outside.port):
        yield World(outside, inside, {"public.test": ["127.0.0.2"]})


async def test_a_page_is_fetched_by_somebody_who_says_who_he_is(world: World) -> None:
    world.outside.answers["/a?b=%EC%82%AC"] = answer(200, PAGE, Set_Cookie="a=b")
    found = await world.fetch("/a?b=사")
    assert ("FETCHED", 200, "text/html", PAGE) == (
        found.decision.rule_id, found.status, found.content_type, found.body
    )
    request = world.outside.requests[-1].lower()
    assert b"user-agent: jikimi/1 (+https://" in request
    assert b"cookie" not in request


async def test_what_is_gone_is_an_answer(world: World) -> None:
    world.outside.answers["/gone"] = answer(410)
    assert [410, 404] == [(await world.fetch(path)).status for path in ("/gone", "/never")]
    assert (await world.fetch("/gone")).decision.allowed


@pytest.mark.parametrize(
    ("status", "text", "rule", "verdict"),
    [
        (200, "User-agent: *\nDisallow: /", "ROBOTS_DISALLOWED", Verdict.REFUSE),
        (200, "User-agent: jikimi\nDisallow: /\n\nUser-agent: *\nAllow: /", "ROBOTS_DISALLOWED", Verdict.REFUSE),
        (200, "User-agent: other\nDisallow: /", "FETCHED", Verdict.ALLOW),
        (200, "User-agent: *\nDisallow: /\nAllow: /page", "FETCHED", Verdict.ALLOW),
        (404, "", "FETCHED", Verdict.ALLOW),
        (410, "", "FETCHED", Verdict.ALLOW),
        (400, "", "FETCHED", Verdict.ALLOW),
        (401, "", "ROBOTS_REFUSED", Verdict.REFUSE),
        (403, "", "ROBOTS_REFUSED", Verdict.REFUSE),
        (429, "", "ROBOTS_REFUSED", Verdict.REFUSE),
        (500, "", "ROBOTS_UNREACHABLE", Verdict.DEFER),
        (503, "", "ROBOTS_UNREACHABLE", Verdict.DEFER),
    ],
)
async def test_robots_txt_decides_by_status_and_rules(
    world: World, status: int, text: str, rule: str, verdict: Verdict
) -> None:
    world.outside.answers |= {"/robots.txt": answer(status, text.encode(), "text/plain"), "/page": answer(200, PAGE)}
    found = await world.fetch("/page")
    assert (rule, verdict) == (found.decision.rule_id, found.decision.verdict)
    assert (verdict is Verdict.ALLOW) == bool(world.outside.asked["/page"])


async def test_robots_txt_is_followed_through_five_redirects_and_no_further(world: World) -> None:
    def chain(length: int) -> dict[str, bytes]:
        steps = ["/robots.txt", *(f"/r{n}" for n in range(length))]
        moved = {at: answer(301, Location=to) for at, to in pairwise(steps)}
        return {**moved, steps[-1]: answer(200, b"User-agent: *\nDisallow: /", "text/plain")}

    world.outside.answers |= {"/page": answer(200, PAGE), **chain(5)}
    assert "ROBOTS_DISALLOWED" == (await world.fetch("/page")).decision.rule_id
    world.outside.answers |= chain(6)
    assert "ROBOTS_UNREACHABLE" == (await world.fetch("/page")).decision.rule_id


async def test_only_the_first_half_megabyte_of_robots_txt_counts(world: World) -> None:
    text = b"User-agent: *\nDisallow: /early\n" + b"#" * 600_000 + b"\nDisallow: /late\n"
    world.outside.answers |= {"/robots.txt": answer(200, text, "text/plain"), "/late": answer(200, PAGE)}
    assert ["ROBOTS_DISALLOWED", "FETCHED"] == [
        (await world.fetch(path)).decision.rule_id for path in ("/early", "/late")
    ]


async def test_robots_txt_is_kept_for_a_day_and_an_unreachable_one_for_less() -> None:
    rules, now, asked = read_fetch_rules(), [0.0], Counter[str]()
    files = {"https://a": RobotsFile(404), "https://b": RobotsFile(0)}

    async def ask(origin: str) -> RobotsFile:
        asked[origin] += 1
        return files[origin]

    robots = Robots(rules, ask, lambda: now[0])
    for hour in range(25):
        now[0] = hour * 3_600_000.0
        await robots.decide("https://a", "https://a/x")
        await robots.decide("https://b", "https://b/x")
    assert {"https://a": 2, "https://b": 25} == asked
    now[0] += 600_000
    assert 3_000_000 == (await robots.decide("https://b", "https://b/x"))[0].retry_after_ms


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded robots.txt cases are not at hand")
async def test_recorded_cases_are_decided_as_recorded() -> None:
    wrong: list[str] = []
    rules = read_fetch_rules()
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        if case["query"] != "can_fetch" or not case["user_agent"].replace("-", "").replace("_", "").isalpha():
            continue

        async def ask(_: str, text: str = case["robots_txt"]) -> RobotsFile:
            return RobotsFile(200, text.encode())

        robots = Robots(replace(rules, token=case["user_agent"]), ask, lambda: 0.0)
        if (await robots.decide("https://x", case["url"]))[0].allowed != case["expected"]:
            wrong.append(case["id"])
    assert [] == wrong


@pytest.mark.parametrize(
    ("path", "given", "rule"),
    [
        ("/x", answer(401), "WALL_LOGIN"),
        ("/x", answer(402), "WALL_PAYWALL"),
        ("/x", answer(403), "WALL_FORBIDDEN"),
        ("/x", answer(451), "WALL_LEGAL"),
        ("/x", answer(302, Location="/accounts/login/?next=/x"), "WALL_LOGIN"),
        ("/x", answer(302, Location="/signin"), "WALL_LOGIN"),
        ("/x", answer(200, b"<form><input name=p type='password'></form>"), "WALL_LOGIN"),
        ("/x", answer(200, b"<div class=g-recaptcha></div>"), "WALL_CAPTCHA"),
        ("/x", answer(200, b'<script>{"isAccessibleForFree": false}</script>'), "WALL_PAYWALL"),
        ("/x", answer(200, "초대받은 사람만 볼 수 있습니다".encode()), "WALL_INVITATION"),
    ],
)
async def test_walls_are_not_climbed(world: World, path: str, given: bytes, rule: str) -> None:
    world.outside.answers[path] = given
    found = await world.fetch(path)
    assert (Verdict.REFUSE, rule, b"") == (found.decision.verdict, found.decision.rule_id, found.body)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (answer(200, b"x" * 2001), "BODY_TOO_LARGE"),
        (answer(200, b"MZ", "application/octet-stream"), "TYPE_NOT_WANTED"),
        (answer(200, b"\x1f\x8b", Content_Encoding="gzip"), "ENCODING_NOT_ASKED_FOR"),
        (answer(302, Location="/x"), "TOO_MANY_REDIRECTS"),
        (answer(302, Location="ftp://public.test/x"), "URL_SCHEME"),
        (answer(302, Location="file:///etc/passwd"), "URL_SCHEME"),
        (answer(503), "HOST_BUSY"),
        (answer(429), "HOST_BUSY"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "NO_HTTP"),
    ],
)
async def test_answers_are_bounded(world: World, given: bytes, rule: str) -> None:
    world.outside.answers["/x"] = given
    found = await world.fetch("/x", replace(world.rules(), max_body_bytes=2000))
    assert (rule, b"") == (found.decision.rule_id, found.body)


async def test_a_body_without_end_is_left_at_the_bound(world: World) -> None:
    chunk = b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
    head = b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    world.outside.answers["/x"] = head + chunk * 64
    found = await world.fetch("/x", replace(world.rules(), max_body_bytes=100_000))
    assert "BODY_TOO_LARGE" == found.decision.rule_id


async def test_a_host_that_says_nothing_is_given_up(world: World) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.2", 0) as server:
        port = server.sockets[0].getsockname()[1]
        rules = replace(world.rules(), ports=frozenset({port}), total_ms=300)
        async with world.fetcher(rules) as fetcher:
            found = await fetcher.fetch(f"http://public.test:{port}/x")
    assert (Verdict.DEFER, True) == (found.decision.verdict, found.decision.retry_after_ms > 0)


HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://127.0.0.3:{port}/",
    "http://127.255.255.254:{port}/",
    "http://10.0.0.1:{port}/",
    "http://10.255.255.255:{port}/",
    "http://100.64.0.1:{port}/",
    "http://169.254.169.254:{port}/latest/meta-data/",
    "http://[fd00:ec2::254]:{port}/latest/meta-data/",
    "http://172.16.0.1:{port}/",
    "http://172.31.255.255:{port}/",
    "http://192.168.0.1:{port}/",
    "http://192.0.0.8:{port}/",
    "http://198.18.0.1:{port}/",
    "http://224.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    "http://public.test@127.0.0.1:{port}/",
    "http://public.test:x@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@public.test/",
    "http://127.0.0.1:{port}\\@public.test/",
    "http://public.test:{port}\\@127.0.0.1:{port}/",
    "http://127.0.0.1 :{port}/",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1:{port}\r\nHost: public.test/",
    "http://127.0.0.1:22/",
    "http://public.test:25/",
    "http://public.test:0/",
    "http://public.test:99999/",
    "http://inside.test:{port}/",
    "http://both.test:{port}/",
    "http://mapped.test:{port}/",
    "http://rebinding.test:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x",
    "file:///etc/passwd",
    "dict://127.0.0.1:{port}/",
    "unix:///run/x.sock",
    "http+unix://%2Frun%2Fx.sock/",
    "jar:http://127.0.0.1:{port}!/",
    "data:text/html,x",
    "javascript:0",
    "http://" + "a" * 3000 + ":{port}/",
    "http://" + "a" * 70 + ".test:{port}/",
    "http://xn--\u0000:{port}/",
    "",
    "http://",
    "http://[:{port}/",
    "http://[::1:{port}/",
]
INNER_NAMES: Mapping[str, list[str]] = {
    "inside.test": ["127.0.0.1"],
    "localhost": ["127.0.0.1 ::1"],
    "localhost.": ["127.0.0.1 ::1"],
    "both.test": ["127.0.0.2 127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "rebinding.test": ["127.0.0.2", "127.0.0.1"],
}


@pytest.mark.parametrize("way", ["asked for", "redirected to"])
async def test_nothing_inside_is_connected_to(world: World, way: str) -> None:
    world.names |= {name: list(answers) for name, answers in INNER_NAMES.items()}
    verdicts = set[tuple[str, bool]]()
    async with world.fetcher() as fetcher:
        for hostile in HOSTILE:
            url = hostile.replace("{port}", str(world.outside.port))
            if way == "redirected to":
                # A header cannot hold line breaks, nor all characters; what it holds is what a server could send.
                location = url.replace("\r\n", "").encode("ascii", "ignore").decode()
                world.outside.answers["/away"] = answer(302, Location=location)
                url = f"http://public.test:{world.outside.port}/away"
            found = await fetcher.fetch(url)
            # Relative ones lead back to the site itself, which is outside.
            verdicts.add((found.decision.verdict, bool(found.body)))
    assert 0 == world.inside.connections
    assert {(Verdict.REFUSE, False), (Verdict.DEFER, False)} >= verdicts - {(Verdict.ALLOW, False)}
    assert (Verdict.REFUSE, False) in verdicts


async def test_a_redirect_is_judged_by_the_rules_of_where_it_leads(world: World) -> None:
    world.names["other.test"] = ["127.0.0.2"]
    world.outside.answers |= {
        "/away": answer(302, Location=f"http://other.test:{world.outside.port}/page"),
        "/page": answer(200, PAGE),
    }
    found = await world.fetch("/away")
    assert (PAGE, 1) == (found.body, found.hops)
    assert 2 == world.outside.asked["/robots.txt"]


async def test_a_host_is_asked_at_its_own_pace() -> None:
    rules, now = read_fetch_rules(), [0.0]
    budget = Budget(rules, lambda: now[0])
    spent = [budget.spend("a", 0).rule_id, budget.spend("a", 0).rule_id, budget.spend("b", 0).rule_id]
    now[0] = 1000
    spent += [budget.spend("a", 5).rule_id]
    now[0] = 5999
    spent += [budget.spend("a", 5).rule_id, budget.spend("a", 3600).rule_id]
    assert [
        "WITHIN_BUDGET", "BUDGET_INTERVAL", "WITHIN_BUDGET", "WITHIN_BUDGET", "BUDGET_INTERVAL", "CRAWL_DELAY_TOO_LONG",
    ] == spent


async def test_a_host_is_asked_so_often_a_day() -> None:
    rules, now = read_fetch_rules(), [0.0]
    budget = Budget(replace(rules, budget=replace(rules.budget, per_host_a_day=2)), lambda: now[0])
    rule_ids = []
    for _ in range(3):
        rule_ids.append(budget.spend("a", 0).rule_id)
        now[0] += 2000
    now[0] = 86_400_000
    rule_ids.append(budget.spend("a", 0).rule_id)
    assert ["WITHIN_BUDGET", "WITHIN_BUDGET", "BUDGET_OF_THE_DAY", "WITHIN_BUDGET"] == rule_ids


async def test_asking_whether_it_may_be_fetched_fetches_nothing_but_the_rules(world: World) -> None:
    async with world.fetcher() as fetcher:
        decision = await fetcher.decide(f"http://public.test:{world.outside.port}/page")
        refused = await fetcher.decide("http://public.test:25/page")
    assert (True, "URL_PORT") == (decision.allowed, refused.rule_id)
    assert Counter({"/robots.txt": 1}) == world.outside.asked


def test_rules_that_say_something_impossible_are_refused(tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[4] / "services/chassis/rules/fetch.yaml").read_text(encoding="utf-8")
    (tmp_path / "chassis").mkdir()
    for good, bad in [
        ("cache_ms: 86400000", "cache_ms: 86400001"),
        ("token: jikimi", "token: ji kimi"),
        ("max_in_flight: 32", ""),
        ("10.0.0.0/8", "10.0.0.0/99"),
    ]:
        assert good in shipped
        (tmp_path / "chassis" / "fetch.yaml").write_text(shipped.replace(good, bad), encoding="utf-8")
        with pytest.raises(ValueError, match=r"."):
            read_fetch_rules(tmp_path)
