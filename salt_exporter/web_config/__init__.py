"""TLS, users and headers of the HTTP side, in the file format that Prometheus exporters share (exporter-toolkit)."""
