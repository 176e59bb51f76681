"""One worker floods its doors, and its neighbours go on."""
