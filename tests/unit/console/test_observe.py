"""Is a watched system told where its spans go, and Prometheus where its services are?"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from services.chassis import yaml_text
from services.console.home import SERVICES, Home
from services.console.observe import RULES, configuration, endpoint, is_on, program_of_prometheus
from services.console.supervisor import service_environment, watchers


@pytest.fixture
def own(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def test_services_of_a_watched_system_send_their_spans_to_it(own: Home) -> None:
    told = service_environment(own, "case", {"JIKIMI_OBSERVE": "on"})
    assert endpoint(own) == told["JIKIMI_OTLP_ENDPOINT"]
    assert f"127.0.0.1:{own.ports()['spans']}" == endpoint(own)


def test_who_sends_them_elsewhere_is_left_to_it(own: Home) -> None:
    environ = {"JIKIMI_OBSERVE": "on", "JIKIMI_OTLP_ENDPOINT": "collector:4317"}
    assert "collector:4317" == service_environment(own, "case", environ)["JIKIMI_OTLP_ENDPOINT"]


def test_an_unwatched_system_sends_none(own: Home) -> None:
    assert "JIKIMI_OTLP_ENDPOINT" not in service_environment(own, "case", {})
    assert not is_on({})


def test_prometheus_reads_every_service_under_its_name(own: Home) -> None:
    told = yaml_text.parse(configuration(own))
    expected = {service: [f"127.0.0.1:{own.ports()[f'{service}-metrics']}"] for service in SERVICES}
    targets = [job["static_configs"][0] for job in told["scrape_configs"]]
    assert expected == {each["labels"]["service"]: each["targets"] for each in targets}
    assert [f"{RULES}/*.yaml"] == told["rule_files"]
    assert sorted(RULES.glob("*.yaml"))


def test_a_program_is_looked_for_where_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "promtool").touch(mode=0o755)
    assert tmp_path / "promtool" == program_of_prometheus("promtool", {"JIKIMI_PROMETHEUS": str(tmp_path)})


def test_without_prometheus_spans_are_received_all_the_same(own: Home) -> None:
    assert "spans" in {program.name for program in watchers(own)} <= {"spans", "prometheus"}


@pytest.mark.skipif(
    program_of_prometheus("promtool") is None, reason="promtool is not here; `make prometheus` unpacks it"
)
def test_promtool_takes_the_configuration(own: Home) -> None:
    file = own.path / "prometheus.yml"
    file.write_text(configuration(own), encoding="utf-8")
    promtool = str(program_of_prometheus("promtool"))
    done = subprocess.run([promtool, "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
