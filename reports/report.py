"""The cutover report: one model, rendered as JSON, Markdown and one self-contained HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.errors import ConfigError
from harness.evidence import Evidence
from harness.gates import Gate
from harness.words import count, counted, share
from reports import markdown, plots, ramp_plot, wording
from reports.checksum import KEY, checked
from reports.model import model

__all__ = ["Report", "build", "checked"]

_STEM = "report"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Report:
    """A report. ``model`` is plain JSON; the renderings hold nothing that is not in it."""

    model: dict[str, Any]

    @property
    def checksum(self) -> str:
        return str(self.model[KEY])

    def to_json(self) -> str:
        return json.dumps(self.model, ensure_ascii=False, allow_nan=False, indent=2) + "\n"

    def to_markdown(self) -> str:
        return markdown.render(self.model)

    def to_html(self) -> str:
        """One file that loads nothing from anywhere."""
        # Safe to mark: plots escape every text that they are given.
        marked: dict[str, Any] = {
            "latency": Markup(plots.latency(self.model["latency"])),  # noqa: S704 - see above
            "ramp": Markup(ramp_plot.ramp(self.model["over_time"], self.model["ramp"])),  # noqa: S704 - see above
            "distributions": [
                {"operation": each["operation"], "svg": Markup(each["svg"])}  # noqa: S704 - see above
                for each in plots.distributions(self.model["latency"])
            ],
        }
        return _environment().get_template("report.html").render(self.model, plots=marked)

    def write(self, path: Path) -> tuple[Path, ...]:
        """Write the report, and return the files written.

        A path that ends in .html, .md or .json is one file; any other is a directory, made if need be, for all three.
        Each file is replaced whole. Raises ConfigError when it cannot be written.
        """
        renderings = {".html": self.to_html, ".md": self.to_markdown, ".json": self.to_json}
        chosen = [path] if path.suffix in renderings else [path / f"{_STEM}{suffix}" for suffix in renderings]
        try:
            for file in chosen:
                file.parent.mkdir(parents=True, exist_ok=True)
                # Beside it first, then in its place: whoever has the old one open never sees half of the new one.
                # A name of its own: somebody else may be writing to the same place.
                draft = file.with_name(f".{file.name}.{uuid4().hex[:8]}.draft")
                try:
                    draft.write_text(renderings[file.suffix](), encoding="utf-8", errors="backslashreplace")
                    draft.replace(file)
                finally:
                    draft.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write the report to {path}: {error.strerror}; choose another place") from error
        return tuple(chosen)


def build(evidence: Evidence, gates: Sequence[Gate], *, redact: bool = True) -> Report:
    """The report on the evidence. ``redact`` leaves out every compared text, and says how long it was instead."""
    return Report(model(evidence, gates, redact=redact))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "counted": counted,
        "share": share,
        "stamp": wording.stamp,
        "seconds": wording.seconds,
        "rate": wording.rate,
        "ratio": wording.number,
        "whole": wording.whole,
    }
    return environment
