"""Care of the data directory: backup, archive, re-applied erasures, its lock, the disk alarm.

Imports `stores`, `workers`, `auth`, `config` and what lies below.
"""
