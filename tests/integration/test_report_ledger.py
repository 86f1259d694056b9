"""The report of a migration that really ran: its numbers are those of the ledger's own tables, asked with plain SQL."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import crossfade, document
from fix_stores import Migration

from adapters.postgres.ledger.lags import LagBook
from harness.records import Backlog
from harness.routing import Store

# What counts: minutes, or parts of one, since the last repair or backfill.
_SINCE = """
    SELECT coalesce(max(at), '-infinity') FROM crossfade.audit
    WHERE action = 'repair' OR (action = 'phase' AND detail ->> 'to' = 'BACKFILLED')
"""
_COMPARISONS = f"""
    SELECT c ->> 0 AS operation, c ->> 1 AS result, sum((c ->> 2)::bigint)::bigint AS n
    FROM crossfade.statistics, jsonb_array_elements(body -> 'comparisons') c
    WHERE minute >= ({_SINCE}) GROUP BY 1, 2
"""
_BY_MINUTE = f"""
    SELECT date_trunc('minute', minute) AS minute, c ->> 1 AS result, sum((c ->> 2)::bigint)::bigint AS n
    FROM crossfade.statistics, jsonb_array_elements(body -> 'comparisons') c
    WHERE minute >= ({_SINCE}) GROUP BY 1, 2
"""
_CALLS = f"""
    SELECT l ->> 0 AS operation, l ->> 1 AS store, l ->> 2 AS role, sum(b.value::bigint)::bigint AS n
    FROM crossfade.statistics, jsonb_array_elements(body -> 'latencies') l, jsonb_each_text(l -> 3 -> 'buckets') b
    WHERE minute >= ({_SINCE}) GROUP BY 1, 2, 3
"""
# The sketch's definition: bucket k holds durations up to γ^k, and stands for 2 γ^k / (γ + 1).
_P99 = f"""
    WITH buckets AS (
        SELECT l ->> 0 AS operation, l ->> 1 AS store, b.key::int AS place, sum(b.value::bigint) AS n
        FROM crossfade.statistics, jsonb_array_elements(body -> 'latencies') l, jsonb_each_text(l -> 3 -> 'buckets') b
        WHERE minute >= ({_SINCE}) GROUP BY 1, 2, 3
    ), summed AS (
        SELECT *, sum(n) OVER (PARTITION BY operation, store ORDER BY place) AS seen,
               sum(n) OVER (PARTITION BY operation, store) AS total FROM buckets
    )
    SELECT operation, store, 2 * power(1.01 / 0.99, min(place)::float8) / (1.01 / 0.99 + 1) AS p99
    FROM summed WHERE seen > 0.99 * (total - 1) GROUP BY 1, 2
