"""Results for machines and for the pages of others: Markdown, Prometheus, CSV, HDR histograms."""
