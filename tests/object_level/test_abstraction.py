import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl3jax.object_level import QLearning, abstraction, q_learning, value_iteration

GRID = [(row, column) for row in range(3) for column in range(4)]
S, A = len(GRID), 3


def on_a_line(*places, radius=1.5, size=2):
    """Nothing but clusters of states on a line."""
    return abstraction(q_learning(len(places), 1), [[x] for x in places], radius, size)


def clusters_of(learner, *path, terminal=()):
    """Clusters after a walk along `path`; episodes end in the states `terminal`."""
    table = learner.init()
    for s, s_next in itertools.pairwise(path):
        table = learner.update(table, s, 0, 0.0, s_next, s_next in terminal)
    return table.cluster.tolist()


def scan(learner, transitions):
    """The table after each transition."""

    def step(table, transition):
        table = learner.update(table, *transition)
        return table, table

    dtypes = (jnp.int32, jnp.int32, float, jnp.int32, bool)
    columns = tuple(jnp.asarray(c, d) for c, d in zip(transitions, dtypes, strict=True))
    return jax.jit(lambda columns: jax.lax.scan(step, learner.init(), columns)[1])(columns)


# --- by hand ------------------------------------------------------------------------------------


def test_before_any_data_no_state_has_a_cluster():
    assert on_a_line(0, 1).init().cluster.tolist() == [-1, -1]


def test_a_state_joins_a_near_one_and_opens_a_cluster_far_from_all():
    assert clusters_of(on_a_line(0, 1, 5, 6), 0, 1) == [0, 0, -1, -1]
    assert clusters_of(on_a_line(0, 1, 5, 6), 2, 0, 1, 3) == [1, 1, 0, 0]


def test_a_state_joins_the_nearest():
    # Clusters of states 0 and 2 are open to state 1, which lies nearer to the one met later.
    assert clusters_of(on_a_line(0, 1.25, 2.25), 0, 2, 1) == [0, 1, 1]
    # Nearest of all to state 0 would be state 1, which was not met.
    assert clusters_of(on_a_line(0, 1, 2, -3, radius=4), 3, 2, 0) == [1, -1, 1, 0]


def test_near_is_strictly_within_the_radius():
    assert clusters_of(on_a_line(0, 1, radius=1), 0, 1) == [0, 1]
    assert clusters_of(on_a_line(0, 1, radius=1.001), 0, 1) == [0, 0]


def test_a_state_at_the_same_place_is_near():
    assert clusters_of(on_a_line(3, 3, radius=0.1), 1, 0) == [0, 0]


def test_distance_is_euclidean():
    diagonal = abstraction(q_learning(2, 1), [[0, 0], [3, 4]], radius=5.01, size=2)
    assert clusters_of(diagonal, 0, 1) == [0, 0]
    assert clusters_of(dataclasses.replace(diagonal, radius=4.99), 0, 1) == [0, 1]


def test_a_full_cluster_is_passed_over_for_the_next_nearest():
    # State 2 is nearest to states 1 and 0, whose cluster is full, then to 3, then to nobody.
    assert clusters_of(on_a_line(0, 0.5, 1, 2), 0, 1, 3, 2) == [0, 0, 1, 1]
    assert clusters_of(on_a_line(0, 0.5, 1, 3), 0, 1, 3, 2) == [0, 0, 2, 1]
    assert clusters_of(on_a_line(0, 0.5, 1, 2, size=3), 0, 1, 3, 2) == [0, 0, 0, 1]


def test_ties_go_to_the_state_met_first():
    assert clusters_of(on_a_line(0, 1, 2), 0, 2, 1) == [0, 0, 1]
    assert clusters_of(on_a_line(0, 1, 2), 2, 0, 1) == [1, 0, 0]
    # Not to the cluster opened first: state 1 was met after state 3, and in an older cluster.
    assert clusters_of(on_a_line(0, 1, 2, 3, size=3), 0, 3, 1, 2) == [0, 0, 1, 1]


