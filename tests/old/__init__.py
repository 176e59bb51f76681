"""What earlier versions wrote, kept small, and opened by the present one."""
