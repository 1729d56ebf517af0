"""The incident report: a frozen view of the store, rendered to Markdown and to one HTML page. No I/O of its own."""
