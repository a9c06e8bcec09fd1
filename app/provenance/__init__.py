"""What a file says about its origin: our mark written, read and taken out again, and what others wrote."""
