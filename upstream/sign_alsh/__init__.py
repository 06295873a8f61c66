"""Sign-ALSH: keys get powers of their norm appended, so that sign random projections see inner products."""
