"""What people read of an analysis: tables on the terminal, and a page in one file."""
