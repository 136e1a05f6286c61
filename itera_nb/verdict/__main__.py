"""The isolated verdict process: `python -I -m itera_nb.verdict FOLDER`. It alone opens the test set."""

import sys

from itera_nb.experiment import Experiment, answer_as_json
from itera_nb.verdict.opening import open_and_decide

if __name__ == "__main__":
    folder = sys.argv[1]
    sys.exit(answer_as_json(lambda: open_and_decide(Experiment(folder))))
