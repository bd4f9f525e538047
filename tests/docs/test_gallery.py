"""docs/gallery is what `make gallery` writes now: a sample of it, with LOOPGRAD_FULL=1 all."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad import gallery
from tests.effort import FULL, by_name

FOLDER = Path(__file__).parents[2] / "docs" / "gallery"
FAMILY = {name: f.name for f in lg.lib.families.values() for name in f.programs}


def text(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_the_index_lists_every_program() -> None:
    assert text("README") == gallery.index(), "`make gallery` writes it"
    assert set(FAMILY) == set(lg.lib)


@pytest.mark.parametrize("name", by_name(list(lg.lib), 20))
def test_a_program_stands_there_as_it_is(name: str) -> None:
    assert gallery.section(name) in text(FAMILY[name]), "`make gallery` writes it"


@pytest.mark.parametrize("family", sorted(lg.lib.families))
def test_a_page_has_every_program_of_its_family_and_no_other(family: str) -> None:
    page = text(family)
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert headings == list(lg.lib.families[family].programs), "`make gallery` writes it"
    for name in headings:
        assert f"```text\n{lg.lib[name]}\n```" in page, "`make gallery` writes it"
    if FULL:
        assert page == gallery.page(lg.lib.families[family])


def test_every_program_says_what_it_is() -> None:
    for family in lg.lib.families.values():
        assert family.description.endswith((".", ":")), family.name
        for name, description in family.programs.items():
            assert description == lg.lib[name].description
            assert description and not description.endswith(","), name


def test_pages_are_written_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "pages", lambda: iter([("a.md", "μ\n")]))
    gallery.main(str(tmp_path))
    assert (tmp_path / "a.md").read_bytes() == "μ\n".encode()
