"""UpdateFeatures (key 57): finalize other levels of features (KIP-584).

Versions 0-2: 1 validation only, and three kinds of change instead of a permission to downgrade
(KIP-778); 2 one error for the whole request, results by feature no more (KIP-1022).

Up to version 1 the answer is in the manner of Apache Kafka 3.9: each feature has its own result
(INVALID_REQUEST for whatever is wrong) and the ones without an error are changed. From version 2
on it is in the manner of 4.4: all or none, INVALID_UPDATE_VERSION for the first that is refused.
Which changes are granted is 4.4's in all versions (the present level again is no error). Of a
feature that is named twice the last wish counts. The answer waits until this broker works at the
new levels. Left out: authorization, quotas.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.cluster.store import StoreError
from broker.context import ApiError
from broker.controller.features import SAFE_DOWNGRADE, FeatureWish
from broker.controller.run import NotController
from broker.controller.topics import Refusal
from protocol.errors import ErrorCode
from protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

UPGRADE_TYPES_SINCE = 1
ALL_OR_NONE_SINCE = 2


async def handle(
    node: "Node", context: "Context", request: UpdateFeaturesRequest
) -> UpdateFeaturesResponse:
    """Ask the controller, then wait for the change to come round."""
    version = context.version
    updates = {update.feature: update for update in request.feature_updates}
    wishes = [_wish(update, version) for update in updates.values()]
    together = version >= ALL_OR_NONE_SINCE
    try:
        answers, epoch = await node.controller.update_features(
            wishes, together=together, validate_only=request.validate_only
        )
    except NotController:
        raise ApiError(ErrorCode.NOT_CONTROLLER) from None
    except StoreError as error:
        raise ApiError(ErrorCode.FEATURE_UPDATE_FAILED, str(error)) from error
    await node.features.reached(epoch, max(request.timeout_ms, 0) / 1000)
    if together:
        return _whole(answers)
    results = [_result(wish, answer) for wish, answer in zip(wishes, answers, strict=True)]
    return UpdateFeaturesResponse(error_message=None, results=results)


def _wish(update: FeatureUpdateKey, version: int) -> FeatureWish:
    upgrade_type = update.upgrade_type
    if version < UPGRADE_TYPES_SINCE and update.allow_downgrade:
        upgrade_type = SAFE_DOWNGRADE
    return FeatureWish(update.feature, update.max_version_level, upgrade_type)


def _whole(answers: Sequence[Refusal | None]) -> UpdateFeaturesResponse:
    refusal = next((answer for answer in answers if answer is not None), None)
    if refusal is None:
        return UpdateFeaturesResponse(error_message=None)
    return UpdateFeaturesResponse(error_code=refusal.code, error_message=refusal.message)


def _result(wish: FeatureWish, answer: Refusal | None) -> UpdatableFeatureResult:
    if answer is None:
        return UpdatableFeatureResult(feature=wish.name, error_message=None)
    return UpdatableFeatureResult(
        feature=wish.name, error_code=ErrorCode.INVALID_REQUEST, error_message=answer.message
    )
