"""Commands and functions that feed each other: sort a file with sort(1), count it in Python."""

import sys
from collections import Counter
from pathlib import Path

from runner import Executor

WORDS = "pear apple fig apple pear apple\n"


def count(path):
    """How often each line is there."""
    return Counter(Path(path).read_text().split())


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".").absolute()
    (folder / "words.txt").write_text(WORDS)
    with Executor() as ex:
        patient = ex.options(timeout="5m", retry=2, env={"FOLDER": str(folder)})
        sort = 'set -o pipefail; tr " " "\\n" < "$FOLDER/words.txt" | sort > "$FOLDER/sorted.txt"'
        patient.submit_command(sort, check=True).result()
        counts = patient.submit(count, folder / "sorted.txt").result()
        report = "\n".join(f"{number} {word}" for word, number in counts.most_common())
        printed = ex.submit_command(["printf", "%s\n", report]).result()
        print(printed.stdout, end="")
