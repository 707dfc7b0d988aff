from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from backupd.health import assess, starting
from backupd.metrics import FAMILIES, Reading, exposition
from backupd.record import Record
from tests.promtool import judge
from tests.unit.records import NOON, run, watched

ALERTS = Path(__file__).parents[2] / "deploy" / "alerts.yaml"
_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (-?[0-9.e+]+)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(page: str) -> Samples:
    """Every sample of a page, read as strictly as the format's description says."""
    found: Samples = {}
    family, kind = "", ""
    assert page.endswith("\n")
    for line in page.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert line.removeprefix(f"# HELP {family} ").strip()
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family, "TYPE follows HELP"
            assert kind in ("gauge", "counter")
            assert (kind == "counter") == name.endswith("_total")
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == family, "samples of a metric stand together"
            labels = frozenset(_LABEL.findall(match[2] or ""))
            assert (family, labels) not in found
            found[family, labels] = float(match[3])
    return found


def sample(samples: Samples, name: str, **labels: str) -> float:
    """The value of one."""
    return samples[name, frozenset(labels.items())]


def page(now: datetime = NOON + timedelta(days=3), volume: str = "shop") -> str:
    """A page about a volume whose backups fail, another one, and everything else there can be."""
    record = (
        Record(volume)
        .seen(NOON)
        .begun(run(None, volume))
        .ended(run("ok", volume))
        .ended(run("failed", volume))
        .proved(NOON)
    )
    health = assess([watched(volume), watched("new")], {volume: record}, now)
    return exposition(
        Reading(
            started=NOON,
            health=health,
            volumes=[volume, "new"],
            records={volume: record},
            engine_up=False,
            running=1,
            waiting=4,
            next_runs={volume: NOON + timedelta(seconds=0.25)},
            skipped={volume: 2},
            unprotected={"idle": 3},
            undelivered={"webhook": 5},
        )
    )


def test_the_page_is_what_prometheus_reads() -> None:
    """By a strict reading of the format, and by promtool where it can be had."""
    samples = parsed(page())
    judge("check", "metrics", text=page())
    assert {name for name, _ in samples} == set(FAMILIES)
    for name, value in {
        "backupd_healthy": 0,
        "backupd_engine_up": 0,
        "backupd_protected_volumes": 2,
        "backupd_runs_running": 1,
        "backupd_runs_waiting": 4,
        "backupd_read_bytes_total": 10_240,
        "backupd_new_bytes_total": 2_048,
    }.items():
        assert sample(samples, name) == value
    for name, value in {
        "overdue": 1,
        "failing": 1,
        "last_success_timestamp_seconds": NOON.timestamp(),
        "last_failure_timestamp_seconds": NOON.timestamp() + 60,
        "last_verified_timestamp_seconds": NOON.timestamp(),
        "next_run_timestamp_seconds": NOON.timestamp() + 0.25,
        "deadline_timestamp_seconds": datetime(2026, 11, 26, 14, 2, tzinfo=UTC).timestamp(),
        "duration_seconds": 60,
        "read_bytes": 10_240,
        "new_bytes": 2_048,
        "stored_bytes": 1_024,
        "files": 7,
        "quiesce_seconds": 1.5,
        "skipped_total": 2,
    }.items():
        assert sample(samples, f"backupd_volume_{name}", volume="shop") == value, name
    assert sample(samples, "backupd_volume_consistency", volume="shop", consistency="crash-consistent") == 1
    assert sample(samples, "backupd_volume_runs_total", volume="shop", outcome="failed") == 1
    assert sample(samples, "backupd_problems", kind="overdue") == 1
    assert sample(samples, "backupd_unprotected_volumes", kind="idle") == 3
    assert sample(samples, "backupd_notifications_undelivered_total", channel="webhook") == 5
    assert sample(samples, "backupd_volume_overdue", volume="new") == 0


def test_what_looks_odd_in_a_name_is_escaped() -> None:
    """A name cannot make a line of its own."""
    odd = 'a"b\\c\nbackupd_healthy 1'
    samples = parsed(page(volume=odd))
    judge("check", "metrics", text=page(volume=odd))
    written = odd.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    assert sample(samples, "backupd_volume_overdue", volume=written) == 1
    assert sample(samples, "backupd_healthy") == 0


def test_the_page_of_a_daemon_that_has_just_started_is_red() -> None:
    """Before the volumes are listed nothing is known to be well."""
    samples = parsed(exposition(Reading(NOON, starting(), (), {})))
    assert sample(samples, "backupd_healthy") == 0
    assert sample(samples, "backupd_problems", kind="starting") == 1


def test_every_metric_of_the_alerts_exists() -> None:
    """And promtool, where it can be had, finds no fault with the rules."""
    judge("check", "rules", str(ALERTS))
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]:
        named = set(re.findall(r"\bbackupd_\w+", rule["expr"]))
        assert named
        assert named <= set(FAMILIES), rule["alert"]
        assert rule["annotations"]["summary"]


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """S5: where promtool can be had; a volume is overdue, one fails, and the daemon has gone."""
    labels = 'instance="db1", volume="shop"'
    series = [
        (f"backupd_volume_overdue{{{labels}}}", "1x60"),
        ('backupd_volume_failing{instance="db1", volume="other"}', "1x60"),
        ('backupd_build_info{instance="db1"}', "1x10 _x50"),
        ('backupd_problems{instance="db1", kind="misconfigured"}', "0x60"),
    ]
    expected = {"BackupdVolumeOverdue": 1, "BackupdVolumeFailing": 1, "BackupdDown": 1, "BackupdUnhealthy": 0}
    values = [{"series": name, "values": _steady(value)} for name, value in series]
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text())
    checks = [
        {
            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
            "eval_time": "50m",
            "exp_samples": [{"labels": "{}", "value": count}],
        }
        for alert, count in expected.items()
    ]
    case = {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": values, "promql_expr_test": checks}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(case))
    judge("test", "rules", "test.yaml", directory=tmp_path)


def _steady(value: str) -> str:
    """In promtool's notation: `1x60` is one and then the same sixty times more."""
    return " ".join(part if part.startswith("_") else part.replace("x", "+0x") for part in value.split())
