"""`understudy fuzz`: hostile bytes and hostile connections."""
