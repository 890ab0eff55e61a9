"""The parts of an index: vectors, the product table, columns and filters, the neighbour table."""
