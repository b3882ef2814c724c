"""`python -m experiments.task_identification`: appendix D of the paper, are Q-estimates enough?

RL³ adds to what RL² sees the values Q that object-level RL estimates, and visit counts N. Do these
tell tasks apart? How the appendix measures it is not known to us, so the definitions are ours:

Duplicates. Tasks with the same exact values cannot be told apart by Q, however long one looks. The
distance of two tasks is the largest difference of their tables, max |Q(s, a) − Q'(s, a)|; a task
has a duplicate within δ if any other of N tasks is that near. There are two exact tables: Q*, the
optimal discounted values; and Q∞, what the learner's Q_t tends to, as it plans by few sweeps.

Classifier. From what a uniformly random policy has found after t env steps in each of two
meta-episodes, were they in the same task? Half of the pairs are; chance is 50 %. The classifier is
a network on means over pairs of state and action (deep sets), trained for every t on tasks of its
own; what it reaches is a lower bound of what can be told. It is shown Q and N, Q alone, or the
whole estimated model, whose statistics are sufficient. An upper bound is the accuracy of the
posterior odds, which have a closed form here.
"""

from experiments.experiment import Experiment
from experiments.task_identification.domains import rows
from experiments.task_identification.figures import draw
from experiments.task_identification.measure import measure
from experiments.task_identification.tables import section

EXPERIMENT = Experiment(
    "task_identification", "Task identification by Q-estimates (appendix D)",
    rows, measure, section, draw, beside_published=False,
)  # fmt: skip
