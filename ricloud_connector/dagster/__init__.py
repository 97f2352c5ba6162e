"""The Dagster face: a resource, four assets, a job. The only place of this package that imports dagster."""

from ricloud_connector.dagster.build import build_ricloud_definitions
from ricloud_connector.dagster.io_manager import RicloudRecordsIOManager
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.dagster.schedule import ReconcileSettings
from ricloud_connector.dagster.sensor import SensorSettings

__all__ = ["ReconcileSettings", "RicloudRecordsIOManager", "RicloudResource", "SensorSettings", "build_ricloud_definitions"]
