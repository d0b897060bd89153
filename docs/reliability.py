"""Put the counts of `make reliability` into the table of docs/reliability.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- counts -->\n", "<!-- end of counts -->\n"


def table(counts: Path) -> str:
    """Give the counts as a Markdown table, one row for each kind of case, which several tests may have counted."""
    sums: dict[str, tuple[int, int]] = {}
    for row in map(json.loads, counts.read_text().splitlines()):
        tried, survived = sums.get(row["what"], (0, 0))
        sums[row["what"]] = tried + row["tried"], survived + row["survived"]
    lines = ["| cases | tried | survived |", "|---|---|---|"]
    lines += [f"| {what} | {tried} | {survived} |" for what, (tried, survived) in sorted(sums.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replace the table of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + table(Path(sys.argv[1])) + END + after)
    print(table(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