"""
_SETTLED = ("matched", "ignored", "mismatched", "transient")


@pytest.fixture
def ramped(prepared_migration: Migration) -> Migration:
    """Forty-eight prompts, a tenth of the reads and half of the scopes' writes on new, a third of new's texts wrong."""
    prepared_migration.forty_eight_prompts()
    prepared_migration.backfill()
    assert prepared_migration.drain() == 0
    assert prepared_migration.verify().verdict == "pass"
    for arguments in (["--reads", "10"], ["--writes", "50"]):
        done = crossfade(prepared_migration.app.settings, "ramp", *arguments, "--reason", "a test")
        assert done.returncode == 0, done.stderr
    prepared_migration.behind("UPDATE prompts SET content = content || '!' WHERE md5(id::text) < '5'")
    done = crossfade(prepared_migration.app.settings, "run", "--seconds", "3", "--rate", "150", "--json")
    assert document(done)["mismatched"] > 0, done.stderr
    return prepared_migration


def _report(migration: Migration, place: Path) -> dict[str, Any]:
    done = crossfade(migration.app.settings, "report", "--output", str(place), "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads((place / "report.json").read_text(encoding="utf-8"))
    assert document(done)["checksum"] == made["checksum"]
    return made


def test_the_reports_rates_are_the_ledgers(ramped: Migration, tmp_path: Path) -> None:
    """Comparisons, rates, calls, latencies, lag and the way back, each recomputed from raw tables with plain SQL."""
    made = _report(ramped, tmp_path)
    _check_rates(ramped, made)
    _check_minutes(ramped, made)
    _check_latencies(ramped, made)
    _check_way_back(ramped, made)
    assert made["verdict"]["word"] == "NO-GO"
    assert "mismatches: " in made["verdict"]["sentence"]
    steps = [(step["reads_percent"], step["writes_percent"]) for step in made["ramp"]["steps"]]
    assert steps == [(10, 0), (10, 50)]
    assert made["mismatches"]["fields"][0]["field"] == "content"
    example = made["mismatches"]["fields"][0]["examples"][0]
    assert example["first"] is not None
    assert "text " not in json.dumps(made["mismatches"]), "a redacted report shows a text"


def _check_rates(migration: Migration, made: dict[str, Any]) -> None:
    counted: dict[str, Counter[str]] = {}
    for operation, result, n in migration.new_sql(_COMPARISONS):
        counted.setdefault(operation, Counter())[result] += n
    compared = {row["operation"]: row for row in made["operations"]["rows"]}
    assert set(counted) <= set(compared)
    whole: Counter[str] = sum(counted.values(), Counter())
    for row in (*compared.values(), made["operations"]["all"]):
        raw = whole if row["operation"] is None else counted.get(row["operation"], Counter())
        settled = sum(raw[name] for name in _SETTLED)
        assert row["compared"] == settled
        assert row["mismatch_rate"] == (raw["mismatched"] / settled if settled else None)
        assert {name: row[name] for name in (*_SETTLED, "not_compared")} == {
            name: raw[name] for name in (*_SETTLED, "not_compared")
        }
    assert whole["mismatched"] > 0
    gate = next(gate for gate in made["gates"] if gate["name"] == "mismatches")
    assert (gate["figures"]["hits"], gate["figures"]["n"]) == (
        whole["mismatched"],
        sum(whole[name] for name in _SETTLED),
    )


def _check_minutes(migration: Migration, made: dict[str, Any]) -> None:
    minutes: dict[datetime, Counter[str]] = {}
    for minute, result, n in migration.new_sql(_BY_MINUTE):
        minutes.setdefault(minute, Counter())[result] += n
    points = {datetime.fromisoformat(point["at"]): point for point in made["over_time"]["points"]}
    assert made["over_time"]["minutes_per_point"] == 1
    for minute, raw in minutes.items():
        settled = sum(raw[name] for name in _SETTLED)
        assert points[minute]["compared"] == settled
        assert points[minute]["mismatch_rate"] == (raw["mismatched"] / settled if settled else None)
    lags = {
        (minute, store): seconds
        for minute, store, seconds in migration.new_sql("SELECT minute, store, seconds FROM crossfade.lag")
    }
    told = {(at, store): seconds for at, point in points.items() for store, seconds in point["lag"].items()}
    assert told == lags
    assert {store for _, store in lags} == {"legacy", "new"}, "the run did not record the lag"


def _check_latencies(migration: Migration, made: dict[str, Any]) -> None:
    calls: Counter[tuple[str, str]] = Counter()
    served: Counter[tuple[str, str]] = Counter()
    for operation, store, role, n in migration.new_sql(_CALLS):
        calls[operation, store] += n
        served[operation, store] += n if role == "served" else 0
    for row in made["operations"]["rows"]:
        assert row["served"] == {store: served[row["operation"], store] for store in ("legacy", "new")}
    slowest = {(operation, store): p99 for operation, store, p99 in migration.new_sql(_P99)}
    assert slowest
    for row in made["latency"]:
        for store in ("legacy", "new"):
            assert row[store]["calls"] == calls[row["operation"], store]
            if row[store]["calls"]:
                assert row[store]["p99"] == pytest.approx(slowest[row["operation"], store])


def _check_way_back(migration: Migration, made: dict[str, Any]) -> None:
    [(scopes, records)] = migration.new_sql(
        "SELECT count(DISTINCT project_id), count(*) FROM prompts, crossfade.route"
        " WHERE ('x' || substr(md5(salt || project_id), 1, 8))::bit(32)::bigint % 10000 < writes_percent * 100"
    )
    assert (made["way_back"]["scopes"], made["way_back"]["records"]) == (scopes, records)
    assert scopes > 0
    planned = crossfade(migration.app.settings, "rollback", "--dry-run", "--json")
    assert (document(planned)["scopes"], document(planned)["records"]) == (scopes, records)
    assert made["way_back"]["last_act"] == "ramp"
    assert made["way_back"]["last_act_seconds"] > 0


def test_a_report_before_anything_is_refused(migration: Migration, tmp_path: Path) -> None:
    """Before prepare there is no ledger: exit code 4, what to do next, and no file."""
    done = crossfade(migration.app.settings, "report", "--output", str(tmp_path / "out"))
    assert done.returncode == 4
    assert "crossfade prepare" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_report_on_an_empty_ledger_is_not_yet(prepared_migration: Migration, tmp_path: Path) -> None:
    """Prepared, and nothing else: NOT YET, nothing said to be equal, and a checksum that holds."""
    made = _report(prepared_migration, tmp_path)
    assert made["verdict"]["word"] == "NOT YET"
    assert made["ramp"]["steps"] == []
    assert (made["way_back"]["scopes"], made["way_back"]["records"]) == (0, 0)
    checked = crossfade(prepared_migration.app.settings, "report", "--check", str(tmp_path / "report.json"))
    assert checked.returncode == 0, checked.stderr


def test_of_a_minute_the_greatest_lag_stays(prepared_migration: Migration) -> None:
    """Two looks within a minute: the greater one stays; another store, and another minute, are apart."""
    book = LagBook(prepared_migration.stores.new)
    # A minute that ends between two looks would part them: then they are simply two rows.
    began = datetime.now(UTC).replace(second=0, microsecond=0)
    for seconds in (1.0, 9.0, 3.0):
        book.keep({Store.NEW: Backlog(1, seconds), Store.LEGACY: Backlog()})
    kept = book.by_minute()
    assert max(lags[Store.NEW] for _, lags in kept) == 9.0
    assert all(lags[Store.LEGACY] == 0 for _, lags in kept)
    assert len(kept) <= 2
    assert book.by_minute(began + timedelta(hours=1)) == []
    assert book.by_minute(began + timedelta(seconds=30))[0][0] == kept[0][0], "the minute that is cut counts"
    book.keep({})