def test_a_terminal_state_opens_a_closed_cluster():
    line = on_a_line(0, 1, 2, size=9)
    assert clusters_of(line, 0, 1, terminal={1}) == [0, 1, -1]  # it does not join
    assert clusters_of(line, 0, 1, 2, terminal={1}) == [0, 1, 2]  # nothing joins it
    assert clusters_of(line, 0, 1, 0, 1, terminal={1}) == [0, 1, -1]


def test_a_state_keeps_its_cluster():
    line = on_a_line(0, 1, 2, 3, size=3)
    assert clusters_of(line, 1, 3, 2, 0, 1, 2, 3) == clusters_of(line, 1, 3, 2, 0)


def test_staying_in_a_state_meets_it_once():
    assert clusters_of(on_a_line(0, 1), 0, 0, 1) == [0, 0]


def test_estimates_are_shared_and_visits_are_not():
    learner = abstraction(q_learning(3, 2, initial_value=7), [[0], [1], [9]], radius=1.5, size=2)
    table = learner.update(learner.init(), 0, 1, 4.0, 1, False)
    table = learner.update(table, 1, 0, 2.0, 1, True)
    first, second, unmet = (learner.estimates(table, s) for s in range(3))
    np.testing.assert_array_equal(first.q, second.q)
    np.testing.assert_array_equal(first.visits, [0, 1])
    np.testing.assert_array_equal(second.visits, [1, 0])
    np.testing.assert_array_equal(unmet.q, [7, 7])
    np.testing.assert_array_equal(learner.q_table(table), [first.q, first.q, unmet.q])


def test_q_learning_counts_the_visits_of_a_cluster():
    learner = abstraction(q_learning(2, 1, discount=0), [[0], [1]], radius=1.5, size=2)
    table = learner.init()
    for s, r in ((0, 1.0), (1, 2.0), (0, 6.0)):
        table = learner.update(table, s, 0, r, 1 - s, False)
    np.testing.assert_allclose(learner.q_table(table), [[3.0], [3.0]], rtol=1e-6)
    np.testing.assert_array_equal(table.visits, [[2], [1]])


class Telltale(QLearning):
    """Shows every kind of estimate, and overflows with the second transition."""

    def estimates(self, table, s):
        estimates = super().estimates(table, s)
        return estimates.replace(q_stderr=estimates.q + 1, v_stderr=s, q_optimistic=estimates.q + 2)

    def overflowed(self, table):
        return table.visits.sum() >= 2


def test_all_other_estimates_are_the_learners_too():
    inner = Telltale(2, 1, discount=0, step_size=None, initial_value=0.0)
    learner = abstraction(inner, [[0], [5]], radius=1, size=2)
    table = learner.update(learner.init(), 1, 0, 4.0, 0, False)
    estimates = learner.estimates(table, 1)
    np.testing.assert_array_equal(estimates.q, [4])
    np.testing.assert_array_equal(estimates.q_stderr, [5])
    np.testing.assert_array_equal(estimates.v_stderr, 0)  # state 1 is cluster 0
    np.testing.assert_array_equal(estimates.q_optimistic, [6])
    assert not learner.overflowed(table)
    assert learner.overflowed(learner.update(table, 1, 0, 4.0, 0, False))


def test_a_table_is_as_small_as_it_says():
    table = abstraction(q_learning(169, 5), np.zeros((169, 2)), 1.2, 2).init()
    own = dataclasses.replace(table, learner=())
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(own))
    assert size == 4 * (3 * 169 + 169 * 5 + 2) < 6000


# --- the golden case ----------------------------------------------------------------------------


def test_golden_clusters(golden):
    case, transitions = golden("gridworld")
    expected = case["clusters"]
    coordinates = [divmod(s, 13) for s in range(169)]
    learner = abstraction(q_learning(169, 5), coordinates, expected["radius"], expected["size"])
    tables = jax.device_get(scan(learner, transitions))
    assigned = dict(expected["state_and_cluster_in_order_met"])
    met = set()
    for t, (s, s_next) in enumerate(zip(transitions.s, transitions.s_next, strict=True)):
        met |= {s, s_next}
        clusters = [assigned[state] if state in met else -1 for state in range(169)]
        np.testing.assert_array_equal(tables.cluster[t], clusters)
    assert met == set(assigned)
    orders = tables.order[-1][list(assigned)]
    np.testing.assert_array_equal(orders, np.arange(len(assigned)))


