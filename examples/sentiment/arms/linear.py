"""The candidates: logistic regression on words or on character n-grams, scikit-learn's defaults otherwise."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

LABEL = "label"
TRAINED_ON = 0.8


class LinearModel:
    """Learns from a resample of the training rows, so that trials differ.

    The fit itself has no randomness: with all training rows three trials would be one trial copied. Each
    trial draws 80 % of the rows with its seed, without replacement, so the trials spread as other training
    samples would make them. It also means that a fit sees 80 % of the rows that a deployed model would see.
    """

    def __init__(self, vectorizer):
        self._model = make_pipeline(vectorizer, LogisticRegression(solver="liblinear"))

    def fit(self, train, seed):
        """Learn from 80 % of `train`, drawn with `seed`."""
        drawn = np.random.default_rng(seed).choice(
            len(train), size=round(TRAINED_ON * len(train)), replace=False
        )
        rows = [train[i] for i in drawn]
        self._model.fit([row["text"] for row in rows], [row[LABEL] for row in rows])
        return self

    def predict(self, rows):
        """One label per row, from `text` alone."""
        return self._model.predict([row["text"] for row in rows]).tolist()


class WordLR(LinearModel):
    """Single words."""

    def __init__(self):
        super().__init__(TfidfVectorizer(sublinear_tf=True))


class CharLR(LinearModel):
    """Two to five characters within a word: robust to spelling, sees emoticons and word stems."""

    def __init__(self):
        super().__init__(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))
