"""The tests' plugins, one file a subject; each file says what its fixtures give."""

pytest_plugins = ["fix_postgres", "fix_database", "fix_stored", "fix_semantics", "fix_by_hand", "fix_commands", "fix_cluster"]
