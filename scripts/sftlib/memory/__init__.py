"""What fits: probe (what the machine has), estimate (bytes a term) and plan (what fits together)."""
