"""`party serve`: scores while a page loads, with partners that may be late, down or gone."""
