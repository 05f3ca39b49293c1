"""Does `case` hear what makes a match urgent, and from which account dump it stems?"""

from __future__ import annotations

from typing import Any

from misuse.common.v1 import signal_pb2 as common

NUMBER = "010-2345-6789"


async def test_a_match_says_what_was_reported_and_what_stands_beside_it(world: Any) -> None:
    who = await world.register()
    await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, NUMBER)
    await world.submit(world.signal(f"이름 김하나, 주소 서울특별시 강남구 테헤란로 152, 연락처 {NUMBER}"))
    await world.submit(world.signal(f"연락처 {NUMBER}", sexual_content_reported=True))
    await world.decide()
    found = await world.facts()
    said = [(facts.name_and_address, facts.sexual_content_reported) for facts in found]
    assert [(False, True), (True, False)] == sorted(said)


async def test_entries_of_one_dump_share_its_reference_however_its_name_is_written(world: Any) -> None:
    who = await world.register()
    await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, NUMBER)
    for number, dump in enumerate(("Big Leak 2026", " big  leak ２０２６", "Another", "")):
        await world.submit(world.signal(f"{number} 번째 줄 {NUMBER}", account_dump=dump))
    await world.decide()
    one, same, other, none = [facts.dump_ref for facts in await world.facts()]
    assert (32, True, False, b"") == (len(one), one == same, one == other, none)
