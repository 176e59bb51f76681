"""What people do with the files of a session: in, out, snapshots, workspaces.

Imports `workers`, `stores` and `telemetry`, `config`, `events` and `errors`. Whatever an agent wrote there is
hostile: every file is opened by `beneath`.
"""
