"""The report: pages, tables and pictures of what the records say."""
