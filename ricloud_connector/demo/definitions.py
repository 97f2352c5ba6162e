"""The demo's code location: the connector as it comes, with the settings that the demo has put into its environment."""

from ricloud_connector.dagster import build_ricloud_definitions

defs = build_ricloud_definitions()
