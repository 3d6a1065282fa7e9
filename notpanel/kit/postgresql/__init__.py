"""Django's backend for PostgreSQL, which knows what a failover does to connections. settings.py names it as ENGINE."""
