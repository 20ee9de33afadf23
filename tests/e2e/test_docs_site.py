"""The site that `make docs` builds, as a reader without a network opens it: from files, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.chromium import EXECUTABLE, chromium

SITE = Path(__file__).parents[2] / "site" / "index.html"

pytestmark = [
    pytest.mark.skipif(not EXECUTABLE.exists(), reason=f"{EXECUTABLE} is missing: install Debian's package chromium"),
    pytest.mark.skipif(not SITE.exists(), reason=f"{SITE.parent} is missing: run `make docs`"),
]
DIALOG = "[...document.querySelectorAll('*')].find((one) => one.shadowRoot).shadowRoot"  # the search keeps to itself
LOADED = "[...document.querySelectorAll('script[src], link[rel=stylesheet], img')].map((one) => one.src || one.href)"


async def test_the_site_is_searched_and_read_from_files(tmp_path: Path) -> None:
    """Nothing is loaded from elsewhere, and the search finds a page, though browsers start no worker from a file."""
    async with chromium(tmp_path) as page:
        await page.look(width=1400, height=900, dark=False)
        await page.open(SITE.as_uri())
        loaded = await page.evaluate(LOADED)
        assert loaded
        assert [url for url in loaded if not url.startswith("file:")] == []
        await page.click(".md-search__button")
        await page.until(f"{DIALOG}.activeElement?.tagName === 'INPUT'")
        await page.call("Input.insertText", text="dead-man")
        await page.until(f"{DIALOG}.querySelector('a[href*=\"venue.html\"]')")
        assert page.errors == []
