"""One contract, both stores: every test here runs against Dispatch's tables and against Prompt Manager's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from fix_stores import Repositories

from adapters.prompts.canonical import Reading
from adapters.prompts.contract import PromptRepository
from adapters.prompts.dispatch_rows import scope_name
from adapters.prompts.prompt import Prompt, PromptFilter, PromptType
from harness.errors import Conflict, InvalidRecord, NotFound
from harness.operations import operations_of

NOON = datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["legacy", "new"])
def repository(request: pytest.FixtureRequest, repositories: Repositories) -> PromptRepository:
    found: PromptRepository = getattr(repositories, request.param)
    return found


def make(project: int = 1, number: int = 2, *, organization: str = "acme", **changes: object) -> Prompt:
    prompt = Prompt(
        id=uuid4(),
        name="Summarise the outage",
        content="Say in three sentences what broke, who noticed, and what helped.",
        type=PromptType.SUMMARIZATION,
        project_id=scope_name(organization, project, number, Reading()),
        organization_id=organization,
        created_at=NOON,
        updated_at=NOON + timedelta(microseconds=6),
    )
    return replace(prompt, **changes)  # type: ignore[arg-type]


def test_every_method_is_declared() -> None:
    """The contract's seven methods are all marked, four as reads and three as writes."""
    kinds = {name: operation.kind for name, operation in operations_of(PromptRepository).items()}
    assert kinds == {
        "find_by_id": "read",
        "find_by_name": "read",
        "find_all": "read",
        "find_enabled_by_project": "read",
        "save": "write",
        "update": "write",
        "delete": "write",
    }


def test_saved_prompt_is_found_equal(repository: PromptRepository) -> None:
    """A saved prompt comes back equal in every field, by id, by name and by scope."""
    prompt = make(enabled=True, description="for managers", system_message="Be brief.", version=7, name="My own name")
    assert repository.save(prompt) == prompt
    assert repository.find_by_id(prompt.id) == prompt
    assert repository.find_by_name("My own name", prompt.project_id) == prompt
    assert prompt.project_id is not None
    assert repository.find_enabled_by_project(prompt.project_id) == prompt


@pytest.mark.parametrize(
    "content", ["x", "ünïcödé 漢字 🚒", " kept \t\n ", "\u00a0\u2028", "‘quoted’ \\ % :name", "e\u0301"]
)
def test_text_is_kept_character_for_character(repository: PromptRepository, content: str) -> None:
    """No store trims, folds or escapes a text."""
    prompt = make(content=content, system_message=content)
    repository.save(prompt)
    assert repository.find_by_id(prompt.id) == prompt


def test_absent_and_empty_system_message_differ(repository: PromptRepository) -> None:
    """An absent system message and an empty one are not the same."""
    absent, empty = make(project=1, system_message=None), make(project=2, system_message="")
    repository.save(absent)
    repository.save(empty)
    assert repository.find_by_id(absent.id) == absent
    assert repository.find_by_id(empty.id) == empty


def test_what_is_not_there_is_none(repository: PromptRepository) -> None:
    """Reads of what is not there answer None or an empty page, also for scopes that no store knows."""
    assert repository.find_by_id(uuid4()) is None
    assert repository.find_by_name("nothing", "acme/project-1/incident-summary") is None
    assert repository.find_by_name("nothing") is None
    assert repository.find_enabled_by_project("acme/project-1/incident-summary") is None
    assert repository.find_enabled_by_project("nobody's scope'; --") is None
    page = repository.find_all(PromptFilter(project_id="project-123"))
    assert (page.items, page.total, page.total_pages) == ((), 0, 0)


def test_enabled_is_told_from_disabled(repository: PromptRepository) -> None:
    """Of an enabled and a disabled prompt of one scope, the enabled one is found."""
    enabled, disabled = make(enabled=True), make(enabled=False)
    repository.save(disabled)
    repository.save(enabled)
    assert enabled.project_id is not None
    found = repository.find_enabled_by_project(enabled.project_id)
    assert found == enabled


def test_second_enabled_prompt_is_a_conflict(repository: PromptRepository) -> None:
    """A scope has one enabled prompt; a second one is refused, by save and by update, and nothing of it stays."""
    first, second = make(enabled=True), make(enabled=True)
    repository.save(first)
    with pytest.raises(Conflict):
        repository.save(second)
    assert repository.find_by_id(second.id) is None
    disabled = repository.save(replace(second, enabled=False))
    with pytest.raises(Conflict):
        repository.update(replace(disabled, enabled=True, content="changed"))
    assert repository.find_by_id(second.id) == disabled


def test_enabled_prompts_of_other_types_and_projects_are_no_conflict(repository: PromptRepository) -> None:
    """Each type of each project of each organization has an enabled prompt of its own."""
    prompts = [
        make(p, n, organization=o, enabled=True) for o in ("acme", "umbra") for p in (1, 2) for n in (1, 2, 5, 99)
    ]
    for prompt in prompts:
        repository.save(prompt)
    assert repository.find_all(PromptFilter(limit=100, enabled=True)).total == len(prompts)


def test_same_id_twice_is_a_conflict(repository: PromptRepository) -> None:
    """An id that exists cannot be saved again, in another scope either."""
    prompt = make(project=1)
    repository.save(prompt)
    with pytest.raises(Conflict):
        repository.save(replace(make(project=2), id=prompt.id))
    assert repository.find_by_id(prompt.id) == prompt


