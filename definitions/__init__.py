"""The code location: `dagster dev -m definitions`. Settings come from the RICLOUD_* environment variables."""

from ricloud_connector.dagster import build_ricloud_definitions

defs = build_ricloud_definitions()
