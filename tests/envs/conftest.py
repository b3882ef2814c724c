import functools
import inspect

import pytest


@pytest.fixture
def unchecked():
    """A dataclass's constructor as it is without the tests' check of annotations.

    What the constructor itself says of a value of a wrong type is for users, who have no check.
    """

    def constructor(cls):
        @functools.wraps(cls)
        def construct(*args, **kwargs):
            instance = object.__new__(cls)
            inspect.unwrap(cls.__init__)(instance, *args, **kwargs)
            return instance

        return construct

    return constructor
