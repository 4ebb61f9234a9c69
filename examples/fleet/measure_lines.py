"""A task of a fleet: where the lines of text are in the page images of a volume.

    runner-fleet jobs create --name lines --command "python3 $PWD/measure_lines.py"

The pages are drawn here (grey values, a byte a pixel), as a stand-in for the images of an archive.
Reads the job's configuration: pages (how many), threshold (darker than this is ink).
"""

from __future__ import annotations

import json
import os
import random

WIDTH, HEIGHT = 200, 300
WHITE, INK = 255, 40


def draw_page(dice: random.Random) -> tuple[bytes, list[int]]:
    """A page, and the rows at which its lines begin."""
    rows = [bytes([WHITE]) * WIDTH] * HEIGHT
    starts = list(range(20, HEIGHT - 30, dice.randint(15, 25)))
    for start in starts:
        for row in range(start, start + 6):
            line = bytearray([WHITE]) * WIDTH
            for column in range(20, WIDTH - 20):
                if dice.random() < 0.5:
                    line[column] = INK
            rows[row] = bytes(line)
    return b"".join(rows), starts


def find_lines(page: bytes, threshold: int) -> list[int]:
    """The rows at which lines begin: much ink where the row above has little."""
    inked = [
        sum(value < threshold for value in page[row * WIDTH : (row + 1) * WIDTH]) > WIDTH // 10
        for row in range(HEIGHT)
    ]
    return [row for row in range(1, HEIGHT) if inked[row] and not inked[row - 1]]


def main() -> None:
    with open(os.environ["RUNNER_TASK_CONFIG"]) as file:
        config = json.load(file)
    volume = f"{os.environ['W_ID']}/{os.environ['I_ID']}"
    dice = random.Random(volume)
    found, errors = [], 0
    for _ in range(config.get("pages", 5)):
        page, drawn = draw_page(dice)
        lines = find_lines(page, config.get("threshold", 128))
        errors += lines != drawn
        found.append(lines)
    with open("lines.json", "w") as file:
        json.dump({"volume": volume, "pages": found}, file)
    with open(os.environ["RUNNER_TASK_METRICS"], "w") as file:
        json.dump({"total_images": len(found), "nb_errors": errors}, file)
    print(f"{volume}: {sum(map(len, found))} lines on {len(found)} pages")


main()