def test_update_replaces_all_but_id_and_creation(repository: PromptRepository) -> None:
    """Update writes every field but id and created_at, and stamps updated_at itself."""
    prompt = repository.save(make(1, 2))
    changed = replace(
        prompt,
        name="Renamed",
        description="new",
        content="new content",
        system_message="new",
        type=PromptType.TRANSLATION,
        project_id=scope_name("acme", 3, 4, Reading()),
        enabled=True,
        version=2,
        created_at=NOON + timedelta(days=9),
    )
    stored = repository.update(changed)
    assert stored.updated_at > prompt.updated_at
    assert stored == replace(changed, created_at=prompt.created_at, updated_at=stored.updated_at)
    assert repository.find_by_id(prompt.id) == stored
    assert repository.find_by_name("Renamed", prompt.project_id) is None


def test_update_to_the_same_values_stamps(repository: PromptRepository) -> None:
    """An update that changes nothing is still an update: updated_at moves, created_at does not."""
    prompt = repository.save(make())
    stored = repository.update(prompt)
    assert stored == replace(prompt, updated_at=stored.updated_at)
    assert stored.updated_at > prompt.updated_at


def test_update_back_to_plain_values(repository: PromptRepository) -> None:
    """Fields that were given values of their own can be given their usual or no value again."""
    prompt = repository.save(make(name="Own name", description="own", version=9, type=PromptType.CUSTOM))
    plain = replace(prompt, name="Incident Summary", description=None, version=1, type=PromptType.SUMMARIZATION)
    stored = repository.update(plain)
    assert stored == replace(plain, updated_at=stored.updated_at)


def test_missing_prompt_cannot_be_updated_or_deleted(repository: PromptRepository) -> None:
    """Update and delete of what is not there say so, naming the id."""
    prompt = make()
    with pytest.raises(NotFound, match=str(prompt.id)):
        repository.update(prompt)
    with pytest.raises(NotFound, match=str(prompt.id)):
        repository.delete(prompt.id)


def test_deleted_prompt_is_gone_and_its_place_free(repository: PromptRepository) -> None:
    """After a delete the id is unknown, and its scope takes another enabled prompt, under the same id too."""
    prompt = repository.save(make(enabled=True))
    repository.delete(prompt.id)
    assert repository.find_by_id(prompt.id) is None
    again = replace(make(enabled=True), id=prompt.id)
    assert repository.save(again) == again


def test_nul_is_refused_whole(repository: PromptRepository) -> None:
    """A text with NUL is refused, and nothing is written."""
    prompt = make(content="a\0b")
    with pytest.raises(InvalidRecord):
        repository.save(prompt)
    assert repository.find_all(PromptFilter()).total == 0


def test_paging_has_a_total_order(repository: PromptRepository) -> None:
    """Pages are newest first, ties by id, without a gap or a repetition; beyond the last one is an empty page."""
    stamps = [NOON + timedelta(seconds=n // 4) for n in range(22)]
    places = [(o, p, n) for o in ("acme", "umbra") for p in (1, 2, 3) for n in (1, 2, 3, 4)][:22]
    for stamp, (organization, project, number) in zip(stamps, places, strict=True):
        repository.save(make(project, number, organization=organization, created_at=stamp))
    pages = [repository.find_all(PromptFilter(page=n, limit=5)) for n in range(1, 7)]
    assert [len(page.items) for page in pages] == [5, 5, 5, 5, 2, 0]
    assert {page.total for page in pages} == {22}
    assert pages[0].total_pages == 5
    items = [prompt for page in pages for prompt in page.items]
    assert len({prompt.id for prompt in items}) == 22
    assert all((-a.created_at.timestamp(), a.id) < (-b.created_at.timestamp(), b.id) for a, b in pairwise(items))


def test_filters_narrow(repository: PromptRepository) -> None:
    """Each filter narrows the items and the total, alone and together."""
    a = repository.save(make(1, 2, enabled=True))
    b = repository.save(make(1, 5, enabled=False, type=PromptType.TEXT_GENERATION))
    c = repository.save(make(1, 2, organization="umbra", enabled=True))

    def ids(**filters: object) -> set[UUID]:
        page = repository.find_all(PromptFilter(**filters))  # type: ignore[arg-type]
        assert page.total == len(page.items)
        return {prompt.id for prompt in page.items}

    assert ids() == {a.id, b.id, c.id}
    assert ids(organization_id="acme") == {a.id, b.id}
    assert ids(project_id=a.project_id) == {a.id}
    assert ids(enabled=True) == {a.id, c.id}
    assert ids(enabled=False) == {b.id}
    assert ids(type=PromptType.TEXT_GENERATION) == {b.id}
    assert ids(organization_id="umbra", enabled=True, type=PromptType.SUMMARIZATION) == {c.id}
    assert ids(organization_id="umbra", enabled=False) == set()


def test_newest_of_a_name_is_found(repository: PromptRepository) -> None:
    """Of two prompts of one name in a scope, the newer one is found."""
    repository.save(make(name="twin", enabled=True))
    newer = repository.save(make(name="twin", enabled=False, created_at=NOON + timedelta(hours=1)))
    assert repository.find_by_name("twin", newer.project_id) == newer
    assert repository.find_by_name("twin") is None
