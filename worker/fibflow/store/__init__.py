"""The store: the only place that speaks SQL.

How a verb reaches the database is in database.py, what is stored in tables/; docs/architecture.md says which module does what.
"""
