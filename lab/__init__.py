"""What proves the product and is not the product: bench, study, fuzz, chaos, soak, audit."""
