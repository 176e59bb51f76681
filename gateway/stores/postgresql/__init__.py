"""The store on PostgreSQL, for a gateway whose data others back up, and for several gateways on one."""
