"""What a snapshot searches: vectors, the product table, columns and filters, the neighbour table."""
