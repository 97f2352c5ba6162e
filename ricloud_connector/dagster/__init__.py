"""The Dagster face: a component, a resource, assets with checks, a job, a sensor, a schedule. Nothing else imports dagster."""

from ricloud_connector.dagster.build import build_ricloud_definitions
from ricloud_connector.dagster.checks import CheckSettings
from ricloud_connector.dagster.component import RicloudComponent
from ricloud_connector.dagster.io_manager import RicloudRecordsIOManager
from ricloud_connector.dagster.place import RicloudAsset
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.dagster.schedule import ReconcileSettings
from ricloud_connector.dagster.sensor import SensorSettings

__all__ = [
    "CheckSettings",
    "ReconcileSettings",
    "RicloudAsset",
    "RicloudComponent",
    "RicloudRecordsIOManager",
    "RicloudResource",
    "SensorSettings",
    "build_ricloud_definitions",
]
