# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What things cost: a dated table of public list prices, for an estimate before anything is created.

USD, Linux, on demand, shared tenancy, region us-east-1, without tax. A type that is not in the table has no known
price: nothing here guesses.
"""

from __future__ import annotations

from dataclasses import dataclass

AS_OF = "2026-03-01"
REGION = "us-east-1"

#: USD for a GiB of gp3 and a month, the baseline of 3,000 IOPS and 125 MiB/s included.
GP3_GIB_MONTH = 0.08
#: USD for a GiB of a snapshot and a month; a snapshot holds what is in use of the disk, so this is the most it costs.
SNAPSHOT_GIB_MONTH = 0.05
#: USD for a GiB of a notebook instance's or Studio space's disk and a month.
SAGEMAKER_GIB_MONTH = 0.14
#: USD for a GiB of EFS (standard, regional) and a month.
EFS_GIB_MONTH = 0.30
#: USD for a GiB of stored logs and a month.
LOGS_GIB_MONTH = 0.03
#: USD for a public IPv4 address and an hour; an automatic one is given back while the machine is stopped.
IPV4_HOUR = 0.005

#: AWS's own month.
HOURS_PER_MONTH = 730
HOURS_PER_DAY = 24

_SIZES = {"large": 1, "xlarge": 2, "2xlarge": 4, "4xlarge": 8, "8xlarge": 16, "12xlarge": 24, "16xlarge": 32}
_SMALL_SIZES = {"nano": 1, "micro": 2, "small": 4, "medium": 8, "large": 16, "xlarge": 32, "2xlarge": 64}


def _scaled(family: str, base: float, sizes: dict[str, int], digits: int = 6) -> dict[str, float]:
    """A family whose price doubles with its size; ``base`` is the price of the size that counts 1."""
    return {f"{family}.{size}": round(base * times, digits) for size, times in sizes.items()}


_FIVE = _SIZES | {"24xlarge": 48}
_C5 = {
    "large": 1,
    "xlarge": 2,
    "2xlarge": 4,
    "4xlarge": 8,
    "9xlarge": 18,
    "12xlarge": 24,
    "18xlarge": 36,
    "24xlarge": 48,
}
_SIX = _FIVE | {"32xlarge": 64}
_SEVEN = _FIVE | {"48xlarge": 96}

#: USD per hour.
ON_DEMAND = {
    **_scaled("t3", 0.0052, _SMALL_SIZES),
    **_scaled("t3a", 0.0047, _SMALL_SIZES),
    **_scaled("t4g", 0.0042, _SMALL_SIZES),
    **_scaled("m5", 0.096, _FIVE),
    **_scaled("m6i", 0.096, _SIX),
    **_scaled("m7i", 0.1008, _SEVEN),
    **_scaled("c5", 0.085, _C5),
    **_scaled("c6i", 0.085, _SIX),
    **_scaled("c7i", 0.08925, _SEVEN),
    **_scaled("r5", 0.126, _FIVE),
    **_scaled("r6i", 0.126, _SIX),
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g4dn.8xlarge": 2.176,
    "g4dn.12xlarge": 3.912,
    "g4dn.16xlarge": 4.352,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g5.4xlarge": 1.624,
    "g5.8xlarge": 2.448,
    "g5.12xlarge": 5.672,
    "g5.16xlarge": 4.096,
    "g5.24xlarge": 8.144,
    "g5.48xlarge": 16.288,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6.4xlarge": 1.3232,
    "g6.8xlarge": 2.0144,
    "g6.12xlarge": 4.6016,
    "g6.16xlarge": 3.3968,
    "g6.24xlarge": 6.6752,
    "g6.48xlarge": 13.3504,
    "g6e.xlarge": 1.861,
    "g6e.2xlarge": 2.24208,
    "g6e.4xlarge": 3.00424,
    "g6e.8xlarge": 4.52856,
    "g6e.12xlarge": 10.49264,
    "g6e.16xlarge": 7.57719,
    "g6e.24xlarge": 15.06559,
    "g6e.48xlarge": 30.13118,
    "p4d.24xlarge": 21.957642,
    "p5.48xlarge": 55.04,
}

#: USD per hour of SageMaker's machines: notebook instances, Studio apps, training jobs, endpoints. Source: SageMaker's
#: public price page (aws.amazon.com/sagemaker/pricing), as it is quoted on AS_OF. A type that is not here has no known
#: price.
SAGEMAKER_HOUR = {
    "ml.t2.medium": 0.0464,
    "ml.t2.large": 0.111,
    "ml.t2.xlarge": 0.223,
    "ml.t2.2xlarge": 0.445,
    "ml.t3.medium": 0.05,
    "ml.t3.large": 0.10,
    "ml.t3.xlarge": 0.20,
    "ml.t3.2xlarge": 0.399,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.m5.12xlarge": 2.765,
    "ml.m5.24xlarge": 5.53,
    "ml.c5.large": 0.102,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.c5.4xlarge": 0.816,
    "ml.c5.9xlarge": 1.836,
    "ml.c5.18xlarge": 3.672,
    "ml.r5.large": 0.151,
    "ml.r5.xlarge": 0.302,
    "ml.r5.2xlarge": 0.605,
    "ml.r5.4xlarge": 1.21,
    "ml.g4dn.xlarge": 0.736,
    "ml.g4dn.2xlarge": 0.94,
    "ml.g4dn.4xlarge": 1.505,
    "ml.g4dn.8xlarge": 2.72,
    "ml.g4dn.12xlarge": 4.89,
    "ml.g4dn.16xlarge": 5.44,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.g5.4xlarge": 2.03,
    "ml.g5.8xlarge": 3.06,
    "ml.g5.12xlarge": 7.09,
    "ml.g5.16xlarge": 5.12,
    "ml.g5.24xlarge": 10.18,
    "ml.g5.48xlarge": 20.36,
}


@dataclass(frozen=True)
class Prices:
    """Prices of one region on one day.

    Attributes:
        region: whose they are.
        as_of: the day, ISO 8601.
        listed: they come from AWS's price list, not from the table in this file.
        on_demand: USD per hour by type.
        gp3_gib_month: USD for a GiB of gp3 and a month.
        whole: every type of the region is in it; one that is not has no price.
    """

    region: str
    as_of: str
    listed: bool
    on_demand: dict[str, float]
    gp3_gib_month: float
    whole: bool = False


TABLE = Prices(REGION, AS_OF, False, ON_DEMAND, GP3_GIB_MONTH, whole=True)


@dataclass(frozen=True)
class Estimate:
    """What one machine costs, or several together, in USD.

    Attributes:
        compute_hour: the running machine itself; None when its type is not in the table.
        disk_month: its disk, running or stopped.
        address_hour: its public address while it runs.
        spot: True when ``compute_hour`` is a spot price that AWS quoted.
        source: where the others come from.
    """

    compute_hour: float | None
    disk_month: float
    address_hour: float
    spot: bool = False
    source: Prices = TABLE

    @property
    def hour(self) -> float | None:
        """Everything, for an hour of running."""
        if self.compute_hour is None:
            return None
        return self.compute_hour + self.address_hour + self.disk_month / HOURS_PER_MONTH

    @property
    def stopped_month(self) -> float:
        """What a month costs in which the machine is stopped all the time: its disk stays."""
        return self.disk_month

    def as_dict(self) -> dict[str, float | str | None]:
        """The figures under the names that modules return, in USD, with their date and region."""

        def times(hours: int, digits: int) -> float | None:
            return None if self.hour is None else round(self.hour * hours, digits)

        return {
            "as_of": self.source.as_of,
            "region": self.source.region,
            "listed": self.source.listed,
            "currency": "USD",
            "purchase": "spot" if self.spot else "on demand",
            "compute_hour": self.compute_hour,
            "address_hour": self.address_hour,
            "disk_month": round(self.disk_month, 2),
            "hour": times(1, 4),
            "day": times(HOURS_PER_DAY, 2),
            "month": times(HOURS_PER_MONTH, 2),
            "stopped_month": round(self.stopped_month, 2),
        }


def estimate(
    instance_type: str | None,
    disk_gib: int,
    public_ip: bool = True,
    spot_hour: float | None = None,
    count: int = 1,
    source: Prices = TABLE,
) -> Estimate:
    """The cost of a machine, or of several that are alike.

    Args:
        instance_type: for example ``t3.medium``.
        disk_gib: all its gp3 disks together.
        public_ip: whether it has a public IPv4 address.
        spot_hour: the spot price that AWS quotes, in USD per hour, when it is a spot machine.
        count: how many machines; ``disk_gib`` is that of all of them.
        source: the prices to reckon with.
    """
    compute = spot_hour if spot_hour is not None else source.on_demand.get(instance_type or "")
    return Estimate(
        None if compute is None else compute * count,
        disk_gib * source.gp3_gib_month,
        IPV4_HOUR * count if public_ip else 0.0,
        spot=spot_hour is not None,
        source=source,
    )


@dataclass(frozen=True)
class MachinePrice:
    """What one of SageMaker's machines costs.

    Attributes:
        hour: USD; None for a type whose price is not known.
        region, as_of, listed: as in ``Prices``.
    """

    hour: float | None
    region: str
    as_of: str
    listed: bool

    def as_dict(self, volume_gib: int) -> dict[str, float | str | bool | None]:
        """The machine together with its volume, under the names that modules return, in USD."""
        disk = volume_gib * SAGEMAKER_GIB_MONTH
        return {
            "hour": None if self.hour is None else round(self.hour + disk / HOURS_PER_MONTH, 4),
            "stopped_month": round(disk, 2),
            "as_of": self.as_of,
            "region": self.region,
            "listed": self.listed,
        }


def sagemaker(instance_type: str) -> MachinePrice:
    """The price of one of SageMaker's machines by our table."""
    return MachinePrice(SAGEMAKER_HOUR.get(instance_type), REGION, AS_OF, False)


def hourly(instance_type: str) -> str:
    """The price of a type for people, for example ``USD 0.0416/h``."""
    price = ON_DEMAND.get(instance_type)
    return "price unknown" if price is None else f"USD {price:.4g}/h"
