"""Cost Explorer's answers from what this cloud's machines really cost so far; moto knows of no cost at all.

A ledger adds up, second by second, what there is at the list prices of ``plugins/module_utils/prices.py``, by day,
service and the tags that a thing has at that moment.

https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_GetCostAndUsage.html
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from moto.ce.responses import CostExplorerResponse
from moto.core.exceptions import JsonRESTError
from moto.ec2.models import ec2_backends

from localcloud import sagemaker
from localcloud.price_list import SPOT
from localcloud.settings import log
from plugins.module_utils import prices

#: Seconds between two entries.
TICK = 1.0

SAGEMAKER = "Amazon SageMaker"
COMPUTE, DISKS, ADDRESSES = "Amazon Elastic Compute Cloud - Compute", "EC2 - Other", "Amazon Virtual Private Cloud"

#: Whose cost it is: its tags, as pairs.
Tags = frozenset[tuple[str, str]]


class Invalid(JsonRESTError):
    """Cost Explorer would not take it."""

    code = 400

    def __init__(self, message: str, name: str = "ValidationException") -> None:
        super().__init__(name, message)


def tags_of(resource: Any) -> Tags:
    """The tags of one of moto's EC2 resources."""
    return frozenset((tag["key"], tag["value"]) for tag in resource.get_tags())


def rates() -> Iterator[tuple[str, Tags, float]]:
    """Service, tags and USD per hour of everything that costs now."""
    for account in list(ec2_backends.values()):
        for backend in list(account.values()):
            for reservation in list(backend.reservations.values()):
                for instance in list(reservation.instances):
                    if instance.state == "running":
                        tags, share = tags_of(instance), SPOT if instance.lifecycle == "spot" else 1.0
                        yield COMPUTE, tags, prices.ON_DEMAND.get(instance.instance_type, 0.0) * share
                        yield ADDRESSES, tags, prices.IPV4_HOUR if instance.public_ip else 0.0
            for volume in list(backend.volumes.values()):
                yield DISKS, tags_of(volume), volume.size * prices.GP3_GIB_MONTH / prices.HOURS_PER_MONTH
    yield from sagemaker_rates()


def sagemaker_rates() -> Iterator[tuple[str, Tags, float]]:
    """The same of SageMaker: machines while they run, a notebook instance's volume as long as it is there."""
    for backend in sagemaker.backends():
        for record in sagemaker.all_records(backend):
            values, count, disk = record.values, 1, 0
            match record.arn.split(":")[5].split("/")[0]:
                case "notebook-instance":
                    kind, running, disk = values["InstanceType"], record.status == "InService", values["VolumeSizeInGB"]
                case "training-job":
                    resources, running = values["ResourceConfig"], values["SecondaryStatus"] == "Training"
                    kind, count = resources["InstanceType"], resources["InstanceCount"]
                case "app":
                    kind, running = values["ResourceSpec"]["InstanceType"], record.status == "InService"
                case _:
                    continue
            share = SPOT if values.get("EnableManagedSpotTraining") else 1.0
            machines = prices.SAGEMAKER_HOUR.get(kind, 0.0) * share * count if running else 0.0
            tags = frozenset((tag["Key"], tag["Value"]) for tag in record.tags)
            yield SAGEMAKER, tags, machines + disk * prices.SAGEMAKER_GIB_MONTH / prices.HOURS_PER_MONTH


