"""What assess says of the real Dispatch's own rows."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from fix_postgres import Databases, Server
from sqlalchemy import Engine, text

from adapters.prompts.assessment.assess import DECIDE, NOTE, Assessment, assess
from adapters.prompts.assessment.findings import Code
from adapters.prompts.canonical import Reading
from adapters.prompts.discover import tenants
from adapters.prompts.workload import discover_keys
from harness.settings import Settings

pytestmark = pytest.mark.real

DEFAULT = "dispatch_organization_default.prompt"


@pytest.fixture
def dispatch(server: Server, databases: Databases, legacy_engine: Engine, recordings: Path, data: str) -> Engine:
    """Legacy, with the recorded schema and the data of the test's parameter."""
    psql = str(server.embedded.bin_path / "psql") if server.embedded else shutil.which("psql")
    assert psql, "psql is not on PATH"
    for file in ("schema.sql", data):
        command = [psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(recordings / file), databases.legacy_url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return legacy_engine


def counts(found: Assessment, severity: str) -> dict[str, int]:
    return {finding.code: finding.count for finding in found.findings if finding.severity == severity}


@pytest.mark.parametrize("data", ["base.sql"])
def test_ordinary_data_fits_whole(dispatch: Engine, new_engine: Engine) -> None:
    """Two sound tenants of 162 prompts, none of which would be quarantined."""
    assert [(tenant.slug, tenant.problems) for tenant in tenants(dispatch)] == [("acme_security", ()), ("default", ())]
    found = assess(dispatch, new_engine, Settings())
    assert sum(tenant.rows for tenant in found.tenants) == 162
    assert all(tenant.reasons == tenant.odd == {} for tenant in found.tenants)
    assert counts(found, DECIDE) == {}
    assert counts(found, NOTE).keys() == {
        Code.SYSTEM_MESSAGE,
        Code.SEVERAL_ENABLED,
        Code.IDS_REPEAT,
        Code.NO_PROMPTS_TABLE,
    }
    assert len(discover_keys(dispatch, Reading(), Random(1))) == 162


@pytest.mark.parametrize("data", ["quirks.sql"])
def test_every_quirk_is_found(dispatch: Engine, new_engine: Engine) -> None:
    """Each row that Dispatch really let in and that does not fit, with its reason, and what else is odd."""
    found = assess(dispatch, new_engine, Settings())
    assert counts(found, DECIDE) == {"no_project": 2, "empty_content": 1, "content_too_long": 1}
    assert counts(found, NOTE)[Code.BOTH_STAMPS_NULL] == 2
    with dispatch.connect() as connection:
        types = connection.execute(text(f"SELECT genai_type FROM {DEFAULT} WHERE genai_type NOT IN (1, 2, 3, 4, 5)"))
        [tenant] = [tenant for tenant in found.tenants if tenant.tenant == "default"]
        assert tenant.unknown_types == Counter(types.scalars())
        assert tenant.unknown_types.keys() >= {0, -5, 99}
    assert tenant.longest_content > 99_000
    assert sum(tenant.rows for tenant in found.tenants) == 39
    assert not found.blocked
