"""Documentation that fails when it is stale."""

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from app.core.config import Settings
from app.jobs.states import MediaStatus, chart
from app.media_generator.accounts import ProviderSettings
from app.media_generator.loading import PROVIDERS, SERVICES

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
NO_SETTINGS = {
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"),  # of others
    *("API_PORT", "REDIS_PORT", "S3_PORT"),  # of the compose files
    *("FORWARDED_ALLOW_IPS", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER"),  # of others
    *("JOB_ID", "MEDIA_ID", "DELIVERY_ID", "WEBHOOK_ID", "WEBHOOK_SECRET"),  # to be filled in
    "FILE_ID",  # likewise
    "LIVE_COST_LIMIT",  # of the tests
    "TOO_LATE",  # an outcome
    "C2PA_GIF",  # an extension of GIF files
}
"""Words that look like settings."""
KINDS = {entry.name: entry.load() for group in (PROVIDERS, SERVICES) for entry in entry_points(group=group)}
OF_ACCOUNTS = {field.upper() for kind in ProviderSettings.__subclasses__() for field in kind.model_fields}
"""Settings of accounts without the account's name before them."""

spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "docs" / "reference.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


@pytest.mark.parametrize("path", reference.PAGES)
def test_a_generated_page_says_what_the_code_says(path):
    assert (ROOT / path).read_text() == reference.PAGES[path](), "run: uv run python scripts/docs/reference.py"


def test_every_setting_has_a_sentence():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", ".)")), name


def test_the_state_chart_is_in_the_documentation():
    assert chart() in (ROOT / "docs/architecture/3-states.md").read_text()


def test_every_setting_of_the_committed_env_exists():
    names = re.findall(r"^(\w+)=", (ROOT / ".env").read_text(), re.MULTILINE)

    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


@pytest.mark.parametrize("page", sorted({str(page.relative_to(ROOT)) for page in PAGES} - set(reference.PAGES)))
def test_every_setting_that_is_named_exists(page):
    named = set(re.findall(r"\b([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)\b", (ROOT / page).read_text()))

    of_accounts = {name for name in named if any(name.endswith(f"_{setting}") for setting in OF_ACCOUNTS)}
    known = {name.upper() for name in Settings.model_fields} | of_accounts

    assert named - known - set(MediaStatus) - NO_SETTINGS == set()


@pytest.mark.parametrize("page", sorted((ROOT / "docs/how-to/providers").glob("*.md")), ids=lambda page: page.stem)
def test_a_provider_s_page_names_each_of_its_settings(page):
    kind = KINDS.get(page.stem)
    settings = [one for one in ProviderSettings.__subclasses__() if kind and one.__module__ == kind.__module__]
    named = {f"{page.stem}_{field}".upper() for one in settings for field in one.model_fields}

    assert {name for name in named if name not in page.read_text()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for target in re.findall(r"`((?:app|fleek|tests|bench|scripts|docs|alembic)/[\w./-]+\.\w+)`", page.read_text()):
        assert (ROOT / target).exists(), target


def test_the_provider_of_the_how_to_keeps_every_rule(tmp_path):
    page = (ROOT / "docs/how-to/write-a-provider.md").read_text()
    provider, test = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "stripes.py").write_text(provider)
    (tmp_path / "test_stripes.py").write_text(test)

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert run.returncode == 0, run.stdout
    assert re.search(r"\d\d passed", run.stdout)
