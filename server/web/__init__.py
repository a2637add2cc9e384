"""HTTP: the dashboard, the API and the metrics for Prometheus."""