class Ledger:
    """What was spent.

    Args:
        rates: what costs now; service, tags and USD per hour.
        now: the time.
    """

    def __init__(
        self,
        rates: Callable[[], Iterator[tuple[str, Tags, float]]] = rates,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rates, self._now = rates, now
        self._spent: dict[tuple[date, str, Tags], float] = defaultdict(float)
        self._last = now()
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Enter what has been used since the last time."""
        with self._lock:
            now = self._now()
            hours, self._last = (now - self._last).total_seconds() / 3600, now
            for service, tags, rate in self._rates():
                self._spent[(now.date(), service, tags)] += rate * hours

    def by_service(self, day: date, wanted: Callable[[Tags, str], bool]) -> dict[str, float]:
        """USD of a day by service."""
        found: dict[str, float] = defaultdict(float)
        with self._lock:
            for (when, service, tags), amount in self._spent.items():
                if when == day and wanted(tags, service):
                    found[service] += amount
        return dict(found)

    def hourly(self, wanted: Callable[[Tags, str], bool]) -> float:
        """USD per hour of what runs now."""
        return sum(rate for service, tags, rate in self._rates() if wanted(tags, service))

    def forever(self) -> None:
        """Enter again and again; a fault in one entry does not end it."""
        while True:
            time.sleep(TICK)
            try:
                self.tick()
            except Exception as error:
                log("costs:", repr(error))


def selection(expression: dict[str, Any] | None) -> Callable[[Tags, str], bool]:
    """A filter of Cost Explorer's.

    Raises:
        Invalid: it is none, or of a kind that the local cloud does not know.
    """
    if not expression:
        return lambda _tags, _service: True
    if len(expression) != 1:
        raise Invalid("Expression has more than one root operator.")
    ((kind, content),) = expression.items()
    match kind:
        case "Tags":
            return lambda tags, _service: any((content["Key"], value) in tags for value in content["Values"])
        case "Dimensions" if content["Key"] == "SERVICE":
            return lambda _tags, service: service in content["Values"]
        case "And" | "Or":
            parts, combine = [selection(part) for part in content], all if kind == "And" else any
            return lambda tags, service: combine(part(tags, service) for part in parts)
        case "Not":
            inner = selection(content)
            return lambda tags, service: not inner(tags, service)
    raise Invalid(f"The local cloud does not know the filter {kind}.")


def _period(asked: dict[str, Any]) -> tuple[date, date]:
    try:
        start, end = (date.fromisoformat(asked["TimePeriod"][key]) for key in ("Start", "End"))
    except (KeyError, ValueError) as error:
        raise Invalid("Time period must be given as yyyy-MM-dd.") from error
    if start >= end:
        raise Invalid("Start date (and hour) should be before end date (and hour)")
    return start, end


def _money(amount: float) -> dict[str, str]:
    return {"Amount": f"{amount:.10f}", "Unit": "USD"}


def cost_and_usage(ledger: Ledger, asked: dict[str, Any]) -> dict[str, Any]:
    """GetCostAndUsage by day, whole or by service."""
    start, end = _period(asked)
    groups = asked.get("GroupBy") or []
    if asked.get("Granularity") != "DAILY" or groups not in ([], [{"Type": "DIMENSION", "Key": "SERVICE"}]):
        raise Invalid("The local cloud tells cost by day, and by service or not.")
    metrics = asked.get("Metrics") or []
    if not metrics:
        raise Invalid("Metrics must be given.")
    ledger.tick()
    wanted, results = selection(asked.get("Filter")), []
    for number in range((end - start).days):
        day = start + timedelta(days=number)
        spent = ledger.by_service(day, wanted)
        row: dict[str, Any] = {
            "TimePeriod": {"Start": day.isoformat(), "End": (day + timedelta(days=1)).isoformat()},
            "Total": {} if groups else {metric: _money(sum(spent.values())) for metric in metrics},
            "Groups": [
                {"Keys": [service], "Metrics": {metric: _money(amount) for metric in metrics}}
                for service, amount in sorted(spent.items())
            ]
            if groups
            else [],
            "Estimated": True,
        }
        results.append(row)
    return {"ResultsByTime": results, "GroupDefinitions": groups, "DimensionValueAttributes": []}


def cost_forecast(ledger: Ledger, asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    """GetCostForecast: what runs now goes on running until the end."""
    start, end = _period(asked)
    if start < now.date():
        raise Invalid("Start date must be equal to or no later than the current date.")
    hourly = ledger.hourly(selection(asked.get("Filter")))
    if not hourly:
        raise Invalid("Insufficient amount of historical data to generate forecast.", "DataUnavailableException")
    begin = max(now, datetime.combine(start, datetime.min.time(), UTC))
    hours = (datetime.combine(end, datetime.min.time(), UTC) - begin).total_seconds() / 3600
    amount = hourly * max(hours, 0.0)
    result = {"TimePeriod": asked["TimePeriod"], "MeanValue": f"{amount:.10f}"}
    if asked.get("PredictionIntervalLevel"):
        result |= {
            "PredictionIntervalLowerBound": f"{amount * 0.9:.10f}",
            "PredictionIntervalUpperBound": f"{amount * 1.1:.10f}",
        }
    return {"Total": _money(amount), "ForecastResultsByTime": [result]}


def apply(ledger: Ledger) -> None:
    """Let moto's Cost Explorer answer from the ledger."""
    CostExplorerResponse.get_cost_and_usage = lambda response: json.dumps(
        cost_and_usage(ledger, json.loads(response.body))
    )
    CostExplorerResponse.get_cost_forecast = lambda response: json.dumps(
        cost_forecast(ledger, json.loads(response.body), datetime.now(UTC))
    )


def start() -> None:
    """Keep the books until the process ends."""
    ledger = Ledger()
    apply(ledger)
    threading.Thread(target=ledger.forever, name="costs", daemon=True).start()
