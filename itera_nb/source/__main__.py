"""The isolated process of phase 1: `python -I -m itera_nb.source FOLDER COMMAND` (`phase.work`).

Rows that may become test rows live here and nowhere else before the verdict.
"""

import sys

from itera_nb.experiment import Experiment
from itera_nb.isolated import answer_as_json
from itera_nb.source.phase import work

if __name__ == "__main__":
    folder, command, *arguments = sys.argv[1:]
    sys.exit(answer_as_json(lambda: work(Experiment(folder), command, *arguments)))
