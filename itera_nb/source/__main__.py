"""The isolated process of phase 1: `python -I -m itera_nb.source FOLDER preview|sample|seal|extend`.

Rows that may become test rows live here and nowhere else before the verdict.
"""

import sys

from itera_nb.experiment import Experiment, answer_as_json
from itera_nb.source.phase import work

if __name__ == "__main__":
    folder, command, *file = sys.argv[1:]
    sys.exit(answer_as_json(lambda: work(Experiment(folder), command, *file)))
