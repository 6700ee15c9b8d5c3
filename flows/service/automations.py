"""What Prefect does by itself: crashed runs go on, and somebody is told how runs end."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from pydantic import SecretStr

from flows.service.names import TAG
from flows.service.settings import Settings
from flows.service.units import HEARTBEAT_SECONDS
from pipeline.files import digest

#: A run that was not heard of for so long is gone: its heartbeat is half as late as it may be.
SILENCE = timedelta(seconds=HEARTBEAT_SECONDS + 15)
OURS = "tilewright: "
#: Runs of the service's deployments.
ALL_OURS: Any = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
#: Event of a run that refused more images than the configuration finds usual.
QUARANTINED = "tilewright.run.quarantined"
#: What is posted, by Prefect's templates.
PAYLOAD = """{
  "event": "{{ event.event }}",
  "run": "{{ flow_run.name }}",
  "state": "{{ flow_run.state.name }}",
  "message": {{ (event.payload.message or flow_run.state.message or "") | tojson }},
  "page": "{{ flow_run | ui_url }}",
  "time": "{{ event.occurred }}"
}"""


def automations(settings: Settings) -> list[AutomationCore]:
    """All automations of the service."""
    found = [_silent_runs_crashed(), _crashed_runs_go_on()]
    if settings.notify.webhook is not None:
        found += _told(_webhook(settings.notify.webhook))
    return [_versioned(one) for one in found]


def apply_automations(client: SyncPrefectClient, settings: Settings) -> None:
    """Make them, in the place of others of an earlier version.

    One that is there as it should be stays: with it went what it has counted, such as the last
    heartbeat of a run whose end nobody would notice then.
    """
    wanted = {one.name: one for one in automations(settings)}
    for known in client.read_automations():
        if not known.name.startswith(OURS):
            continue
        if known.name in wanted and known.description == wanted[known.name].description:
            del wanted[known.name]
        else:
            client.delete_automation(known.id)
    for automation in wanted.values():
        client.create_automation(automation)


def _versioned(automation: AutomationCore) -> AutomationCore:
    """The automation, with a digest of what it does in its description."""
    content = automation.model_dump(exclude={"description"})
    text = json.dumps(content, sort_keys=True, default=_plain)
    found = digest(text.encode())[:8]
    return automation.model_copy(update={"description": f"{automation.description} ({found})"})


def _plain(value: object) -> object:
    """What JSON has no word for: sets, in an order, and texts of the rest."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _webhook(url: SecretStr) -> UUID:
    """Keep the address in Prefect's database, where it is encrypted."""
    block = Webhook(method="POST", url=url)
    saved: Any = block.save("tilewright-notify", overwrite=True)
    return UUID(str(saved))


def _told(webhook: UUID) -> list[AutomationCore]:
    """Tells somebody how runs end, and of runs with many images that were refused."""
    action = CallWebhook(block_document_id=webhook, payload=PAYLOAD)
    events = {
        "runs that end are told of": {
            "prefect.flow-run.Completed",
            "prefect.flow-run.Failed",
            "prefect.flow-run.Cancelled",
        },
        "runs with many refused images are told of": {QUARANTINED},
    }
    return [
        AutomationCore(
            name=f"{OURS}{name}",
            description=f"Posts {', '.join(sorted(expected))} to the webhook.",
            trigger=EventTrigger(
                expect=expected,
                match_related=ALL_OURS,
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[action],
        )
        for name, expected in events.items()
    ]


def _silent_runs_crashed() -> AutomationCore:
    """Marks runs whose process is gone, as after a crash of the machine."""
    return AutomationCore(
        name=f"{OURS}silent runs have crashed",
        description=f"A run that was not heard of for {SILENCE.seconds} s is marked as crashed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={
                "prefect.flow-run.heartbeat",
                "prefect.flow-run.Completed",
                "prefect.flow-run.Failed",
                "prefect.flow-run.Cancelled",
                "prefect.flow-run.Crashed",
            },
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=ALL_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                force=False,
                message=f"Nothing was heard of it for {SILENCE.seconds} s.",
            )
        ],
    )


def _crashed_runs_go_on() -> AutomationCore:
    """Schedules crashed runs again; they continue where they stopped."""
    trigger: Any = EventTrigger(
        expect={"prefect.flow-run.Crashed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=ALL_OURS,
        posture=Posture.Reactive,
        threshold=1,
    )
    return AutomationCore(
        name=f"{OURS}crashed runs go on",
        description="A crashed run is scheduled again, and continues where it stopped.",
        trigger=trigger,
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", force=True, message="It continues."
            )
        ],
    )
