"""Put the counts of `make reliability` into the table of docs/reliability.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- counts -->\n", "<!-- end of counts -->\n"


def table(counts: Path) -> str:
    """Give the counts as a Markdown table, one row for each kind of case."""
    rows = sorted((json.loads(line) for line in counts.read_text().splitlines()), key=lambda row: row["what"])
    lines = ["| cases | tried | survived |", "|---|---|---|"]
    lines += [f"| {row['what']} | {row['tried']} | {row['survived']} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replace the table of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + table(Path(sys.argv[1])) + END + after)
    print(table(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
