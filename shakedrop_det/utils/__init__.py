"""Small things that every room uses: files, output folders, errors for users."""
