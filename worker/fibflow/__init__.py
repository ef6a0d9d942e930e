"""fibflow: a task platform whose every write is fenced."""
