"""What is wrong with processed data, or may be: found row by row, counted by kind, named by source."""