# --- the definition, once more and plainly --------------------------------------------------------


class PlainClusters:
    def __init__(self, coordinates, radius, size):
        self.coordinates, self.radius, self.size = coordinates, radius, size
        self.cluster = {}  # of each state, in the order met
        self.members = []  # of each cluster
        self.closed = set()

    def distance(self, s, t):
        pairs = zip(self.coordinates[s], self.coordinates[t], strict=True)
        return sum((x - y) ** 2 for x, y in pairs) ** 0.5

    def is_open(self, cluster):
        return len(self.members[cluster]) < self.size and cluster not in self.closed

    def meet(self, s, terminal):
        if s in self.cluster:
            return
        near = [] if terminal else [t for t in self.cluster if self.distance(s, t) < self.radius]
        near = [t for t in near if self.is_open(self.cluster[t])]
        if near:  # min returns the first of equals
            cluster = self.cluster[min(near, key=lambda t: self.distance(s, t))]
        else:
            cluster = len(self.members)
            self.members.append([])
        self.members[cluster].append(s)
        self.cluster[s] = cluster
        if terminal:
            self.closed.add(cluster)


NUM, LENGTH = 8, 12
place = st.tuples(st.integers(0, 4), st.integers(0, 4))
state = st.integers(0, NUM - 1)
step = st.tuples(state, state, st.booleans())


@settings(max_examples=20)  # each is compiled, and therefore several tasks at once
@given(
    coordinates=st.lists(place, min_size=NUM, max_size=NUM),
    radius=st.sampled_from([0.5, 1, 1.2, 2, 2.5, 10]),
    size=st.sampled_from([1, 2, 3, NUM, 2**31 - 1]),
    tasks=st.lists(st.lists(step, min_size=LENGTH, max_size=LENGTH), min_size=4, max_size=4),
)
def test_clusters_are_those_of_the_plain_definition(coordinates, radius, size, tasks):
    learner = abstraction(q_learning(NUM, 1), coordinates, radius, size)
    s, s_next, terminated = np.moveaxis(np.array(tasks), -1, 0)
    zeros = np.zeros_like(s)
    columns = (s, zeros, zeros, s_next, terminated)
    tables = jax.device_get(jax.vmap(lambda *columns: scan(learner, columns))(*columns))
    for i, steps in enumerate(tasks):
        plain = PlainClusters(coordinates, radius, size)
        for t, (s_t, s_next_t, terminated_t) in enumerate(steps):
            plain.meet(s_t, terminal=False)
            plain.meet(s_next_t, terminal=terminated_t)
            clusters = [plain.cluster.get(state, -1) for state in range(NUM)]
            np.testing.assert_array_equal(tables.cluster[i, t], clusters)
            assert tables.num_clusters[i, t] == len(plain.members)
        met = tables.cluster[i, -1][tables.cluster[i, -1] >= 0]
        assert np.bincount(met).max() <= size
        np.testing.assert_array_equal(tables.visits[i, -1, :, 0], np.bincount(s[i], minlength=NUM))


# --- what the learner on clusters sees ------------------------------------------------------------

LEARNERS = {
    "q_learning": lambda: q_learning(S, A, initial_value=2.0),
    "all": lambda: value_iteration(S, A),
    "visited": lambda: value_iteration(S, A, known="visited"),
    "warm": lambda: value_iteration(S, A, known="visited", warm_start=True, tolerance=0.1),
}


@pytest.fixture(params=list(LEARNERS.values()), ids=list(LEARNERS))
def inner(request):
    return request.param()


def assert_trees_close(left, right):
    chex.assert_trees_all_equal_shapes_and_dtypes(left, right)
    chex.assert_trees_all_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [6, 60])
