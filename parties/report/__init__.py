"""`report.html`: what a run left, as one page that opens without a network (docs/report.md)."""
