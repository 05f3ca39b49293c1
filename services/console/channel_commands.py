"""What do `jikimi channel scan` and `jikimi channel report` do?"""

from __future__ import annotations

import argparse
import secrets

from jikimi_client.misuse.detector import v1 as detector_api
from services.console.client import connections, staff, subscriber
from services.console.home import Home
from services.console.output import print_rows, time_of


async def scan(home: Home, options: argparse.Namespace) -> int:
    """Asks the collectors of a channel for a scan; with the id of an earlier request it says how far that scan is."""
    request_id = options.request or secrets.token_hex(16)
    wanted = detector_api.ScanChannelRequest(
        channel=options.channel, max_signals=options.most, request_id=request_id
    )
    async with connections(home) as services:
        stub = services.stub("detector", detector_api.ChannelServiceStub, staff("OPERATOR", "COLLECTION"))
        answer = await stub.scan_channel(wanted)
    rows = [
        [answer.scan_id, answer.state, answer.accepted, answer.refused, time_of(answer.end_time), request_id]
    ]
    headings = ["id", "state", "accepted", "refused", "ends", "request"]
    print_rows(options, answer.to_dict() | {"requestId": request_id}, headings, rows)
    return 0


async def report(home: Home, options: argparse.Namespace) -> int:
    """Reports for a subscriber where something was seen; with the id of an earlier report it says what became of it."""
    request_id = options.request or secrets.token_hex(16)
    wanted = detector_api.ReportUserSightingRequest(
        subscriber_id=options.subscriber, request_id=request_id, source_url=options.url, note=options.note
    )
    async with connections(home) as services:
        own = subscriber(options.subscriber)
        stub = services.stub("detector", detector_api.ChannelServiceStub, own)
        answer = await stub.report_user_sighting(wanted)
    rows = [[answer.signal_id, answer.state, answer.reason, answer.next_step, request_id]]
    headings = ["signal_id", "state", "rule", "next", "request"]
    print_rows(options, answer.to_dict() | {"requestId": request_id}, headings, rows)
    return 0