def test_the_learner_sees_the_transitions_between_clusters(
    inner, length, replay, random_transitions
):
    transitions = random_transitions(S, A, length)
    learner = abstraction(inner, GRID, radius=1.2, size=2)
    table, q = replay(learner, transitions)
    cluster = np.asarray(table.cluster)
    assert cluster.max() < (cluster >= 0).sum() - 2  # several have two states
    mapped = transitions._replace(s=cluster[transitions.s], s_next=cluster[transitions.s_next])
    expected, expected_q = replay(inner, mapped)
    assert_trees_close(table.learner, expected)
    met = np.flatnonzero(cluster >= 0)
    assert_trees_close(q[-1][met], expected_q[-1][cluster[met]])
    for s in met:
        estimates = learner.estimates(table, s)
        np.testing.assert_array_equal(estimates.q, q[-1][s])
        taken = transitions.a[transitions.s == s]
        np.testing.assert_array_equal(estimates.visits, np.bincount(taken, minlength=A))


def test_a_state_not_met_shows_a_cluster_without_data(inner, replay, random_transitions):
    transitions = random_transitions(S, A, 3)
    learner = abstraction(inner, GRID, radius=1.2, size=2)
    table, q = replay(learner, transitions)
    assert (table.cluster < 0).any()
    unused = inner.q_table(table.learner)[-1]
    for s in np.flatnonzero(table.cluster < 0):
        np.testing.assert_array_equal(q[-1][s], unused)
        np.testing.assert_array_equal(learner.estimates(table, s).visits, np.zeros(A))


@pytest.mark.parametrize("clusters", [{"radius": 5, "size": 1}, {"radius": 1e-3, "size": 5}])
def test_clusters_of_one_state_change_nothing(inner, clusters, replay, random_transitions):
    transitions = random_transitions(S, A, 15)
    learner = abstraction(inner, GRID, **clusters)
    table, q = replay(learner, transitions)
    expected_table, expected_q = replay(inner, transitions)
    assert_trees_close(q, expected_q)
    for s in range(S):
        assert_trees_close(learner.estimates(table, s), inner.estimates(expected_table, s))


def test_the_learner_may_have_states_to_spare(replay, random_transitions):
    transitions = random_transitions(S, A, 30)
    exact, spare = (
        replay(abstraction(q_learning(size, A), GRID, 1.2, 2), transitions)[1]
        for size in (S, S + 5)
    )
    np.testing.assert_array_equal(exact, spare)


# --- making one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [np.array, jnp.array, lambda rows: np.array(rows, np.int8)])
def test_coordinates_may_be_anything_like_an_array(convert):
    learner, twin = (abstraction(q_learning(S, A), rows, 1.2, 2) for rows in (GRID, convert(GRID)))
    assert learner == twin
    assert hash(learner) == hash(twin)
    assert learner.coordinates[5] == (1.0, 1.0)
    assert (learner.num_states, learner.num_actions) == (S, A)


GOOD = {"learner": q_learning(2, 3), "coordinates": [[0], [1]], "radius": 1.0, "size": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learner": q_learning(1, 3)}, "learner must have num_states of at least 2, .* not 1"),
        ({"coordinates": [0, 1]}, "coordinates must be a row of finite numbers for each state"),
        ({"coordinates": []}, "coordinates must be a row of"),
        ({"coordinates": [[], []]}, "coordinates must be a row of"),
        ({"coordinates": [[0], [1, 2]]}, "coordinates must be a row of"),
        ({"coordinates": [["a"], ["b"]]}, "coordinates must be a row of"),
        ({"coordinates": [[0], [np.nan]]}, "coordinates must be a row of"),
        ({"coordinates": None}, "coordinates must be a row of"),
        ({"radius": 0}, "radius must be larger than 0, not 0"),
        ({"size": 0}, "size must be at least 1, not 0"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(changes, message):
    abstraction(**GOOD)
    with pytest.raises(ValueError, match=message) as error:
        abstraction(**(GOOD | changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learner": "none"}, "learner must be a TabularLearner, not 'none'"),
        ({"radius": "1"}, "radius must be .*, not '1'"),
        ({"size": 1.5}, "size must be .*, not 1.5"),
        ({"num_states": 1}, "coordinates must have num_states = 1 rows, not 2"),
        ({"num_actions": 4}, "learner must have num_actions 4, not 3"),
    ],
)
def test_fields_are_checked_however_it_is_made(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(abstraction(**GOOD), **changes)
