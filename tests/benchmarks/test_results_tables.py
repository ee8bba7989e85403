"""The generated tables of the documentation equal the CSVs; ``python benchmarks/results_tables.py`` writes them again."""

from results_tables import PAGES, make_tables


def test_files_equal_the_tables_of_the_csvs() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert files == make_tables()
