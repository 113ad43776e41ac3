"""Where a party's rows come from, as batches of Arrow columns: files, folders, tables in memory."""
