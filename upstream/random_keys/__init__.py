"""Control of the LSH family: as many keys, drawn at random."""
