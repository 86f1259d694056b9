"""The report as Markdown: the same model, for a pull request or a ticket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.words import count, counted, duration, share
from reports import markdown_ramp
from reports.marking import plain, table, texts
from reports.wording import nothing_or, number, seconds, stamp


def render(model: Mapping[str, Any]) -> str:
    lines = [line for section in _SECTIONS for line in section(model)]
    return "\n".join(lines).rstrip() + "\n"


def _head(model: Mapping[str, Any]) -> Iterator[str]:
    verdict, phase, route = model["verdict"], model["phase"], model["route"]
    yield f"# {verdict['word']}: {plain(verdict['sentence'])}"
    yield ""
    if verdict["next"]:
        yield f"Next: {plain(verdict['next'])}"
        yield ""
    yield (
        f"Crossfade cutover report of {stamp(model['generated_at'])}. Phase {phase['phase']}; "
        f"new serves {route['reads_percent']:g} % of reads and {route['writes_percent']:g} % of writes."
    )
    yield ""


def _gates(model: Mapping[str, Any]) -> Iterator[str]:
    yield "## Gates"
    yield ""
    rows = [(gate["name"], gate["verdict"], gate["evidence"], gate["next"]) for gate in model["gates"]]
    yield from texts(("gate", "verdict", "evidence", "next"), rows)


def _operations(model: Mapping[str, Any]) -> Iterator[str]:
    yield "## Parallel run by operation"
    yield ""
    operations = model["operations"]
    if not operations["rows"]:
        yield "No operation was served and nothing was compared."
        yield ""
        return
    counts = ("compared", "matched", "ignored", "mismatched")
    heads = ("operation", "served by legacy", "served by new", *counts, "rate", "transient", "not compared")
    rows = []
    for row in (*operations["rows"], operations["all"]):
        cells = [row["served"]["legacy"], row["served"]["new"], *(row[key] for key in counts)]
        rate = "–" if row["mismatch_rate"] is None else share(row["mismatch_rate"])
        last = [rate, count(row["transient"]), count(row["not_compared"])]
        rows.append([plain(row["operation"] or "all"), *map(count, cells), *last])
    yield from table(
        (*heads, "errors of legacy", "errors of new"),
        [
            [*cells, *(count(row["errors"][store]) for store in ("legacy", "new"))]
            for cells, row in zip(rows, (*operations["rows"], operations["all"]), strict=True)
        ],
    )
    if rerouted := operations["all"]["rerouted"]:
        yield f"{counted(rerouted, 'write')} met a move of authority, or named no scope: offered to another store."
        yield ""
    for title, key in (("Comparisons not made", "dropped"), ("Failures of Crossfade's own", "failures")):
        if model[key]:
            yield f"{title}: " + "; ".join(f"{count(row['count'])} {row['meaning']}" for row in model[key]) + "."
            yield ""


def _latency(model: Mapping[str, Any]) -> Iterator[str]:
    if not model["latency"]:
        return
    yield "## Latency"
    yield ""
    heads = [
        "operation",
        *(f"{store} {what}" for store in ("legacy", "new") for what in ("calls", "p50", "p95", "p99")),
    ]
    rows = []
    for row in model["latency"]:
        cells = [plain(row["operation"])]
        for store in ("legacy", "new"):
            cells += [count(row[store]["calls"]), *(seconds(row[store][q]) for q in ("p50", "p95", "p99"))]
        rows.append([*cells, number(row["p99_ratio"])])
    yield from table([*heads, "p99 new / legacy"], rows)


def _mismatches(model: Mapping[str, Any]) -> Iterator[str]:
    found = model["mismatches"]
    yield "## Differing fields"
    yield ""
    if not found["fields"]:
        yield nothing_or(model["operations"]["all"]["compared"], "No confirmed mismatch.", "Nothing was compared.")
        yield ""
        return
    rows = []
    for field in found["fields"]:
        for place, each in enumerate(field["examples"] or [_NO_EXAMPLE]):
            name = (count(field["count"]), field["operation"], field["field"]) if not place else ("", "", "")
            at = stamp(each["at"]) if each["at"] else ""
            call = " ".join(filter(None, (each["scope"], each["arguments"], each["served"], at)))
            rows.append((*name, each["legacy"], each["new"], _differs(each), call))
    yield from texts(("times", "operation", "field", "legacy", "new", "difference", "scope, call, served by"), rows)


_NO_EXAMPLE = dict.fromkeys(("scope", "arguments", "served", "at", "legacy", "new", "kind", "first"), "")


def _differs(each: Mapping[str, Any]) -> str:
    return f"{each['kind']}, from character {count(each['first'])} on" if each["first"] else str(each["kind"])


def _baseline(model: Mapping[str, Any]) -> Iterator[str]:
    found = model["baseline"]
    if found is None:
        yield "No noise baseline was taken: nobody knows which fields differ by themselves (crossfade baseline)."
        yield ""
        return
    yield f"Noise baseline, {stamp(found['at'])}: {plain(found['sentence'])}."
    yield ""
    rows = [
        [
            *(plain(each[key]) for key in ("operation", "field")),
            *(count(each[key]) for key in ("differed", "compared", "open")),
            plain(", ".join(each["rules"]) or "none"),
        ]
        for each in found["fields"]
    ]
    if rows:
        yield from table(("operation", "field", "differed", "compared", "not excused", "rules"), rows, numbers_from=2)


def _verification(model: Mapping[str, Any]) -> Iterator[str]:
    yield "## Verification"
    yield ""
    verification = model["verification"]
    runs = [*([verification["latest"]] if verification["latest"] else []), *verification["earlier"]]
    if not runs:
        yield "Nothing was verified."
        yield ""
        return
    counts = ("compared", "missing", "extra", "different", "transient", "unsettled", "quarantined", "unaccounted")
    rows = [[stamp(run["at"]), _of(run), *(count(run[key]) for key in counts)] for run in runs]
    yield from table(("at", "verdict", *counts), rows, numbers_from=2)
    examples = [
        (row["key"], row["scope"], row["kind"], field["field"], field["legacy"], field["new"], _differs(field))
        for row in verification["examples"]
        for field in row["fields"] or ({"field": ""} | _NO_EXAMPLE,)
    ]
    if examples:
        yield from texts(("row", "scope", "kind", "field", "legacy", "new", "difference"), examples)


def _of(run: Mapping[str, Any]) -> str:
    """The verdict, and of what alone, if not of everything."""
    return plain(f"{run['verdict']} ({run['restriction']})") if run["restriction"] else str(run["verdict"])


def _quarantine(model: Mapping[str, Any]) -> Iterator[str]:
    yield "## Quarantine"
    yield ""
    found = model["quarantine"]
    if not found["total"] and model["phase"]["phase"] in {"IDLE", "PREPARED"}:
        yield "Nothing was copied yet, so nothing can be said of quarantine."
        yield ""
        return
    yield f"{counted(found['total'], 'row')} in quarantine, {count(found['listed'])} listed here."
    yield ""
    if found["accepted"]:
        yield f"{counted(found['accepted'], 'row')} accepted by name to be left behind."
        yield ""
    if found["reasons"]:
        rows = [
            [plain(each["reason"]), ", ".join(plain(f"{row['part']} {row['local']}") for row in each["examples"][:10])]
            for each in found["reasons"]
        ]
        counts = [count(each["count"]) for each in found["reasons"]]
        yield from table(
            ("rows", "reason", "for example"), [[n, *row] for n, row in zip(counts, rows, strict=True)], numbers_from=3
        )


def _rejections(model: Mapping[str, Any]) -> Iterator[str]:
    found = model["rejections"]
    if not found["rows"]:
        return
    yield "## Scopes that could not be carried over"
    yield ""
    rows = [(row["scope"], row["error"], row["attempts"], stamp(row["last_seen"])) for row in found["rows"]]
    yield from texts(("scope", "error", "attempts", "last seen"), rows)


def _authority(model: Mapping[str, Any]) -> Iterator[str]:
    route = model["route"]
    yield "## Authority over writes"
    yield ""
    yield f"New accepts the writes of {route['writes_percent']:g} % of the scopes, legacy those of the others."
    yield ""
    if route["unfinished"]:
        yield f"Half done: {plain(route['unfinished'])}. Run crossfade resume."
        yield ""
    rogue = {store: n for store, n in model["rogue_writes"].items() if n}
    if rogue:
        told = ", ".join(f"{store} {counted(n, 'write')}" for store, n in rogue.items())
        yield f"Taken without authority: {told}. crossfade rogue shows them."
        yield ""
    pins = route["pins"]
    if pins["total"]:
        yield f"Whatever the percent says, {counted(pins['total'], 'name')} pinned, {count(len(pins['rows']))} listed:"
        yield ""
        yield from texts(("scope or organization", "store"), [(row["name"], row["store"]) for row in pins["rows"]])
    debt = model["rollback_debt"]
    if debt["total"]:
        owed, listed = counted(debt["total"], "record"), count(len(debt["rows"]))
        yield f"Rollback debt: {owed} that legacy cannot hold, {listed} listed."
        yield ""
        yield from texts(
            ("key", "scope", "reason"), [(row["key"], row["scope"], row["reason"]) for row in debt["rows"]]
        )


def _timeline(model: Mapping[str, Any]) -> Iterator[str]:
    entries = model["timeline"]["entries"]
    yield "## Who did what, and why"
    yield ""
    if not entries:
        yield "Nothing was decided yet."
        yield ""
        return
    rows = [
        (stamp(e["at"]), e["actor"], e["action"], e["reason"], f"{e['detail']} {markdown_ramp.evidence(e['gates'])}")
        for e in entries
    ]
    yield from texts(("at", "who", "what", "why", "detail"), rows)


def _origin(model: Mapping[str, Any]) -> Iterator[str]:
    lag = "; ".join(
        f"{store} {counted(each['notes'], 'dirty note')}, the oldest {duration(each['lag_seconds'])} old"
        for store, each in model["backlog"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in model["versions"].items())
    yield plain(" · ".join(filter(None, (lag, f"settings {model['settings_fingerprint']}", versions))))
    yield ""
    yield f"Checksum of the data that this report was made from (crossfade report --check): {model['checksum']}"


_SECTIONS: tuple[Callable[[Mapping[str, Any]], Iterator[str]], ...] = (
    _head,
    _gates,
    markdown_ramp.risks,
    markdown_ramp.ramp,
    markdown_ramp.way_back,
    _operations,
    _latency,
    _mismatches,
    _baseline,
    _verification,
    _quarantine,
    _rejections,
    _authority,
    _timeline,
    _origin,
)
