"""The room that turns raw corpora into clean records, with a ledger of every dropped row."""
