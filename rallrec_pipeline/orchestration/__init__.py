"""The Dagster skin: assets, checks, jobs, sensors. All computing is done by the packages beside this one."""
