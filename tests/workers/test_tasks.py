"""What a worker answers when it cannot do what it was asked."""

from __future__ import annotations

import copyreg
import pickle
from dataclasses import dataclass

from distributed.protocol.pickle import dumps, loads

from pipeline.errors import DamageError
from pipeline.orders import Order, Receipt
from workers.tasks import perform


class CodecError(Exception):
    """Cannot be unpickled, like those of imagecodecs."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function} failed with {code}")


@dataclass(frozen=True)
class Damaged(Order):
    def perform(self) -> Receipt:
        try:
            raise CodecError("inflate", 3)
        except CodecError as error:
            raise DamageError("a.tif", "tile 4 cannot be decoded", "Copy it again.") from error


def with_cause(error: BaseException) -> tuple[object, ...]:
    """Pickle an error as tblib does once Dask has been imported."""
    return _rebuilt, (type(error), error.args, error.__cause__)


def _rebuilt(kind: type[BaseException], args: tuple[object, ...], cause: object) -> object:
    return kind(*args)


def test_an_error_arrives_whatever_caused_it(monkeypatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, DamageError, with_cause)
    answer = perform(Damaged())
    for arrived in (pickle.loads(pickle.dumps(answer)), loads(dumps(answer))):
        assert isinstance(arrived, DamageError)
        assert str(arrived) == "a.tif: tile 4 cannot be decoded. Copy it again."
