"""How every demo begins: a database, assessed, prepared, copied while it is written to, and verified."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import delete, func, or_, update

from adapters.prompts import invented
from adapters.prompts.assessment.assess import assess
from adapters.prompts.canonical import CONTENT_LIMIT
from adapters.prompts.migration import Stores
from harness.catchup import drain
from harness.cli.app import App, facts
from harness.cli.assess import show as show_assessment
from harness.cli.backfill import backfill_stores
from harness.cli.demo.background import catching_up, dispatch_writing
from harness.cli.demo.story import Story
from harness.cli.prepare import prepare_stores
from harness.cli.verify import sentence, verify_stores
from harness.errors import CrossfadeError


@dataclass(frozen=True, slots=True)
class Scene:
    """What all chapters share. ``rate``: calls a second of the parallel runs."""

    app: App
    stores: Stores
    story: Story
    seed: int
    rate: float

    def verify(self) -> None:
        self.story.tell(sentence(verify_stores(self.app, self.stores)))

    def drain(self) -> int:
        """Carry over all that is noted; how many notes are left."""
        _, left = drain(self.stores.carrier, stop=self.app.stop, clock=time.monotonic, timeout=60, pause=0.05)
        return left

    def failed(self, what: str) -> CrossfadeError:
        return CrossfadeError(f"{what}; the demo was interrupted" if self.app.stop.is_set() else f"{what}; it failed")


def build(scene: Scene) -> None:
    story, stores = scene.story, scene.stores
    story.chapter("A Dispatch database, invented")
    made = invented.create(stores.legacy, scene.seed, organizations=3, projects=8)
    story.tell(
        f"{made.rows} prompts in {made.projects} projects of {len(made.organizations)} organizations, "
        f"{sum(made.odd.values())} of them odd: what Dispatch lets in and nobody expects"
    )
    story.chapter("Assess: what will not fit")
    show_assessment(scene.app.log, assess(stores.legacy, stores.new, stores.settings))
    story.chapter("Prepare: schemas, ledger, capture")
    story.tell(str(prepare_stores(scene.app, stores, id_index=True, reason="the demo")["phase"]))


def copy(scene: Scene, rows_per_second: float) -> None:
    story, stores = scene.story, scene.stores
    story.chapter("Backfill, while Dispatch goes on writing")
    with catching_up(stores), dispatch_writing(stores, scene.seed):
        done = backfill_stores(scene.app, stores, chunk_rows=50, rows_per_second=rows_per_second)
        scene.app.log.print(facts({key: done[key] for key in ("copied", "quarantined", "deferred", "seconds")}))
        story.tell("What changed meanwhile is in the dirty queue; a catch-up worker carries it over")
        story.chapter("Verify: every row of both stores, while both are written to")
        scene.verify()


def tidy_up(scene: Scene) -> None:
    story, stores = scene.story, scene.stores
    story.chapter("Quarantine: mended where it lives, in Dispatch")
    before = len(stores.routes.view().held_keys)
    _tidy(stores)
    left = scene.drain()
    after = len(stores.routes.view().held_keys)
    story.tell(f"{before} rows were in quarantine; {after} are, with {left} notes left to carry over")


def _tidy(stores: Stores) -> None:
    """What the owners of the odd rows would do in Dispatch: shorten the long, delete the empty and the lost."""
    with stores.legacy.begin() as connection:
        for part in stores.mapping.parts:
            row = part.table.c
            connection.execute(delete(part.table).where(or_(row.project_id.is_(None), row.genai_prompt == "")))
            too_long = func.char_length(row.genai_prompt) > CONTENT_LIMIT
            shorter = func.left(row.genai_prompt, CONTENT_LIMIT)
            connection.execute(update(part.table).where(too_long).values(genai_prompt=shorter))
