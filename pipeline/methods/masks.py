"""A parameter that says which pixels belong to objects: a threshold, or any classifying method."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from pipeline.methods.classifier import Classifier
from pipeline.methods.registry import method_class
from pipeline.methods.threshold import Threshold


def _a_threshold_or_a_method(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    if "method" not in given:
        return Threshold.model_validate({"method": "threshold", "foreground": given})
    chosen = method_class(str(given["method"]))
    if not issubclass(chosen, Classifier):
        raise ValueError(  # noqa: TRY004 - pydantic reports no other
            f"{given['method']} gives no classes; take threshold, local_threshold, kmeans, gmm "
            "or mean_shift"
        )
    return chosen.model_validate(given)


ObjectMask: TypeAlias = Annotated[
    SerializeAsAny[Classifier], BeforeValidator(_a_threshold_or_a_method)
]
