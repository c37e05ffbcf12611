"""Its mathematics; what every scorer owes is nuwatch's own contract suite (README.md)."""

import numpy as np
from nearest_neighbour import distance
from sklearn.neighbors import NearestNeighbors


def test_the_score_is_the_distance_that_scikit_learn_finds():
    rng = np.random.default_rng(0)
    points, rows = rng.normal(size=(80, 6)).astype("float32"), rng.normal(size=(20, 6)).astype("float32")
    known = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(rows)[0]
    wanted = np.sqrt((known**2).mean(axis=1) / 6)
    np.testing.assert_allclose(distance(points, rows, 5), wanted, rtol=1e-4)
